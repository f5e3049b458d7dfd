import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheDir } from '../go/program.ts';
import { eventually } from '../lab/agent-lab.ts';
import { removeCgroup } from '../lab/cgroups.ts';
import { kubernetesProgram, kubernetesPrograms, type Say } from './binaries.ts';
import { ControlPlane } from './control-plane.ts';
import { coreDnsObjects } from './core-dns.ts';
import { nodeUser } from './credentials.ts';
import { Daemon } from './daemon.ts';
import { Fabric, network } from './fabric.ts';
import { images } from './images.ts';
import { ClusterNode } from './node.ts';
import type { ClusterRanges } from './node-config.ts';
import type { Kubectl } from './kubectl.ts';

/** What a cluster is made of. */
export interface ClusterOptions {
  /** Of all names; at most 15 characters if `reachable`, because a device has this name then. */
  readonly prefix: string;
  readonly nodes: number;
  /** The machine's own network namespace reaches the API server and the nodes. */
  readonly reachable?: boolean;
  /** It lives on when this process ends. */
  readonly outlives?: boolean;
}

/** Where clusters keep their files, by prefix: overlayfs and containers' images need a real disk, not /tmp. */
export const clustersDir = join(cacheDir, 'clusters');

/** Of the cluster that `make cluster-up` makes: one a machine, because the machine's own namespace has an address in its network. */
export const userPrefix = 'tortie';

const ranges: ClusterRanges = {
  pods: ['10.244.0.0/16', 'fd00:244::/48'],
  services: ['10.96.0.0/16', 'fd00:96::/112'],
  dns: '10.96.0.10',
};

const controllerManager = { name: 'system:kube-controller-manager' };
const scheduler = { name: 'system:kube-scheduler' };
const proxy = { name: 'system:kube-proxy' };

/** A real Kubernetes on this machine, dual-stack, without a network plugin: docs/design/test-cluster.md. */
export class Cluster implements AsyncDisposable {
  readonly options: ClusterOptions;
  readonly dir: string;
  readonly fabric: Fabric;
  readonly nodes: readonly ClusterNode[];

  private constructor(options: ClusterOptions) {
    this.options = options;
    this.dir = join(clustersDir, options.prefix);
    this.fabric = new Fabric(options.prefix);
    this.nodes = Array.from(
      { length: options.nodes },
      (_, index) =>
        new ClusterNode(index + 1, {
          prefix: options.prefix,
          clusterDir: this.dir,
          ranges,
          outlives: options.outlives ?? false,
        }),
    );
  }

  /** Starts all; resolves when every node is registered. They become Ready when a network plugin comes. */
  static async start(options: ClusterOptions, say: Say = () => {}): Promise<Cluster> {
    const cluster = new Cluster(options);
    if (existsSync(cluster.dir)) throw new Error(`there is a cluster ${options.prefix} already: ${cluster.dir}`);
    await kubernetesPrograms(say);
    const archives = await images(say);
    mkdirSync(cluster.dir, { recursive: true });
    writeFileSync(join(cluster.dir, 'cluster.json'), JSON.stringify(options));
    try {
      await cluster.#start(archives, say);
      return cluster;
    } catch (error) {
      await cluster.destroy();
      throw error;
    }
  }

  /** One that another process started; also what is left of it. */
  static attach(prefix: string): Cluster {
    const path = join(clustersDir, prefix, 'cluster.json');
    return new Cluster(JSON.parse(readFileSync(path, 'utf8')) as ClusterOptions);
  }

  get plane(): ControlPlane {
    return ControlPlane.attach(join(this.dir, 'control-plane'));
  }

  /** As the administrator. */
  get kubectl(): Kubectl {
    return this.plane.kubectl;
  }

  /** Counts from 1, as their names do. */
  node(n: number): ClusterNode {
    const node = this.nodes[n - 1];
    if (node === undefined) throw new Error(`the cluster has no node ${n}`);
    return node;
  }

  /** Starts a node's kubelet, which registers the node if there is none of its name. */
  async startKubelet(node: ClusterNode): Promise<void> {
    await node.startKubelet(await this.plane.kubeconfigFor({ user: nodeUser(node.name).name }));
  }

  /** A machine breaks and a new one takes its name: without a word to the API server everything on it ends. */
  async breakNode(node: ClusterNode): Promise<void> {
    await node.destroy(this.fabric);
  }

  /** The new machine, with the cluster's images and these. */
  async replaceNode(node: ClusterNode, archives: readonly string[]): Promise<void> {
    await this.#createNode(node, [...(await images()), ...archives]);
    await this.#startNode(node);
  }

  /** Ends and removes everything; also what a start or a machine's crash has left. */
  async destroy(): Promise<void> {
    for (const node of this.nodes) await node.destroy(this.fabric);
    for (const dir of [this.dir, join(this.dir, 'control-plane')]) {
      for (const daemon of Daemon.in(dir)) await daemon.stop('SIGKILL');
    }
    await removeCgroup(this.options.prefix);
    await this.fabric.destroy();
    rmSync(this.dir, { recursive: true, force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.destroy();
  }

  async #start(archives: readonly string[], say: Say): Promise<void> {
    const { reachable = false, outlives = false } = this.options;
    await this.fabric.create(reachable);
    say(`starting etcd and the API server, and ${this.nodes.length} nodes with containerd`);
    const [plane] = await Promise.all([
      ControlPlane.start({
        dir: join(this.dir, 'control-plane'),
        netns: this.fabric.netnsPath,
        address: network.ipv4.gateway,
        users: [controllerManager, scheduler, proxy, ...this.nodes.map(({ name }) => nodeUser(name))],
        controllers: true,
        serviceCidrs: ranges.services,
        outlives,
      }),
      ...this.nodes.map((node) => this.#createNode(node, archives)),
    ]);
    say('starting controller manager, scheduler, kubelets and kube-proxies');
    await this.#startControllers(plane);
    for (const node of this.nodes) await this.#startNode(node);
    await plane.apply([proxyRole, ...coreDnsObjects(ranges.dns)]);
    const registered = async () => (await this.kubectl.run('get', 'nodes', '-o', 'name')).trim().split('\n');
    await eventually(
      async () => (await registered()).length === this.nodes.length,
      async () => `registered: ${(await registered()).join(', ')}; logs: ${this.dir}/nodes/*/kubelet.log`,
      150_000,
    );
  }

  async #createNode(node: ClusterNode, archives: readonly string[]): Promise<void> {
    await node.create(this.fabric);
    await node.startContainerd(archives);
  }

  async #startNode(node: ClusterNode): Promise<void> {
    await this.startKubelet(node);
    await this.startProxy(node);
  }

  /** kube-proxy of a node that has none. */
  async startProxy(node: ClusterNode): Promise<void> {
    await node.startProxy(await this.plane.kubeconfigFor({ user: proxy.name }));
  }

  async #startControllers(plane: ControlPlane): Promise<void> {
    const inside = ['nsenter', `--net=${this.fabric.netnsPath}`] as const;
    const { outlives = false } = this.options;
    const start = (name: string, command: readonly string[]) =>
      Daemon.start(this.dir, { name, command: [...inside, ...command], outlives });
    start('kube-controller-manager', [
      await kubernetesProgram('kube-controller-manager'),
      `--kubeconfig=${await plane.kubeconfigFor({ user: controllerManager.name })}`,
      `--root-ca-file=${plane.certificate}`,
      `--service-account-private-key-file=${plane.serviceAccountKey}`,
      '--use-service-account-credentials=true',
      '--allocate-node-cidrs=true',
      `--cluster-cidr=${ranges.pods.join(',')}`,
      `--service-cluster-ip-range=${ranges.services.join(',')}`,
      '--node-cidr-mask-size-ipv4=24',
      '--node-cidr-mask-size-ipv6=64',
      `--flex-volume-plugin-dir=${join(this.dir, 'volume-plugins')}`,
      '--bind-address=127.0.0.1',
      '--leader-elect=false',
    ]);
    start('kube-scheduler', [
      await kubernetesProgram('kube-scheduler'),
      `--kubeconfig=${await plane.kubeconfigFor({ user: scheduler.name })}`,
      '--bind-address=127.0.0.1',
      '--leader-elect=false',
    ]);
  }
}

/** kube-proxy's role is the API server's own, but nobody has it from the start. */
const proxyRole = {
  apiVersion: 'rbac.authorization.k8s.io/v1',
  kind: 'ClusterRoleBinding',
  metadata: { name: 'kube-proxy' },
  roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'system:node-proxier' },
  subjects: [{ kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name: proxy.name }],
};
