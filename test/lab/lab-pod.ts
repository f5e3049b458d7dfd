import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { exec, must, type Finished } from './exec.ts';
import { distDir, type LabNode } from './lab-node.ts';
import { Peer } from './peer-client.ts';

/** How a pod differs from the plainest one. */
export interface PodOptions {
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  /** Keys of the CNI conf besides the usual ones. */
  readonly conf?: Readonly<Record<string, unknown>>;
  /** False: a container that is no Kubernetes pod. */
  readonly isPod?: boolean;
}

/** A pod of a lab: a namespace that the real CNI executable wires. */
export class LabPod {
  readonly node: LabNode;
  readonly name: string;
  readonly netns: string;
  readonly container: string;
  readonly #podsDir: string;
  readonly #options: PodOptions;
  #addresses: readonly string[] = [];
  #peer: Peer | undefined;

  constructor(node: LabNode, name: string, netns: string, container: string, podsDir: string, options: PodOptions) {
    this.node = node;
    this.name = name;
    this.netns = netns;
    this.container = container;
    this.#podsDir = podsDir;
    this.#options = options;
  }

  get netnsPath(): string {
    return `/run/netns/${this.netns}`;
  }

  /** Without prefix lengths; empty before the ADD. */
  get addresses(): readonly string[] {
    return this.#addresses;
  }

  get ipv4(): string {
    return this.#addresses.find((address) => !address.includes(':')) ?? '';
  }

  get ipv6(): string {
    return this.#addresses.find((address) => address.includes(':')) ?? '';
  }

  async create(): Promise<void> {
    if (this.#options.isPod !== false) {
      const { labels = {}, annotations = {} } = this.#options;
      const manifest = {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: this.name, namespace: 'default', labels, annotations },
        spec: { nodeName: this.node.name, containers: [{ name: 'main' }] },
      };
      writeFileSync(this.#manifestPath, `${JSON.stringify(manifest)}\n`);
    }
    await must('ip', 'netns', 'add', this.netns);
    await must('ip', '-n', this.netns, 'link', 'set', 'lo', 'up');
  }

  /** Execs the CNI executable with this verb. */
  cni(verb: string, options: { readonly netns?: string; readonly container?: string; readonly conf?: object } = {}): Promise<Finished> {
    const pod = this.#options.isPod === false ? '' : `;K8S_POD_NAMESPACE=default;K8S_POD_NAME=${this.name}`;
    return exec(join(distDir, 'cni/tortie'), [], {
      input: JSON.stringify({ ...this.conf(), ...options.conf }),
      env: {
        CNI_COMMAND: verb,
        CNI_CONTAINERID: options.container ?? this.container,
        CNI_NETNS: options.netns ?? this.netnsPath,
        CNI_IFNAME: 'eth0',
        CNI_ARGS: `IgnoreUnknown=1${pod}`,
        CNI_PATH: join(distDir, 'cni'),
      },
    });
  }

  conf(): object {
    return {
      cniVersion: '1.0.0',
      name: 'k8s-pod-network',
      type: 'tortie',
      socket: join(this.node.runDir, 'cni.sock'),
      ipam: { type: 'calico-ipam', assign_ipv4: 'true', assign_ipv6: 'true' },
      ...this.#options.conf,
    };
  }

  /** ADD, which must succeed. */
  async add(): Promise<void> {
    const { status, stdout, stderr } = await this.cni('ADD');
    if (status !== 0) throw new Error(`ADD of ${this.name} failed: ${stdout || stderr}\n${this.node.logTail()}`);
    const { ips } = JSON.parse(stdout) as { ips: { address: string }[] };
    this.#addresses = ips.map(({ address }) => address.split('/')[0] ?? '');
  }

  /** DEL, which must succeed. */
  async del(): Promise<void> {
    const { status, stdout } = await this.cni('DEL');
    if (status !== 0) throw new Error(`DEL of ${this.name} failed: ${stdout}`);
  }

  /** The process inside that serves and probes; started at the first call. */
  async peer(): Promise<Peer> {
    this.#peer ??= await Peer.start(this.netnsPath);
    return this.#peer;
  }

  /** What a pod's end looks like from here on: no namespace, no object. The node may still know it: that is what DEL is for. */
  async destroy(): Promise<void> {
    await this.#peer?.[Symbol.asyncDispose]();
    this.#peer = undefined;
    rmSync(this.#manifestPath, { force: true });
    this.node.forget(this);
    await must('ip', 'netns', 'del', this.netns);
  }

  get #manifestPath(): string {
    return join(this.#podsDir, `${this.name}.yaml`);
  }
}
