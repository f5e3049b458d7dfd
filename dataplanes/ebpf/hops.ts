import { type Cidr, containsCidr, tryParseNet } from '#api/cidr.ts';
import type { MappedArray } from '#native/bpf.ts';
import type { CidrText } from '../messages.ts';
import type { AfterFlush } from './after-flush.ts';
import { flowConstants, Hop, HopKind } from './bpf-types.gen.ts';
import { IdPool } from './classifier/id-pool.ts';
import type { SlotAddresses } from './slot-addresses.ts';

/** A way to addresses. */
export type HopWish =
  /** `isShaped`: by the stack and the device's qdiscs. */
  | { readonly kind: 'pod'; readonly ifindex: number; readonly slot: number; readonly isShaped?: boolean }
  | { readonly kind: 'host' }
  /** By the node's stack: of a pool, or another node's block. */
  | { readonly kind: 'pool' };

/** Which of several wishes for one network counts: a pod that is here, then the node itself. */
const rank = { pod: 0, host: 1, pool: 2 } as const satisfies Record<HopWish['kind'], number>;

/** What a network's hop says besides the way. */
interface HopTraits {
  /** A pool that masquerades has it. */
  readonly isMasqueraded: boolean;
}

interface HopRecord {
  readonly number: number;
  readonly key: string;
  readonly wish: HopWish;
  /** Networks whose hop it is. */
  users: number;
}

/**
 * The next hops of addresses, with their numbers. Records are never changed: equal ones are stored once, another one gets another number, and a
 * number is free a grace period after the flush by which no address refers to it any more.
 */
export class Hops {
  readonly #records: Pick<MappedArray, 'length' | 'value'>;
  readonly #setHop: (net: CidrText, hop: number) => void;
  readonly #addresses: Pick<SlotAddresses, 'move'>;
  readonly #afterFlush: AfterFlush;
  readonly #numbers: IdPool;
  /** By network and owner, in the order in which they were said. */
  readonly #wishes = new Map<CidrText, Map<string, HopWish>>();
  readonly #inForce = new Map<CidrText, HopRecord>();
  readonly #byKey = new Map<string, HopRecord>();
  #masqueraded: readonly Cidr[] = [];

  /** `setHop` is the classifier's; `addresses` is told which slot is the way to a network, at once. */
  constructor(
    records: Pick<MappedArray, 'length' | 'value'>,
    setHop: (net: CidrText, hop: number) => void,
    addresses: Pick<SlotAddresses, 'move'>,
    afterFlush: AfterFlush,
  ) {
    this.#records = records;
    this.#setHop = setHop;
    this.#addresses = addresses;
    this.#afterFlush = afterFlush;
    this.#numbers = new IdPool(1, records.length);
  }

  /**
   * What this owner wishes for packets to the network (undefined: nothing any more); in force with the classifier's next flush. Of wishes of one
   * kind the last counts. When there is no number left the network goes by the node's stack, where packets find the same way more slowly.
   */
  set(owner: string, net: CidrText, wish: HopWish | undefined): void {
    let wishes = this.#wishes.get(net);
    if (wish === undefined) wishes?.delete(owner);
    else {
      if (wishes === undefined) this.#wishes.set(net, (wishes = new Map()));
      // Said again it stands where it stood: an endpoint that changes doesn't take an address from its successor.
      wishes.set(owner, wish);
    }
    if (wishes?.size === 0) this.#wishes.delete(net);
    this.#point(net, best(wishes?.values() ?? []));
  }

  /** What leaves the pools from these networks is masqueraded; in force with the classifier's next flush. */
  setMasqueraded(nets: readonly CidrText[]): void {
    this.#masqueraded = nets.map(tryParseNet).filter((net) => net !== undefined);
    for (const [net, wishes] of this.#wishes) this.#point(net, best(wishes.values()));
  }

  /** Numbers that aren't free. */
  get used(): number {
    return this.#numbers.used;
  }

  /** Numbers that there are. */
  get size(): number {
    return this.#records.length - 1;
  }

  #point(net: CidrText, wish: HopWish | undefined): void {
    const before = this.#inForce.get(net);
    const traits = { isMasqueraded: wish !== undefined && this.#isMasqueraded(net) };
    if (before?.key === (wish === undefined ? undefined : keyOf(wish, traits))) return;
    const after = wish === undefined ? undefined : this.#record(wish, traits);
    this.#addresses.move(net, slotOf(before?.wish), slotOf(after?.wish));
    this.#setHop(net, after?.number ?? 0);
    if (after === undefined) this.#inForce.delete(net);
    else this.#inForce.set(net, after);
    if (before !== undefined) this.#leave(before);
  }

  #isMasqueraded(text: CidrText): boolean {
    if (this.#masqueraded.length === 0) return false;
    const net = tryParseNet(text);
    return net !== undefined && this.#masqueraded.some((pool) => containsCidr(pool, net));
  }

  #record(wish: HopWish, traits: HopTraits): HopRecord | undefined {
    const key = keyOf(wish, traits);
    let record = this.#byKey.get(key);
    if (record === undefined) {
      const number = this.#numbers.take();
      if (number === undefined) return undefined;
      this.#records.value(number).set(Hop.encode(encoded(wish, traits)));
      record = { number, key, wish, users: 0 };
      this.#byKey.set(key, record);
    }
    record.users++;
    return record;
  }

  #leave(record: HopRecord): void {
    record.users--;
    if (record.users > 0) return;
    this.#byKey.delete(record.key);
    this.#afterFlush.add(() => this.#numbers.give(record.number));
  }
}

function best(wishes: Iterable<HopWish>): HopWish | undefined {
  let first: HopWish | undefined;
  for (const wish of wishes) if (first === undefined || rank[wish.kind] <= rank[first.kind]) first = wish;
  return first;
}

const slotOf = (wish: HopWish | undefined): number | undefined => (wish?.kind === 'pod' ? wish.slot : undefined);
const keyOf = (wish: HopWish, { isMasqueraded }: HopTraits): string =>
  [
    ...(wish.kind === 'pod'
      ? ['pod', wish.ifindex, wish.slot, ...(wish.isShaped === true ? ['shaped'] : [])]
      : [wish.kind]),
    ...(isMasqueraded ? ['masqueraded'] : []),
  ].join(' ');

function encoded(wish: HopWish, { isMasqueraded }: HopTraits): Hop {
  const flags = isMasqueraded ? flowConstants.hopNatOutgoing : 0;
  switch (wish.kind) {
    case 'pod':
      return {
        kind: HopKind.pod,
        flags: flags | (wish.isShaped === true ? flowConstants.hopShaped : 0),
        ifindex: wish.ifindex,
        slot: wish.slot,
      };
    case 'host':
      return { kind: HopKind.host, flags, ifindex: 0, slot: 0 };
    case 'pool':
      return { kind: HopKind.stack, flags: flags | flowConstants.hopInPool, ifindex: 0, slot: 0 };
  }
}
