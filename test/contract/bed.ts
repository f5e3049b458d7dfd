import type { DataplaneCapabilities } from '#dataplanes/contract.ts';
import { families, startAgentLab } from '#test/lab/agent-lab.ts';
import { must } from '#test/lab/exec.ts';
import type { Lab } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import type { LabPod, PodOptions } from '#test/lab/lab-pod.ts';
import type { Peer } from '#test/lab/peer-client.ts';
import { capabilitiesOf, type Combination } from './combinations.ts';
import { InForce } from './in-force.ts';
import { namespaceObject, serviceAccountObject } from './objects.ts';
import type { AddressBook, Family } from './row.ts';

/** What every peer of the bed serves on, TCP and UDP; the first one is the default. */
const served = [7777, 80, 8080, 9090, 5353] as const;

/** A pod of every bed, and its node. */
interface BedPod {
  readonly node: 0 | 1;
  readonly options: PodOptions;
}

/**
 * ```
 * node1: client (default, app=client)   web (default, app=web)    blue (namespace blue, app=client)
 * node2: far    (default, app=client)   web2 (default, app=web)   red  (namespace red, app=client)
 * ```
 */
const bedPods: Readonly<Record<string, BedPod>> = {
  client: {
    node: 0,
    options: { labels: { app: 'client', color: 'azure', zone: 'eu-west-1' }, serviceAccount: 'robot' },
  },
  web: {
    node: 0,
    options: {
      labels: { app: 'web', color: 'green' },
      ports: [
        { name: 'http', containerPort: 8080 },
        { name: 'dns', containerPort: 5353, protocol: 'UDP' },
      ],
    },
  },
  blue: { node: 0, options: { namespace: 'blue', labels: { app: 'client', color: 'blue' }, serviceAccount: 'human' } },
  far: { node: 1, options: { labels: { app: 'client', color: 'azalea', zone: 'us-west-1' }, serviceAccount: 'human' } },
  web2: {
    node: 1,
    options: { labels: { app: 'web', color: 'grey' }, ports: [{ name: 'http', containerPort: 9090 }] },
  },
  red: { node: 1, options: { namespace: 'red', labels: { app: 'client', color: 'red' }, serviceAccount: 'robot' } },
};

/** Further addresses of `outside`, at the edges of 198.51.100.16/28 and 2001:db8:1::10/124, and one in ranges that rows take for services'. */
const outsideAliases: Readonly<Record<Family, AddressBook>> = {
  IPv4: {
    edge15: '198.51.100.15',
    edge16: '198.51.100.16',
    edge31: '198.51.100.31',
    edge32: '198.51.100.32',
    vip: '198.51.100.200',
  },
  IPv6: {
    edge15: '2001:db8:1::f',
    edge16: '2001:db8:1::10',
    edge31: '2001:db8:1::1f',
    edge32: '2001:db8:1::20',
    vip: '2001:db8:1::c8',
  },
};

/** ClusterIPs, by the Service that rows give them to; the lab's ranges for these are 10.96.0.0/24 and fd96::/112. */
const clusterIps: Readonly<Record<Family, AddressBook>> = {
  IPv4: { shop: '10.96.0.10', mart: '10.96.0.11' },
  IPv6: { shop: 'fd96::10', mart: 'fd96::11' },
};

/** What the pods live in. Namespaces that nobody names have no labels. */
const surroundings = [
  namespaceObject('default', { team: 'none' }),
  namespaceObject('blue', { team: 'blue', access: 'wide' }),
  namespaceObject('red', { team: 'red' }),
  ...['default', 'red'].map((namespace) => serviceAccountObject('robot', namespace, { kind: 'machine' })),
  ...['default', 'blue'].map((namespace) => serviceAccountObject('human', namespace, { kind: 'person' })),
];

/** The lab that all rows of one combination share, with its pods; each row leaves it as it was. */
export class Bed implements AsyncDisposable {
  readonly combination: Combination;
  readonly capabilities: DataplaneCapabilities;
  readonly lab: Lab;
  readonly inForce: InForce;
  /** The names of the pods that are there from the start. */
  readonly podNames: readonly string[] = Object.keys(bedPods);
  readonly #pods = new Map<string, LabPod>();
  /** What the present row has to take back, last first. */
  #undo: (() => Promise<unknown>)[] = [];

  private constructor(combination: Combination, capabilities: DataplaneCapabilities, lab: Lab) {
    this.combination = combination;
    this.capabilities = capabilities;
    this.lab = lab;
    this.inForce = new InForce(lab, capabilities.enforcesPolicy);
  }

  /** Starts agents and pods; the caller disposes of it. */
  static async start(combination: Combination): Promise<Bed> {
    const capabilities = await capabilitiesOf(combination);
    const lab = await startAgentLab({ ...bedSettings(combination), agentEnv: combination.env });
    const bed = new Bed(combination, capabilities, lab);
    try {
      lab.apply('namespace', surroundings);
      await Promise.all([
        bed.inForce.start(),
        bed.#giveAliases(),
        ...lab.nodes.map((node) => node.peer(served)),
        lab.outside(served),
        ...Object.entries(bedPods).map(([name, { node, options }]) => bed.#make(lab.node(node), name, options)),
      ]);
      return bed;
    } catch (error) {
      await lab[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** `node1` or `node2`. */
  node(name: string): LabNode {
    const node = this.lab.nodes.find((candidate) => candidate.name === name);
    if (node === undefined) throw new Error(`no node ${name}`);
    return node;
  }

  pod(name: string): LabPod {
    const pod = this.#pods.get(name);
    if (pod === undefined) throw new Error(`no pod ${name}`);
    return pod;
  }

  /** Who asks and is asked: of a pod, a node or `outside`. */
  peer(name: string): Promise<Peer> {
    if (name === 'outside') return this.lab.outside();
    return this.#pods.has(name) ? this.pod(name).peer() : this.node(name).peer();
  }

  /** Addresses by name: pods, nodes, `outside` and its aliases, Services, and `stranger` and `nobody`, which nobody has. */
  addresses(family: Family): AddressBook {
    const is4 = family === 'IPv4';
    const { stranger = '', nobody = '' } = families.find((row) => row.family === family) ?? {};
    const owners = [...this.#pods.values(), ...this.lab.nodes, { name: 'outside', ...this.lab.outsideAddresses }];
    const book = owners.map(({ name, ipv4, ipv6 }) => [name, is4 ? ipv4 : ipv6] as const);
    return { ...Object.fromEntries(book), ...outsideAliases[family], ...clusterIps[family], stranger, nobody };
  }

  /** A pod of the present row, wired, with its peer; it goes at the row's end. */
  async addPod(nodeName: string, name: string, options: PodOptions = {}): Promise<LabPod> {
    const pod = await this.createPod(nodeName, name, options);
    await this.wire(nodeName, pod);
    return pod;
  }

  /** The same, before its ADD: its peer listens already. */
  async createPod(nodeName: string, name: string, options: PodOptions = {}): Promise<LabPod> {
    const pod = await this.node(nodeName).createPod(name, { serves: served, ...options });
    this.#pods.set(name, pod);
    this.onRowEnd(async () => {
      await pod.del();
      await this.forgetPod(name);
    });
    await pod.peer();
    return pod;
  }

  /** ADD, which must succeed, and a route to it from outside. */
  async wire(nodeName: string, pod: LabPod): Promise<void> {
    await pod.add();
    const node = this.node(nodeName);
    await must('ip', '-n', this.lab.fabric, 'route', 'replace', `${pod.ipv4}/32`, 'via', node.ipv4);
    await must('ip', '-n', this.lab.fabric, 'route', 'replace', `${pod.ipv6}/128`, 'via', node.ipv6);
  }

  /** A row's pod that has gone already by other ways than a DEL. */
  async forgetPod(name: string): Promise<void> {
    await this.#pods.get(name)?.destroy();
    this.#pods.delete(name);
  }

  /** The settings of the combination, with a row's own; none: as it began. */
  configure(spec: Readonly<Record<string, unknown>> = {}): void {
    const { felix, bpfEnabled } = bedSettings(this.combination);
    this.lab.configure({ ...felix, bpfEnabled, ...spec });
  }

  /** Done when the row has ended, in reverse order, whatever became of the row. */
  onRowEnd(undo: () => Promise<unknown>): void {
    this.#undo.push(undo);
  }

  /** Takes back what the row did; throws what could not be. */
  async endRow(): Promise<void> {
    const failures: unknown[] = [];
    const undo = this.#undo.toReversed();
    this.#undo = [];
    for (const step of undo) await step().catch((error: unknown) => failures.push(error));
    await this.inForce.clear().catch((error: unknown) => failures.push(error));
    if (failures.length > 0) throw new AggregateError(failures, failures.map(String).join('\n'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab[Symbol.asyncDispose]();
  }

  async #make(node: LabNode, name: string, options: PodOptions): Promise<void> {
    const pod = await node.createPod(name, { serves: served, ...options });
    this.#pods.set(name, pod);
    await Promise.all([this.wire(node.name, pod), pod.peer()]);
  }

  async #giveAliases(): Promise<void> {
    for (const aliases of Object.values(outsideAliases)) {
      for (const address of Object.values(aliases)) {
        const options = address.includes(':')
          ? [`${address}/128`, 'dev', 'br0', 'nodad']
          : [`${address}/32`, 'dev', 'br0'];
        await must('ip', '-n', this.lab.fabric, 'addr', 'add', ...options);
      }
    }
  }
}

function bedSettings({ felix }: Combination): {
  readonly bpfEnabled: boolean;
  readonly felix: Record<string, unknown>;
} {
  const { bpfEnabled, ...rest } = felix;
  const often = { iptablesRefreshInterval: '1s', ipsetsRefreshInterval: '1s', routeRefreshInterval: '1s' };
  return { bpfEnabled: bpfEnabled === true, felix: { ...often, defaultEndpointToHostAction: 'Accept', ...rest } };
}
