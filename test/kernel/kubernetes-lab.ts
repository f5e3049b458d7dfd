import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { ControlPlane } from '../cluster/control-plane.ts';
import { rbacObjects } from '../../scripts/manifests/rbac.ts';
import { eventually } from '#test/lab/agent-lab.ts';
import { Lab, type LabOptions } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import type { LabPod, PodOptions } from '#test/lab/lab-pod.ts';

const crds = join(import.meta.dirname, '../../manifests/crds');

/** An object as kubectl prints it. */
export interface Printed {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: Readonly<Record<string, unknown>>;
  readonly status?: {
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly reason?: string }[];
  };
}

/**
 * A lab whose agents have a real API server for their datastore, as the ServiceAccount that the manifest makes, with its rights only. The server is in the fabric, as
 * in a cluster that is elsewhere. There are no kubelets: Nodes and Pods are written by the test, and ADDs come from it.
 */
export class KubernetesLab implements AsyncDisposable {
  readonly lab: Lab;
  readonly plane: ControlPlane;

  private constructor(lab: Lab, plane: ControlPlane) {
    this.lab = lab;
    this.plane = plane;
  }

  /** `withCrds`: false leaves them out, as somebody does who forgets the manifest. */
  static async create(
    options: Omit<LabOptions, 'datastoreFlags'> & { readonly withCrds?: boolean },
  ): Promise<KubernetesLab> {
    let kubeconfig = '';
    const datastoreFlags = () => ['--datastore=kubernetes', `--kubeconfig=${kubeconfig}`];
    const lab = await Lab.create({ ...options, datastoreFlags });
    let plane: ControlPlane | undefined;
    try {
      plane = await ControlPlane.start({ netns: `/run/netns/${lab.fabric}`, address: lab.outsideAddresses.ipv4 });
      const made = new KubernetesLab(lab, plane);
      if (options.withCrds !== false) await made.applyCrds();
      await plane.apply(rbacObjects().map(({ object }) => object));
      kubeconfig = await plane.kubeconfigFor({ namespace: 'kube-system', serviceAccount: 'tortie-node' });
      return made;
    } catch (error) {
      await plane?.stop();
      await lab[Symbol.asyncDispose]();
      throw error;
    }
  }

  async applyCrds(): Promise<void> {
    // As manifests/tortie.yaml: without ClusterNetworkPolicy, which is a file of its own.
    const files = readdirSync(crds).filter((name) => name.startsWith('projectcalico.org_'));
    await this.plane.kubectl.run('apply', '--server-side', ...files.map((name) => `--filename=${join(crds, name)}`));
    await this.plane.kubectl.run('wait', '--for=condition=Established', 'crd', '--all', '--timeout=100s');
  }

  node(index: number): LabNode {
    return this.lab.node(index);
  }

  /** The Node registers, as its kubelet does: the object, then its status. */
  async register(node: LabNode, addresses: readonly string[] = [node.ipv4, node.ipv6]): Promise<void> {
    const labels = { 'kubernetes.io/hostname': node.name };
    await this.plane.apply([{ apiVersion: 'v1', kind: 'Node', metadata: { name: node.name, labels } }]);
    await this.setNodeStatus(node, {
      addresses: addresses.map((address) => ({ type: 'InternalIP', address })),
    });
  }

  async setNodeStatus(node: LabNode, status: object): Promise<void> {
    const patch = JSON.stringify({ status });
    await this.plane.kubectl.run(
      'patch',
      'node',
      node.name,
      '--subresource=status',
      '--type=merge',
      `--patch=${patch}`,
    );
  }

  /** One object; fails if there is none. */
  get(...args: readonly string[]): Promise<Printed> {
    return this.plane.kubectl.json<Printed>('get', ...args);
  }

  async list(resource: string): Promise<readonly Printed[]> {
    return (await this.plane.kubectl.json<{ readonly items: readonly Printed[] }>('get', resource)).items;
  }

  /** A Pod that is scheduled to the node, as an object and as a namespace; not wired yet. */
  async createPod(node: LabNode, name: string, labels: Readonly<Record<string, string>> = {}): Promise<LabPod> {
    await this.plane.apply([podObject(node, name, labels)]);
    const options: PodOptions = { labels };
    return node.createPod(name, options);
  }

  /** The same, wired by an ADD that must succeed. */
  async addPod(node: LabNode, name: string, labels: Readonly<Record<string, string>> = {}): Promise<LabPod> {
    const pod = await this.createPod(node, name, labels);
    await pod.add();
    return pod;
  }

  /** What the network plugin wrote on the Pod. */
  async podAnnotations(name: string): Promise<Readonly<Record<string, string>>> {
    const { annotations = {} } = (await this.get('pod', name)).metadata;
    return Object.fromEntries(Object.entries(annotations).filter(([key]) => key.startsWith('cni.projectcalico.org/')));
  }

  /** Resolves when what `read` gives is as wanted. */
  async becomes<T>(read: () => Promise<T>, isWanted: (value: T) => boolean): Promise<void> {
    let last: T | undefined;
    await eventually(
      async () => isWanted((last = await read())),
      () => `${JSON.stringify(last)}\n${this.lab.nodes.map((node) => node.logTail()).join('\n')}`,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.lab.nodes.reduce<Promise<unknown>>(
        (done, node) => done.then(() => node.killAgent()),
        Promise.resolve(),
      );
      await this.plane.stop();
    } finally {
      await this.lab[Symbol.asyncDispose]();
    }
  }
}

function podObject(node: LabNode, name: string, labels: Readonly<Record<string, string>>): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default', labels },
    spec: { nodeName: node.name, containers: [{ name: 'main', image: 'none' }] },
  };
}
