import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { exec, must, type Finished } from './exec.ts';
import { distDir } from './dist.ts';
import { Peer } from './peer-client.ts';
import { replaceFile } from './replace-file.ts';

/** A port that the pod's container names. */
export interface NamedPort {
  readonly name: string;
  readonly containerPort: number;
  readonly protocol?: 'TCP' | 'UDP' | 'SCTP';
}

/** How a pod differs from the plainest one. */
export interface PodOptions {
  /** Default `default`; a pod's name is used once in a lab, whatever its namespace. */
  readonly namespace?: string;
  readonly serviceAccount?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly ports?: readonly NamedPort[];
  /** What its peer serves on, TCP and UDP; default: the peers' port. */
  readonly serves?: readonly number[];
  readonly annotations?: Readonly<Record<string, string>>;
  /** Keys of the CNI conf besides the usual ones. */
  readonly conf?: Readonly<Record<string, unknown>>;
  /** False: a container that is no Kubernetes pod. */
  readonly isPod?: boolean;
}

/** What a CNI error says. */
export interface CniFailure {
  readonly code: number;
  readonly msg: string;
}

/** What a pod needs of its node. */
export interface PodHost {
  readonly name: string;
  conf(): object;
  logTail(): string;
  forget(pod: LabPod): void;
}

/** A pod of a lab: a namespace that the real CNI executable wires. */
export class LabPod {
  readonly node: PodHost;
  readonly name: string;
  readonly netns: string;
  readonly #podsDir: string;
  readonly #options: PodOptions;
  #container: string;
  #hasNamespace = false;
  #addresses: readonly string[] = [];
  #peer: Peer | undefined;
  #labels: Readonly<Record<string, string>>;

  constructor(node: PodHost, name: string, netns: string, podsDir: string, options: PodOptions) {
    this.node = node;
    this.name = name;
    this.netns = netns;
    this.#container = randomId();
    this.#podsDir = podsDir;
    this.#options = options;
    this.#labels = options.labels ?? {};
  }

  get namespace(): string {
    return this.#options.namespace ?? 'default';
  }

  /** The sandbox's id. */
  get container(): string {
    return this.#container;
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
    if (this.#options.isPod !== false) this.writeObject();
    await this.#createNamespace();
  }

  /** What a runtime does after a sandbox failed, or was lost by a reboot: a new one, with an id and a namespace of its own. */
  async renewSandbox(): Promise<void> {
    await this.loseNamespace();
    this.#container = randomId();
    await this.#createNamespace();
  }

  /** The namespace goes without a DEL, as in a crash; the Pod object stays. */
  async loseNamespace(): Promise<void> {
    await this.#peer?.[Symbol.asyncDispose]();
    this.#peer = undefined;
    this.#addresses = [];
    if (this.#hasNamespace) await must('ip', 'netns', 'del', this.netns);
    this.#hasNamespace = false;
  }

  async #createNamespace(): Promise<void> {
    await must('ip', 'netns', 'add', this.netns);
    this.#hasNamespace = true;
    await must('ip', '-n', this.netns, 'link', 'set', 'lo', 'up');
  }

  /** Execs the CNI executable with this verb; `killAfterMs` kills it then, if it still runs. */
  cni(
    verb: string,
    options: { readonly container?: string; readonly conf?: object; readonly killAfterMs?: number } = {},
  ): Promise<Finished> {
    const pod = this.#options.isPod === false ? '' : `;K8S_POD_NAMESPACE=${this.namespace};K8S_POD_NAME=${this.name}`;
    return exec(join(distDir, 'cni/tortie'), [], {
      input: JSON.stringify({ ...this.conf(), ...options.conf }),
      ...(options.killAfterMs === undefined ? {} : { timeoutMs: options.killAfterMs }),
      env: {
        CNI_COMMAND: verb,
        CNI_CONTAINERID: options.container ?? this.container,
        CNI_NETNS: this.netnsPath,
        CNI_IFNAME: 'eth0',
        CNI_ARGS: `IgnoreUnknown=1${pod}`,
        CNI_PATH: join(distDir, 'cni'),
      },
    });
  }

  conf(): object {
    return { ...this.node.conf(), ...this.#options.conf };
  }

  /** ADD, which must succeed. */
  async add(): Promise<void> {
    const failure = await this.tryAdd();
    if (failure !== undefined) throw new Error(`ADD of ${this.name} failed: ${failure.msg}\n${this.node.logTail()}`);
  }

  /** ADD; returns the CNI error if it fails, and undefined if the pod has its addresses. */
  async tryAdd(): Promise<CniFailure | undefined> {
    const { status, stdout, stderr } = await this.cni('ADD');
    if (status !== 0) return failureOf(stdout, stderr);
    const { ips } = JSON.parse(stdout) as { ips: { address: string }[] };
    this.#addresses = ips.map(({ address }) => address.split('/')[0] ?? '');
    return undefined;
  }

  /** DEL, which must succeed. */
  async del(): Promise<void> {
    const failure = await this.tryDel();
    if (failure !== undefined) throw new Error(`DEL of ${this.name} failed: ${failure.msg}\n${this.node.logTail()}`);
  }

  /** DEL; returns the CNI error if it fails. */
  async tryDel(): Promise<CniFailure | undefined> {
    const { status, stdout, stderr } = await this.cni('DEL');
    return status === 0 ? undefined : failureOf(stdout, stderr);
  }

  /** The process inside that serves and probes; started at the first call. */
  async peer(): Promise<Peer> {
    this.#peer ??= await Peer.start(this.netnsPath, this.#options.serves);
    return this.#peer;
  }

  /** What a pod's end looks like from here on: no namespace, no object. The node may still know it: that is what DEL is for. */
  async destroy(): Promise<void> {
    this.removeObject();
    this.node.forget(this);
    await this.loseNamespace();
  }

  /** Gives the pod other labels, as `kubectl label` does while it runs; without an argument the ones it began with. */
  relabel(labels: Readonly<Record<string, string>> = this.#options.labels ?? {}): void {
    this.#labels = labels;
    this.writeObject();
  }

  /** The Pod is created in the cluster, or replaced. */
  writeObject(): void {
    const { annotations = {}, ports = [], serviceAccount } = this.#options;
    const manifest = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: this.name, namespace: this.namespace, labels: this.#labels, annotations },
      spec: {
        nodeName: this.node.name,
        ...(serviceAccount === undefined ? {} : { serviceAccountName: serviceAccount }),
        containers: [{ name: 'main', ports }],
      },
    };
    replaceFile(this.#podsDir, `${this.name}.yaml`, `${JSON.stringify(manifest)}\n`);
  }

  /** The Pod is deleted from the cluster. */
  removeObject(): void {
    rmSync(this.#manifestPath, { force: true });
  }

  get #manifestPath(): string {
    return join(this.#podsDir, `${this.name}.yaml`);
  }
}

/** The executable's error; when it ended without one (killed), code -1 and what it wrote. */
function failureOf(stdout: string, stderr: string): CniFailure {
  try {
    const { code, msg, details = '' } = JSON.parse(stdout) as { code: number; msg: string; details?: string };
    return { code, msg: details === '' ? msg : `${msg}: ${details}` };
  } catch {
    return { code: -1, msg: stdout || stderr };
  }
}

/** As runtimes make them: 64 hex digits. */
function randomId(): string {
  return randomBytes(32).toString('hex');
}
