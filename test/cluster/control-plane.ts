import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePorts } from '../lab/free-ports.ts';
import { etcdProgram, kubernetesProgram } from './binaries.ts';
import { admin, kubeconfig, writeServiceAccountKeys, writeTokens, type User } from './credentials.ts';
import { Daemon } from './daemon.ts';
import { Kubectl } from './kubectl.ts';

/** Where and how the control plane runs. */
export interface ControlPlaneOptions {
  /** Holds its data, logs, keys and kubeconfigs. Absent: a new temporary one, which `stop` removes. */
  readonly dir?: string;
  /** Path of the network namespace to run in, whose loopback device is up; the machine's own if absent. */
  readonly netns?: string;
  /** What clients connect to; 127.0.0.1 if absent. */
  readonly address?: string;
  /** Users besides `admin` that get a token. */
  readonly users?: readonly User[];
  /**
   * A controller manager will run, which makes the service account `default` of each namespace. Without it the API server
   * takes pods that have no service account.
   */
  readonly controllers?: boolean;
  /** Ranges of the Services' addresses, the IPv4 one first. */
  readonly serviceCidrs?: readonly string[];
  /** It lives on when this process ends: `attach` finds it again. */
  readonly outlives?: boolean;
}

/** Who asks the API server: a user that it was started with, or a service account. */
export type Identity =
  | { readonly user: string }
  | { readonly namespace: string; readonly serviceAccount: string; readonly seconds?: number };

/** What another process needs to know of a running one. */
interface State {
  readonly options: ControlPlaneOptions;
  readonly dir: string;
  readonly address: string;
  readonly port: number;
  readonly etcdPort: number;
  readonly etcdPeerPort: number;
  readonly tokens: Readonly<Record<string, string>>;
  readonly signingKey: string;
  readonly verifyingKey: string;
}

/** Longest wait for one of both, on a slow machine. */
const patienceMs = 150_000;

/** A real etcd and a real kube-apiserver, with RBAC and the Node authorizer; nothing else: no controllers, no kubelets. */
export class ControlPlane implements AsyncDisposable {
  readonly dir: string;
  readonly address: string;
  /** As `admin`, who may do everything. */
  readonly kubectl: Kubectl;
  readonly #state: State;

  private constructor(state: State) {
    this.#state = state;
    this.dir = state.dir;
    this.address = state.address;
    this.kubectl = new Kubectl(join(state.dir, 'admin.kubeconfig'), state.options.netns);
  }

  /** Starts both and resolves when the API server says that it is ready (about three seconds). */
  static async start(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
    const dir = options.dir ?? mkdtempSync(join(tmpdir(), `tt${process.pid}-api-`));
    mkdirSync(dir, { recursive: true });
    const tokens = writeTokens(join(dir, 'tokens.csv'), [admin, ...(options.users ?? [])]);
    const keys = writeServiceAccountKeys(dir);
    // Ports of a namespace of its own are all free.
    const [port = 0, etcdPort = 0, etcdPeerPort = 0] =
      options.netns === undefined ? await freePorts(3) : [6443, 2379, 2380];
    const state: State = {
      options,
      dir,
      address: options.address ?? '127.0.0.1',
      port,
      etcdPort,
      etcdPeerPort,
      tokens: Object.fromEntries(tokens),
      signingKey: keys.signing,
      verifyingKey: keys.verifying,
    };
    writeFileSync(join(dir, 'control-plane.json'), JSON.stringify(state), { mode: 0o600 });
    const plane = new ControlPlane(state);
    try {
      await plane.#startEtcd();
      await plane.startApiServer();
      return plane;
    } catch (error) {
      await plane.stop();
      throw error;
    }
  }

  /** One that another process started in this folder. */
  static attach(dir: string): ControlPlane {
    return new ControlPlane(JSON.parse(readFileSync(join(dir, 'control-plane.json'), 'utf8')) as State);
  }

  /** `https://ADDRESS:PORT`. */
  get server(): string {
    return `https://${this.address}:${this.#state.port}`;
  }

  /** Of `admin`: the path of the file. */
  get kubeconfig(): string {
    return this.kubectl.kubeconfig;
  }

  /** Path of the certificate that the API server made for itself: who trusts it trusts the server. */
  get certificate(): string {
    return join(this.dir, 'certificates', 'apiserver.crt');
  }

  /** Path of the private key that signs service accounts' tokens. */
  get serviceAccountKey(): string {
    return this.#state.signingKey;
  }

  /** Writes a kubeconfig file and returns its path. A service account must exist; its token is good for `seconds` (3600; at least 600). */
  async kubeconfigFor(who: Identity): Promise<string> {
    const name = 'user' in who ? who.user : `${who.namespace}:${who.serviceAccount}`;
    const token = 'user' in who ? this.#state.tokens[who.user] : await this.#serviceAccountToken(who);
    if (token === undefined) throw new Error(`the control plane was started without the user ${name}`);
    const path = join(this.dir, `${name.replaceAll(/[^\w.-]/g, '_')}.kubeconfig`);
    writeFileSync(path, kubeconfig(this.server, readFileSync(this.certificate, 'utf8'), token), { mode: 0o600 });
    return path;
  }

  /** `kubectl apply` as admin, of YAML or of objects. */
  async apply(manifests: string | readonly object[]): Promise<void> {
    await this.kubectl.apply(manifests);
  }

  /** SIGKILL; etcd stays. */
  async killApiServer(): Promise<void> {
    await Daemon.find(this.dir, 'kube-apiserver')?.stop('SIGKILL');
  }

  /** Starts the API server unless it runs; resolves when it is ready. Clients find it where it was. */
  async startApiServer(): Promise<void> {
    const running = Daemon.find(this.dir, 'kube-apiserver');
    const daemon = running?.isAlive() === true ? running : await this.#startApiServer();
    const deadline = Date.now() + patienceMs;
    for (;;) {
      this.#mustLive(daemon, deadline);
      if (await this.#isReady()) return;
      await sleep(100);
    }
  }

  /** Ends etcd and starts it again on the same data; the API server lives through it, and has found it when this resolves. */
  async restartEtcd(): Promise<void> {
    await Daemon.find(this.dir, 'etcd')?.stop();
    await this.#startEtcd();
    if (Daemon.find(this.dir, 'kube-apiserver')?.isAlive() === true) await this.startApiServer();
  }

  /** Ends both and removes a temporary folder. */
  async stop(): Promise<void> {
    // Nothing of it is wanted any more: it needn't say goodbye to its clients.
    await this.killApiServer();
    await Daemon.find(this.dir, 'etcd')?.stop('SIGKILL');
    if (this.#state.options.dir === undefined) rmSync(this.dir, { recursive: true, force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #startApiServer(): Promise<Daemon> {
    const { options, port, etcdPort, verifyingKey, signingKey } = this.#state;
    const outside = options.netns !== undefined || this.address !== '127.0.0.1';
    return this.#daemon('kube-apiserver', await kubernetesProgram('kube-apiserver'), [
      `--etcd-servers=http://127.0.0.1:${etcdPort}`,
      `--secure-port=${port}`,
      `--bind-address=${outside ? '0.0.0.0' : this.address}`,
      `--advertise-address=${this.address}`,
      // No Service may lead to a loopback address.
      ...(outside ? [] : ['--endpoint-reconciler-type=none']),
      `--cert-dir=${join(this.dir, 'certificates')}`,
      `--token-auth-file=${join(this.dir, 'tokens.csv')}`,
      '--authorization-mode=Node,RBAC',
      `--service-account-key-file=${verifyingKey}`,
      `--service-account-signing-key-file=${signingKey}`,
      '--service-account-issuer=https://kubernetes.default.svc',
      `--service-cluster-ip-range=${(options.serviceCidrs ?? ['10.96.0.0/16']).join(',')}`,
      '--enable-admission-plugins=NodeRestriction',
      ...(options.controllers === true ? [] : ['--disable-admission-plugins=ServiceAccount']),
      '--allow-privileged=true',
      '--kubelet-preferred-address-types=InternalIP',
      '--profiling=false',
    ]);
  }

  async #startEtcd(): Promise<void> {
    const { etcdPort, etcdPeerPort } = this.#state;
    const client = `http://127.0.0.1:${etcdPort}`;
    const peer = `http://127.0.0.1:${etcdPeerPort}`;
    const log = join(this.dir, 'etcd.log');
    // What an earlier one wrote.
    const before = existsSync(log) ? readFileSync(log, 'utf8').length : 0;
    const daemon = this.#daemon('etcd', await etcdProgram(), [
      '--name=default',
      `--data-dir=${join(this.dir, 'etcd')}`,
      `--listen-client-urls=${client}`,
      `--advertise-client-urls=${client}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=default=${peer}`,
      // What it keeps in memory of its log.
      '--snapshot-count=5000',
      // Nothing here outlives a power failure: it needn't wait for the disk at each write.
      '--unsafe-no-fsync',
    ]);
    const deadline = Date.now() + patienceMs;
    while (!readFileSync(log, 'utf8').slice(before).includes('ready to serve client requests')) {
      this.#mustLive(daemon, deadline);
      await sleep(20);
    }
  }

  #daemon(name: string, file: string, args: readonly string[]): Daemon {
    const { netns, outlives = false } = this.#state.options;
    const inside = netns === undefined ? [] : ['nsenter', `--net=${netns}`];
    const [first = file, ...rest] = [...inside, file, ...args];
    return Daemon.start(this.dir, { name, command: [first, ...rest], outlives });
  }

  async #isReady(): Promise<boolean> {
    try {
      await this.kubeconfigFor({ user: admin.name });
    } catch (error) {
      // It makes its certificate first.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw error;
    }
    const { status, stdout } = await this.kubectl.try(['get', '--raw=/readyz']);
    if (status !== 0 || stdout !== 'ok') return false;
    // It makes them in the background.
    return (await this.kubectl.try(['get', 'namespace', 'default', 'kube-system'])).status === 0;
  }

  async #serviceAccountToken(who: { namespace: string; serviceAccount: string; seconds?: number }): Promise<string> {
    const { namespace, serviceAccount, seconds = 3600 } = who;
    const args = ['create', 'token', serviceAccount, `--namespace=${namespace}`, `--duration=${seconds}s`];
    return (await this.kubectl.run(...args)).trim();
  }

  #mustLive(daemon: Daemon, deadline: number): void {
    if (daemon.isAlive() && Date.now() < deadline) return;
    const why = daemon.isAlive() ? `is not ready after ${patienceMs / 1000} s` : 'has ended';
    const log = readFileSync(join(this.dir, `${daemon.name}.log`), 'utf8');
    throw new Error(`${daemon.name} ${why}:\n${log.split('\n').slice(-20).join('\n')}`);
  }
}
