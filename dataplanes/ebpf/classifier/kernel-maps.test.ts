import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type MapElement, MappedArray } from '#native/bpf.ts';
import { PortClasses, RuleHits, UnitRecord } from '../bpf-types.gen.ts';
import type { MapWrite, WriteFailure } from './classifier-maps.ts';
import { type ClassifierMap, KernelMaps } from './kernel-maps.ts';

const ENTRIES = 16;
const bytesOf: Readonly<Record<string, number>> = {
  tortie_ports: PortClasses.size,
  tortie_records: UnitRecord.size,
  tortie_hits: RuleHits.size,
  tortie_chunks: 64,
};
const failure = (code: string, completed?: number) => Object.assign(new Error(`bpf: ${code}`), { code, completed });

/** A kernel's map: `refusals` says how it answers the next elements; `room` how many elements a batch gets done before there is no memory. */
class FakeMap implements ClassifierMap {
  readonly shape;
  readonly elements = new Map<string, string>();
  /** What was done, in order: `+key` and `-key`. */
  readonly done: string[] = [];
  readonly #memory: ArrayBuffer;
  room = Infinity;
  refuse: (key: string) => string | undefined = () => undefined;
  calls = { single: 0, batch: 0 };

  constructor(name: string, maxEntries = ENTRIES) {
    const valueSize = bytesOf[name] ?? 4;
    this.shape = { name, type: 2, keySize: 4, valueSize, maxEntries, flags: 0 };
    this.#memory = new ArrayBuffer(maxEntries * Math.ceil(valueSize / 8) * 8);
  }

  set(key: Uint8Array, value: Uint8Array): void {
    this.calls.single++;
    this.#apply(key, value);
  }

  delete(key: Uint8Array): boolean {
    this.calls.single++;
    return this.#apply(key, undefined);
  }

  setMany(elements: readonly MapElement[] | object): Promise<void> {
    const list = elements as readonly MapElement[];
    return this.#batch(
      list.map(
        ({ key, value }) =>
          () =>
            this.#apply(key, value),
      ),
    );
  }

  async deleteMany(keys: readonly Uint8Array[] | Uint8Array): Promise<number> {
    await this.#batch((keys as readonly Uint8Array[]).map((key) => () => this.#apply(key, undefined)));
    return keys.length;
  }

  mmap(): MappedArray {
    return new MappedArray(this.shape, this.#memory);
  }

  async #batch(acts: readonly (() => unknown)[]): Promise<void> {
    this.calls.batch++;
    await Promise.resolve();
    for (const [index, act] of acts.entries()) {
      if (index >= this.room) throw failure('ENOMEM', index);
      try {
        act();
      } catch (error) {
        throw Object.assign(error as Error, { completed: index });
      }
    }
  }

  #apply(key: Uint8Array, value: Uint8Array | undefined): boolean {
    const text = Buffer.from(key).toString('hex');
    const code = this.refuse(text);
    if (code !== undefined) throw failure(code);
    this.done.push(`${value === undefined ? '-' : '+'}${text}`);
    if (value === undefined) return this.elements.delete(text);
    this.elements.set(text, Buffer.from(value).toString('hex'));
    return true;
  }
}

interface Bed {
  readonly maps: KernelMaps;
  readonly fake: (name: string) => FakeMap;
  readonly pauses: number[];
}

function bed(singly?: number, onPause: () => void = () => undefined): Bed {
  const made = new Map<string, FakeMap>();
  const fake = (name: string) => {
    const map = made.get(name) ?? new FakeMap(name);
    made.set(name, map);
    return map;
  };
  const pauses: number[] = [];
  const pause = (milliseconds: number) => {
    pauses.push(milliseconds);
    onPause();
    return Promise.resolve();
  };
  return { maps: new KernelMaps(fake, String, { ...(singly === undefined ? {} : { singly }), pause }), fake, pauses };
}

const address = (index: number, cls: number | undefined): MapWrite => ({
  map: 'addresses',
  family: 4,
  address: 0x0a00_0000 + index,
  prefix: 32,
  value: cls === undefined ? undefined : { class: cls, hop: 0 },
});
const keyOf = (index: number) => `0a${index.toString(16).padStart(6, '0')}`;
const addresses = (count: number) => Array.from({ length: count }, (_, index) => address(index, 1));
const unit = (index: number, record: number): MapWrite => ({ map: 'units', index, record });
const failureOf = async (write: Promise<void>): Promise<WriteFailure> => {
  const error: unknown = await write.then(
    () => new Error('it was made'),
    (reason: unknown) => reason,
  );
  return error as WriteFailure;
};

describe('a batch', () => {
  test('that runs out of memory after a few elements each time is made all the same, each element once and in order', async () => {
    const { maps, fake, pauses } = bed();
    const map = fake('tortie_addr4');
    map.room = 3;
    await maps.write(addresses(1000));
    expect(map.done).toEqual(Array.from({ length: 1000 }, (_, index) => `+${keyOf(index)}`));
    expect(map.calls.batch).toBe(Math.ceil((1000 - 32) / 35));
    expect(pauses).toEqual([]);
  });

  test('of deletions likewise', async () => {
    const { maps, fake } = bed();
    const map = fake('tortie_addr4');
    map.room = 0;
    await maps.write(Array.from({ length: 100 }, (_, index) => address(index, undefined)));
    expect(map.done).toEqual(Array.from({ length: 100 }, (_, index) => `-${keyOf(index)}`));
  });

  test.each(['E2BIG', 'ENOSPC', 'EPERM'])('that fails by %s is not tried again', async (code) => {
    const { maps, fake, pauses } = bed(0);
    const map = fake('tortie_addr4');
    map.refuse = (key) => (key === keyOf(40) ? code : undefined);
    expect(await failureOf(maps.write(addresses(100)))).toMatchObject({ name: 'WriteFailure', code, made: 40 });
    expect(map.done).toHaveLength(40);
    expect(map.calls).toEqual({ batch: 1, single: 0 });
    expect(pauses).toEqual([]);
  });
});

describe('an element', () => {
  test.each(['ENOMEM', 'EBUSY', 'EAGAIN'])(
    'that fails by %s is tried again after pauses, and is made',
    async (code) => {
      let left = 3;
      const { maps, fake, pauses } = bed(32, () => left--);
      fake('tortie_addr4').refuse = (key) => (key === keyOf(5) && left > 0 ? code : undefined);
      await maps.write(addresses(10));
      expect(fake('tortie_addr4').done).toHaveLength(10);
      expect(pauses).toHaveLength(3);
    },
  );

  test('that never finds memory fails after a bounded number of tries, and the error says how far it came', async () => {
    const { maps, fake, pauses } = bed();
    fake('tortie_addr4').refuse = (key) => (key === keyOf(50) ? 'ENOMEM' : undefined);
    expect(await failureOf(maps.write(addresses(100)))).toMatchObject({ code: 'ENOMEM', made: 50 });
    expect(pauses).toHaveLength(4);
    expect(fake('tortie_addr4').done).toHaveLength(50);
  });
});

test('`made` counts all of the call: a unit is not published behind elements that were refused', async () => {
  const { maps, fake } = bed();
  fake('tortie_addr4').refuse = (key) => (key === keyOf(2) ? 'E2BIG' : undefined);
  const writes: MapWrite[] = [
    unit(1, 7),
    address(0, 1),
    { map: 'rules', index: 3, words: Uint32Array.of(9) },
    address(1, 1),
    address(2, 1),
    unit(2, 8),
  ];
  expect(await failureOf(maps.write(writes))).toMatchObject({ code: 'E2BIG', made: 4 });
  expect([1, 2].map((index) => fake('tortie_units').mmap().load32(index, 0))).toEqual([7, 0]);
  fake('tortie_addr4').refuse = () => undefined;
  await maps.write(writes.slice(4));
  expect(fake('tortie_units').mmap().load32(2, 0)).toBe(8);
  expect(fake('tortie_addr4').elements.size).toBe(3);
});

test('a store outside its array fails like an element, behind all that stand before it', async () => {
  const { maps, fake } = bed();
  const writes: MapWrite[] = [address(0, 1), { map: 'rowtab', index: ENTRIES, words: [1] }];
  expect(await failureOf(maps.write(writes))).toMatchObject({ code: 'ERANGE', made: 1 });
  expect(fake('tortie_addr4').elements.size).toBe(1);
});

test('whatever fails wherever, going on at `made` ends where a series without failures does, with every element written in order', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.oneof(
          fc.record({ index: fc.nat(40), cls: fc.option(fc.integer({ min: 1, max: 5 }), { nil: undefined }) }),
          fc.record({ unit: fc.nat(ENTRIES - 1), record: fc.nat(9) }),
        ),
        { maxLength: 80 },
      ),
      fc.array(fc.nat(10), { maxLength: 30 }),
      fc.integer({ min: 0, max: 20 }),
      fc.integer({ min: 0, max: 20 }),
      async (list, refusals, singly, room) => {
        const writes = list.map((each) =>
          'unit' in each ? unit(each.unit, each.record) : address(each.index, each.cls),
        );
        const { maps, fake } = bed(singly);
        const map = fake('tortie_addr4');
        map.room = room;
        const waits = [...refusals];
        let countdown = waits.shift();
        map.refuse = () => {
          if (countdown === undefined) return undefined;
          if (countdown-- > 0) return undefined;
          countdown = waits.shift();
          return 'E2BIG';
        };
        let left = writes;
        while (left.length > 0) {
          const error = await failureOf(maps.write(left).then(() => Promise.reject(new Error('done'))));
          if (error.name !== 'WriteFailure') break;
          left = left.slice(error.made);
        }
        const plain = bed();
        await plain.maps.write(writes);
        expect(map.elements).toEqual(plain.fake('tortie_addr4').elements);
        expect(map.done).toEqual(plain.fake('tortie_addr4').done);
        expect(fake('tortie_units').mmap().bytes).toEqual(plain.fake('tortie_units').mmap().bytes);
      },
    ),
    { numRuns: 300 },
  );
});

describe('sizes', () => {
  test('counters must be as many as rule words', () => {
    const of = (name: string) => new FakeMap(name, name === 'tortie_hits' ? ENTRIES - 1 : ENTRIES);
    expect(() => new KernelMaps(of, String)).toThrow(RangeError);
  });

  test('a trie keeps an entry free', () => {
    const { sizes } = bed().maps;
    expect([sizes.tortie_addr4.entries, sizes.tortie_net4.entries, sizes.tortie_net6.entries]).toEqual([
      ENTRIES,
      ENTRIES - 1,
      ENTRIES - 1,
    ]);
  });
});

test('what a rule word counted is read, and begins at zero with each write of it', async () => {
  const { maps, fake } = bed();
  fake('tortie_hits')
    .mmap()
    .value(3)
    .set(RuleHits.encode({ packets: 5n, bytes: 600n }));
  expect(maps.hits(3)).toEqual({ packets: 5, bytes: 600 });
  await maps.write([{ map: 'rules', index: 3, words: Uint32Array.of(1) }]);
  expect(maps.hits(3)).toEqual({ packets: 0, bytes: 0 });
});
