import { spawn, type ChildProcess } from 'node:child_process';
import { createWriteStream, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { askAgent } from '#agent/admin/client.ts';
import type { EndpointReport } from '#agent/endpoints/endpoint-report.ts';
import type { AgentStatus } from '#agent/status.ts';
import { distDir } from './dist.ts';
import { exec, must } from './exec.ts';
import { LabPod, type PodOptions } from './lab-pod.ts';
import { Peer } from './peer-client.ts';

/** One node of a lab: a namespace, its uplink to the fabric, and an agent that can be started, stopped and killed. */
export class LabNode {
  readonly name: string;
  readonly netns: string;
  readonly ipv4: string;
  readonly ipv6: string;
  readonly runDir: string;
  readonly stateDir: string;
  readonly bpffs: string;
  readonly logPath: string;
  readonly #labDir: string;
  readonly #index: number;
  readonly #agentEnv: Readonly<Record<string, string>>;
  readonly #datastoreFlags: () => readonly string[];
  readonly #pods = new Map<string, LabPod>();
  #agent: ChildProcess | undefined;
  #peer: Peer | undefined;

  constructor(
    labDir: string,
    prefix: string,
    index: number,
    agentEnv: Readonly<Record<string, string>> = {},
    datastoreFlags: () => readonly string[] = () => [`--datastore=files:${join(labDir, 'cluster')}`],
  ) {
    this.#agentEnv = agentEnv;
    this.#datastoreFlags = datastoreFlags;
    this.name = `node${index}`;
    this.netns = `${prefix}-n${index}`;
    this.ipv4 = `172.31.0.${10 + index}`;
    this.ipv6 = `fd31::${10 + index}`;
    this.#labDir = labDir;
    this.#index = index;
    this.runDir = join(labDir, this.name, 'run');
    this.stateDir = join(labDir, this.name, 'state');
    this.bpffs = join(labDir, 'bpf', this.name);
    this.logPath = join(labDir, `${this.name}.log`);
  }

  get netnsPath(): string {
    return `/run/netns/${this.netns}`;
  }

  get pods(): readonly LabPod[] {
    return [...this.#pods.values()];
  }

  async create(fabric: string): Promise<void> {
    await must('ip', 'netns', 'add', this.netns);
    // A node that forwards asks for its neighbours from its link-local address: without this that one is tentative for a second or two.
    await must('nsenter', `--net=${this.netnsPath}`, 'sh', '-c', 'echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad');
    const port = `port${this.#index}`;
    await must(
      'ip',
      '-n',
      fabric,
      'link',
      'add',
      port,
      'up',
      'master',
      'br0',
      'type',
      'veth',
      'peer',
      'uplink',
      'netns',
      this.netns,
    );
    const ip = (...args: string[]) => must('ip', '-n', this.netns, ...args);
    await ip('link', 'set', 'lo', 'up');
    await ip('link', 'set', 'uplink', 'up');
    await ip('addr', 'add', `${this.ipv4}/24`, 'dev', 'uplink');
    await ip('addr', 'add', `${this.ipv6}/64`, 'dev', 'uplink', 'nodad');
    await ip('route', 'add', 'default', 'via', '172.31.0.1');
    await ip('-6', 'route', 'add', 'default', 'via', 'fd31::1');
  }

  manifest(): object {
    const addresses = [this.ipv4, this.ipv6].map((address) => ({ type: 'InternalIP', address }));
    const labels = { 'kubernetes.io/hostname': this.name };
    return { apiVersion: 'v1', kind: 'Node', metadata: { name: this.name, labels }, status: { addresses } };
  }

  /** The command line of `tortie` for this node. */
  get settings(): readonly string[] {
    return [
      `--node-name=${this.name}`,
      ...this.#datastoreFlags(),
      `--run-dir=${this.runDir}`,
      `--state-dir=${this.stateDir}`,
      `--bpffs=${this.bpffs}`,
    ];
  }

  /** Runs `tortie` in the node's namespace. */
  tortie(...args: string[]): ReturnType<typeof exec> {
    return exec('nsenter', [`--net=${this.netnsPath}`, join(distDir, 'bin/tortie'), ...args, ...this.settings]);
  }

  /** The same, told only where its agent is. */
  tortieAsFound(...args: string[]): ReturnType<typeof exec> {
    const file = join(distDir, 'bin/tortie');
    return exec('nsenter', [`--net=${this.netnsPath}`, file, ...args, `--run-dir=${this.runDir}`]);
  }

  get agentPid(): number | undefined {
    return this.#agent?.pid;
  }

  /** Starts the agent, with the lab's variables and these, and, unless told otherwise, waits until it is ready. */
  async startAgent(
    options: { readonly wait?: boolean; readonly env?: Readonly<Record<string, string>> } = {},
  ): Promise<void> {
    if (this.#agent !== undefined) throw new Error(`${this.name} has an agent`);
    mkdirSync(join(this.#labDir, this.name), { recursive: true });
    const log = createWriteStream(this.logPath, { flags: 'a' });
    const agent = spawn(
      'nsenter',
      [`--net=${this.netnsPath}`, join(distDir, 'bin/tortie'), 'agent', ...this.settings],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: {
          ...process.env,
          // By default all nodes of a machine would write their files to one directory.
          FELIX_ENDPOINTSTATUSPATHPREFIX: join(this.#labDir, this.name, 'calico'),
          ...this.#agentEnv,
          ...options.env,
        },
      },
    );
    agent.stdout.pipe(log, { end: false });
    agent.stderr.pipe(log, { end: false });
    agent.once('exit', () => {
      if (this.#agent === agent) this.#agent = undefined;
    });
    // Its last words may come after its end.
    agent.once('close', () => log.end());
    this.#agent = agent;
    if (options.wait !== false) await this.waitFor((status) => status.ready);
  }

  /** SIGTERM; resolves with the exit status. */
  stopAgent(): Promise<number | null> {
    return this.#signal('SIGTERM');
  }

  async killAgent(): Promise<void> {
    await this.#signal('SIGKILL');
  }

  async status(): Promise<AgentStatus> {
    return (await askAgent(this.runDir, '/status')) as AgentStatus;
  }

  async endpoints(): Promise<readonly EndpointReport[]> {
    return (await askAgent(this.runDir, '/endpoints')) as readonly EndpointReport[];
  }

  /** Waits until the agent's status is as wanted; throws with the last status and the log's end when it takes too long. */
  async waitFor(isWanted: (status: AgentStatus) => boolean, timeoutMs = 90_000): Promise<AgentStatus> {
    const deadline = Date.now() + timeoutMs;
    let last: unknown;
    for (;;) {
      try {
        const status = await this.status();
        if (isWanted(status)) return status;
        last = status;
      } catch (error) {
        last = error instanceof Error ? error.message : error;
      }
      if (this.#agent === undefined || Date.now() > deadline) {
        throw new Error(`${this.name}: not as wanted: ${JSON.stringify(last)}\n${this.logTail()}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }

  /** All that its agents wrote so far, each after the other. */
  log(): string {
    return existsSync(this.logPath) ? readFileSync(this.logPath, 'utf8') : '';
  }

  logTail(): string {
    return this.log().split('\n').slice(-30).join('\n');
  }

  /** The network configuration that the runtime has here. */
  conf(): object {
    return {
      cniVersion: '1.0.0',
      name: 'k8s-pod-network',
      type: 'tortie',
      socket: join(this.runDir, 'cni.sock'),
      ipam: { type: 'calico-ipam', assign_ipv4: 'true', assign_ipv6: 'true' },
    };
  }

  /** A verb that is about no container: STATUS, GC, VERSION. */
  cni(verb: string, conf: object = {}): ReturnType<typeof exec> {
    return exec(join(distDir, 'cni/tortie'), [], {
      input: JSON.stringify({ ...this.conf(), cniVersion: '1.1.0', ...conf }),
      env: { CNI_COMMAND: verb, CNI_PATH: join(distDir, 'cni') },
    });
  }

  /** GC, which must succeed: all but these sandboxes are gone. */
  async gc(alive: readonly LabPod[]): Promise<void> {
    const valid = alive.map(({ container }) => ({ containerID: container, ifname: 'eth0' }));
    const { status, stdout } = await this.cni('GC', { 'cni.dev/valid-attachments': valid });
    if (status !== 0) throw new Error(`GC on ${this.name} failed: ${stdout}\n${this.logTail()}`);
  }

  /** A pod with its own namespace, known to the datastore, not wired yet. */
  async createPod(name: string, options: PodOptions = {}): Promise<LabPod> {
    const pod = new LabPod(this, name, `${this.netns}-${name}`, join(this.#labDir, 'cluster', 'pods'), options);
    this.#pods.set(name, pod);
    await pod.create();
    return pod;
  }

  /** The same, wired by a CNI ADD that must succeed. */
  async addPod(name: string, options: PodOptions = {}): Promise<LabPod> {
    const pod = await this.createPod(name, options);
    await pod.add();
    return pod;
  }

  /** A process in the node's own namespace that serves (default: on the peers' port) and probes; started at the first call. */
  async peer(serves?: readonly number[]): Promise<Peer> {
    this.#peer ??= await Peer.start(this.netnsPath, serves);
    return this.#peer;
  }

  /** Runs a command in the node's namespace; it must succeed. */
  exec(file: string, ...args: string[]): Promise<string> {
    return must('nsenter', `--net=${this.netnsPath}`, file, ...args);
  }

  forget(pod: LabPod): void {
    this.#pods.delete(pod.name);
  }

  async destroy(): Promise<void> {
    const failures: unknown[] = [];
    await this.killAgent();
    await this.#peer?.[Symbol.asyncDispose]();
    for (const pod of this.pods) await pod.destroy().catch((error: unknown) => failures.push(error));
    await must('ip', 'netns', 'del', this.netns).catch((error: unknown) => failures.push(error));
    rmSync(this.bpffs, { recursive: true, force: true });
    if (failures.length > 0) throw new AggregateError(failures, `${this.name} could not be taken down whole`);
  }

  async #signal(signal: NodeJS.Signals): Promise<number | null> {
    const agent = this.#agent;
    if (agent === undefined) return null;
    const exited = new Promise<number | null>((resolve) => {
      agent.once('exit', resolve);
    });
    agent.kill(signal);
    const status = await exited;
    this.#agent = undefined;
    return status;
  }
}
