import { fileURLToPath } from 'node:url';

/** What is installed: tests from outside run the built thing. */
export const distDir = fileURLToPath(new URL('../../dist', import.meta.url));
