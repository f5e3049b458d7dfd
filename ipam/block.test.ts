import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { addressCount, parseCidr } from '#api/cidr.ts';
import {
  allocationAt,
  allocationsOf,
  collectCooled,
  freeCount,
  handOver,
  isEmpty,
  newBlock,
  releaseOrdinals,
  takeExact,
  takeFree,
  type BlockSpec,
} from './block.ts';

const now = Date.parse('2026-11-21T00:00:00Z');
const everything = (): boolean => true;
const noCooling = { now, cooldownSeconds: 0 };

function owner(handle: string): { handle: string; attributes: Record<string, string> } {
  return { handle, attributes: { pod: `pod-of-${handle}` } };
}

describe('a new block', () => {
  test.each([
    '10.65.0.0/20',
    '10.65.0.0/26',
    '10.65.0.0/30',
    '10.65.0.7/32',
    'fd00::/116',
    'fd00::/122',
    'fd00::7/128',
  ])('%s gives every address, the first and the last too, in order', (cidr) => {
    const size = addressCount(parseCidr(cidr));
    const { ordinals, spec } = takeFree(newBlock(cidr, 'host:n', now), owner('a'), size + 1, everything);
    expect(ordinals).toEqual(Array.from({ length: size }, (_, ordinal) => ordinal));
    expect(spec.unallocated).toEqual([]);
    expect(spec.attributes).toHaveLength(1);
  });

  test('made again later has higher sequence numbers than its predecessor ever had', () => {
    let old = newBlock('10.65.0.0/30', 'host:n', now);
    for (let i = 0; i < 400; i++) {
      old = releaseOrdinals(takeExact(old, 0, owner('a')) ?? old, [0], noCooling);
    }
    expect(Number(newBlock('10.65.0.0/30', 'host:n', now + 1).sequenceNumber)).toBeGreaterThan(
      Number(old.sequenceNumber),
    );
  });
});

test('taking leaves reserved addresses at their place in the queue', () => {
  const { spec, ordinals } = takeFree(
    newBlock('10.65.0.0/29', 'host:n', now),
    owner('a'),
    2,
    (ordinal) => ordinal % 2 === 1,
  );
  expect(ordinals).toEqual([1, 3]);
  expect(spec.unallocated).toEqual([0, 2, 4, 5, 6, 7]);
  expect(freeCount(spec, (ordinal) => ordinal > 5)).toBe(2);
});

test('an exact address is refused while it is in use or cools down, or lies outside', () => {
  const spec = takeExact(newBlock('10.65.0.0/30', 'host:n', now), 2, owner('a'));
  expect(spec && takeExact(spec, 2, owner('b'))).toBeUndefined();
  const cooling = releaseOrdinals(spec as BlockSpec, [2], { now, cooldownSeconds: 60 });
  expect(takeExact(cooling, 2, owner('b'))).toBeUndefined();
  expect(takeExact(cooling, 4, owner('b'))).toBeUndefined();
});

test('a hand-over keeps the sequence number, and the old owner disappears with its last address', () => {
  const { spec } = takeFree(newBlock('10.65.0.0/30', 'host:n', now), owner('reserve'), 2, everything);
  const once = handOver(spec, 0, owner('a'));
  expect(allocationAt(once, 0)).toMatchObject({ handle: 'a', sequence: allocationAt(spec, 0)?.sequence });
  expect(once.sequenceNumber).toBeGreaterThan(spec.sequenceNumber);
  expect(handOver(once, 1, owner('a')).attributes.map((attribute) => attribute.handle_id)).toEqual(['a']);
});

describe('an address that cools down', () => {
  const taken = takeFree(newBlock('10.65.0.0/30', 'host:n', now), owner('a'), 3, everything).spec;
  const first = releaseOrdinals(taken, [1], { now, cooldownSeconds: 60 });
  const both = releaseOrdinals(first, [0], { now: now + 10_000, cooldownSeconds: 60 });

  test('is neither free nor in use, and the block is not empty', () => {
    expect(both.unallocated).toEqual([3]);
    expect(allocationAt(both, 0)).toMatchObject({ handle: undefined, releasedAt: '2026-11-21T00:00:10.000Z' });
    expect(isEmpty(releaseOrdinals(both, [2], { now, cooldownSeconds: 60 }))).toBe(false);
  });

  test('is free when its time is over, first released first', () => {
    expect(collectCooled(both, { now: now + 59_999, cooldownSeconds: 60 })).toBe(both);
    expect(collectCooled(both, { now: now + 60_000, cooldownSeconds: 60 }).unallocated).toEqual([3, 1]);
    const all = collectCooled(both, { now: now + 70_000, cooldownSeconds: 60 });
    expect(all.unallocated).toEqual([3, 1, 0]);
    expect(all.attributes.map((attribute) => attribute.handle_id)).toEqual(['a']);
  });

  test('released again stays as it is', () => {
    expect(releaseOrdinals(both, [0, 1], { now: now + 20_000, cooldownSeconds: 60 })).toBe(both);
  });
});

test('sequence numbers beyond what a number holds exactly still grow by one', () => {
  const nanoseconds = { ...newBlock('10.65.0.0/30', 'host:n', now), sequenceNumber: 1_795_219_200_000_000_001n };
  expect(takeExact(nanoseconds, 0, owner('a'))?.sequenceNumber).toBe(1_795_219_200_000_000_002n);
  const atLimit = { ...nanoseconds, sequenceNumber: Number.MAX_SAFE_INTEGER };
  expect(takeExact(atLimit, 0, owner('a'))?.sequenceNumber).toBe(BigInt(Number.MAX_SAFE_INTEGER) + 1n);
});

test('a block with only what Windows reserves is empty', () => {
  const spec = takeExact(newBlock('10.65.0.0/30', 'host:n', now), 0, {
    handle: 'windows-reserved-IPAM-handle',
    attributes: {},
  });
  expect(spec && isEmpty(spec)).toBe(true);
});

/** The obvious way: an owner per address, and a queue. */
class NaiveBlock {
  readonly owners: (string | undefined)[];
  queue: number[];

  constructor(size: number) {
    this.owners = Array.from({ length: size }, () => undefined);
    this.queue = [...this.owners.keys()];
  }

  take(handle: string, count: number, refused: ReadonlySet<number>): number[] {
    const taken = this.queue.filter((ordinal) => !refused.has(ordinal)).slice(0, count);
    this.queue = this.queue.filter((ordinal) => !taken.includes(ordinal));
    for (const ordinal of taken) {
      this.owners[ordinal] = handle;
    }
    return taken;
  }

  release(ordinals: readonly number[]): void {
    for (const ordinal of ordinals) {
      if (this.owners[ordinal] !== undefined) {
        this.owners[ordinal] = undefined;
        this.queue.push(ordinal);
      }
    }
  }
}

const handles = fc.constantFrom('a', 'b', 'c');
const ordinals = fc.nat({ max: 7 });
const step = fc.oneof(
  fc.record({
    op: fc.constant('take' as const),
    handle: handles,
    count: fc.integer({ min: 0, max: 4 }),
    refused: fc.array(ordinals, { maxLength: 3 }),
  }),
  fc.record({ op: fc.constant('exact' as const), handle: handles, ordinal: ordinals }),
  fc.record({ op: fc.constant('release' as const), ordinals: fc.array(ordinals, { maxLength: 4 }) }),
  fc.record({ op: fc.constant('handOver' as const), handle: handles, ordinal: ordinals }),
);

test('any sequence of operations does what an owner per address and a queue would do', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      let spec = newBlock('10.65.0.0/29', 'host:n', now);
      const naive = new NaiveBlock(8);
      for (const current of steps) {
        const before = spec;
        switch (current.op) {
          case 'take': {
            const refused = new Set(current.refused);
            const taken = takeFree(spec, owner(current.handle), current.count, (ordinal) => !refused.has(ordinal));
            expect(taken.ordinals).toEqual(naive.take(current.handle, current.count, refused));
            spec = taken.spec;
            break;
          }
          case 'exact': {
            const next = takeExact(spec, current.ordinal, owner(current.handle));
            expect(next === undefined).toBe(naive.owners[current.ordinal] !== undefined);
            if (next !== undefined) {
              naive.queue = naive.queue.filter((ordinal) => ordinal !== current.ordinal);
              naive.owners[current.ordinal] = current.handle;
            }
            spec = next ?? spec;
            break;
          }
          case 'release':
            spec = releaseOrdinals(spec, current.ordinals, noCooling);
            naive.release([...new Set(current.ordinals)]);
            break;
          case 'handOver':
            if (naive.owners[current.ordinal] !== undefined) {
              spec = handOver(spec, current.ordinal, owner(current.handle));
              naive.owners[current.ordinal] = current.handle;
            }
            break;
        }
        expect(spec === before || BigInt(spec.sequenceNumber) > BigInt(before.sequenceNumber)).toBe(true);
        expect(spec.unallocated).toEqual(naive.queue);
        expect(spec.allocations.map((_, ordinal) => allocationAt(spec, ordinal)?.handle)).toEqual(naive.owners);
        expect(new Set(spec.allocations.filter((index) => index !== null))).toEqual(new Set(spec.attributes.keys()));
        expect(Object.keys(spec.sequenceNumberForAllocation).map(Number)).toEqual(
          allocationsOf(spec).map(({ ordinal }) => ordinal),
        );
        expect(isEmpty(spec)).toBe(naive.queue.length === 8);
      }
    }),
    { interruptAfterTimeLimit: 1500, numRuns: 2000, markInterruptAsFailure: false },
  );
});
