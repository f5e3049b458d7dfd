/** Why a datastore refused; a closed list, so that callers can decide by it. */
export type DatastoreErrorCode =
  | 'not-found'
  | 'conflict'
  | 'already-exists'
  | 'expired'
  | 'invalid'
  | 'read-only'
  | 'unavailable';

/** Every failure of a `Datastore`. The message says what was tried on which object, and the cause's own words. */
export class DatastoreError extends Error {
  override readonly name = 'DatastoreError';
  readonly code: DatastoreErrorCode;

  constructor(code: DatastoreErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** True for a `DatastoreError` of that code, whichever realm or bundle made it. */
export function isDatastoreError(error: unknown, code: DatastoreErrorCode): boolean {
  return error instanceof Error && error.name === 'DatastoreError' && (error as DatastoreError).code === code;
}
