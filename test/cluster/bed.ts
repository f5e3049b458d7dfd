import { readdirSync } from 'node:fs';
import type { AgentStatus } from '#agent/status.ts';
import type { IpamUsage } from '#ipam/report.ts';
import { eventually } from '../lab/agent-lab.ts';
import type { Finished } from '../lab/exec.ts';
import { uniqueName } from '../lab/netns.ts';
import { filesBelow, snapshotOf, type NodeSnapshot } from '../lab/node-snapshot.ts';
import { Cluster } from './cluster.ts';
import type { Kubectl } from './kubectl.ts';
import type { ClusterNode } from './node.ts';
import { TestPod, type PodOptions } from './test-pod.ts';
import { importTortie, installTortie, manifest } from './tortie.ts';

const system = '--namespace=kube-system';

/** A condition of a Node, as the API server has it. */
export interface NodeCondition {
  readonly type: string;
  readonly status: string;
  readonly message: string;
}

/** Pods, as far as tests look at them. */
export interface PodList {
  readonly items: readonly {
    readonly metadata: { readonly name: string };
    readonly spec: { readonly nodeName: string; readonly hostNetwork?: boolean };
    readonly status: { readonly podIPs?: readonly { readonly ip: string }[] };
  }[];
}

/** A cluster with Tortie, and what tests ask of it. */
export class Bed implements AsyncDisposable {
  readonly cluster: Cluster;
  /** Each node as it was before Tortie came. */
  readonly before: ReadonlyMap<string, NodeSnapshot>;
  /** Each node's Ready condition then. */
  readonly readyBefore: ReadonlyMap<string, NodeCondition>;
  /** What each node's agent said when Tortie was installed. */
  firstStatus: ReadonlyMap<string, AgentStatus> = new Map();
  readonly #pods: TestPod[] = [];

  private constructor(cluster: Cluster, before: Bed['before'], readyBefore: Bed['readyBefore']) {
    this.cluster = cluster;
    this.before = before;
    this.readyBefore = readyBefore;
  }

  /** A cluster of two nodes, then Tortie by its manifest. */
  static async start(): Promise<Bed> {
    const cluster = await Cluster.start({ prefix: uniqueName(), nodes: 2 });
    try {
      // Until then some tables of iptables aren't there.
      for (const node of cluster.nodes) {
        const rules = () => node.exec('sh', '-c', 'iptables-save; ip6tables-save');
        await eventually(
          async () => ((await rules()).match(/^:KUBE-PROXY-CANARY/gm) ?? []).length === 6,
          rules,
          150_000,
        );
      }
      const bed = new Bed(cluster, await snapshots(cluster), await readyConditions(cluster));
      await importTortie(cluster);
      await installTortie(cluster);
      // A watch that the API server has just ended is begun anew.
      await bed.statusBecomes(({ ready, datastore }) => ready && datastore.failures.length === 0);
      bed.firstStatus = new Map(
        await Promise.all(bed.nodes.map(async (node) => [node.name, await bed.status(node)] as const)),
      );
      // It comes late on purpose: the agents notice it in their own time, while other tests run.
      await cluster.kubectl.apply(manifest('tortie-clusternetworkpolicy-crd.yaml'));
      return bed;
    } catch (error) {
      await cluster.destroy();
      throw error;
    }
  }

  get kubectl(): Kubectl {
    return this.cluster.kubectl;
  }

  get nodes(): readonly ClusterNode[] {
    return this.cluster.nodes;
  }

  /** Makes pods, all at once; resolves when they are Ready. */
  async createPods(pods: Readonly<Record<string, PodOptions>>): Promise<readonly TestPod[]> {
    const created = Object.entries(pods).map(([name, options]) => new TestPod(this.cluster, name, options));
    await this.kubectl.apply(created.map((pod) => pod.manifest()));
    await Promise.all(created.map((pod) => pod.ready()));
    this.#pods.push(...created);
    return created;
  }

  /** Deletes pods; resolves when they are gone. */
  async deletePods(pods: readonly TestPod[]): Promise<void> {
    await Promise.all(pods.map((pod) => pod[Symbol.asyncDispose]()));
    if (pods.length > 0) await this.kubectl.run('delete', 'pods', '--wait', ...pods.map(({ name }) => name));
  }

  /** `kubectl exec`; does not throw on a bad status. */
  exec(pod: string, ...command: string[]): Promise<Finished> {
    return this.kubectl.try(['exec', pod, '--', ...command]);
  }

  /** Name of the agent's pod on this node; undefined for none that runs. */
  async agentOn(node: ClusterNode): Promise<string | undefined> {
    const selector = ['--selector=k8s-app=tortie-node', `--field-selector=spec.nodeName=${node.name}`];
    const { items } = await this.kubectl.json<{
      readonly items: readonly {
        readonly metadata: { readonly name: string; readonly deletionTimestamp?: string };
      }[];
    }>('get', 'pods', system, ...selector);
    return items.find(({ metadata }) => metadata.deletionTimestamp === undefined)?.metadata.name;
  }

  /** Runs `tortie` where a user would: in the agent's pod. Its status says no more than that something is wrong. */
  async tortie(node: ClusterNode, ...args: string[]): Promise<Finished> {
    const pod = await this.agentOn(node);
    if (pod === undefined) throw new Error(`${node.name} has no agent`);
    return this.kubectl.try(['exec', system, pod, '--container=agent', '--', 'tortie', ...args]);
  }

  /** `tortie ... -o json`, parsed. */
  async tortieJson<Result>(node: ClusterNode, ...args: string[]): Promise<Result> {
    const { stdout, stderr } = await this.tortie(node, ...args, '-o', 'json');
    if (stdout === '') throw new Error(`tortie ${args.join(' ')} on ${node.name}: ${stderr}`);
    return JSON.parse(stdout) as Result;
  }

  status(node: ClusterNode): Promise<AgentStatus> {
    return this.tortieJson<AgentStatus>(node, 'status');
  }

  /** Waits until each node's agent says so; throws with what they say instead. */
  async statusBecomes(isWanted: (status: AgentStatus) => boolean, timeoutMs = 150_000): Promise<void> {
    for (const node of this.nodes) {
      let last: unknown;
      const isSo = async () => {
        try {
          const status = await this.status(node);
          last = status;
          return isWanted(status);
        } catch (error) {
          // No agent answers right now.
          last = (error as Error).message;
          return false;
        }
      };
      await eventually(isSo, () => ({ node: node.name, last }), timeoutMs);
    }
  }

  /** Waits until exactly the addresses that pods have are in use, and nothing is wrong with any; returns their number. */
  async addressesAreThePods(): Promise<number> {
    let last: object = {};
    const isSo = async () => {
      const { items } = await this.kubectl.json<PodList>('get', 'pods', '--all-namespaces');
      const ofPods = items
        .filter(({ spec }) => spec.hostNetwork !== true)
        .reduce((sum, { status }) => sum + (status.podIPs ?? []).length, 0);
      const { pools } = await this.tortieJson<IpamUsage>(this.cluster.node(1), 'ipam', 'show');
      const inUse = pools.reduce((sum, pool) => sum + pool.inUse, 0);
      const check = (await this.tortie(this.cluster.node(1), 'ipam', 'check')).stdout.trim();
      last = { ofPods, inUse, check };
      return inUse === ofPods && check === 'nothing found' ? ofPods : undefined;
    };
    let number: number | undefined;
    await eventually(
      async () => (number = await isSo()) !== undefined,
      () => last,
      150_000,
    );
    return number ?? 0;
  }

  /** Sets fields of FelixConfiguration `default`, as a user does. */
  async configure(spec: Readonly<Record<string, unknown>>): Promise<void> {
    const patch = JSON.stringify({ spec });
    await this.kubectl.run('patch', 'felixconfiguration', 'default', '--type', 'merge', '-p', patch);
  }

  /** Each node as it is now. */
  snapshots(): Promise<ReadonlyMap<string, NodeSnapshot>> {
    return snapshots(this.cluster);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#pods.map((pod) => pod[Symbol.asyncDispose]()));
    await this.cluster.destroy();
  }
}

async function snapshots(cluster: Cluster): Promise<ReadonlyMap<string, NodeSnapshot>> {
  const pairs = cluster.nodes.map(async (node) => [node.name, await nodeSnapshot(node)] as const);
  return new Map(await Promise.all(pairs));
}

async function nodeSnapshot(node: ClusterNode): Promise<NodeSnapshot> {
  const network = await snapshotOf({
    name: node.name,
    netnsPath: `/run/netns/${node.netns}`,
    bpffs: node.path('/sys/fs/bpf'),
    runDir: node.path('/run/tortie'),
    stateDir: node.path('/var/lib/tortie'),
    uplink: 'eth0',
  });
  const entries = (path: string) => readdirSync(node.path(path)).toSorted();
  // Numbers of devices count how many there were before.
  const withoutIndex = (line: string) => line.replace(/^\d+: /, '').replace(/@if\d+/, '');
  // kube-proxy and the kubelet write theirs in their own time.
  const withoutKube = ([kind, lines]: readonly [string, readonly string[]]) =>
    [kind, kind.startsWith('ip') ? lines.filter((line) => !line.includes('KUBE-')) : lines] as const;
  return {
    ...Object.fromEntries(Object.entries(network).map(withoutKube)),
    links: network['links']?.map(withoutIndex) ?? [],
    addresses: network['addresses']?.map(withoutIndex) ?? [],
    // The rules of iptables' own tables are compared as iptables prints them: nft shows the same one of kube-proxy's in two ways.
    nftables: network['nftables']?.filter((line) => line.startsWith('table ')) ?? [],
    '/run': entries('/run'),
    '/var/lib': entries('/var/lib'),
    '/opt': filesBelow(node.path('/opt')),
    '/etc/cni': filesBelow(node.path('/etc/cni')),
    cgroups: filesBelow(node.path('/sys/fs/cgroup')).filter((path) => path.includes('tortie')),
  };
}

async function readyConditions(cluster: Cluster): Promise<ReadonlyMap<string, NodeCondition>> {
  const { items } = await cluster.kubectl.json<{
    readonly items: readonly {
      readonly metadata: { readonly name: string };
      readonly status: { readonly conditions: readonly NodeCondition[] };
    }[];
  }>('get', 'nodes');
  return new Map(
    items.flatMap(({ metadata, status }) => {
      const ready = status.conditions.find(({ type }) => type === 'Ready');
      return ready === undefined ? [] : [[metadata.name, ready] as const];
    }),
  );
}
