import { tryParseIp, withoutPrefix, type IpText } from '#api/cidr.ts';
import type { KindMap } from '#api/kinds.ts';
import type { EndpointId } from '#dataplanes/messages.ts';
import { hasLeftNetwork, hostNets, podNets } from '#api/pod-network.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { PolicyView } from './policy-view.ts';

/** One end of a connection, as far as this node knows it. */
export interface Party {
  /** As people know it: `pod default/web`, `node node1`, `192.0.2.1`. */
  readonly name: string;
  readonly kind: 'local endpoint' | 'this host' | 'remote pod' | 'other node' | 'outside';
  /** Of a local endpoint. */
  readonly endpoint?: EndpointId;
  /** Of a remote pod: the node that judges it, where known; of a node (or a pod in its network): that one. */
  readonly node?: string;
  /** Canonical, without prefix lengths. */
  readonly addresses: readonly string[];
}

/** Nobody has this name here. */
export class UnknownPartyError extends Error {
  override readonly name = 'UnknownPartyError';
  readonly code = 'unknown-party';
}

/** Names and addresses to what they belong to: this node's endpoints, other pods, nodes, the rest of the world. */
export class Directory {
  readonly #store: Pick<ObjectStore, 'of'>;
  readonly #nodeName: string;
  readonly #view: PolicyView;

  constructor(store: Pick<ObjectStore, 'of'>, nodeName: string, view: PolicyView) {
    this.#store = store;
    this.#nodeName = nodeName;
    this.#view = view;
  }

  /** `host`, an address, `pod` (of namespace default), `namespace/pod`, or an endpoint's id. Throws `UnknownPartyError`. */
  find(text: string): Party {
    if (text === 'host') return this.#node(this.#nodeName);
    const ip = tryParseIp(text);
    return ip === undefined ? this.#byName(text) : this.#byAddress(ip.text);
  }

  #byName(text: string): Party {
    const parts = text.split('/');
    const [namespace, pod] = parts.length === 1 ? ['default', text] : parts;
    for (const id of [text, `k8s/${namespace}/${pod}/eth0`]) {
      const party = this.#local(id);
      if (party !== undefined) return party;
    }
    const name = `pod ${namespace}/${pod}`;
    const other = [...this.#hostPods(), ...this.#remotePods()].find((party) => party.name === name);
    if (other !== undefined) return this.#elsewhere(other);
    throw new UnknownPartyError(
      `${text} is no endpoint of this node and no pod in the datastore: give namespace/pod, an address, or "host"`,
    );
  }

  #byAddress(address: IpText): Party {
    for (const [id] of this.#view.endpoints()) {
      const party = this.#local(id);
      if (party?.addresses.includes(address) === true) return { ...party, addresses: [address] };
    }
    const others = [...this.#remotePods(), ...this.#nodes()];
    const owner = others.find(({ addresses }) => addresses.includes(address));
    return owner === undefined
      ? { name: address, kind: 'outside', addresses: [address] }
      : { ...this.#elsewhere(owner), addresses: [address] };
  }

  /** A pod of this node that is no local endpoint is none that anybody judges. */
  #elsewhere(party: Party): Party {
    if (party.kind === 'remote pod' && party.node === this.#nodeName) {
      throw new UnknownPartyError(`${party.name} is to be on this node, but has no endpoint yet: see tortie endpoints`);
    }
    return party;
  }

  #local(id: EndpointId): Party | undefined {
    const endpoint = this.#view.endpoint(id);
    if (endpoint === undefined) return undefined;
    const [orchestrator, ...rest] = id.split('/');
    const name = orchestrator === 'k8s' ? `pod ${rest.slice(0, -1).join('/')}` : `endpoint ${id}`;
    const addresses = [...endpoint.ipv4Nets, ...endpoint.ipv6Nets].map(withoutPrefix);
    return { name, kind: 'local endpoint', endpoint: id, addresses };
  }

  /** From what is known of the pods, and from the endpoints that other nodes have published. */
  #remotePods(): Party[] {
    const pods = this.#pods(false)
      .map((pod): Party => ({
        ...ofPod(pod),
        kind: 'remote pod',
        ...(pod.spec.nodeName === undefined ? {} : { node: pod.spec.nodeName }),
        addresses: podNets(pod).map(withoutPrefix),
      }))
      .filter(({ addresses }) => addresses.length > 0);
    const published = [...this.#store.of('WorkloadEndpoint').all()].map(({ metadata, spec }): Party => {
      const name = spec.pod === undefined ? `endpoint ${metadata.name}` : `pod ${metadata.namespace}/${spec.pod}`;
      return { name, kind: 'remote pod', node: spec.node, addresses: hostNets(spec.ipNetworks).map(withoutPrefix) };
    });
    return [...published, ...pods];
  }

  /** Pods in their node's network: for policy they are the node. */
  #hostPods(): Party[] {
    return this.#pods(true).flatMap((pod) =>
      pod.spec.nodeName === undefined ? [] : [{ ...this.#node(pod.spec.nodeName), ...ofPod(pod) }],
    );
  }

  /** Those that have an address: one that has run to its end keeps it in its status while it is another's. */
  #pods(hostNetwork: boolean): KindMap['Pod'][] {
    return [...this.#store.of('Pod').all()].filter(
      (pod) => pod.spec.hostNetwork === hostNetwork && !hasLeftNetwork(pod),
    );
  }

  #nodes(): Party[] {
    return [...this.#store.of('Node').all()].map(({ metadata }) => this.#node(metadata.name));
  }

  #node(name: string): Party {
    const addresses = this.#store.of('Node').get({ name })?.status?.addresses ?? [];
    const internal = addresses.flatMap(({ type, address }) =>
      type === 'InternalIP' ? (tryParseIp(address)?.text ?? []) : [],
    );
    return {
      name: `node ${name}`,
      kind: name === this.#nodeName ? 'this host' : 'other node',
      node: name,
      addresses: internal,
    };
  }
}

function ofPod({ metadata }: KindMap['Pod']): { readonly name: string } {
  return { name: `pod ${metadata.namespace}/${metadata.name}` };
}
