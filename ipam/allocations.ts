/** What blocks say of one node's addresses. */
import { ipAt, parseCidr } from '#api/cidr.ts';
import { allocationsOf, type Allocation, type BlockSpec } from './block.ts';

/** An allocation with its address. */
export interface AddressAllocation extends Allocation {
  readonly address: string;
  /** Its block. */
  readonly cidr: string;
}

/** By handle: its addresses and attributes. */
export type NodeAllocations = ReadonlyMap<
  string,
  { readonly addresses: readonly string[]; readonly attributes: Readonly<Record<string, string>> }
>;

/** The handle that a node's warm reserve is allocated under. */
export function reserveHandle(nodeName: string): string {
  return `tortie-reserve-${nodeName}`;
}

/** Its attributes: not a pod's. */
export function reserveAttributes(nodeName: string): Readonly<Record<string, string>> {
  return { use: 'Reserve', node: nodeName };
}

/** True if a node's agent holds the address in reserve. */
export function isReserveOf({ attributes, handle }: Allocation): boolean {
  const node = attributes['node'];
  return node !== undefined && handle === reserveHandle(node);
}

/** A spec is never changed in place, and is asked for often between two writes. */
const memo = new WeakMap<BlockSpec, readonly AddressAllocation[]>();

/** A block's addresses in use (cooling ones are not). */
export function addressesIn(spec: BlockSpec): readonly AddressAllocation[] {
  let result = memo.get(spec);
  if (result === undefined) {
    result = addressAllocationsOf(spec);
    memo.set(spec, result);
  }
  return result;
}

/** The same, remembered nowhere: for who looks through the blocks of a whole cluster. */
export function addressAllocationsOf(spec: BlockSpec): readonly AddressAllocation[] {
  const cidr = parseCidr(spec.cidr);
  return allocationsOf(spec)
    .filter((allocation) => allocation.releasedAt === undefined)
    .map((allocation) => ({ ...allocation, address: ipAt(cidr, allocation.ordinal).text, cidr: spec.cidr }));
}

/** True for an address of a workload on this node: not the reserve's, and not one of the node's own tunnel devices. */
export function isWorkloadOf(allocation: Allocation, nodeName: string): boolean {
  const { attributes, handle } = allocation;
  return (
    handle !== undefined &&
    handle !== reserveHandle(nodeName) &&
    attributes['node'] === nodeName &&
    attributes['type'] === undefined &&
    attributes['use'] === undefined
  );
}

/** Those allocations that the block does not have (any more): given to others, given anew, or free. */
export function missingIn(
  spec: BlockSpec | undefined,
  had: readonly AddressAllocation[],
): readonly AddressAllocation[] {
  const textOf = ({ address, handle, sequence }: AddressAllocation) => `${address} ${handle} ${String(sequence)}`;
  const present = new Set(spec === undefined || spec.deleted ? [] : addressesIn(spec).map(textOf));
  return had.filter((allocation) => !present.has(textOf(allocation)));
}

/** All workloads' handles on a node, with what they have. */
export function nodeAllocations(blocks: readonly { readonly spec: BlockSpec }[], nodeName: string): NodeAllocations {
  return byHandle(
    blocks.flatMap(({ spec }) => addressesIn(spec)).filter((allocation) => isWorkloadOf(allocation, nodeName)),
  );
}

/** Groups addresses by their handle. */
export function byHandle(
  owned: Iterable<{
    readonly address: string;
    readonly handle?: string | undefined;
    readonly attributes: Readonly<Record<string, string>>;
  }>,
): NodeAllocations {
  const result = new Map<string, { addresses: string[]; attributes: Readonly<Record<string, string>> }>();
  for (const { address, handle, attributes } of owned) {
    if (handle !== undefined) {
      const entry = result.get(handle) ?? { addresses: [], attributes };
      entry.addresses.push(address);
      result.set(handle, entry);
    }
  }
  return result;
}
