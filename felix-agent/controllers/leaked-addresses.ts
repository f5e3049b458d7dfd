import type { Clock } from '#api/clock.ts';
import type { Pod } from '#api/core/pod.ts';
import type { LocalEndpoint } from '#cni/deps.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { hostAffinity } from '#api/names.ts';
import { addressAllocationsOf, isWorkloadOf } from '#ipam/allocations.ts';
import type { IPAMBlock } from '#ipam/block-store.ts';
import type { Owned } from '#ipam/ledger.ts';
import type { NodeIpam } from '#ipam/node-ipam.ts';
import type { Log } from '../log.ts';
import { localHandle } from './kernel-endpoints.ts';
import { mayUse } from './pod-use.ts';

/**
 * So many looks in a row, with the time of grace between the first and the last: a clock that jumps, or a process that stood still, makes time pass in which
 * a request under way got no further.
 */
const looksNeeded = 3;
/** So many handles are confirmed and released in one scan; the others wait for the next. */
const handlesAtOnce = 50;

/** This node's endpoints, and whether they have their device. */
export interface LocalEndpoints {
  list(): readonly LocalEndpoint[];
  /** Forgets one whose container is gone, as a DEL would. */
  remove(namespace: string, name: string, containerId: string): Promise<void>;
  /** False if the container's device is gone from the kernel: then so is the container. */
  hasDevice(endpoint: LocalEndpoint): boolean;
  /** All addresses that a route of this node leads to a local device for. */
  routed(): Promise<ReadonlySet<string>>;
}

/** What `LeakedAddresses` works with. */
export interface LeakedAddressesDeps {
  readonly nodeName: string;
  readonly datastore: Datastore;
  readonly clock: Clock;
  readonly log: Log;
  readonly ipam: Pick<NodeIpam, 'owned' | 'isBusy' | 'releaseLeaked' | 'spareBlocks' | 'releaseSpare'>;
  readonly endpoints: LocalEndpoints;
  readonly pod: (namespace: string, name: string) => Pod | undefined;
  /** All blocks of the cluster, moments late. */
  readonly blocks: () => Iterable<IPAMBlock>;
  /** How long an address must look unused before it is taken for leaked, in ms. */
  readonly graceMs: number;
  /** Told of addresses that were released. */
  readonly onReleased: (addresses: readonly string[]) => void;
}

/** A handle whose addresses nobody seems to use. */
interface Candidate {
  readonly since: number;
  readonly looks: number;
  /** Which allocations: should they change, the time begins anew. */
  readonly text: string;
}
const never: Candidate = { since: Infinity, looks: 0, text: '' };

/** A handle's allocations on this node, with what is known of the owner. */
interface Holding {
  readonly handle: string;
  readonly allocations: readonly Owned[];
  readonly addresses: readonly string[];
  readonly pod: { readonly namespace: string; readonly name: string } | undefined;
}

/**
 * Finds this node's addresses that no container uses any more (it died without a DEL, or a crash left them), and gives them back after a time
 * of grace, all of a handle together. Each agent does it for its own node, because nobody else can tell: an address stays with a container as
 * long as its device is there, or a route leads to it, or the Pod that it was given to is on this node and may have it.
 */
export class LeakedAddresses {
  readonly #deps: LeakedAddressesDeps;
  #candidates = new Map<string, Candidate & { readonly addresses: readonly string[] }>();
  #spare: readonly string[] = [];

  constructor(deps: LeakedAddressesDeps) {
    this.#deps = deps;
  }

  /** Addresses that look unused at present. */
  candidates(): readonly string[] {
    return [...this.#candidates.values()].flatMap(({ addresses }) => addresses);
  }

  /** One look. Throws when the datastore can't be read; what was observed before is kept. */
  async scan(): Promise<void> {
    const { clock, graceMs } = this.#deps;
    const now = clock.now();
    const suspects = this.#holdings().filter((holding) => !this.#isInUse(holding));
    const routed = suspects.length === 0 ? new Set<string>() : await this.#deps.endpoints.routed();
    const unused = suspects.filter((holding) => !this.#isRouted(holding, routed));
    const before = this.#candidates;
    this.#candidates = new Map(
      unused.map(({ handle, allocations, addresses }) => {
        const text = allocations.map(({ address, sequence }) => `${address}@${sequence}`).join(' ');
        const known = before.get(handle);
        const { since, looks } = known?.text === text ? known : { since: now, looks: 0 };
        // A clock that was set back must not keep an address for as long as that.
        return [handle, { since: Math.min(since, now), looks: looks + 1, text, addresses }];
      }),
    );
    const isDue = ({ since, looks }: Candidate) => looks >= looksNeeded && now - since >= graceMs;
    const due = unused.filter(({ handle }) => isDue(this.#candidates.get(handle) ?? never));
    for (const holding of due.slice(0, handlesAtOnce)) {
      await this.#confirmAndRelease(holding);
    }
    await this.#giveUpSpare();
  }

  /** What this node's workloads have, by handle: as its IPAM knows it, and in other nodes' blocks what it doesn't. */
  #holdings(): readonly Holding[] {
    const { ipam, nodeName, blocks } = this.#deps;
    const byAddress = new Map<string, Owned>();
    for (const { spec } of blocks()) {
      const isBorrowed = spec.affinity !== hostAffinity(nodeName) && !spec.deleted;
      if (isBorrowed && spec.attributes.some(({ secondary }) => secondary?.['node'] === nodeName)) {
        for (const allocation of addressAllocationsOf(spec)) {
          const { handle, sequence } = allocation;
          if (handle !== undefined && isWorkloadOf(allocation, nodeName)) {
            byAddress.set(allocation.address, { ...allocation, handle, sequence: String(sequence) });
          }
        }
      }
    }
    for (const owned of ipam.owned()) {
      byAddress.set(owned.address, owned);
    }
    const byHandle = new Map<string, Owned[]>();
    for (const allocation of byAddress.values()) {
      byHandle.set(allocation.handle, [...(byHandle.get(allocation.handle) ?? []), allocation]);
    }
    return [...byHandle].map(([handle, allocations]) => {
      const { namespace, pod } = (allocations[0]?.attributes ?? {}) as Partial<Record<string, string>>;
      return {
        handle,
        allocations,
        addresses: allocations.map(({ address }) => address),
        pod: namespace === undefined || pod === undefined ? undefined : { namespace, name: pod },
      };
    });
  }

  /** As far as memory and kernel can tell. */
  #isInUse({ handle, addresses, pod }: Holding): boolean {
    const { ipam, nodeName } = this.#deps;
    const endpoint = this.#endpointOf(handle);
    return (
      ipam.isBusy(handle) ||
      (endpoint !== undefined && this.#deps.endpoints.hasDevice(endpoint)) ||
      (pod !== undefined && mayUse(this.#deps.pod(pod.namespace, pod.name), nodeName, addresses))
    );
  }

  #isRouted({ addresses }: Holding, routed: ReadonlySet<string>): boolean {
    return addresses.some((address) => routed.has(address));
  }

  #endpointOf(handle: string): LocalEndpoint | undefined {
    return this.#deps.endpoints.list().find((endpoint) => localHandle(endpoint) === handle);
  }

  /** The API server has the last word on the Pod; the node on everything else, after that answer. */
  async #confirmAndRelease(holding: Holding): Promise<void> {
    const { datastore, ipam, endpoints, nodeName, log, onReleased } = this.#deps;
    const { handle, allocations, addresses, pod } = holding;
    const current = pod === undefined ? undefined : await datastore.get('Pod', pod);
    if (mayUse(current, nodeName, addresses)) return;
    if (this.#isInUse(holding) || this.#isRouted(holding, await endpoints.routed())) return;
    const endpoint = this.#endpointOf(handle);
    if (endpoint !== undefined) {
      const { metadata, spec } = endpoint.endpoint;
      await endpoints.remove(metadata.namespace ?? '', metadata.name, spec.containerID ?? '');
    }
    const released = await ipam.releaseLeaked(handle, allocations);
    this.#candidates.delete(handle);
    log.warn({ handle, pod, released }, 'no container has used these addresses for the time of grace: released');
    onReleased(released);
  }

  /** Blocks without workloads at two looks. */
  async #giveUpSpare(): Promise<void> {
    const { ipam, log } = this.#deps;
    const spare = ipam.spareBlocks();
    const before = this.#spare;
    this.#spare = spare;
    for (const cidr of spare.filter((one) => before.includes(one))) {
      if (await ipam.releaseSpare(cidr)) log.info({ block: cidr }, 'gave up a block that no pod of this node needs');
    }
  }
}
