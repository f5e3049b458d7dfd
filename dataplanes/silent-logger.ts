import type { Logger } from './logger.ts';

/** A logger that says nothing, for tests. */
export const silentLogger: Logger = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
