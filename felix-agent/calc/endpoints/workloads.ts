import type { KindMap } from '#api/kinds.ts';
import { keyText } from '#api/meta.ts';
import { protocolNumber } from '#api/policy/protocols.ts';
import type { EndpointId, WorkloadDevice } from '#dataplanes/messages.ts';
import type { ProfileId } from '#dataplanes/policy.ts';
import { defaultAllowProfile, namespaceProfileId, serviceAccountProfileId } from '../convert/convert.ts';
import type { LabelSources } from '../labels/label-index.ts';
import type { NamedPort } from '../sets/address-source.ts';
import type { SourceState } from '../sets/set-store.ts';
import { containerLayer, defaultAccount, ownLabels, podLayer } from './identity.ts';
import { hasLeftNetwork, hostNets, podNets } from '#api/pod-network.ts';
import { noPorts, podPorts } from './pod-facts.ts';

type Pod = KindMap['Pod'];
type WorkloadEndpoint = KindMap['WorkloadEndpoint'];

/** A WorkloadEndpoint of the datastore, of any node, with the id that it has here. */
export interface PublishedEndpoint {
  readonly id: EndpointId;
  readonly object: WorkloadEndpoint;
}

/** One of this node's endpoints, as the plugin has made it. */
export interface LocalWorkload {
  readonly device: WorkloadDevice;
  readonly object: WorkloadEndpoint;
}

/** A local endpoint as policies see it. */
export interface LocalState {
  readonly device: WorkloadDevice;
  readonly labels: LabelSources;
  readonly profiles: readonly ProfileId[];
  readonly profileUser: 'pod' | 'container';
}

/** What becomes of an endpoint when something about it has changed; undefined: it isn't (or no longer) there. */
export interface WorkloadSink {
  /** Members of sets: every endpoint of the cluster that has an address. */
  source(id: EndpointId, state: SourceState | undefined): void;
  /** What is programmed here: this node's endpoints. */
  local(id: EndpointId, state: LocalState | undefined): void;
}

/**
 * Puts together what is known of each endpoint. Three tell of it, none in a certain order: the Pod (labels, ports, account), the
 * WorkloadEndpoint that its node has written, and for this node's own the plugin's record. Addresses are taken from whoever knows them
 * first: record, WorkloadEndpoint, Pod. A container that is no pod, and a pod whose object has gone, keep what their WorkloadEndpoint says.
 */
export class Workloads {
  readonly #nodeName: string;
  readonly #sink: WorkloadSink;
  readonly #facts = new Map<EndpointId, Facts>();
  readonly #idOfObject = new Map<string, EndpointId>();
  #localCount = 0;

  constructor(nodeName: string, sink: WorkloadSink) {
    this.#nodeName = nodeName;
    this.#sink = sink;
  }

  /** How many endpoints the cluster has, as far as they are known. */
  get count(): number {
    return this.#facts.size;
  }

  get localCount(): number {
    return this.#localCount;
  }

  /** `key` is the pod's `namespace/name`. A pod in its host's network is no endpoint. */
  onPod(key: string, pod: Pod | undefined): void {
    this.#update(`k8s/${key}/eth0`, (facts) => {
      facts.pod = pod?.spec.hostNetwork === true ? undefined : pod;
    });
  }

  /** `key` is the object's `namespace/name`. */
  onPublished(key: string, published: PublishedEndpoint | undefined): void {
    const oldId = this.#idOfObject.get(key);
    if (oldId !== undefined && oldId !== published?.id) {
      this.#idOfObject.delete(key);
      this.#update(oldId, (facts) => {
        facts.published = facts.published.filter(({ metadata }) => keyText(metadata) !== key);
      });
    }
    if (published === undefined) return;
    this.#idOfObject.set(key, published.id);
    this.#update(published.id, (facts) => {
      const others = facts.published.filter(({ metadata }) => keyText(metadata) !== key);
      facts.published = [...others, published.object];
    });
  }

  onLocal(id: EndpointId, local: LocalWorkload | undefined): void {
    this.#update(id, (facts) => {
      if ((facts.local === undefined) !== (local === undefined)) this.#localCount += local === undefined ? -1 : 1;
      facts.local = local;
    });
  }

  #update(id: EndpointId, change: (facts: Facts) => void): void {
    const facts = this.#facts.get(id) ?? { pod: undefined, published: nonePublished, local: undefined };
    const wasLocal = facts.local !== undefined;
    change(facts);
    if (facts.pod === undefined && facts.published.length === 0 && facts.local === undefined) this.#facts.delete(id);
    else this.#facts.set(id, facts);

    const elsewhere = publishedOf(facts);
    const object = facts.local?.object ?? elsewhere;
    const identity =
      facts.pod !== undefined ? podIdentity(facts.pod) : object !== undefined ? objectIdentity(object) : undefined;
    if (facts.local !== undefined && identity !== undefined) {
      this.#sink.local(id, { device: facts.local.device, ...identity });
    } else if (wasLocal) {
      this.#sink.local(id, undefined);
    }
    const nets = this.#nets(facts, elsewhere);
    this.#sink.source(
      id,
      nets.length === 0 || identity === undefined
        ? undefined
        : { nets, ports: facts.pod === undefined ? objectPorts(object) : podPorts(facts.pod), labels: identity.labels },
    );
  }

  #nets({ pod, local }: Facts, elsewhere: WorkloadEndpoint | undefined): readonly string[] {
    if (pod !== undefined && hasLeftNetwork(pod)) return [];
    // A record of ours while the Pod runs on another node is a predecessor's that is being taken down.
    const isHere = pod?.spec.nodeName === undefined || pod.spec.nodeName === this.#nodeName;
    if (local !== undefined && isHere) return [...local.device.ipv4Nets, ...local.device.ipv6Nets];
    if (elsewhere !== undefined) return hostNets(elsewhere.spec.ipNetworks);
    return pod === undefined ? [] : podNets(pod);
  }
}

interface Facts {
  pod: Pod | undefined;
  /** Usually one; two while a pod of the same name comes up on another node. */
  published: readonly WorkloadEndpoint[];
  local: LocalWorkload | undefined;
}

const nonePublished: readonly WorkloadEndpoint[] = [];

/** The WorkloadEndpoint that counts: of the Pod's node; without a Pod the last by name, so that order of arrival doesn't matter. */
function publishedOf({ pod, published }: Facts): WorkloadEndpoint | undefined {
  const node = pod?.spec.nodeName;
  let best: WorkloadEndpoint | undefined;
  for (const candidate of published) {
    if (node !== undefined && candidate.spec.node !== node) continue;
    if (best === undefined || best.metadata.name < candidate.metadata.name) best = candidate;
  }
  return best;
}

type Identity = Omit<LocalState, 'device'>;

function podIdentity({ metadata, spec }: Pod): Identity {
  const account = spec.serviceAccountName || defaultAccount;
  const profiles = [namespaceProfileId(metadata.namespace), serviceAccountProfileId(metadata.namespace, account)];
  const over = podLayer(metadata.namespace, account);
  return { labels: { own: ownLabels(metadata.labels), over, parents: profiles }, profiles, profileUser: 'pod' };
}

function objectIdentity({ metadata, spec }: WorkloadEndpoint): Identity {
  const own = ownLabels(metadata.labels);
  if (spec.pod !== undefined) {
    const over = podLayer(metadata.namespace, spec.serviceAccountName || defaultAccount);
    return { labels: { own, over, parents: spec.profiles }, profiles: spec.profiles, profileUser: 'pod' };
  }
  const profiles = spec.profiles.length === 0 ? [defaultAllowProfile.id] : spec.profiles;
  const over = containerLayer(metadata.namespace, spec.orchestrator, spec.profiles);
  return { labels: { own, over, parents: profiles }, profiles, profileUser: 'container' };
}

function objectPorts(object: WorkloadEndpoint | undefined): readonly NamedPort[] {
  const ports: NamedPort[] = [];
  for (const { name, protocol, port } of object?.spec.ports ?? []) {
    const number = protocolNumber(protocol);
    if (name !== undefined && number !== undefined) ports.push({ name, protocol: number, port });
  }
  return ports.length === 0 ? noPorts : ports;
}
