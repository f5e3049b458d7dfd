/**
 * The arithmetic of one block: which address is whose, and which comes next. Pure: every function takes a block's `spec` and returns a
 * new one; the caller writes it by compare-and-swap. Addresses are ordinals here (0 is the network address): every address of a block
 * is given, the first and the last too, because pods have /32 and /128 and no broadcast domain.
 */
import { addressCount, parseCidr, type CidrText } from '#api/cidr.ts';
import type { IPAMBlock } from '#api/v3/ipam-block.ts';

export type BlockSpec = IPAMBlock['spec'];
type Attribute = BlockSpec['attributes'][number];
/** A block's or an allocation's sequence number. Calico starts at the nanoseconds of the clock, beyond what a number holds exactly. */
export type Sequence = number | bigint;

/** Whose an address is: its handle, and what else is known of the owner (Calico's `secondary`). */
export interface BlockOwner {
  readonly handle: string;
  readonly attributes: Readonly<Record<string, string>>;
}

/** One address in use. */
export interface Allocation {
  readonly ordinal: number;
  /** Absent in blocks that a broken or very old program wrote. */
  readonly handle: string | undefined;
  readonly attributes: Readonly<Record<string, string>>;
  /** The block's sequence number when it was given; 0 if unknown. */
  readonly sequence: Sequence;
  /** RFC 3339; set while a released address cools down: it is nobody's, but not free yet. */
  readonly releasedAt: string | undefined;
}

/** How long released addresses stay unused: the time now (ms) and ipCooldownSeconds. */
export interface Cooling {
  readonly now: number;
  readonly cooldownSeconds: number;
}

/** Addresses that Calico takes out of a block for Windows; a block with nothing else in it counts as empty. */
const windowsReserved = 'windows-reserved-ipam-handle';

/** A block without allocations. `affinity` is `host:<node>`; `now` in milliseconds. */
export function newBlock(cidr: CidrText, affinity: string, now: number): BlockSpec {
  const size = addressCount(parseCidr(cidr));
  return {
    cidr,
    affinity,
    affinityClaimTime: new Date(now).toISOString(),
    allocations: Array.from({ length: size }, () => null),
    unallocated: Array.from({ length: size }, (_, ordinal) => ordinal),
    attributes: [],
    // Microseconds: a block made again under the same name continues above its predecessor's numbers, and they stay exact in JSON.
    sequenceNumber: now * 1000,
    sequenceNumberForAllocation: {},
    deleted: false,
  };
}

/** All addresses in use or cooling down, in the order of addresses. */
export function allocationsOf(spec: BlockSpec): Allocation[] {
  const result: Allocation[] = [];
  for (let ordinal = 0; ordinal < spec.allocations.length; ordinal++) {
    const allocation = allocationAt(spec, ordinal);
    if (allocation !== undefined) {
      result.push(allocation);
    }
  }
  return result;
}

/** One address's allocation, or undefined when it is free. */
export function allocationAt(spec: BlockSpec, ordinal: number): Allocation | undefined {
  const index = spec.allocations[ordinal];
  if (index === null || index === undefined) {
    return undefined;
  }
  const attribute: Attribute = spec.attributes[index] ?? {};
  return {
    ordinal,
    handle: attribute.handle_id,
    attributes: attribute.secondary ?? {},
    sequence: spec.sequenceNumberForAllocation[String(ordinal)] ?? 0,
    releasedAt: attribute.releasedAt,
  };
}

/** True if no address is in use or cooling down. */
export function isEmpty(spec: BlockSpec): boolean {
  return allocationsOf(spec).every((allocation) => allocation.handle?.toLowerCase() === windowsReserved);
}

/** How many free addresses `allowed` lets through. */
export function freeCount(spec: BlockSpec, allowed: (ordinal: number) => boolean): number {
  return spec.unallocated.reduce((count, ordinal) => (allowed(ordinal) ? count + 1 : count), 0);
}

/** Gives up to `count` addresses to the owner, from the head of the queue, leaving out (in place) what `allowed` refuses. */
export function takeFree(
  spec: BlockSpec,
  owner: BlockOwner,
  count: number,
  allowed: (ordinal: number) => boolean,
): { readonly spec: BlockSpec; readonly ordinals: readonly number[] } {
  const ordinals: number[] = [];
  for (const ordinal of spec.unallocated) {
    if (ordinals.length >= count) {
      break;
    }
    if (allowed(ordinal)) {
      ordinals.push(ordinal);
    }
  }
  return ordinals.length === 0 ? { spec, ordinals } : { spec: assign(spec, ordinals, owner), ordinals };
}

/** Gives exactly this address to the owner; undefined if it is in use or cooling down. */
export function takeExact(spec: BlockSpec, ordinal: number, owner: BlockOwner): BlockSpec | undefined {
  return spec.allocations[ordinal] === null ? assign(spec, [ordinal], owner) : undefined;
}

/**
 * Turns an allocation over to another owner. It stays the same allocation: its sequence number is kept, so that a release recorded
 * before the hand-over was written still names it.
 */
export function handOver(spec: BlockSpec, ordinal: number, owner: BlockOwner): BlockSpec {
  const { attributes, index } = withAttribute(spec.attributes, {
    handle_id: owner.handle,
    secondary: { ...owner.attributes },
  });
  const allocations = [...spec.allocations];
  allocations[ordinal] = index;
  return compact({ ...spec, allocations, attributes, sequenceNumber: nextSequence(spec.sequenceNumber) });
}

/**
 * Releases allocations: they go to the tail of the queue, in the given order, or cool down first. What is free or cooling already is
 * left as it is.
 */
export function releaseOrdinals(spec: BlockSpec, ordinals: readonly number[], cooling: Cooling): BlockSpec {
  const released = [...new Set(ordinals)].filter((ordinal) => {
    const allocation = allocationAt(spec, ordinal);
    return allocation !== undefined && allocation.releasedAt === undefined;
  });
  if (released.length === 0) {
    return spec;
  }
  if (cooling.cooldownSeconds <= 0) {
    return free(spec, released);
  }
  const { attributes, index } = withAttribute(spec.attributes, { releasedAt: new Date(cooling.now).toISOString() });
  const allocations = [...spec.allocations];
  for (const ordinal of released) {
    allocations[ordinal] = index;
  }
  return compact({ ...spec, allocations, attributes, sequenceNumber: nextSequence(spec.sequenceNumber) });
}

/** Moves addresses that have cooled down to the tail of the queue, those released first coming first. */
export function collectCooled(spec: BlockSpec, cooling: Cooling): BlockSpec {
  if (!spec.attributes.some((attribute) => attribute.releasedAt !== undefined)) {
    return spec;
  }
  const since = (allocation: Allocation) => Date.parse(allocation.releasedAt ?? '');
  const due = allocationsOf(spec).filter(
    // A time that can't be read must not keep an address for ever.
    (allocation) =>
      allocation.releasedAt !== undefined && !(since(allocation) + cooling.cooldownSeconds * 1000 > cooling.now),
  );
  due.sort((a, b) => since(a) - since(b));
  return due.length === 0
    ? spec
    : free(
        spec,
        due.map((allocation) => allocation.ordinal),
      );
}

/** The same block with a higher sequence number: writing it makes every write under way that began with the old one fail. */
export function touch(spec: BlockSpec): BlockSpec {
  return { ...spec, sequenceNumber: nextSequence(spec.sequenceNumber) };
}

/** The number after this one, exact also beyond 2^53. */
function nextSequence(sequence: Sequence): Sequence {
  return typeof sequence === 'bigint' || sequence >= Number.MAX_SAFE_INTEGER ? BigInt(sequence) + 1n : sequence + 1;
}

function assign(spec: BlockSpec, ordinals: readonly number[], owner: BlockOwner): BlockSpec {
  const { attributes, index } = withAttribute(spec.attributes, {
    handle_id: owner.handle,
    secondary: { ...owner.attributes },
  });
  const taken = new Set(ordinals);
  const allocations = [...spec.allocations];
  const sequences: Record<string, Sequence> = { ...spec.sequenceNumberForAllocation };
  const sequenceNumber = nextSequence(spec.sequenceNumber);
  for (const ordinal of ordinals) {
    allocations[ordinal] = index;
    sequences[String(ordinal)] = sequenceNumber;
  }
  return {
    ...spec,
    allocations,
    attributes,
    unallocated: spec.unallocated.filter((ordinal) => !taken.has(ordinal)),
    sequenceNumber,
    sequenceNumberForAllocation: sequences,
  };
}

function free(spec: BlockSpec, ordinals: readonly number[]): BlockSpec {
  const allocations = [...spec.allocations];
  const sequences: Record<string, Sequence> = { ...spec.sequenceNumberForAllocation };
  for (const ordinal of ordinals) {
    allocations[ordinal] = null;
    delete sequences[String(ordinal)];
  }
  return compact({
    ...spec,
    allocations,
    unallocated: [...spec.unallocated, ...ordinals],
    sequenceNumber: nextSequence(spec.sequenceNumber),
    sequenceNumberForAllocation: sequences,
  });
}

/** The index of an equal attribute, which is added if there is none. */
function withAttribute(
  attributes: readonly Attribute[],
  wanted: Attribute,
): { attributes: readonly Attribute[]; index: number } {
  const index = attributes.findIndex((attribute) => sameAttribute(attribute, wanted));
  return index >= 0 ? { attributes, index } : { attributes: [...attributes, wanted], index: attributes.length };
}

function sameAttribute(a: Attribute, b: Attribute): boolean {
  return (
    a.handle_id === b.handle_id &&
    a.releasedAt === b.releasedAt &&
    sameRecord(a.secondary ?? {}, b.secondary ?? {}) &&
    sameRecord(a.alternate ?? {}, b.alternate ?? {})
  );
}

function sameRecord(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}

/** Drops attributes that no allocation refers to, and renumbers the rest. */
function compact(spec: BlockSpec): BlockSpec {
  const used = new Set(spec.allocations);
  const renumbered = new Map<number, number>();
  const attributes = spec.attributes.filter((_, index) => {
    if (!used.has(index)) {
      return false;
    }
    renumbered.set(index, renumbered.size);
    return true;
  });
  if (attributes.length === spec.attributes.length) {
    return spec;
  }
  const allocations = spec.allocations.map((index) => (index === null ? null : (renumbered.get(index) ?? null)));
  return { ...spec, allocations, attributes };
}
