/** What `tortie ipam show` and `tortie ipam check` print: gathered from one listing of each kind. */
import { addressCount, containsCidr, parseCidr, withoutPrefix } from '#api/cidr.ts';
import type { KindMap } from '#api/kinds.ts';
import { hostOfAffinity } from '#api/names.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { addressesIn, type AddressAllocation } from './allocations.ts';
import { allocationsOf } from './block.ts';

/** One block's use. */
export interface BlockUsage {
  readonly cidr: string;
  /** The node it belongs to; undefined for none and for virtual owners. */
  readonly node: string | undefined;
  readonly size: number;
  /** Given to workloads and other users. */
  readonly inUse: number;
  /** Held ready by a node's warm reserve. */
  readonly reserved: number;
  /** Released, not given again before ipCooldownSeconds are over. */
  readonly cooling: number;
  readonly free: number;
}

/** One pool's use. */
export interface PoolUsage {
  readonly name: string;
  readonly cidr: string;
  readonly disabled: boolean;
  /** Number of addresses; a number, because tools read it: exact up to 2^53, about right beyond. */
  readonly size: number;
  readonly inUse: number;
  readonly blocks: readonly BlockUsage[];
}

/** An address used by a node that does not own its block. */
export interface BorrowedAddress {
  readonly address: string;
  readonly block: string;
  readonly blockNode: string | undefined;
  readonly node: string;
  readonly handle: string | undefined;
}

/** Data for `ipam show`. */
export interface IpamUsage {
  readonly pools: readonly PoolUsage[];
  /** Blocks that lie in no pool: what is left of a deleted one. */
  readonly strayBlocks: readonly BlockUsage[];
  readonly borrowed: readonly BorrowedAddress[];
}

/** Gathers pools, blocks and who borrows. Throws `DatastoreError`. */
export async function ipamUsage(datastore: Datastore): Promise<IpamUsage> {
  const [pools, blocks] = await Promise.all([datastore.list('IPPool'), liveBlocks(datastore)]);
  const usages = blocks.map((block) => blockUsage(block));
  const inPool = (usage: BlockUsage, pool: KindMap['IPPool']) =>
    containsCidr(parseCidr(pool.spec.cidr), parseCidr(usage.cidr));
  return {
    pools: pools.items.map((pool) => {
      const own = usages.filter((usage) => inPool(usage, pool));
      return {
        name: pool.metadata.name,
        cidr: pool.spec.cidr,
        disabled: pool.spec.disabled,
        size: addressCount(parseCidr(pool.spec.cidr)),
        inUse: own.reduce((sum, usage) => sum + usage.inUse, 0),
        blocks: own,
      };
    }),
    strayBlocks: usages.filter((usage) => !pools.items.some((pool) => inPool(usage, pool))),
    borrowed: blocks.flatMap(borrowedFrom),
  };
}

/** What `ipam check` can find; each is safe to leave, except `duplicate`, which breaks both pods. */
export type FindingKind =
  | 'handle-without-allocation'
  | 'handle-count-wrong'
  | 'allocation-without-handle'
  | 'block-without-affinity'
  | 'affinity-without-block'
  | 'allocation-without-node'
  | 'allocation-without-pod'
  | 'duplicate'
  | 'address-outside-ipam';

/** One inconsistency: what is wrong with which object, and what to do. */
export interface Finding {
  readonly kind: FindingKind;
  /** Address, block or handle. */
  readonly subject: string;
  readonly message: string;
}

/** Compares blocks, affinities, handles, nodes, pods and endpoints with each other. Throws `DatastoreError`. */
export async function checkIpam(datastore: Datastore): Promise<readonly Finding[]> {
  const [blocks, affinities, handles, nodes, pods, endpoints] = await Promise.all([
    liveBlocks(datastore),
    datastore.list('BlockAffinity'),
    datastore.list('IPAMHandle'),
    datastore.list('Node'),
    datastore.list('Pod'),
    datastore.list('WorkloadEndpoint'),
  ]);
  const allocations = blocks.flatMap(({ spec }) => addressesIn(spec));
  return [
    ...checkHandles(handles.items, allocations),
    ...checkAffinities(blocks, affinities.items),
    ...checkOwners(allocations, new Set(nodes.items.map((node) => node.metadata.name)), pods.items),
    ...checkUsers(allocations, blocks, pods.items, endpoints.items),
  ];
}

async function liveBlocks(datastore: Datastore): Promise<readonly KindMap['IPAMBlock'][]> {
  return (await datastore.list('IPAMBlock')).items.filter((block) => !block.spec.deleted);
}

function blockUsage({ spec }: KindMap['IPAMBlock']): BlockUsage {
  const allocations = allocationsOf(spec);
  const cooling = allocations.filter(({ releasedAt }) => releasedAt !== undefined).length;
  const reserved = allocations.filter(isReserved).length;
  return {
    cidr: spec.cidr,
    node: hostOfAffinity(spec.affinity),
    size: spec.allocations.length,
    inUse: allocations.length - cooling - reserved,
    reserved,
    cooling,
    free: spec.unallocated.length,
  };
}

function isReserved({ attributes }: { readonly attributes: Readonly<Record<string, string>> }): boolean {
  return attributes['use'] === 'Reserve';
}

function borrowedFrom({ spec }: KindMap['IPAMBlock']): readonly BorrowedAddress[] {
  const blockNode = hostOfAffinity(spec.affinity);
  return addressesIn(spec).flatMap(({ address, attributes, handle }) => {
    const node = attributes['node'];
    return node === undefined || node === blockNode ? [] : [{ address, block: spec.cidr, blockNode, node, handle }];
  });
}

function checkHandles(handles: readonly KindMap['IPAMHandle'][], allocations: readonly AddressAllocation[]): Finding[] {
  const counted = new Map<string, number>();
  for (const { spec } of handles.filter((handle) => !handle.spec.deleted)) {
    for (const [cidr, count] of Object.entries(spec.block)) {
      counted.set(`${spec.handleID} ${cidr}`, count);
    }
  }
  const found = new Map<string, number>();
  for (const { handle, cidr } of allocations) {
    if (handle !== undefined) {
      found.set(`${handle} ${cidr}`, (found.get(`${handle} ${cidr}`) ?? 0) + 1);
    }
  }
  const findings: Finding[] = [];
  for (const key of new Set([...counted.keys(), ...found.keys()])) {
    const [handle = '', cidr = ''] = key.split(' ');
    const [count, actual] = [counted.get(key), found.get(key) ?? 0];
    if (count === undefined) {
      const message = `${actual} address(es) of ${cidr} belong to handle ${handle}, but no IPAMHandle says so: DEL can't find them, GC can`;
      findings.push({ kind: 'allocation-without-handle', subject: handle, message });
    } else if (actual === 0) {
      const message = `IPAMHandle ${handle} counts ${count} in ${cidr}, which gives it none: left by a crash; tortie ipam release ${handle}`;
      findings.push({ kind: 'handle-without-allocation', subject: handle, message });
    } else if (actual !== count) {
      const message = `IPAMHandle ${handle} counts ${count} in ${cidr}, which gives it ${actual}: corrected when it is released`;
      findings.push({ kind: 'handle-count-wrong', subject: handle, message });
    }
  }
  return findings;
}

function checkAffinities(
  blocks: readonly KindMap['IPAMBlock'][],
  affinities: readonly KindMap['BlockAffinity'][],
): Finding[] {
  const isOf = (block: KindMap['IPAMBlock'], affinity: KindMap['BlockAffinity']) =>
    affinity.spec.cidr === block.spec.cidr && block.spec.affinity === `${affinity.spec.type}:${affinity.spec.node}`;
  const live = affinities.filter(({ spec }) => !spec.deleted);
  return [
    ...blocks
      .filter((block) => !live.some((affinity) => isOf(block, affinity) && affinity.spec.state === 'confirmed'))
      .map(({ spec }): Finding => {
        const message = `IPAMBlock ${spec.cidr} (${spec.affinity ?? 'nobody'}) has no confirmed BlockAffinity: other nodes have no route to it; its node's agent repairs that when it starts`;
        return { kind: 'block-without-affinity', subject: spec.cidr, message };
      }),
    ...live
      .filter((affinity) => !blocks.some((block) => isOf(block, affinity)))
      .map(({ spec, metadata }): Finding => {
        const message = `BlockAffinity ${metadata.name} (${spec.state}) has no IPAMBlock of its own: its node's agent repairs that when it starts`;
        return { kind: 'affinity-without-block', subject: spec.cidr, message };
      }),
  ];
}

function checkOwners(
  allocations: readonly AddressAllocation[],
  nodes: ReadonlySet<string>,
  pods: readonly KindMap['Pod'][],
): Finding[] {
  const podNames = new Set(pods.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`));
  return allocations.flatMap(({ address, attributes, handle }): Finding[] => {
    const { node, namespace, pod } = attributes as Partial<Record<string, string>>;
    if (node !== undefined && !nodes.has(node)) {
      const message = `${address} belongs to handle ${handle} on node ${node}, which does not exist; tortie ipam release ${address}`;
      return [{ kind: 'allocation-without-node', subject: address, message }];
    }
    if (pod !== undefined && namespace !== undefined && !podNames.has(`${namespace}/${pod}`)) {
      const message = `${address} belongs to handle ${handle} of pod ${namespace}/${pod}, which does not exist; if its sandbox is gone: tortie ipam release ${address}`;
      return [{ kind: 'allocation-without-pod', subject: address, message }];
    }
    return [];
  });
}

/** By address: the pods and endpoints that use it, as messages name them. Finished and host-networked pods use none. */
export function addressUsers(
  pods: readonly KindMap['Pod'][],
  endpoints: readonly KindMap['WorkloadEndpoint'][],
): ReadonlyMap<string, readonly string[]> {
  const users = new Map<string, string[]>();
  const addUser = (address: string, user: string): void => {
    users.set(address, [...(users.get(address) ?? []), user]);
  };
  for (const { metadata, spec, status } of pods) {
    if (!spec.hostNetwork && status.phase !== 'Succeeded' && status.phase !== 'Failed') {
      for (const { ip } of status.podIPs) {
        addUser(ip, `Pod ${metadata.namespace}/${metadata.name}`);
      }
    }
  }
  for (const { metadata, spec } of endpoints) {
    for (const network of spec.ipNetworks) {
      const address = withoutPrefix(network);
      // A Pod's own endpoint is no second user.
      if (users.get(address)?.includes(`Pod ${metadata.namespace}/${spec.pod}`) === true) continue;
      addUser(address, `WorkloadEndpoint ${metadata.namespace}/${metadata.name}`);
    }
  }
  return users;
}

function checkUsers(
  allocations: readonly AddressAllocation[],
  blocks: readonly KindMap['IPAMBlock'][],
  pods: readonly KindMap['Pod'][],
  endpoints: readonly KindMap['WorkloadEndpoint'][],
): Finding[] {
  const users = addressUsers(pods, endpoints);
  const inUse = new Set(allocations.filter((allocation) => !isReserved(allocation)).map(({ address }) => address));
  const ranges = blocks.map(({ spec }) => parseCidr(spec.cidr));
  return [...users].flatMap(([address, of]): Finding[] => {
    const findings: Finding[] = [];
    if (of.length > 1) {
      findings.push({
        kind: 'duplicate',
        subject: address,
        message: `${address} is used by ${of.join(' and ')}; delete one of them`,
      });
    }
    const host = parseCidr(`${address}/${address.includes(':') ? 128 : 32}`);
    if (!inUse.has(address) && ranges.some((range) => containsCidr(range, host))) {
      findings.push({
        kind: 'address-outside-ipam',
        subject: address,
        message: `${address} of ${of.join(' and ')} is not allocated in its block and may be given again; restart the pod`,
      });
    }
    return findings;
  });
}
