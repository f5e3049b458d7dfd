/** The product's side of the comparison without a kernel: objects through feed and calc to messages, and these judged as they stand. */
import type { Driver } from '#agent/driver/driver.ts';
import type { ObjectStore } from '#agent/store/object-store.ts';
import { CalcFeed } from '#agent/calc-feed.ts';
import { CalcGraph } from '#agent/calc/calc-graph.ts';
import { kinds, parseAs, parseObject, type KindMap, type KindName } from '#api/kinds.ts';
import type { ObjectKey } from '#api/meta.ts';
import { endpointId } from '#agent/endpoints/endpoint-info.ts';
import type { DataplaneUpdate } from '#dataplanes/messages.ts';
import type { Doc } from './cluster.ts';
import { keyOf } from './generate.ts';
import { MessageEvaluator, type Decision } from './evaluate-messages.ts';
import type { Packet } from './policy-model.ts';
import type { Verdict } from './reference.ts';

/** Something that happens to a cluster. `flush`: what has changed is said to the dataplanes. */
export type ClusterEvent =
  | { readonly do: 'set'; readonly doc: Doc }
  | { readonly do: 'remove'; readonly doc: Doc }
  | { readonly do: 'flush' };

/** The agents of a few nodes, as far as objects and messages go. */
export class CalcSide {
  readonly #nodes: readonly CalcNode[];
  /** Nodes by their addresses: messages don't say which address is the host's own. */
  readonly #hosts = new Map<string, string>();

  /** `onMessages`: is told what each node's dataplane is told. */
  constructor(
    nodeNames: readonly string[],
    onMessages: (node: string, updates: readonly DataplaneUpdate[]) => void = () => undefined,
  ) {
    this.#nodes = nodeNames.map((name) => new CalcNode(name, (updates) => onMessages(name, updates)));
  }

  /** Throws what validation, calc or a broken contract throws. */
  handle(event: ClusterEvent): void {
    if (event.do === 'set' && event.doc.kind === 'Node') {
      const { addresses = [] } = (event.doc['status'] ?? {}) as { readonly addresses?: readonly { address: string }[] };
      for (const { address } of addresses) this.#hosts.set(address, event.doc.metadata.name);
    }
    for (const node of this.#nodes) node.handle(event);
  }

  /** The packet's way past the nodes' endpoints, as the messages of each node say. */
  judge(packet: Packet): Verdict {
    const hostOf = (address: string) => this.#hosts.get(address);
    const because: string[] = [];
    const nodeAt = (address: string) =>
      this.#nodes.find(({ evaluator }) => evaluator.has(address)) ??
      this.#nodes.find(({ name }) => name === hostOf(address));
    const [source, destination] = [nodeAt(packet.from), nodeAt(packet.to)];
    const [isFromPod, isToPod] = [packet.from, packet.to].map((address) => hostOf(address) === undefined);
    const isWithin = source === destination;
    const steps: (readonly [string, () => Decision | undefined])[] = [
      ['source', () => (isFromPod ? source?.evaluator.decide(packet.from, 'egress', packet) : undefined)],
      ['out', () => (isWithin ? undefined : source?.evaluator.decideAtHost('egress', isFromPod === true, packet))],
      ['in', () => (isWithin ? undefined : destination?.evaluator.decideAtHost('ingress', isToPod === true, packet))],
      [
        'destination',
        () =>
          isToPod && (isFromPod || !isWithin) ? destination?.evaluator.decide(packet.to, 'ingress', packet) : undefined,
      ],
    ];
    for (const [step, decide] of steps) {
      const decision = decide();
      if (decision === undefined) continue;
      because.push(`${step}: ${decision.action} by ${decision.reason}`);
      if (decision.action === 'deny') return { allowed: false, because };
    }
    return { allowed: true, because };
  }
}

type Listener = (key: ObjectKey, object: KindMap[KindName] | undefined) => void;

class CalcNode {
  readonly evaluator = new MessageEvaluator();
  readonly name: string;
  readonly #feed: CalcFeed;
  readonly #listeners = new Map<KindName, Listener>();
  readonly #wired = new Map<string, KindMap['WorkloadEndpoint']>();

  constructor(name: string, onMessages: (updates: readonly DataplaneUpdate[]) => void) {
    this.name = name;
    // Only what the feed uses of both.
    const driver = {
      push: (updates: readonly DataplaneUpdate[]) => {
        this.evaluator.apply(updates);
        onMessages(updates);
      },
    };
    const store = {
      of: (kind: KindName) => ({ onChange: (listener: Listener) => this.#listeners.set(kind, listener) }),
    };
    this.#feed = new CalcFeed(new CalcGraph(name), driver as unknown as Driver);
    this.#feed.follow(store as unknown as ObjectStore);
  }

  handle(event: ClusterEvent): void {
    // The feed's way to say everything at once.
    if (event.do === 'flush') this.#feed.onInSync();
    else if (event.do === 'set') this.#set(event.doc);
    else this.#remove(event.doc);
  }

  #set(doc: Doc): void {
    const { kind, object } = parseObject(doc);
    if (object.kind !== 'Pod') return this.#tell(kind, object.metadata, object);
    // Whether the Pod is seen before it is wired, or after, must not matter; nor who says a pod's addresses first.
    const endpoint = endpointOf(object);
    const pod = `${object.metadata.namespace}/${object.metadata.name}`;
    const wiredFirst = object.metadata.name.charCodeAt(3) % 2 === 0;
    if (wiredFirst) this.#wire(pod, endpoint);
    this.#tell(kind, object.metadata, object);
    if (!wiredFirst) this.#wire(pod, endpoint);
    return undefined;
  }

  #remove(doc: Doc): void {
    const { kind, object } = parseObject(doc);
    this.#tell(kind, object.metadata, undefined);
    if (object.kind === 'Pod') this.#wire(`${object.metadata.namespace}/${object.metadata.name}`, undefined);
  }

  /** The pod has this endpoint from now on, on whatever node; some nodes write it into the datastore. */
  #wire(pod: string, endpoint: KindMap['WorkloadEndpoint'] | undefined): void {
    const before = this.#wired.get(pod);
    if (before !== undefined && before.spec.node !== endpoint?.spec.node) {
      if (before.spec.node === this.name) this.#feed.set(endpointId(before), undefined);
      this.#tell('WorkloadEndpoint', before.metadata, undefined);
      this.#wired.delete(pod);
    }
    if (endpoint === undefined) return;
    this.#wired.set(pod, endpoint);
    if (endpoint.spec.node === this.name) {
      this.#feed.set(endpointId(endpoint), { endpoint, network: 'k8s-pod-network', ifname: 'eth0', netns: '' });
    }
    if (endpoint.spec.interfaceName.endsWith('1')) this.#tell('WorkloadEndpoint', endpoint.metadata, endpoint);
  }

  #tell(kind: KindName, { namespace, name }: ObjectKey, object: KindMap[KindName] | undefined): void {
    this.#listeners.get(kind)?.(kinds[kind].namespaced ? { namespace, name } : { name }, object);
  }
}

/** As the plugin writes it, with what an address lasts for: labels and the like come from the Pod. */
function endpointOf({ metadata, spec, status }: KindMap['Pod']): KindMap['WorkloadEndpoint'] {
  const account = spec.serviceAccountName ?? 'default';
  return parseAs('WorkloadEndpoint', {
    apiVersion: 'projectcalico.org/v3',
    kind: 'WorkloadEndpoint',
    metadata: { name: `${spec.nodeName}-k8s-${metadata.name}-eth0`, namespace: metadata.namespace },
    spec: {
      orchestrator: 'k8s',
      pod: metadata.name,
      node: spec.nodeName,
      endpoint: 'eth0',
      serviceAccountName: account,
      ipNetworks: status.podIPs.map(({ ip }) => `${ip}/${ip.includes(':') ? 128 : 32}`),
      profiles: [`kns.${metadata.namespace}`, `ksa.${metadata.namespace}.${account}`],
      interfaceName: `cali${metadata.name}`,
    },
  }).object;
}

/** The events that make this cluster out of nothing, in the order of the objects. */
export function eventsFor(docs: readonly Doc[]): readonly ClusterEvent[] {
  return [...docs.map((doc) => ({ do: 'set', doc }) as const), { do: 'flush' }];
}

/** The events that lead from one cluster to the other; of what stays as it is, those that `saidAgain` picks are said once more. */
export function eventsBetween(
  before: readonly Doc[],
  after: readonly Doc[],
  saidAgain: () => boolean = () => false,
): readonly ClusterEvent[] {
  const removed = before.filter((doc) => !after.some((other) => keyOf(other) === keyOf(doc)));
  const set = after.filter((doc) => !before.includes(doc) || saidAgain());
  return [
    ...removed.map((doc) => ({ do: 'remove', doc }) as const),
    ...set.map((doc) => ({ do: 'set', doc }) as const),
  ];
}

/** The nodes that pods and host endpoints are on, and those that exist. */
export function nodeNames(docs: readonly Doc[]): readonly string[] {
  const names = docs.map(({ kind, metadata, spec }) => {
    const { nodeName, node } = (spec ?? {}) as { readonly nodeName?: string; readonly node?: string };
    return kind === 'Pod' ? nodeName : kind === 'HostEndpoint' ? node : kind === 'Node' ? metadata.name : undefined;
  });
  return [...new Set(names.filter((name) => name !== undefined))];
}
