import type { Agent, ClientRequest, IncomingMessage, RequestOptions } from 'node:http';
import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders } from 'node:http2';
import type { Readable } from 'node:stream';
import type { Socket } from 'node:net';
import type { Clock } from '#api/clock.ts';
import { messageOf } from '#api/errors.ts';

/** A request as it goes out; `path` with its query. */
export interface WireRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
  readonly signal: AbortSignal;
}

/** The head of an answer, and its body as it comes. Whoever doesn't read the body to its end must destroy it. */
export interface WireResponse {
  readonly status: number;
  /** The header Retry-After, as it stands there. */
  readonly retryAfter: string | undefined;
  readonly body: Readable;
}

/**
 * How far a request came. `connect`: no connection can be made. `unsent`: there was one, but the server can't have acted on the request.
 * `sent`: it may have.
 */
export type Stage = 'connect' | 'unsent' | 'sent';

/** There is no answer. Never holds anything of the request. */
export class TransportError extends Error {
  override readonly name = 'TransportError';
  readonly code = 'no-answer';
  readonly stage: Stage;

  constructor(stage: Stage, message: string) {
    super(message);
    this.stage = stage;
  }
}

/** A way to the API server that many requests share. */
export interface Connection {
  readonly protocol: 'HTTP/2' | 'HTTP/1.1';
  /** False once it takes no new requests. */
  readonly usable: boolean;
  send(request: WireRequest): Promise<WireResponse>;
  /** Takes no new requests, and ends when those under way are answered. */
  retire(): void;
  /** Ends everything on it. */
  close(): void;
}

/** After so many ms in which nothing came, a ping is sent; without its answer in `answerMs` the connection is dead. As client-go's. */
const ping = { idleMs: 30_000, answerMs: 15_000 };

/**
 * HTTP/2: one socket for everything. A server that has gone away without a word (its machine lost power, a firewall forgot us) is found by
 * pings: a watch has nothing to send, so TCP alone would never notice.
 */
export class Http2Connection implements Connection {
  readonly protocol = 'HTTP/2';
  readonly #session: ClientHttp2Session;
  readonly #socket: Socket;
  readonly #clock: Clock;
  #bytesRead = 0;
  #timer: Disposable | undefined;
  #why: string | undefined;

  constructor(session: ClientHttp2Session, socket: Socket, clock: Clock) {
    this.#session = session;
    this.#socket = socket;
    this.#clock = clock;
    session.on('error', (error) => {
      this.#why ??= messageOf(error);
    });
    session.on('goaway', (code) => {
      this.#why ??= `the server has said that it goes away (code ${code})`;
    });
    session.on('close', () => this.#timer?.[Symbol.dispose]());
    this.#await();
  }

  get usable(): boolean {
    return !this.#session.closed && !this.#session.destroyed;
  }

  send({ method, path, headers, body, signal }: WireRequest): Promise<WireResponse> {
    return new Promise((resolve, reject) => {
      let stream: ClientHttp2Stream;
      try {
        stream = this.#session.request(
          { ...headers, ':method': method, ':path': path },
          { endStream: body === undefined },
        );
      } catch (error) {
        reject(new TransportError('unsent', this.#why ?? messageOf(error)));
        return;
      }
      const onAbort = () => stream.close(process.getBuiltinModule('node:http2').constants.NGHTTP2_CANCEL);
      signal.addEventListener('abort', onAbort, { once: true });
      let reason: string | undefined;
      stream.on('error', (error) => {
        reason ??= messageOf(error);
      });
      stream.once('response', (answer: IncomingHttpHeaders & { readonly ':status'?: number }) =>
        resolve({ status: answer[':status'] ?? 0, retryAfter: answer['retry-after'], body: stream }),
      );
      stream.once('close', () => {
        signal.removeEventListener('abort', onAbort);
        // Refused before it was looked at (7), or never put on the wire: the server can't have acted on it.
        const stage = stream.rstCode === 7 || stream.pending ? 'unsent' : 'sent';
        reject(new TransportError(stage, this.#why ?? reason ?? 'the connection was closed'));
      });
      if (body !== undefined) stream.end(body);
      if (signal.aborted) onAbort();
    });
  }

  retire(): void {
    this.#session.close();
  }

  close(): void {
    this.#end('the connection was given up');
  }

  /** With an error, or readers of bodies would take the end for a regular one. */
  #end(why: string): void {
    this.#why ??= why;
    this.#session.destroy(new Error(why));
  }

  #await(): void {
    this.#timer = this.#clock.after(ping.idleMs, () => {
      if (this.#session.destroyed) return;
      const { bytesRead } = this.#socket;
      if (bytesRead !== this.#bytesRead) {
        this.#bytesRead = bytesRead;
        this.#await();
        return;
      }
      this.#timer = this.#clock.after(ping.answerMs, () => {
        this.#end(`no answer to a ping for ${ping.answerMs / 1000} s: the connection is dead`);
      });
      this.#session.ping(() => {
        this.#timer?.[Symbol.dispose]();
        this.#bytesRead = this.#socket.bytesRead;
        // No pings are sent on one that takes no new requests; watches that go on on it have a limit of their own.
        if (this.usable) this.#await();
      });
    });
  }
}

type HttpRequest = (options: RequestOptions, onAnswer: (answer: IncomingMessage) => void) => ClientRequest;

/** HTTP/1.1: a socket for each request that is under way. A dead one is found by whoever has waited too long for something on it. */
export class Http1Connection implements Connection {
  readonly protocol = 'HTTP/1.1';
  readonly #request: HttpRequest;
  readonly #agent: Agent;
  readonly #origin: URL;
  usable = true;

  constructor(request: HttpRequest, agent: Agent, origin: URL) {
    this.#request = request;
    this.#agent = agent;
    this.#origin = origin;
  }

  send({ method, path, headers, body, signal }: WireRequest): Promise<WireResponse> {
    return new Promise((resolve, reject) => {
      const { hostname, port, protocol } = this.#origin;
      const request = this.#request(
        {
          host: hostname.replace(/^\[|\]$/g, ''),
          port: port === '' ? (protocol === 'http:' ? 80 : 443) : Number(port),
          path,
          method,
          headers: body === undefined ? headers : { ...headers, 'content-length': String(Buffer.byteLength(body)) },
          agent: this.#agent,
          signal,
        },
        (answer) => {
          // The reader of the body gets its errors; without a reader nobody else may stumble over them.
          answer.on('error', () => {});
          resolve({ status: answer.statusCode ?? 0, retryAfter: answer.headers['retry-after'], body: answer });
        },
      );
      let isConnected = false;
      request.once('socket', (socket) => {
        isConnected = request.reusedSocket;
        if (isConnected) return;
        socket.once(protocol === 'http:' ? 'connect' : 'secureConnect', () => {
          isConnected = true;
        });
      });
      request.on('error', (error) => {
        if (!isConnected) this.usable = false;
        reject(new TransportError(isConnected ? 'sent' : 'connect', reasonOf(error)));
      });
      request.end(body);
    });
  }

  retire(): void {
    this.usable = false;
  }

  close(): void {
    this.usable = false;
    this.#agent.destroy();
  }
}

/**
 * What went wrong with a socket. Several addresses tried make an error without a message of its own; where Node says it in
 * words of its own ("socket hang up"), the system's name of the error is added, which is what people look for.
 */
export function reasonOf(error: unknown): string {
  const { errors, code } = (error ?? {}) as { readonly errors?: unknown; readonly code?: unknown };
  if (Array.isArray(errors) && errors.length > 0) return [...new Set(errors.map(reasonOf))].join('; ');
  const why = messageOf(error);
  return typeof code === 'string' && /^E[A-Z]+$/.test(code) && !why.includes(code) ? `${why} (${code})` : why;
}
