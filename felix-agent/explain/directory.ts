import { tryParseIp } from '#api/cidr.ts';
import type { EndpointId } from '#dataplanes/messages.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { PolicyView } from './policy-view.ts';

/** One end of a connection, as far as this node knows it. */
export interface Party {
  /** As people know it: `pod default/web`, `node node1`, `192.0.2.1`. */
  readonly name: string;
  readonly kind: 'local endpoint' | 'this host' | 'remote pod' | 'other node' | 'outside';
  /** Of a local endpoint. */
  readonly endpoint?: EndpointId;
  /** Of a remote pod: the node that judges it, where known. */
  readonly node?: string;
  /** Without prefix lengths. */
  readonly addresses: readonly string[];
}

/** Nobody has this name here. */
export class UnknownPartyError extends Error {
  override readonly name = 'UnknownPartyError';
  readonly code = 'unknown-party';
}

/** Names and addresses to what they belong to: this node's endpoints, other pods, nodes, the rest of the world. */
export class Directory {
  readonly #store: ObjectStore;
  readonly #nodeName: string;
  readonly #view: PolicyView;

  constructor(store: ObjectStore, nodeName: string, view: PolicyView) {
    this.#store = store;
    this.#nodeName = nodeName;
    this.#view = view;
  }

  /** `host`, an address, `pod` (of namespace default), `namespace/pod`, or an endpoint's id. Throws `UnknownPartyError`. */
  find(text: string): Party {
    if (text === 'host') return this.#node(this.#nodeName);
    const ip = tryParseIp(text);
    return ip === undefined ? this.#byName(text) : this.#byAddress(text);
  }

  #byName(text: string): Party {
    const parts = text.split('/');
    const [namespace, pod] = parts.length === 1 ? ['default', text] : parts;
    for (const id of [text, `k8s/${namespace}/${pod}/eth0`]) {
      const party = this.#local(id);
      if (party !== undefined) return party;
    }
    const remote = this.#remotePods().find(({ name }) => name === `pod ${namespace}/${pod}`);
    if (remote !== undefined) return remote;
    throw new UnknownPartyError(
      `${text} is no endpoint of this node and no pod in the datastore: give namespace/pod, an address, or "host"`,
    );
  }

  #byAddress(address: string): Party {
    for (const [id] of this.#view.endpoints()) {
      const party = this.#local(id);
      if (party?.addresses.includes(address) === true) return { ...party, addresses: [address] };
    }
    const others = [...this.#remotePods(), ...this.#nodes()];
    const owner = others.find(({ addresses }) => addresses.includes(address));
    return owner === undefined
      ? { name: address, kind: 'outside', addresses: [address] }
      : { ...owner, addresses: [address] };
  }

  #local(id: EndpointId): Party | undefined {
    const endpoint = this.#view.endpoint(id);
    if (endpoint === undefined) return undefined;
    const [orchestrator, ...rest] = id.split('/');
    const name = orchestrator === 'k8s' ? `pod ${rest.slice(0, -1).join('/')}` : `endpoint ${id}`;
    const addresses = [...endpoint.ipv4Nets, ...endpoint.ipv6Nets].map(withoutPrefix);
    return { name, kind: 'local endpoint', endpoint: id, addresses };
  }

  /** From the pods' status and from the endpoints that other nodes have published. */
  #remotePods(): Party[] {
    const pods = [...this.#store.of('Pod').all()]
      .map(({ metadata, spec, status }): Party => {
        const node = spec.nodeName === undefined ? {} : { node: spec.nodeName };
        const name = `pod ${metadata.namespace}/${metadata.name}`;
        return { name, kind: 'remote pod', ...node, addresses: status.podIPs.map(({ ip }) => ip) };
      })
      .filter(({ addresses }) => addresses.length > 0);
    const published = [...this.#store.of('WorkloadEndpoint').all()].map(({ metadata, spec }): Party => {
      const name = spec.pod === undefined ? `endpoint ${metadata.name}` : `pod ${metadata.namespace}/${spec.pod}`;
      return { name, kind: 'remote pod', node: spec.node, addresses: spec.ipNetworks.map(withoutPrefix) };
    });
    return [...published, ...pods];
  }

  #nodes(): Party[] {
    return [...this.#store.of('Node').all()].map(({ metadata }) => this.#node(metadata.name));
  }

  #node(name: string): Party {
    const addresses = this.#store.of('Node').get({ name })?.status?.addresses ?? [];
    const internal = addresses.filter(({ type }) => type === 'InternalIP').map(({ address }) => address);
    return {
      name: `node ${name}`,
      kind: name === this.#nodeName ? 'this host' : 'other node',
      node: name,
      addresses: internal,
    };
  }
}

function withoutPrefix(net: string): string {
  return net.split('/')[0] ?? net;
}
