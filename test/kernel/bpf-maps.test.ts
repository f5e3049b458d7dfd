/** Many elements at a time, arrays in shared memory, grace periods: native/bpf-map.ts, bpf-mapped-array.ts, bpf-grace.ts. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { bpfGrace, loadObject, type BpfMap, type LoadedObject, type MapElement } from '#native/bpf.ts';

const elf = new URL('../../build/bpf/native.bpf.o', import.meta.url).pathname;
const ETH_FRAME = new Uint8Array(64);

const load = async (maps: Record<string, { maxEntries: number }> = {}): Promise<LoadedObject> =>
  await loadObject({ name: 'native', elf, maps, programs: { read_shared: {}, runs_long: {}, add: {} } });

const u32 = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Keys as the kind of map wants them: the trie's are whole addresses. */
const keyOf = (name: string, i: number): Uint8Array => (name === 'trie' ? u32(32, i) : u32(i));
const elementsOf = (map: BpfMap, count: number): MapElement[] =>
  Array.from({ length: count }, (_, i) => ({
    key: keyOf(map.shape.name, i),
    value: new Uint8Array(map.cpus * map.valueStride).fill(i % 251),
  }));
const asText = (elements: readonly MapElement[]): string[] =>
  elements.map(({ key, value }) => `${hex(key)}=${hex(value)}`).sort();

describe.each(['hash', 'lru', 'per_cpu', 'trie', 'plain'])('a map of kind %s', (name) => {
  // More than one batch of a dump. Per-CPU memory and LRU lists: few enough that the kernel's stocks don't run out.
  const count = 5000;

  test('takes many elements, and hands out the same', async () => {
    using object = await load();
    const map = object.map(name);
    const elements = elementsOf(map, count);
    await map.setMany(elements);
    const found = await map.entries();
    // All elements of an array are always there.
    const written = name === 'plain' ? found.filter((_, i) => i < count) : found;
    expect(asText(written)).toEqual(asText(elements));
  });

  if (name !== 'plain') {
    test('loses many elements, and passes over those that are not there', async () => {
      using object = await load();
      const map = object.map(name);
      const elements = elementsOf(map, count);
      await map.setMany(elements);
      const odd = elements.filter((_, i) => i % 2 === 1);
      const strangers = [keyOf(name, count + 1), keyOf(name, count + 2)];
      expect(await map.deleteMany([...strangers, ...odd.map(({ key }) => key), ...strangers])).toBe(odd.length);
      expect(asText(await map.entries())).toEqual(asText(elements.filter((_, i) => i % 2 === 0)));
      expect(await map.deleteMany(odd.map(({ key }) => key))).toBe(0);
    });
  }

  test('takes none', async () => {
    using object = await load();
    await object.map(name).setMany([]);
    expect(await object.map(name).deleteMany([])).toBe(0);
  });
});

describe('many elements', () => {
  test('may come packed, and a dump leaves so', async () => {
    using object = await load();
    const map = object.map('hash');
    const elements = elementsOf(map, 100);
    const join = (parts: Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));
    await map.setMany({ keys: join(elements.map((e) => e.key)), values: join(elements.map((e) => e.value)) });
    const { count, keys, values } = await map.dump();
    expect([count, keys.length, values.length]).toEqual([100, 400, 800]);
    expect(await map.deleteMany(keys)).toBe(100);
    expect((await map.dump()).count).toBe(0);
  });

  test.each(['hash', 'trie', 'per_cpu'])('that do not all fit say how many did, in a map of kind %s', async (name) => {
    using object = await load({ [name]: { maxEntries: 4 } });
    const map = object.map(name);
    const elements = elementsOf(map, 6);
    await expect(map.setMany(elements)).rejects.toMatchObject({
      code: name === 'trie' ? 'ENOSPC' : 'E2BIG',
      completed: 4,
      object: `batch into map ${name}`,
    });
    expect(asText(await map.entries())).toEqual(asText(elements.slice(0, 4)));
  });

  test('are only made, or only replaced, when asked to', async () => {
    using object = await load();
    const map = object.map('hash');
    const elements = elementsOf(map, 5);
    await map.setMany(elements.slice(2, 3));
    await expect(map.setMany(elements, 'create')).rejects.toMatchObject({ code: 'EEXIST', completed: 2 });
    await expect(map.setMany([...elements.slice(0, 3), ...elements.slice(4)], 'replace')).rejects.toMatchObject({
      code: 'ENOENT',
      completed: 3,
    });
  });

  test('of which the map refuses one: those before it are set, and it is named by its place', async () => {
    using object = await load();
    const map = object.map('trie');
    const value = new Uint8Array(8);
    const keys = [u32(32, 1), u32(8, 2), u32(33, 3), u32(32, 4)];
    await expect(map.setMany(keys.map((key) => ({ key, value })))).rejects.toMatchObject({
      code: 'EINVAL',
      completed: 2,
    });
    expect((await map.dump()).count).toBe(2);
  });

  test('go one by one where the kind of map has no batches', async () => {
    using object = await load();
    const map = object.map('devices');
    // lo of the namespace in which the tests run; its element is its own ifindex.
    await map.setMany([
      { key: u32(5), value: u32(1) },
      { key: u32(6), value: u32(1) },
    ]);
    expect((await map.entries()).map(({ key }) => hex(key)).sort()).toEqual([hex(u32(5)), hex(u32(6))]);
    expect(await map.deleteMany([u32(5), u32(7), u32(6)])).toBe(2);
  });

  test.each([
    ['half a key', { keys: new Uint8Array(6), values: new Uint8Array(8) }],
    ['values that are too short', { keys: new Uint8Array(8), values: new Uint8Array(15) }],
  ])('with %s are refused', async (_, elements) => {
    using object = await load();
    await expect(object.map('hash').setMany(elements)).rejects.toMatchObject({ code: 'EINVAL' });
  });
});

describe('a trie that changes under a dump', () => {
  test('has each element that stays exactly once', async () => {
    using object = await load();
    const map = object.map('trie');
    const stay = elementsOf(map, 6000).filter((_, i) => i % 2 === 0);
    const go = elementsOf(map, 6000).filter((_, i) => i % 2 === 1);
    await map.setMany(stay);
    for (let round = 0; round < 5; round++) {
      await map.setMany(go);
      const [found] = await Promise.all([map.entries(), map.deleteMany(go.map(({ key }) => key))]);
      const keys = found.map(({ key }) => hex(key));
      expect(new Set(keys).size).toBe(keys.length);
      const there = new Set(keys);
      expect(stay.filter(({ key }) => !there.has(hex(key)))).toEqual([]);
    }
  });
});

describe('a mapped array', () => {
  test('is the memory that system calls and programs see', async () => {
    using object = await load();
    const map = object.map('shared');
    using view = map.mmap();
    expect(view).toMatchObject({ length: 1000, valueSize: 12, stride: 16 });
    expect(view.bytes.length).toBe(16_000);
    view.value(999).set([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    expect(map.get(u32(999))).toEqual(Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]));
    map.set(u32(7), u32(70, 71, 72));
    expect(view.load32(7, 8)).toBe(72);
    view.store32(0, 4, 4711);
    expect(object.program('read_shared').testRun({ data: ETH_FRAME }).returned).toBe(4711);
  });

  test('outlives the handle of the map, and other views of it', async () => {
    using object = await load();
    const map = object.map('shared');
    const other = map.mmap();
    using view = map.mmap();
    other.store32(3, 0, 33);
    other[Symbol.dispose]();
    map[Symbol.dispose]();
    expect(view.load32(3, 0)).toBe(33);
    view.store32(0, 4, 12);
    expect(object.program('read_shared').testRun({ data: ETH_FRAME }).returned).toBe(12);
  });

  test('says so after it was closed, however often that was', async () => {
    using object = await load();
    const view = object.map('shared').mmap();
    const kept = view.bytes;
    view[Symbol.dispose]();
    view[Symbol.dispose]();
    expect(kept.length).toBe(0);
    for (const use of [() => view.bytes, () => view.value(0), () => view.load32(0, 0), () => view.store32(0, 0, 1)])
      expect(use).toThrow(expect.objectContaining({ code: 'EBADF', object: 'map shared' }));
  });

  test('is unmapped once nothing uses it', async () => {
    using object = await load();
    const map = object.map('shared');
    const mapped = (): number => {
      const maps = readFileSync('/proc/self/maps', 'utf8');
      return maps.split('\n').filter((line) => line.includes('anon_inode:bpf-map')).length;
    };
    const before = mapped();
    const views = Array.from({ length: 50 }, () => map.mmap());
    // (What tests before this one let go may have been unmapped meanwhile.)
    expect(mapped()).toBeGreaterThanOrEqual(50);
    for (const view of views) view[Symbol.dispose]();
    for (let waited = 0; mapped() > before && waited < 3000; waited++) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect(mapped()).toBeLessThanOrEqual(before);
  });

  test.each([
    [0, 2],
    [0, 12],
    [0, -4],
    [1000, 0],
    [-1, 0],
    [0.5, 0],
  ])('has no word at element %d, byte %d', async (index, offset) => {
    using object = await load();
    using view = object.map('shared').mmap();
    expect(() => view.store32(index, offset, 1)).toThrow(expect.objectContaining({ code: 'ERANGE' }));
  });

  test.each([
    ['plain', /made without BPF_F_MMAPABLE/],
    ['hash', /it is no array/],
  ])('can not be made of %s', async (name, words) => {
    using object = await load();
    expect(() => object.map(name).mmap()).toThrow(
      expect.objectContaining({ code: 'EINVAL', object: `map ${name}`, message: expect.stringMatching(words) }),
    );
  });
});

describe('a grace period', () => {
  test('has passed only when a program that was running has ended', async () => {
    using object = await load();
    using view = object.map('shared').mmap();
    let hasSeenItRun = false;
    // On a busy machine it may have ended before we look.
    for (let attempt = 0; attempt < 200 && !hasSeenItRun; attempt++) {
      view.value(1).set(u32(0, 0, 8_000_000));
      const run = object.program('runs_long').run({ data: ETH_FRAME });
      while (view.load32(1, 0) === 0) await new Promise((resolve) => setImmediate(resolve));
      const grace = bpfGrace();
      hasSeenItRun = view.load32(1, 4) === 0;
      await grace;
      expect(view.load32(1, 4)).toBe(1);
      await run;
    }
    expect(hasSeenItRun).toBe(true);
  });

  test('can be waited for by many at once', async () => {
    await Promise.all(Array.from({ length: 8 }, () => bpfGrace()));
  });
});
