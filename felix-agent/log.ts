import { pino, type DestinationStream, type Logger as PinoLogger } from 'pino';
import type { ServiceIdentifier } from 'inversify';
import type { Logger } from '#dataplanes/logger.ts';

/** The agent's log: pino, JSON lines, to stderr. Every line has `node` and, where it concerns one, the object. */
export type Log = PinoLogger;
export const Log: ServiceIdentifier<Log> = Symbol.for('Log');

/** Felix's severities, by pino's names. */
const levels = {
  debug: 'debug',
  info: 'info',
  warning: 'warn',
  error: 'error',
  fatal: 'fatal',
  none: 'silent',
} as const;

/** Makes the log. `destination` is for tests; the default is stderr, written at once so that a crash loses nothing. */
export function createLog(nodeName: string, destination?: DestinationStream): Log {
  const options = { base: { node: nodeName }, timestamp: pino.stdTimeFunctions.isoTime, level: 'info' };
  return pino(options, destination ?? pino.destination({ dest: 2, sync: true }));
}

/** Sets the level from FelixConfiguration's logSeverityScreen (`Info`, `Warning`, ...). */
export function setSeverity(log: Log, severity: string): void {
  const level = levels[severity.toLowerCase() as keyof typeof levels];
  if (level !== undefined && log.level !== level) log.level = level;
}

/** The log as a dataplane sees it. */
export function dataplaneLogger(log: Log): Logger {
  return {
    debug: (message, fields) => log.debug(fields ?? {}, message),
    info: (message, fields) => log.info(fields ?? {}, message),
    warn: (message, fields) => log.warn(fields ?? {}, message),
    error: (message, fields) => log.error(fields ?? {}, message),
  };
}
