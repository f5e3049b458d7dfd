import { kinds, type KindName } from '#api/kinds.ts';
import { DatastoreError, type DatastoreErrorCode } from '../errors.ts';

/** What is asked of the API server, for messages and to know what its answers mean. */
export interface Attempt {
  /** `create`, `list`, `watch`, ... */
  readonly verb: string;
  readonly kind: KindName;
  /** As messages name it: `IPPool a`, or `Pod objects`. */
  readonly subject: string;
}

/** What an API server says when it refuses (`kind: Status`), as far as it can be read. */
export interface Status {
  readonly reason: string | undefined;
  readonly message: string | undefined;
  /** The object that it is about; absent where a whole kind is unknown. */
  readonly name: string | undefined;
  /** The fields that it finds wrong. */
  readonly fields: readonly unknown[];
  /** `retryAfterSeconds` of its details. */
  readonly retryAfterSeconds: number | undefined;
}

/** The kind is not served: a CustomResourceDefinition is missing, or the API group. */
export class KindMissingError extends DatastoreError {
  readonly kind: KindName;

  constructor(attempt: Attempt) {
    const { apiVersion, plural } = kinds[attempt.kind];
    super(
      'unavailable',
      `${attempt.verb} ${attempt.subject}: the API server does not serve ${plural} of ${apiVersion}; apply manifests/tortie.yaml`,
    );
    this.kind = attempt.kind;
  }
}

/** Reads an answer's body as a Status; all fields are undefined if it is none. */
export function statusOf(body: unknown): Status {
  const raw = record(body);
  const isStatus = raw['kind'] === 'Status';
  const details = record(raw['details']);
  const { retryAfterSeconds: seconds, causes } = details;
  return {
    reason: isStatus ? text(raw['reason']) : undefined,
    message: isStatus ? text(raw['message']) : undefined,
    name: text(details['name']),
    fields: Array.isArray(causes) ? causes.map((cause) => record(cause)['field']) : [],
    retryAfterSeconds: typeof seconds === 'number' ? seconds : undefined,
  };
}

/** The error that an answer means: HTTP status (or a Status' `code`), with the server's own words. */
export function refusal(attempt: Attempt, http: number, status: Status): DatastoreError {
  if (http === 404 && status.name === undefined) return new KindMissingError(attempt);
  const code = codeOf(http, status);
  const words = status.message ?? `HTTP ${http} without a reason`;
  const reason = status.reason === undefined ? `HTTP ${http}` : `HTTP ${http} ${status.reason}`;
  return new DatastoreError(
    code,
    `${attempt.verb} ${attempt.subject}: ${words} (${reason})${hints[code] ?? hints[http] ?? ''}`,
  );
}

const hints: Readonly<Record<string, string>> = {
  401: '; the token or certificate is not (or no longer) valid: is the kubeconfig or service account the right one?',
  403: '; the rights are in the ClusterRole of manifests/tortie.yaml: apply it again',
  conflict: '; read it again',
  expired: '; list again',
};

function codeOf(http: number, { reason, fields }: Status): DatastoreErrorCode {
  switch (http) {
    case 404:
      return 'not-found';
    case 409:
      return reason === 'AlreadyExists' ? 'already-exists' : 'conflict';
    case 410:
      return 'expired';
    case 422:
      // A patch that expects another uid is told that a uid can't be changed.
      return fields.length > 0 && fields.every((field) => field === 'metadata.uid') ? 'conflict' : 'invalid';
    case 400:
    case 405:
    case 406:
    case 413:
    case 415:
      return 'invalid';
    default:
      return 'unavailable';
  }
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}
