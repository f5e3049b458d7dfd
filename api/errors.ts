/** One thing that is wrong with an object, and where. */
export interface ValidationIssue {
  /** For example `spec.cidr` or `spec.allowedUses[1]`; empty when the object as a whole is meant. */
  readonly path: string;
  /** What it must be, and what it is. */
  readonly message: string;
}

/** `invalid`: of a supported kind, but wrong. `unknown-kind`: nothing that we read, so whoever meets it may pass it over. */
export type ValidationErrorCode = 'invalid' | 'unknown-kind';

/** An object that can't be used. The message names kind, object, field, rule and value; `issues` has them one by one. */
export class ValidationError extends Error {
  override readonly name = 'ValidationError';
  readonly code: ValidationErrorCode;
  readonly issues: readonly ValidationIssue[];

  /** `subject` is the object as messages name it, for example `IPPool "pool-a"`. */
  constructor(code: ValidationErrorCode, subject: string, issues: readonly ValidationIssue[]) {
    super(
      `${subject}: ${issues.map(({ path, message }) => (path === '' ? message : `${path}: ${message}`)).join('; ')}`,
    );
    this.code = code;
    this.issues = issues;
  }
}

/** The text of whatever was thrown. */
export function messageOf(error: unknown): string {
  // Not by instanceof: the system's errors may come from another realm.
  const { message } = (error ?? {}) as { readonly message?: unknown };
  return typeof message === 'string' ? message : String(error);
}
