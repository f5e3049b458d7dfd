import type { Clock } from '#api/clock.ts';
import { Http1Connection, Http2Connection, reasonOf, TransportError, type Connection } from './connection.ts';
import type { WireRequest, WireResponse } from './connection.ts';
import type { Credentials, Identity, TlsMaterial } from './credentials.ts';

/** So long a connection may take to be made, TLS included. */
const connectMs = 10_000;

/** After a connection could not be made, nobody tries again for so long: all who ask meanwhile get the same answer. */
const pauseMs = 500;

/** HTTP/2 windows: a page of a listing or a burst of events needs no round trip to go on. 65 kB is the protocol's own choice. */
const windowBytes = { stream: 1 << 20, connection: 1 << 24 };

/** Request and answer, on one connection as long as it lives. */
export class Transport {
  readonly #credentials: Credentials;
  readonly #clock: Clock;
  readonly #log: (level: 'info' | 'warn', message: string) => void;
  #current: Connection | undefined;
  #connecting: Promise<Connection> | undefined;
  #failed: { readonly at: number; readonly why: string } | undefined;
  #protocol: string | undefined;
  #tls: TlsMaterial | undefined;
  #isClosed = false;

  constructor(credentials: Credentials, clock: Clock, log: (level: 'info' | 'warn', message: string) => void) {
    this.#credentials = credentials;
    this.#clock = clock;
    this.#log = log;
  }

  /** The server, as messages name it. */
  get server(): string {
    return this.#credentials.server.origin;
  }

  /** Sends a request; any status is an answer. Rejects with `TransportError` when there is none. */
  async send(request: WireRequest, identity: Identity): Promise<WireResponse> {
    const connection = await this.#connection(identity.tls);
    const { authorization } = identity;
    const prefix = this.#credentials.server.pathname.replace(/\/+$/, '');
    return connection.send({
      ...request,
      path: prefix + request.path,
      headers: authorization === undefined ? request.headers : { ...request.headers, authorization },
    });
  }

  /** The next request gets a new connection; what is under way on the present one fails. */
  drop(): void {
    this.#current?.close();
    this.#current = undefined;
  }

  close(): void {
    this.#isClosed = true;
    this.drop();
  }

  #connection(tls: TlsMaterial): Promise<Connection> {
    if (this.#isClosed) return Promise.reject(new TransportError('connect', 'the datastore is closed'));
    if (this.#current?.usable === true && sameTls(this.#tls, tls)) return Promise.resolve(this.#current);
    if (this.#failed !== undefined && this.#clock.now() - this.#failed.at < pauseMs) {
      // New certificates that are no good (yet) are no reason to give up what was made with the old ones.
      if (this.#current?.usable === true) return Promise.resolve(this.#current);
      return Promise.reject(new TransportError('connect', this.#failed.why));
    }
    this.#connecting ??= this.#connect(tls).finally(() => {
      this.#connecting = undefined;
    });
    return this.#connecting;
  }

  async #connect(tls: TlsMaterial): Promise<Connection> {
    try {
      const connection = await connect(this.#credentials.server, tls, this.#clock);
      if (this.#isClosed) {
        connection.close();
        throw new Error('the datastore is closed');
      }
      // One whose certificates are old: its watches end within minutes.
      this.#current?.retire();
      this.#current = connection;
      this.#tls = tls;
      this.#failed = undefined;
      if (this.#protocol !== connection.protocol) {
        this.#protocol = connection.protocol;
        this.#log('info', `API server ${this.server} is reached by ${connection.protocol}`);
      }
      return connection;
    } catch (error) {
      const why = explained(error, tls);
      this.#failed = { at: this.#clock.now(), why };
      if (this.#current?.usable === true && !this.#isClosed) return this.#current;
      throw new TransportError('connect', why);
    }
  }
}

/** What OpenSSL and Node say of certificates names no file. */
function explained(error: unknown, { sources }: TlsMaterial): string {
  const why = reasonOf(error);
  const { code = '' } = (error ?? {}) as { readonly code?: unknown };
  return /^(ERR_OSSL|ERR_SSL|ERR_TLS|CERT|UNABLE_TO|DEPTH_ZERO|SELF_SIGNED|HOSTNAME)/.test(String(code))
    ? `${why} (${sources})`
    : why;
}

function sameTls(a: TlsMaterial | undefined, b: TlsMaterial): boolean {
  return a !== undefined && a.ca === b.ca && a.cert === b.cert && a.key === b.key;
}

/** Loaded only by who uses this datastore: `http2` alone is 5 MiB. */
const builtin = {
  http: () => process.getBuiltinModule('node:http'),
  https: () => process.getBuiltinModule('node:https'),
  http2: () => process.getBuiltinModule('node:http2'),
  tls: () => process.getBuiltinModule('node:tls'),
};

const agentOptions = { keepAlive: true, keepAliveMsecs: 30_000, maxFreeSockets: 8 };

async function connect(server: URL, material: TlsMaterial, clock: Clock): Promise<Connection> {
  if (server.protocol === 'http:') {
    const { request, Agent } = builtin.http();
    return new Http1Connection(request, new Agent(agentOptions), server);
  }
  const host = server.hostname.replace(/^\[|\]$/g, '');
  const { ca, cert, key, rejectUnauthorized, serverName } = material;
  const options = {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    rejectUnauthorized,
    // A host that is an address has no server name; the certificate is compared with the address then.
    ...(serverName !== undefined ? { servername: serverName } : isAddress(host) ? {} : { servername: host }),
  };
  const socket = builtin.tls().connect({
    ...options,
    host,
    port: server.port === '' ? 443 : Number(server.port),
    ALPNProtocols: ['h2', 'http/1.1'],
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  using _limit = clock.after(connectMs, () => socket.destroy(new Error(`no connection within ${connectMs / 1000} s`)));
  socket.once('secureConnect', resolve).once('error', reject);
  socket.once('close', () => reject(new Error('the server closed the connection')));
  await promise;
  if (socket.alpnProtocol !== 'h2') {
    socket.destroy();
    const { request, Agent } = builtin.https();
    return new Http1Connection(request, new Agent({ ...agentOptions, ...options }), server);
  }
  socket.setNoDelay(true);
  const session = builtin.http2().connect(server, {
    createConnection: () => socket,
    settings: { enablePush: false, initialWindowSize: windowBytes.stream },
  });
  session.once('connect', () => session.setLocalWindowSize(windowBytes.connection));
  return new Http2Connection(session, socket, clock);
}

function isAddress(host: string): boolean {
  return host.includes(':') || /^[\d.]+$/.test(host);
}
