import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { ControlPlane } from '#test/cluster/control-plane.ts';
import { Daemon } from '#test/cluster/daemon.ts';
import { must } from '#test/lab/exec.ts';
import { Lab, labPools } from '#test/lab/lab.ts';
import { manyPolicy } from '../policy/cluster.ts';
import type { AgentSide } from './agent.ts';
import { cpuMs, memoryOf, type Memory } from './agent.ts';
import { Api, create, patch, remove, type ApiRequest } from './api.ts';
import {
  block,
  farPool,
  node,
  nodesFor,
  pathOf,
  pod,
  podObject,
  podPath,
  podStatus,
  type ApiObject,
  type PodShape,
  type Size,
} from './objects.ts';

const localPods = 10;
/** A file of the files datastore has at most 16 MiB. */
const podsPerFile = 1000;
const account = { namespace: 'kube-system', serviceAccount: 'tortie-node' };

/**
 * A real API server with etcd, both in the lab's fabric namespace, etcd's files in memory. Two nodes with ten pods each: one reads the API server,
 * the other one a folder with the same objects. All other nodes and pods are objects only.
 */
export class BenchCluster implements AsyncDisposable {
  readonly lab: Lab;
  readonly api: Api;
  readonly plane: ControlPlane;
  readonly kubernetes: AgentSide;
  readonly files: AgentSide;
  /** Of all its pods. */
  readonly shape: PodShape;
  #end: Promise<void> | undefined;
  #size: Size = { pods: 0, policies: 0 };

  private constructor(lab: Lab, plane: ControlPlane, kubeconfig: string, shape: PodShape) {
    this.shape = shape;
    const [first, second] = [lab.node(0), lab.node(1)];
    this.lab = lab;
    this.plane = plane;
    this.api = new Api(`/run/netns/${lab.fabric}`, plane.kubeconfig);
    const settings = first.settings.filter((setting) => !setting.startsWith('--datastore='));
    this.kubernetes = {
      name: 'kubernetes',
      node: first,
      settings: [...settings, '--datastore=kubernetes', `--kubeconfig=${kubeconfig}`],
    };
    this.files = { name: 'files', node: second, settings: second.settings };
  }

  /** With what `kubectl apply -f manifests/tortie.yaml` makes, the two nodes and their pods' objects. */
  static async create(shape: PodShape): Promise<BenchCluster> {
    const lab = await Lab.create({ nodes: 2 });
    const dir = mkdtempSync(`/dev/shm/${lab.prefix}-api-`);
    let plane: ControlPlane | undefined;
    let cluster: BenchCluster | undefined;
    try {
      await must('ip', '-n', lab.fabric, 'link', 'set', 'lo', 'up');
      for (const { netns, ipv4 } of lab.nodes) {
        // Room for 500 neighbours.
        await must('ip', '-n', netns, 'addr', 'add', `${ipv4}/16`, 'dev', 'uplink');
        await must('ip', '-n', netns, 'addr', 'del', `${ipv4}/24`, 'dev', 'uplink');
      }
      plane = await ControlPlane.start({
        dir,
        netns: `/run/netns/${lab.fabric}`,
        address: lab.outsideAddresses.ipv4,
      });
      await plane.apply(readFileSync('manifests/tortie.yaml', 'utf8'));
      cluster = new BenchCluster(lab, plane, await plane.kubeconfigFor(account), shape);
      await cluster.#createLocals();
      return cluster;
    } catch (error) {
      if (cluster !== undefined) await cluster[Symbol.asyncDispose]();
      else {
        await plane?.stop();
        rmSync(dir, { recursive: true, force: true });
        await lab[Symbol.asyncDispose]();
      }
      throw error;
    }
  }

  /** Wires the ten pods of a node; its agent runs. */
  async addPods(side: AgentSide): Promise<void> {
    for (let index = 0; index < localPods; index++) {
      await side.node.addPod(localName(side, index), { labels: localLabels(index) });
    }
  }

  /** Makes and deletes remote pods, their nodes and blocks, and policies, on both sides, until there are so many. */
  async resize(size: Size): Promise<void> {
    const { pods, policies } = this.#size;
    const from = nodesFor(pods);
    const to = nodesFor(size.pods);
    await this.api.all(range(from, to).map((index) => [create(node(index)), create(block(index, size.pods))]));
    await this.api.all(range(0, from).map((index) => [patchSpec(block(index, size.pods))]));
    await this.api.all(range(policies, size.policies).map((index) => [create(manyPolicy(index) as ApiObject)]));
    await this.api.all(range(size.policies, policies).map((index) => [remove(manyPolicy(index) as ApiObject)]));
    await this.api.all(range(pods, size.pods).map((index) => this.#createRunning(index)));
    this.#size = size;
    this.lab.apply('far-nodes', [...range(0, to).map(node), ...range(0, to).map((index) => block(index, size.pods))]);
    this.lab.apply('many-policies', range(0, size.policies).map(manyPolicy));
    for (let first = 0; first < size.pods; first += podsPerFile) {
      const objects = range(first, Math.min(first + podsPerFile, size.pods)).map((index) => ({
        ...pod(index, this.shape),
        ...podStatus(index, this.shape),
      }));
      this.lab.apply(`far-pods-${first}`, objects);
    }
  }

  get size(): Size {
    return this.#size;
  }

  /** JSON of a remote pod as the API server sends it. */
  async podBytes(): Promise<number> {
    const { text } = await this.api.ask({ method: 'GET', path: podPath(0) });
    return text.length;
  }

  /** CPU so far and memory of API server and etcd. */
  server(): { readonly apiCpuMs: number; readonly etcdCpuMs: number; readonly memory: Memory } {
    const pid = (name: string) => Daemon.find(this.plane.dir, name)?.pid ?? 0;
    const api = pid('kube-apiserver');
    return { apiCpuMs: cpuMs(api), etcdCpuMs: cpuMs(pid('etcd')), memory: memoryOf(api) };
  }

  /** As scheduler and kubelet do it: first without an address. */
  #createRunning(index: number): readonly ApiRequest[] {
    return [create(pod(index, this.shape)), patch(`${podPath(index)}/status`, podStatus(index, this.shape))];
  }

  async #createLocals(): Promise<void> {
    const { node: labNode } = this.kubernetes;
    for (const [name, cidr] of Object.entries(labPools)) await this.api.ask(create(pool(name, cidr)));
    await this.api.ask(create(farPool));
    await this.api.ask(create(labNode.manifest() as ApiObject));
    for (const index of range(0, localPods)) {
      await this.api.ask(
        create(podObject(localName(this.kubernetes, index), labNode.name, localLabels(index), this.shape)),
      );
    }
  }

  /** Once: whoever calls it later waits for the same end. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#end ??= this.#takeDown();
    return this.#end;
  }

  async #takeDown(): Promise<void> {
    this.api[Symbol.dispose]();
    try {
      await this.plane.stop();
    } finally {
      rmSync(this.plane.dir, { recursive: true, force: true });
      await this.lab[Symbol.asyncDispose]();
    }
  }
}

const pool = (name: string, cidr: string): ApiObject => ({
  apiVersion: 'projectcalico.org/v3',
  kind: 'IPPool',
  metadata: { name },
  spec: { cidr, natOutgoing: true },
});

const patchSpec = (object: ApiObject): ApiRequest => patch(pathOf(object, 'object'), { spec: object['spec'] });

const localName = ({ name }: AgentSide, index: number): string => `${name}-${index}`;

const localLabels = (index: number): Record<string, string> => ({ app: `app-${index}`, role: `role-${index}` });

/** From the first on, without the second; empty when that isn't above. */
const range = (from: number, to: number): readonly number[] =>
  Array.from({ length: Math.max(0, to - from) }, (_, index) => from + index);
