import { readFileSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import {
  newClusters,
  newContexts,
  newUsers,
  type Cluster,
  type User,
} from '@kubernetes/client-node/dist/config_types.js';
import { ExecAuth } from '@kubernetes/client-node/dist/exec_auth.js';
import { parseDocument } from 'yaml';
import type { Clock } from '#api/clock.ts';
import { messageOf } from '#api/errors.ts';
import { DatastoreError } from '../errors.ts';

/** Where a pod finds what its service account gives it. */
export const serviceAccountDir = '/var/run/secrets/kubernetes.io/serviceaccount';

/** Who the API server is, and who we are to it, at the time of asking: files may have been replaced since. */
export interface Identity {
  readonly tls: TlsMaterial;
  /** The value of the header Authorization, if it takes one. */
  readonly authorization: string | undefined;
}

/** What a TLS connection is made with. */
export interface TlsMaterial {
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
  /** Where these are from, for messages about them: names of files, or of the kubeconfig that holds them. */
  readonly sources: string;
  /** The name to be found in the server's certificate, where it isn't the host of its address. */
  readonly serverName: string | undefined;
  readonly rejectUnauthorized: boolean;
}

/** Where credentials come from. */
export interface CredentialsSource {
  /** A kubeconfig's path; absent: the service account of the pod. */
  readonly kubeconfig: string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly serviceAccountDir: string;
}

/** What a kubeconfig (or its like for a pod) says of the current context. */
interface Access {
  readonly cluster: Cluster;
  readonly user: User;
  /** The library knows the field only under another name. */
  readonly tokenFile: string | undefined;
}

/** Files are read again after this many ms; a kubelet replaces a token long before it expires. */
const fileAgeMs = 10_000;

/**
 * Who we are to the API server, kept current: kubelets rotate tokens and people rotate certificates under a running agent. Files are read
 * again when they may have changed, and at once when the server has refused what was in them.
 */
export class Credentials {
  /** The server's address: `https://host:port`, perhaps with a path before `/api`. */
  readonly server: URL;
  readonly #source: CredentialsSource;
  readonly #clock: Clock;
  #access: Access;
  #accessMtimeMs: number;
  #token: { readonly file: string; readonly text: string; readonly readAt: number } | undefined;
  #tls: { readonly material: TlsMaterial; readonly readAt: number } | undefined;
  readonly #notTaken = new Map<'kubeconfig' | 'token' | 'certificates', string>();
  #exec = new ExecAuth();
  /** A plugin is a process: all who ask at once wait for the same. */
  #asking: Promise<Identity> | undefined;

  /** Reads everything once. Throws `unavailable`, naming the setting and what is wrong with it. */
  constructor(source: CredentialsSource, clock: Clock) {
    this.#source = source;
    this.#clock = clock;
    const where = source.kubeconfig === undefined ? "the pod's service account" : `kubeconfig ${source.kubeconfig}`;
    try {
      this.#accessMtimeMs = this.#mtimeMs();
      this.#access = readAccess(source);
      this.server = serverOf(this.#access.cluster);
      refuseUnsupported(this.#access);
      this.#tlsFiles();
      this.#staticToken();
    } catch (cause) {
      const hint = source.kubeconfig === undefined ? '; outside of a pod give --kubeconfig (KUBECONFIG)' : '';
      throw new DatastoreError('unavailable', `use ${where}: ${messageOf(cause)}${hint}`, { cause });
    }
  }

  /** Why what stands there now is not used, but what was read before: for each what was tried, and the words. Empty when all is as it stands there. */
  get notTaken(): readonly string[] {
    return [...this.#notTaken.values()];
  }

  /** Throws what keeps files from being read, or an exec plugin's failure; never with a secret in the message. */
  async identity(): Promise<Identity> {
    if (!this.#exec.isAuthProvider(this.#access.user)) {
      return { tls: this.#tlsFiles(), authorization: this.#staticToken() };
    }
    this.#asking ??= this.#askPlugin().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  async #askPlugin(): Promise<Identity> {
    const { user, cluster } = this.#access;
    const options: { headers: Record<string, string>; cert?: string; key?: string } = { headers: {} };
    const failure: unknown = await this.#exec.applyAuthentication(withExecInfo(user, cluster), options).then(
      () => undefined,
      (error: unknown) => error ?? 'no reason given',
    );
    if (failure !== undefined) {
      // What it printed may hold a token, and a parser's message would quote it.
      const why = failure instanceof SyntaxError ? 'it printed something other than JSON' : messageOf(failure).trim();
      throw new Error(`the credential plugin of user ${user.name} failed: ${why}`);
    }
    const tls = this.#tlsFiles();
    return {
      tls: { ...tls, cert: options.cert ?? tls.cert, key: options.key ?? tls.key },
      authorization: options.headers['Authorization'],
    };
  }

  /** The server has refused them: everything is read again. What can't be used changes nothing; `notTaken` says so. */
  renew(): void {
    this.#exec = new ExecAuth();
    if (this.#token !== undefined) this.#token = { ...this.#token, readAt: Number.NEGATIVE_INFINITY };
    if (this.#tls !== undefined) this.#tls = { ...this.#tls, readAt: Number.NEGATIVE_INFINITY };
    if (this.#source.kubeconfig === undefined) return;
    try {
      const mtimeMs = this.#mtimeMs();
      this.#notTaken.delete('kubeconfig');
      if (mtimeMs === this.#accessMtimeMs) return;
      const access = readAccess(this.#source);
      refuseUnsupported(access);
      const server = serverOf(access.cluster);
      if (server.href !== this.server.href) {
        throw new Error(
          `its server is ${addressOf(server)} now, ours is ${addressOf(this.server)}: restart to change over`,
        );
      }
      this.#access = access;
      this.#accessMtimeMs = mtimeMs;
      // Of files that may no longer be named.
      this.#notTaken.clear();
    } catch (error) {
      // Half written, or gone for the moment: what was read before is tried until there is something better.
      this.#keep('kubeconfig', `kubeconfig ${this.#source.kubeconfig}`, error);
    }
  }

  /** `subject`: the file. */
  #keep(what: 'kubeconfig' | 'token' | 'certificates', subject: string, error: unknown): void {
    this.#notTaken.set(
      what,
      `read ${subject} again: ${messageOf(error)}; what was read before is used until it is mended`,
    );
  }

  #mtimeMs(): number {
    return this.#source.kubeconfig === undefined ? 0 : statSync(this.#source.kubeconfig).mtimeMs;
  }

  #tlsFiles(): TlsMaterial {
    const now = this.#clock.now();
    if (this.#tls !== undefined && now - this.#tls.readAt < fileAgeMs) return this.#tls.material;
    const { cluster, user } = this.#access;
    try {
      const material = {
        ca: dataOrFile(cluster.caData, cluster.caFile),
        cert: dataOrFile(user.certData, user.certFile),
        key: dataOrFile(user.keyData, user.keyFile),
        sources: sourcesOf(this.#access),
        serverName: cluster.tlsServerName,
        rejectUnauthorized: !cluster.skipTLSVerify,
      };
      this.#tls = { material, readAt: now };
      this.#notTaken.delete('certificates');
      return material;
    } catch (error) {
      // Being replaced, or the volume is gone for the moment.
      if (this.#tls === undefined) throw error;
      this.#keep('certificates', `the certificates (${sourcesOf(this.#access)})`, error);
      return this.#tls.material;
    }
  }

  #staticToken(): string | undefined {
    const { user, tokenFile } = this.#access;
    if (tokenFile !== undefined) return `Bearer ${this.#tokenOf(tokenFile)}`;
    if (user.token !== undefined && user.token !== '') return `Bearer ${headerText(user.token, 'token')}`;
    if (!user.username) return undefined;
    return `Basic ${Buffer.from(`${user.username}:${user.password ?? ''}`).toString('base64')}`;
  }

  #tokenOf(file: string): string {
    const now = this.#clock.now();
    if (this.#token?.file === file && now - this.#token.readAt < fileAgeMs) return this.#token.text;
    try {
      const text = headerText(readFileSync(file, 'utf8').trim(), file);
      if (text === '') throw new Error(`the token file ${file} is empty`);
      this.#token = { file, text, readAt: now };
      this.#notTaken.delete('token');
      return text;
    } catch (error) {
      // Being replaced, or the volume is gone for the moment: the server says whether the old one is still good.
      if (this.#token?.file !== file) throw error;
      this.#keep('token', `the token file ${file}`, error);
      return this.#token.text;
    }
  }
}

/** What can't stand in a header would be quoted by whoever refuses it there. */
function headerText(token: string, where: string): string {
  if (/[^\x21-\x7e]/.test(token))
    throw new Error(`what stands in ${where} is no token: it holds blanks or other signs`);
  return token;
}

function readAccess(source: CredentialsSource): Access {
  return source.kubeconfig === undefined ? podAccess(source) : kubeconfigAccess(source.kubeconfig);
}

function podAccess({ environment, serviceAccountDir: dir }: CredentialsSource): Access {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = environment;
  if (!host || !port) throw new Error('KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set');
  return {
    cluster: {
      name: 'pod',
      server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
      caFile: `${dir}/ca.crt`,
      skipTLSVerify: false,
    },
    user: { name: 'service account' },
    tokenFile: `${dir}/token`,
  };
}

function kubeconfigAccess(path: string): Access {
  // Without source lines: they may hold tokens.
  const document = parseDocument(readFileSync(path, 'utf8'), { prettyErrors: false });
  const [error] = document.errors;
  if (error !== undefined) throw new Error(`it is no YAML: ${error.code} at offset ${error.pos[0]}`);
  const raw = record(document.toJS());
  const current = raw['current-context'];
  const context = newContexts(raw['contexts']).find(({ name }) => name === current);
  if (context === undefined)
    throw new Error(`current-context ${JSON.stringify(current ?? '')} is not among its contexts`);
  const cluster = newClusters(raw['clusters']).find(({ name }) => name === context.cluster);
  if (cluster === undefined) throw new Error(`context ${context.name}: there is no cluster ${context.cluster}`);
  const rawUser = list(raw['users']).find((each) => record(each)['name'] === context.user);
  const [user] = rawUser === undefined ? [] : newUsers([rawUser]);
  if (user === undefined && context.user) throw new Error(`context ${context.name}: there is no user ${context.user}`);
  const dir = dirname(resolve(path));
  const absolute = (file: unknown) => (typeof file === 'string' && file !== '' ? resolve(dir, file) : undefined);
  const caFile = absolute(cluster.caFile);
  const certFile = absolute(user?.certFile);
  const keyFile = absolute(user?.keyFile);
  return {
    cluster: { ...cluster, ...(caFile === undefined ? {} : { caFile }) },
    user: {
      ...(user ?? { name: '(none)' }),
      ...(certFile === undefined ? {} : { certFile }),
      ...(keyFile === undefined ? {} : { keyFile }),
    },
    tokenFile: absolute(record(record(rawUser)['user'])['tokenFile']),
  };
}

function refuseUnsupported({ cluster, user }: Access): void {
  if (cluster.proxyUrl) throw new Error(`cluster ${cluster.name}: proxy-url is not supported`);
  if (user.impersonateUser) throw new Error(`user ${user.name}: impersonation (as) is not supported`);
  const provider = record(user.authProvider);
  if (typeof provider['name'] === 'string') {
    throw new Error(
      `user ${user.name}: auth-provider ${provider['name']} is not supported; use an exec plugin, a token or a certificate`,
    );
  }
}

function serverOf({ name, server }: Cluster): URL {
  const url = URL.canParse(server) ? new URL(server) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw new Error(`cluster ${name}: server must be https://HOST:PORT`);
  }
  return url;
}

/** Without what may be a secret in it. */
function addressOf({ origin, pathname }: URL): string {
  return origin + pathname.replace(/\/+$/, '');
}

/** As client-go does: plugins look there for the version to answer in. */
function withExecInfo(user: User, cluster: Cluster): User {
  const exec = record(user.exec);
  const info = {
    kind: 'ExecCredential',
    apiVersion: exec['apiVersion'],
    spec: { interactive: false, cluster: { server: cluster.server } },
  };
  const env = [...list(exec['env']), { name: 'KUBERNETES_EXEC_INFO', value: JSON.stringify(info) }];
  return { ...user, exec: { ...exec, env } };
}

function sourcesOf({ cluster, user }: Access): string {
  const ca = cluster.caData ? 'in the kubeconfig' : (cluster.caFile ?? "the system's");
  const own = user.certData ? 'in the kubeconfig' : user.certFile;
  return `certificate authority: ${ca}${own === undefined ? '' : `; client certificate: ${own}`}`;
}

/** Data wins, as with client-go. */
function dataOrFile(data: string | undefined, file: string | undefined): string | undefined {
  if (data) return Buffer.from(data, 'base64').toString('utf8');
  return file ? readFileSync(file, 'utf8') : undefined;
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? (value as unknown[]) : [];
}
