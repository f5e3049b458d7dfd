import { once } from 'node:events';
import { createServer as createHttpServer, type Server as HttpServer } from 'node:http';
import { createSecureServer, type Http2SecureServer, type ServerHttp2Session } from 'node:http2';
import { createServer as createHttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import { freePort } from '#test/lab/free-ports.ts';
import { selfSigned } from './certificate-for-tests.ts';

/** How clients reach it. */
export type FakeProtocol = 'HTTP/2' | 'HTTP/1.1 over TLS' | 'HTTP/1.1';

/** A request as the fake has got it. */
export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

/** The answer under way; nothing is sent before the first call. */
export interface Answering {
  /** A whole JSON answer. */
  json(status: number, body: unknown, headers?: Readonly<Record<string, string>>): void;
  /** The head of a stream, and parts of its body. */
  begin(): void;
  write(text: string): void;
  end(): void;
  /** Ends the connection in the midst. */
  cut(): void;
}

/** What the fake does with a request. */
export type Script = (asked: Asked, answering: Answering) => void;

/** An API server that says what a test tells it to: for what a real one does only in bad times. */
export class FakeApiServer implements AsyncDisposable {
  readonly protocol: FakeProtocol;
  /** Requests so far. */
  readonly asked: Asked[] = [];
  /** The watches that are open, each with its answer. */
  readonly watches: { readonly asked: Asked; readonly answering: Answering }[] = [];
  readonly #certificate = selfSigned();
  readonly #sockets = new Set<Socket>();
  readonly #sessions = new Set<ServerHttp2Session>();
  #server: HttpServer | Http2SecureServer;
  #port = 0;
  /** How many connections were made. */
  connections = 0;
  /** What is answered; set by each test. */
  script: Script = (_asked, answering) => answering.json(500, statusBody(500, 'InternalError', 'no script'));

  private constructor(protocol: FakeProtocol) {
    this.protocol = protocol;
    this.#server = this.#make();
  }

  static async start(protocol: FakeProtocol = 'HTTP/2'): Promise<FakeApiServer> {
    const fake = new FakeApiServer(protocol);
    fake.#port = await freePort();
    await fake.listen();
    return fake;
  }

  get url(): string {
    return `${this.protocol === 'HTTP/1.1' ? 'http' : 'https'}://127.0.0.1:${this.#port}`;
  }

  /** A kubeconfig for it, as YAML (JSON is YAML). `user`: as kubeconfigs have it. `url`: where something between listens. */
  kubeconfig(user: Readonly<Record<string, unknown>>, url = this.url): string {
    return JSON.stringify({
      'current-context': 'fake',
      contexts: [{ name: 'fake', context: { cluster: 'fake', user: 'tester' } }],
      clusters: [
        {
          name: 'fake',
          cluster: { server: url, 'certificate-authority-data': Buffer.from(this.certificate).toString('base64') },
        },
      ],
      users: [{ name: 'tester', user }],
    });
  }

  /** The certificate itself, as PEM. */
  get certificate(): string {
    return this.#certificate.cert;
  }

  /** Requests of that method, as texts: `GET /api/v1/pods?limit=500`. */
  texts(method?: string): string[] {
    return this.asked
      .filter((asked) => method === undefined || asked.method === method)
      .map(({ method, path, query }) => `${method} ${path}${query.size === 0 ? '' : `?${query.toString()}`}`);
  }

  /** Comes (back) at the same port. */
  async listen(): Promise<void> {
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
  }

  /** Goes away, as by kill -9. */
  async vanish(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.cutAll();
    await closed;
    this.#server = this.#make();
  }

  /** Ends all connections; it goes on listening. */
  cutAll(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.watches.length = 0;
  }

  /** Says to all HTTP/2 clients that it goes away; what is under way may go on. */
  goAway(): void {
    for (const session of this.#sessions) session.goaway(0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#server.listening) await this.vanish();
    this.cutAll();
  }

  #make(): HttpServer | Http2SecureServer {
    const server =
      this.protocol === 'HTTP/2'
        ? createSecureServer({ ...this.#certificate, allowHTTP1: false })
        : this.protocol === 'HTTP/1.1'
          ? createHttpServer()
          : createHttpsServer(this.#certificate);
    server.on('connection', (socket: Socket) => {
      this.connections++;
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => this.#sockets.delete(socket));
    });
    server.on('session', (session: ServerHttp2Session) => {
      this.#sessions.add(session);
      session.on('error', () => {});
      session.on('close', () => this.#sessions.delete(session));
    });
    server.on('request', (request: FakeRequest, response: FakeResponse) => {
      void this.#serve(request, response);
    });
    return server;
  }

  async #serve(request: FakeRequest, response: FakeResponse): Promise<void> {
    response.on('error', () => {});
    request.on('error', () => {});
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk);
    } catch {
      return; // Given up by the client.
    }
    const { pathname, searchParams } = new URL(request.url, 'http://fake');
    const asked: Asked = {
      method: request.method,
      path: pathname,
      query: searchParams,
      headers: request.headers,
      body: Buffer.concat(chunks).toString(),
    };
    const answering: Answering = {
      json: (status, body, headers = {}) => {
        response.writeHead(status, { 'content-type': 'application/json', ...headers });
        response.end(typeof body === 'string' ? body : JSON.stringify(body));
      },
      begin: () => {
        response.writeHead(200, { 'content-type': 'application/json' });
        response.flushHeaders?.();
      },
      write: (text) => void response.write(text),
      end: () => response.end(),
      cut: () => response.stream?.session?.destroy() ?? response.socket?.destroy(),
    };
    this.asked.push(asked);
    if (searchParams.has('watch')) this.watches.push({ asked, answering });
    this.script(asked, answering);
  }
}

interface FakeRequest extends AsyncIterable<Buffer> {
  readonly method: string;
  readonly url: string;
  readonly headers: Asked['headers'];
  on(event: 'error', listener: () => void): void;
}

interface FakeResponse {
  readonly stream?: { readonly session?: ServerHttp2Session };
  readonly socket?: Socket | null;
  writeHead(status: number, headers: Readonly<Record<string, string>>): void;
  flushHeaders?(): void;
  write(text: string): boolean;
  end(text?: string): void;
  on(event: 'error', listener: () => void): void;
}

/** What an API server sends when it refuses. */
export function statusBody(
  code: number,
  reason: string,
  message: string,
  details?: Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> {
  return { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message, details };
}

/** A line of a watch. */
export function eventLine(type: string, object: unknown): string {
  return `${JSON.stringify({ type, object })}\n`;
}
