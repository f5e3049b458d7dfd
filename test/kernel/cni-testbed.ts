import { spawn, type ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
} from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseAs } from '#api/kinds.ts';
import type { CniDeps, EndpointRegistry, LocalEndpoint } from '#cni/deps.ts';
import { runCni } from '#cni/dispatcher.ts';
import { KeyedMutex } from '#cni/keyed-mutex.ts';
import { kernelNamespaces } from '#cni/namespaces.ts';
import { decodeRequest, encodeAnswer } from '#cni/protocol.ts';
import { IpamError, type AllocationOwner, type Assignment, type AutoAssignRequest, type Ipam } from '#ipam/ipam.ts';
import { systemCommandRunner } from '#native/command-runner.ts';
import { openNetlink } from '#native/netlink.ts';
import { exec, type Finished } from '../lab/exec.ts';
import { askAgent } from '#agent/admin/client.ts';
import type { AgentStatus } from '#agent/status.ts';
import { distDir } from '#test/lab/dist.ts';
import { replaceFile } from '#test/lab/replace-file.ts';
import { until } from '#test/lab/until.ts';
import { createNetns, uniqueName, type TestNetns } from '../lab/netns.ts';

export const launcher = join(distDir, 'cni/tortie');
/** Where Debian's containernetworking-plugins are. */
export const debianPlugins = '/usr/lib/cni';
const NODE = 'node-1';

/**
 * Who answers: a real agent; the stand-alone program that the launcher becomes; or the plugin behind a socket of the test's own, with an
 * address pool and endpoints in memory, where faults can be injected.
 */
export type Mode = 'agent' | 'standalone' | 'server';

/** A pool of a few addresses of each family, in memory. */
export class MemoryIpam implements Ipam {
  readonly #free: { 4: string[]; 6: string[] };
  readonly #held = new Map<string, { addresses: string[]; attributes: Readonly<Record<string, string>> }>();

  constructor(size: number) {
    const numbers = Array.from({ length: size }, (_, index) => index);
    this.#free = {
      4: numbers.map((n) => `10.65.0.${n}`),
      6: numbers.map((n) => (n === 0 ? 'fd65::' : `fd65::${n.toString(16)}`)),
    };
  }

  async autoAssign(request: AutoAssignRequest): Promise<Assignment> {
    const families = [...(request.want4 ? [4 as const] : []), ...(request.want6 ? [6 as const] : [])];
    for (const family of families) {
      if (this.#free[family].length === 0)
        throw new IpamError('no-free-address', `no IPv${family} address is free in pool test`);
    }
    return this.#give(
      families.map((family) => this.#free[family].shift() ?? ''),
      request,
    );
  }

  async assignIps(request: AllocationOwner & { readonly addresses: readonly string[] }): Promise<Assignment> {
    for (const address of request.addresses) {
      const free = this.#free[address.includes(':') ? 6 : 4];
      if (!free.includes(address)) throw new IpamError('taken', `address ${address} is taken`);
      free.splice(free.indexOf(address), 1);
    }
    return this.#give(request.addresses, request);
  }

  async releaseHandle(handle: string): Promise<readonly string[]> {
    const addresses = this.#held.get(handle)?.addresses ?? [];
    this.#held.delete(handle);
    for (const address of addresses) this.#free[address.includes(':') ? 6 : 4].push(address);
    return addresses;
  }

  async addressesOf(handle: string): Promise<readonly string[]> {
    return this.#held.get(handle)?.addresses ?? [];
  }

  async allocations(): ReturnType<Ipam['allocations']> {
    return this.#held;
  }

  unavailableReason(): string | undefined {
    return undefined;
  }

  #give(addresses: readonly string[], { handle, attributes }: AllocationOwner): Assignment {
    const before = this.#held.get(handle)?.addresses ?? [];
    this.#held.set(handle, { addresses: [...before, ...addresses], attributes });
    return { addresses: addresses.map((address) => `${address}/${address.includes(':') ? 128 : 32}`) };
  }
}

/** Endpoints in memory; their policy is in force at once, unless `failNext` says otherwise. */
export class MemoryEndpoints implements EndpointRegistry {
  readonly #endpoints = new Map<string, LocalEndpoint>();
  failNext: string | undefined;

  get(namespace: string, name: string): LocalEndpoint | undefined {
    return this.#endpoints.get(`${namespace}/${name}`);
  }

  list(): readonly LocalEndpoint[] {
    return [...this.#endpoints.values()];
  }

  async add(endpoint: LocalEndpoint): Promise<void> {
    const { failNext } = this;
    this.failNext = undefined;
    if (failNext !== undefined) throw new Error(failNext);
    const { namespace, name } = parseAs('WorkloadEndpoint', endpoint.endpoint).object.metadata;
    this.#endpoints.set(`${namespace ?? ''}/${name}`, endpoint);
  }

  async remove(namespace: string, name: string, containerId: string): Promise<void> {
    if (this.get(namespace, name)?.endpoint.spec.containerID === containerId)
      this.#endpoints.delete(`${namespace}/${name}`);
  }
}

/** How one call differs from the usual one. */
export interface CallOptions {
  readonly conf?: object;
  readonly env?: Readonly<Record<string, string>>;
  /** Instead of the conf. */
  readonly stdin?: string;
  /** A command that runs the executable, for instance in another mount namespace. */
  readonly through?: readonly string[];
}

/** A finished call; `json` is its stdout. */
export interface Answer extends Finished {
  // Tests look at whatever they expect.
  readonly json: Record<string, never> & { readonly [key: string]: unknown };
}

/** A node as a namespace, containers as namespaces, and the real CNI executable between them. */
export class CniTestbed implements AsyncDisposable {
  readonly mode: Mode;
  readonly node: TestNetns;
  readonly dir: string;
  readonly ipam: MemoryIpam;
  readonly endpoints = new MemoryEndpoints();
  /** What the test changes of the plugin's world, server mode only. */
  overrides: Partial<CniDeps> = {};
  readonly #containers: TestNetns[] = [];
  #server: Server | undefined;
  #agent: ChildProcess | undefined;
  #host: Disposable | undefined;
  #namespaces: Disposable | undefined;

  private constructor(mode: Mode, node: TestNetns, poolSize: number) {
    this.mode = mode;
    this.node = node;
    this.dir = mkdtempSync(join(tmpdir(), `tortie-cni-${process.pid}-`));
    this.ipam = new MemoryIpam(poolSize);
  }

  /** `poolSize`: addresses of each family, a power of two. */
  static async create(mode: Mode, poolSize = 16): Promise<CniTestbed> {
    const bed = new CniTestbed(mode, await createNetns(), poolSize);
    await bed.node.exec('ip', 'link', 'set', 'lo', 'up');
    bed.#writeCluster(poolSize);
    if (mode === 'server') await bed.#listen();
    if (mode === 'agent') await bed.#startAgent();
    return bed;
  }

  /** A container's namespace. */
  async container(): Promise<TestNetns> {
    const netns = await createNetns();
    this.#containers.push(netns);
    return netns;
  }

  /** A Pod in the datastore. */
  pod(name: string, annotations: Readonly<Record<string, string>> = {}, namespace = 'default'): void {
    this.#write(`pod-${namespace}-${name}`, {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace, labels: { app: name }, annotations },
      spec: { nodeName: NODE, containers: [{ name: 'main', ports: [{ name: 'http', containerPort: 80 }] }] },
    });
  }

  /** Runs the CNI executable in the node's namespace. */
  async call(
    verb: string,
    netns: string,
    containerId: string,
    { conf, env, stdin, through = [] }: CallOptions = {},
  ): Promise<Answer> {
    const finished = await exec('nsenter', [`--net=${this.node.path}`, ...through, launcher], {
      input: stdin ?? JSON.stringify({ ...this.conf(), ...conf }),
      env: {
        TORTIE_NODE_NAME: NODE,
        TORTIE_STATE_DIR: join(this.dir, 'state'),
        CNI_COMMAND: verb,
        CNI_CONTAINERID: containerId,
        CNI_NETNS: netns,
        CNI_IFNAME: 'eth0',
        CNI_PATH: `${join(distDir, 'cni')}:${debianPlugins}`,
        CNI_ARGS: '',
        ...env,
      },
    });
    return { ...finished, json: finished.stdout === '' ? {} : JSON.parse(finished.stdout) };
  }

  conf(): object {
    return {
      cniVersion: '1.0.0',
      name: 'k8s-pod-network',
      type: 'tortie',
      socket: this.socket,
      ...(this.mode === 'standalone'
        ? { standalone: true, datastore_type: `files:${join(this.dir, 'cluster')}`, node: process.execPath }
        : {}),
      ipam: { type: 'calico-ipam' },
    };
  }

  get socket(): string {
    return join(this.dir, this.mode === 'agent' ? 'run/cni.sock' : 'cni.sock');
  }

  /** How many addresses are given away. The agent writes afterwards: what its journal still has to say is waited for. */
  async addressesInUse(): Promise<number> {
    if (this.mode === 'server')
      return [...(await this.ipam.allocations()).values()].flatMap(({ addresses }) => addresses).length;
    if (this.mode === 'agent') await until(() => statSync(join(this.dir, 'state/ipam.journal')).size === 0);
    const blocks = join(this.dir, 'cluster/.tortie/IPAMBlock');
    let count = 0;
    for (const file of readdirSync(blocks, { recursive: true, encoding: 'utf8' }).filter((name) =>
      name.endsWith('.json'),
    )) {
      const { spec } = JSON.parse(readFileSync(join(blocks, file), 'utf8')) as {
        spec: { allocations: (number | null)[]; attributes: { handle_id?: string; releasedAt?: string }[] };
      };
      count += spec.allocations.filter(
        (index) =>
          index !== null &&
          spec.attributes[index]?.releasedAt === undefined &&
          spec.attributes[index]?.handle_id !== `tortie-reserve-${NODE}`,
      ).length;
    }
    return count;
  }

  /** Names of the node's devices besides lo. */
  async devices(): Promise<string[]> {
    return (await this.node.ip<{ ifname: string }[]>('link', 'show'))
      .map(({ ifname }) => ifname)
      .filter((name) => name !== 'lo');
  }

  /** An object in the datastore, as a user would write it. */
  apply(file: string, object: object): void {
    this.#write(file, object);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stopAgent();
    await new Promise<void>((resolve) => {
      if (this.#server === undefined) resolve();
      else this.#server.close(() => resolve());
    });
    this.#host?.[Symbol.dispose]();
    this.#namespaces?.[Symbol.dispose]();
    for (const container of this.#containers) {
      if (existsSync(container.path)) await container[Symbol.asyncDispose](); // A test may have removed it.
    }
    await this.node[Symbol.asyncDispose]();
    rmSync(this.dir, { recursive: true });
  }

  async #startAgent(): Promise<void> {
    const run = join(this.dir, 'run');
    const settings = [
      `--node-name=${NODE}`,
      `--datastore=files:${join(this.dir, 'cluster')}`,
      `--run-dir=${run}`,
      `--state-dir=${join(this.dir, 'state')}`,
      `--bpffs=${join(this.dir, 'bpf')}`,
    ];
    const log = openSync(join(this.dir, 'agent.log'), 'a');
    const agent = spawn('nsenter', [`--net=${this.node.path}`, join(distDir, 'bin/tortie'), 'agent', ...settings], {
      stdio: ['ignore', log, log],
      // By default all nodes of a machine would write their files to one directory.
      env: { ...process.env, FELIX_ENDPOINTSTATUSPATHPREFIX: join(this.dir, 'calico') },
    });
    closeSync(log);
    this.#agent = agent;
    for (let isReady = false; !isReady;) {
      if (agent.exitCode !== null || agent.signalCode !== null)
        throw new Error(`the agent ended: ${readFileSync(join(this.dir, 'agent.log'), 'utf8')}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
      const status = await askAgent(run, '/status').catch(() => undefined);
      isReady = (status as AgentStatus | undefined)?.ready === true;
    }
  }

  async #stopAgent(): Promise<void> {
    const agent = this.#agent;
    if (agent === undefined || agent.exitCode !== null || agent.signalCode !== null) return;
    const ended = new Promise((resolve) => {
      agent.once('exit', resolve);
    });
    agent.kill('SIGKILL');
    await ended;
  }

  async #listen(): Promise<void> {
    const host = openNetlink({ path: this.node.path });
    const namespaces = kernelNamespaces({ path: this.node.path });
    this.#host = host;
    this.#namespaces = namespaces;
    const base: CniDeps = {
      nodeName: NODE,
      interfacePrefix: 'cali',
      ipam: this.ipam,
      endpoints: this.endpoints,
      host,
      namespaces,
      locks: new KeyedMutex(),
      commands: systemCommandRunner,
      pod: async (namespace, name) => this.#podFacts(namespace, name),
      node: async () => parseAs('Node', this.#manifests.get('node')).object,
      notReadyReason: async () => undefined,
      podDeviceOps: () => [],
      linkPodDevice: () => Promise.resolve(),
      podRoutes: () => ({ protocol: 3, metric4: 1024, metric6: 1024 }),
      defaultMtu: () => undefined,
      standalone: false,
      log: () => {},
    };
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      const chunks: Buffer[] = [];
      socket.on('error', () => {});
      socket.on('data', (chunk: Buffer) => chunks.push(chunk));
      socket.on('end', () => {
        void runCni(decodeRequest(Buffer.concat(chunks)), { ...base, ...this.overrides }).then((answer) =>
          socket.end(encodeAnswer(answer)),
        );
      });
    });
    await new Promise<void>((resolve) => {
      server.listen(this.socket, resolve);
    });
    this.#server = server;
  }

  #podFacts(namespace: string, name: string) {
    const pod = this.#manifests.get(`pod-${namespace}-${name}`);
    if (pod === undefined) return undefined;
    const found = this.#manifests.get(`namespace-${namespace}`);
    return {
      pod: parseAs('Pod', pod).object,
      namespace: found === undefined ? undefined : parseAs('Namespace', found).object,
    };
  }

  readonly #manifests = new Map<string, object>();

  #write(file: string, object: object): void {
    this.#manifests.set(file, object);
    mkdirSync(join(this.dir, 'cluster'), { recursive: true });
    replaceFile(join(this.dir, 'cluster'), `${file}.yaml`, `${JSON.stringify(object)}\n`);
  }

  #writeCluster(poolSize: number): void {
    const bits = Math.log2(poolSize);
    const pool = (name: string, cidr: string, blockSize: number) =>
      this.#write(name, {
        apiVersion: 'projectcalico.org/v3',
        kind: 'IPPool',
        metadata: { name },
        spec: { cidr, blockSize },
      });
    pool('pool4', `10.65.0.0/${32 - bits}`, 32 - bits);
    pool('pool6', `fd65::/${128 - bits}`, 128 - bits);
    this.#write('node', {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: NODE },
      spec: { podCIDR: '10.66.1.0/24', podCIDRs: ['10.66.1.0/24', 'fd66:1::/64'] },
    });
    this.#write('namespace-default', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'default' } });
  }
}

/** A container id as runtimes make them. */
export function containerId(seed: string): string {
  return createHash('sha256').update(`${uniqueName()} ${seed}`).digest('hex');
}

/** CNI_ARGS of a pod. */
export function podArgs(name: string, namespace = 'default'): Readonly<Record<string, string>> {
  return {
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${name};K8S_POD_INFRA_CONTAINER_ID=x`,
  };
}
