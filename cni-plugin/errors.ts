/**
 * Every error number that we answer with: those below 100 are the CNI specification's ("Error"), the rest are ours.
 * `tryAgain` means that the same call may succeed later; a runtime retries it.
 */
export const cniCode = {
  incompatibleVersion: 1,
  /** The conf asks for something that we can't do. */
  unsupportedField: 2,
  /** The container (its network namespace) doesn't exist. */
  unknownContainer: 3,
  /** A CNI_* variable is missing or can't be used. */
  invalidEnvironment: 4,
  ioFailure: 5,
  /** Standard input isn't JSON, or no object. */
  undecodable: 6,
  /** A key of the conf has a value that can't be used. */
  invalidConf: 7,
  tryAgain: 11,
  /** STATUS: no ADD can succeed at present. */
  unavailable: 50,
  /** IPAM refused: no pool, no free address, address taken. */
  addressRefused: 101,
  /** What the pod asks for by annotations can't be done. */
  podRefused: 102,
  /** The kernel refused a link, address, route or sysctl. */
  wiring: 103,
  /** The delegated IPAM plugin could not be run, or its answer isn't CNI's. */
  delegate: 104,
  /** CHECK: the live state isn't what the ADD made. */
  mismatch: 105,
  /** DEL or GC did what it could; something is left. */
  incomplete: 106,
  /** A fault of ours. */
  internal: 999,
} as const;

/** A failure as the runtime gets to see it. */
export class CniError extends Error {
  override readonly name = 'CniError';
  /** One of `cniCode`, or a delegated plugin's own number. */
  readonly code: number;
  /** More words; shown below the message by runtimes that show it. */
  readonly details: string | undefined;

  constructor(code: number, message: string, options: ErrorOptions & { readonly details?: string | undefined } = {}) {
    super(message, options);
    this.code = code;
    this.details = options.details;
  }
}

/** The CNI error for anything thrown. By name and shape, never instanceof: errors come from other realms and from the addon. */
export function toCniError(error: unknown): CniError {
  if (!(typeof error === 'object' && error !== null && 'message' in error)) {
    return new CniError(cniCode.internal, `unexpected failure: ${String(error)}`);
  }
  const thrown = error as Error & { readonly code?: unknown; readonly syscall?: unknown; readonly object?: unknown };
  if (thrown.name === 'CniError') return thrown as CniError;
  if (thrown.name === 'IpamError') {
    const code = thrown.code === 'unavailable' ? cniCode.tryAgain : cniCode.addressRefused;
    return new CniError(code, thrown.message, { cause: error });
  }
  if (thrown.name === 'DatastoreError') return new CniError(cniCode.tryAgain, thrown.message, { cause: error });
  if (thrown.name === 'AnnotationError') return new CniError(cniCode.podRefused, thrown.message, { cause: error });
  if (thrown.syscall !== undefined && thrown.object !== undefined) {
    return new CniError(cniCode.wiring, thrown.message, { cause: error });
  }
  return new CniError(cniCode.internal, thrown.message, { cause: error, details: thrown.stack });
}

/** An error's words, for messages that hold more than one. */
export function errorText(error: unknown): string {
  return error instanceof Error || (typeof error === 'object' && error !== null && 'message' in error)
    ? (error as Error).message
    : String(error);
}

/** The error object of the specification ("Error"), as it is printed. */
export function renderError(error: CniError, cniVersion: string): string {
  const { code, message: msg, details } = error;
  return JSON.stringify({ cniVersion, code, msg, ...(details === undefined ? {} : { details }) });
}
