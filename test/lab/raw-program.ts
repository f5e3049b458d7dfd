import { mkdirSync, renameSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { must } from './exec.ts';

const source = fileURLToPath(new URL('raw.c', import.meta.url));

/** Where `raw` is once it is built; what it does stands in raw.c. */
export const rawProgram = fileURLToPath(new URL('../../build/test/raw', import.meta.url));

let built: Promise<void> | undefined;

/** Compiles `raw`, once a process; two processes may do it at once. */
export function buildRawProgram(): Promise<void> {
  built ??= (async () => {
    mkdirSync(dirname(rawProgram), { recursive: true });
    const fresh = `${rawProgram}.${process.pid}`;
    await must('gcc', '-std=gnu17', '-O1', '-Wall', '-Wextra', '-Werror', '-o', fresh, source);
    renameSync(fresh, rawProgram);
  })();
  return built;
}
