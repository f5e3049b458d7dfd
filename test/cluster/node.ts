import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cgroup2, removeCgroup, removeEmptyCgroup } from '../lab/cgroups.ts';
import { exec, must, type Finished } from '../lab/exec.ts';
import { eventually } from '../lab/agent-lab.ts';
import { kubernetesProgram } from './binaries.ts';
import { Daemon } from './daemon.ts';
import { network, type Fabric } from './fabric.ts';
import { pauseImage } from './images.ts';
import { containerdConfig, kubeletConfig, proxyConfig, type ClusterRanges } from './node-config.ts';

/** Where containerd puts a kubelet's containers that are not sorted by quality of service. */
const containersGroup = 'k8s.io';
const setUp = fileURLToPath(new URL('node.sh', import.meta.url));

/** What a node is part of. */
export interface NodeOptions {
  /** Of the cluster: its nodes, control groups and namespaces are named by it. */
  readonly prefix: string;
  readonly clusterDir: string;
  readonly ranges: ClusterRanges;
  readonly outlives: boolean;
}

/**
 * A node: network, mount and UTS namespace with its own directories, bpffs and cgroup2 group (what exactly: node.sh), and in them containerd,
 * kubelet and kube-proxy.
 */
export class ClusterNode {
  /** As Kubernetes names it. */
  readonly name: string;
  readonly netns: string;
  readonly ipv4: string;
  readonly ipv6: string;
  readonly #n: number;
  readonly #options: NodeOptions;

  /** `n` counts from 1. */
  constructor(n: number, options: NodeOptions) {
    this.#n = n;
    this.#options = options;
    this.name = `node${n}`;
    this.netns = `${options.prefix}-n${n}`;
    this.ipv4 = network.ipv4.node(n);
    this.ipv6 = network.ipv6.node(n);
  }

  get dir(): string {
    return join(this.#options.clusterDir, 'nodes', this.name);
  }

  /** Of its first process, which holds its namespaces. */
  get pid(): number {
    const holder = Daemon.find(this.dir, 'node');
    if (holder === undefined) throw new Error(`${this.name} was not made`);
    return holder.pid;
  }

  /** A path as the node's own programs see it. */
  path(path: string): string {
    return `/proc/${this.pid}/root${path}`;
  }

  /** Makes the namespaces, without any program in them. */
  async create(fabric: Fabric): Promise<void> {
    await fabric.createNode(this.netns, this.#n);
    for (const path of ['etc', 'etc.work', 'lib', 'lib.work']) mkdirSync(join(this.dir, path), { recursive: true });
    mkdirSync(this.#daemonsGroup, { recursive: true });
    const command = ['nsenter', `--net=/run/netns/${this.netns}`, 'unshare', '--mount', '--uts', '--propagation=slave'];
    this.#daemon('node', [...command, setUp, this.name, this.dir, cgroup2(), this.#group]);
    const log = join(this.dir, 'node.log');
    await eventually(
      () => existsSync(join(this.dir, 'made')),
      () => exec('cat', [log]).then(({ stdout }) => `${this.name} was not made: ${stdout}`),
    );
  }

  /** Starts containerd and gives it the images. */
  async startContainerd(images: readonly string[]): Promise<void> {
    const config = join(this.dir, 'containerd.toml');
    writeFileSync(config, containerdConfig(pauseImage));
    this.#inside('containerd', ['containerd', `--config=${config}`]);
    const answers = async () => (await this.try('ctr', 'version')).status === 0;
    await eventually(answers, () => `containerd does not answer: ${join(this.dir, 'containerd.log')}`);
    for (const image of images) await this.importImage(image);
  }

  /** Gives its containerd what a docker-archive file holds. */
  async importImage(archive: string): Promise<void> {
    const command = [...this.#enter, 'ctr', '--namespace=k8s.io', 'images', 'import', archive];
    const { status, stderr } = await exec('nsenter', command, { timeoutMs: 300_000 });
    if (status !== 0) throw new Error(`${this.name}: ${archive} is not imported: ${stderr}`);
  }

  async startKubelet(kubeconfig: string): Promise<void> {
    const config = join(this.dir, 'kubelet.json');
    writeFileSync(config, JSON.stringify(kubeletConfig(this.#options.ranges), undefined, 2));
    this.#inside('kubelet', [
      await kubernetesProgram('kubelet'),
      `--config=${config}`,
      `--kubeconfig=${kubeconfig}`,
      `--hostname-override=${this.name}`,
      `--node-ip=${this.ipv4},${this.ipv6}`,
      '--root-dir=/var/lib/kubelet',
      '--cert-dir=/var/lib/kubelet/pki',
    ]);
  }

  async startProxy(kubeconfig: string): Promise<void> {
    const config = join(this.dir, 'kube-proxy.json');
    const proxy = proxyConfig(this.name, this.#options.ranges, kubeconfig);
    writeFileSync(config, JSON.stringify(proxy, undefined, 2));
    this.#inside('kube-proxy', [await kubernetesProgram('kube-proxy'), `--config=${config}`]);
  }

  /** Ends one of `containerd`, `kubelet`, `kube-proxy`; its containers live on. */
  async stop(program: string): Promise<void> {
    await Daemon.find(this.dir, program)?.stop();
  }

  /** Runs a command on the node; does not throw on a bad status. */
  try(file: string, ...args: string[]): Promise<Finished> {
    return exec('nsenter', [...this.#enter, file, ...args]);
  }

  /** Runs a command on the node; it must succeed. */
  exec(file: string, ...args: string[]): Promise<string> {
    return must('nsenter', ...this.#enter, file, ...args);
  }

  /**
   * Processes of a pod's containers on this node, by container; the one that holds its namespaces is `pause`. Empty for a pod that has none here.
   */
  async processesOf(namespace: string, pod: string): Promise<ReadonlyMap<string, number>> {
    const filter = `labels."io.kubernetes.pod.namespace"==${namespace},labels."io.kubernetes.pod.name"==${pod}`;
    const ctr = async (...args: string[]) => (await this.exec('ctr', '--namespace=k8s.io', ...args)).trim().split('\n');
    const ids = await ctr('containers', 'list', '--quiet', filter);
    const tasks = (await ctr('tasks', 'list')).map((line) => line.split(/ +/));
    const processes = new Map<string, number>();
    for (const [id = '', pid, state] of tasks) {
      if (state !== 'RUNNING' || !ids.includes(id)) continue;
      const labels = (
        JSON.parse((await ctr('containers', 'info', id)).join('\n')) as { Labels: Record<string, string> }
      ).Labels;
      processes.set(labels['io.kubernetes.container.name'] ?? 'pause', Number(pid));
    }
    return processes;
  }

  /** Ends all that runs on it, containers too, and removes it. Nothing happens to what is gone already. */
  async destroy(fabric: Fabric): Promise<void> {
    for (const daemon of Daemon.in(this.dir).toReversed()) await daemon.stop('SIGKILL');
    const containers = this.#containers();
    await removeCgroup(this.#groupName);
    // In the version 1 hierarchies they are not below a group of the node's.
    for (const id of containers) await removeCgroup(join(containersGroup, id));
    removeEmptyCgroup(containersGroup);
    await fabric.destroyNode(this.netns, this.#n);
    rmSync(this.dir, { recursive: true, force: true });
  }

  /** Ids of the containers that have a control group. */
  #containers(): readonly string[] {
    const path = join(this.#group, containersGroup);
    if (!existsSync(path)) return [];
    return readdirSync(path, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
  }

  get #groupName(): string {
    return join(this.#options.prefix, this.name);
  }

  get #group(): string {
    return join(cgroup2(), this.#groupName);
  }

  /** Of its programs: a group with controllers can't have both processes and groups. */
  get #daemonsGroup(): string {
    return join(this.#group, 'system');
  }

  get #enter(): readonly string[] {
    return [`--target=${this.pid}`, '--net', '--mount', '--uts', '--wd=/'];
  }

  #inside(name: string, command: readonly string[]): void {
    this.#daemon(name, ['nsenter', ...this.#enter, ...command]);
  }

  #daemon(name: string, command: readonly string[]): void {
    const joinGroup = ['sh', '-c', 'echo $$ > "$0/cgroup.procs"; exec "$@"', this.#daemonsGroup] as const;
    const [first, ...rest] = joinGroup;
    Daemon.start(this.dir, { name, command: [first, ...rest, ...command], outlives: this.#options.outlives });
  }
}
