/**
 * What the launcher and the agent say to each other on the stream socket (docs/design/cni.md, "On the socket").
 *
 * Request: the line `tortie-cni 1\n`, then each CNI_* variable and PATH as `NAME=VALUE\0`, then an empty string (`\0`), then standard
 * input until the client shuts its writing side down. Answer: one byte `0` or `1` (the exit status), then standard output until the
 * server closes. An answer that ends before its first byte means that the agent died: the launcher reports code 11.
 */
import type { CniAnswer, CniRequest } from './deps.ts';

/** The first line of a request; the number changes when the framing does. */
export const PROTOCOL_LINE = 'tortie-cni 1\n';
/**
 * Besides the caller's variables the launcher sends how it has opened CNI_NETNS, where the path means what the runtime means: `PID/FD/INODE`, or `!` and why it
 * could not. It keeps the descriptor open until it has its answer.
 */
export const NETNS_VARIABLE = 'TORTIE_NETNS';
/** Longest standard input, in bytes. A network configuration has a few kilobytes; prevResult and valid-attachments may add tens. */
export const MAX_STDIN_BYTES = 1024 * 1024;
/** Longest environment, in bytes with its zeros. The kernel takes 128 KiB for one variable (MAX_ARG_STRLEN). */
export const MAX_ENV_BYTES = 256 * 1024;
/** Longest request: a server may stop reading here and answer with `decodeRequest`'s error. */
export const MAX_REQUEST_BYTES = PROTOCOL_LINE.length + MAX_ENV_BYTES + MAX_STDIN_BYTES;

/** A request that is not framed as above. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
  readonly code = 'bad-request';
}

/** Decodes a whole request (everything up to end of file). Throws `ProtocolError`: the caller isn't our launcher, or of another version. */
export function decodeRequest(bytes: Uint8Array): CniRequest {
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (data.length > MAX_REQUEST_BYTES) {
    throw new ProtocolError(
      `the request has over ${MAX_REQUEST_BYTES} bytes: a network configuration may have ${MAX_STDIN_BYTES}`,
    );
  }
  if (data.toString('latin1', 0, PROTOCOL_LINE.length) !== PROTOCOL_LINE) {
    throw new ProtocolError(
      `the request does not begin with the line ${JSON.stringify(PROTOCOL_LINE.trimEnd())}: launcher and agent are not of one version`,
    );
  }
  const env: Record<string, string> = {};
  let at = PROTOCOL_LINE.length;
  for (;;) {
    const end = data.indexOf(0, at);
    if (end < 0) throw new ProtocolError('the request ends inside its environment');
    if (end === at) return { env, stdin: data.toString('utf8', end + 1) };
    const variable = data.toString('utf8', at, end);
    const equals = variable.indexOf('=');
    if (equals <= 0)
      throw new ProtocolError(
        `the request's environment holds ${JSON.stringify(variable.slice(0, 64))}, which is not NAME=VALUE`,
      );
    // defineProperty: a variable called `__proto__` must stay a variable.
    Object.defineProperty(env, variable.slice(0, equals), {
      value: variable.slice(equals + 1),
      enumerable: true,
      configurable: true,
      writable: true,
    });
    at = end + 1;
  }
}

/** A request's bytes, as the launcher writes them. */
export function encodeRequest({ env, stdin }: CniRequest): Buffer {
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}\0`);
  return Buffer.from(`${PROTOCOL_LINE}${variables.join('')}\0${stdin}`);
}

/** The answer's bytes; write them and close. */
export function encodeAnswer(answer: CniAnswer): Buffer {
  return Buffer.from(`${answer.exitCode}${answer.stdout}`);
}
