import { Peer } from '../lab/peer-client.ts';
import type { Cluster } from './cluster.ts';
import { agnhostImage } from './images.ts';
import type { ClusterNode } from './node.ts';

/** How a pod differs from one that does nothing, anywhere. */
export interface PodOptions {
  readonly node?: ClusterNode;
  readonly labels?: Readonly<Record<string, string>>;
  /** Arguments of agnhost; `pause` if absent. */
  readonly args?: readonly string[];
  /** More of the container: probes, ports. */
  readonly container?: object;
}

interface PodObject {
  readonly spec: { readonly nodeName: string };
  readonly status: { readonly podIPs: readonly { readonly ip: string }[] };
}

/** A pod in the namespace `default`, with one container of agnhost. */
export class TestPod implements AsyncDisposable {
  readonly name: string;
  readonly #cluster: Cluster;
  readonly #options: PodOptions;
  #object: PodObject | undefined;
  #peer: Promise<Peer> | undefined;

  constructor(cluster: Cluster, name: string, options: PodOptions) {
    this.#cluster = cluster;
    this.name = name;
    this.#options = options;
  }

  manifest(): object {
    const { node, labels = {}, args = ['pause'], container = {} } = this.#options;
    return {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: this.name, namespace: 'default', labels: { app: this.name, ...labels } },
      spec: {
        // Not by the scheduler: after a fault that one takes its time, too.
        ...(node === undefined ? {} : { nodeName: node.name }),
        terminationGracePeriodSeconds: 0,
        containers: [{ name: 'agnhost', image: agnhostImage, imagePullPolicy: 'Never', args, ...container }],
      },
    };
  }

  /** Resolves when it is Ready. */
  async ready(): Promise<void> {
    const { kubectl } = this.#cluster;
    // A kubelet that has lost its API server looks for it every minute or so.
    const wait = ['wait', '--for=condition=Ready', `pod/${this.name}`, '--timeout=240s'];
    const { status } = await kubectl.try(wait, undefined, 300_000);
    if (status !== 0) {
      const { stdout } = await kubectl.try(['describe', 'pod', this.name]);
      throw new Error(`the pod ${this.name} does not become Ready:\n${stdout}`);
    }
    this.#object = await this.#cluster.kubectl.json<PodObject>('get', 'pod', this.name);
  }

  get ipv4(): string {
    return this.#address(0);
  }

  get ipv6(): string {
    return this.#address(1);
  }

  /** A process in its network namespace that serves echo and asks; started at the first call. */
  peer(): Promise<Peer> {
    this.#peer ??= this.#startPeer();
    return this.#peer;
  }

  /** Ends its peer; the pod stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    const peer = this.#peer;
    this.#peer = undefined;
    await (await peer)?.[Symbol.asyncDispose]();
  }

  async #startPeer(): Promise<Peer> {
    const node = this.#cluster.nodes.find(({ name }) => name === this.#object?.spec.nodeName);
    const pid = (await node?.processesOf('default', this.name))?.get('pause');
    if (pid === undefined) throw new Error(`the pod ${this.name} has no sandbox`);
    return Peer.start(`/proc/${pid}/ns/net`);
  }

  #address(index: number): string {
    const address = this.#object?.status.podIPs[index]?.ip;
    if (address === undefined) throw new Error(`the pod ${this.name} has no address of family ${index}`);
    return address;
  }
}
