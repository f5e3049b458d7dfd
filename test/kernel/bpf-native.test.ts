import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { configVariables, mapShapes, PodConfig } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { sourceKey, u32Key } from '#dataplanes/ebpf/keys.ts';
import {
  loadObject,
  mapDifferences,
  mountBpffs,
  openPinnedMap,
  openPinnedProgram,
  probeBpf,
  unmountBpffs,
  type VerifierFailure,
} from '#native/bpf.ts';

const podElf = new URL('../../build/bpf/object.bpf.o', import.meta.url).pathname;
const refusedElf = new URL('../../build/bpf/refused.bpf.o', import.meta.url).pathname;
const small = {
  tortie_devices: { maxEntries: 4 },
  tortie_sources: { maxEntries: 4 },
  tortie_counters: { maxEntries: 4 },
};

let dir: string;
let bpffs: string;

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), `tt${process.pid}-bpf-`));
  bpffs = join(dir, 'fs');
  mkdirSync(bpffs);
  mountBpffs(bpffs, `tt${process.pid}`);
});

afterAll(() => {
  unmountBpffs(bpffs);
  rmSync(dir, { recursive: true });
});

describe('an object', () => {
  test('has the maps and programs that the generated types say', async () => {
    using object = await loadObject({ name: 'tortie', elf: podElf });
    for (const shape of [mapShapes.tortie_devices, mapShapes.tortie_sources, mapShapes.tortie_counters]) {
      expect(mapDifferences(object.map(shape.name).shape, shape)).toEqual([]);
      expect(object.map(shape.name).shape).toMatchObject({ name: shape.name, maxEntries: shape.maxEntries });
    }
    for (const name of ['tortie_from_pod', 'tortie_to_pod'])
      expect(object.program(name)).toMatchObject({ name, type: 3, tag: expect.stringMatching(/^[0-9a-f]{16}$/) });
    expect(Object.keys(configVariables)).toEqual(['pod_config']);
  });

  test('gets the sizes that are asked for', async () => {
    using object = await loadObject({ name: 'tortie', elf: podElf, maps: small });
    expect(object.map('tortie_sources').shape.maxEntries).toBe(4);
  });

  test('uses a map that exists, and its programs say which maps are theirs', async () => {
    using first = await loadObject({ name: 'tortie', elf: podElf });
    using second = await loadObject({
      name: 'tortie',
      elf: podElf,
      maps: { tortie_sources: { use: first.map('tortie_sources') } },
    });
    expect(second.map('tortie_sources').id).toBe(first.map('tortie_sources').id);
    expect(second.map('tortie_counters').id).not.toBe(first.map('tortie_counters').id);
    expect(second.program('tortie_from_pod').mapIds).toContain(first.map('tortie_sources').id);
  });

  test('passes over maps that it needs only if they are there', async () => {
    using first = await loadObject({ name: 'tortie', elf: podElf });
    using second = await loadObject({
      name: 'tortie',
      elf: podElf,
      maps: {
        tortie_sources: { use: first.map('tortie_sources'), ifThere: true },
        nothing: { use: first.map('tortie_sources'), ifThere: true },
      },
    });
    expect(second.map('tortie_sources').id).toBe(first.map('tortie_sources').id);
    expect(() => second.map('nothing')).toThrow('no map nothing');
  });

  test.each([
    ['no map of that name', { maps: { nothing: { maxEntries: 1 } } }, 'ENOENT', /it has no map nothing/],
    [
      'no variable of that name',
      { config: { nothing: new Uint8Array(1) } },
      'ENOENT',
      /it has no read-only variable nothing/,
    ],
    [
      'a variable of another size',
      { config: { pod_config: new Uint8Array(9) } },
      'EINVAL',
      new RegExp(`pod_config has ${PodConfig.size} bytes, not 9`),
    ],
    ['a file that is no object', { elf: new Uint8Array(64) }, 'ERR_BPF_OBJECT', /load of BPF object tortie/],
  ])('with %s is refused', async (_, wrong, code, message) => {
    await expect(loadObject({ name: 'tortie', elf: podElf, ...wrong })).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
  });

  test('that is not there is refused', async () => {
    await expect(loadObject({ name: 'tortie', elf: join(dir, 'nothing.o') })).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('that the verifier refuses says where and why, names the program and keeps the whole log', async () => {
    const failure = await loadObject({ name: 'refused', elf: refusedElf }).then(
      () => undefined,
      (error: Error & VerifierFailure) => error,
    );
    expect(failure).toMatchObject({
      code: 'EACCES',
      program: 'reads_beyond_the_end',
      object: 'load of BPF object refused, program reads_beyond_the_end',
    });
    expect(failure?.message).toMatch(/return \*\(__u8 \*\)\(long\)skb->data;/);
    expect(failure?.message).toMatch(/invalid access to packet, off=0 size=1/);
    expect(failure?.message).not.toMatch(/processed \d+ insns/);
    expect(failure?.verifierLog).toMatch(/processed \d+ insns/);
  });
});

describe('a map', () => {
  test('sets, gets, deletes', async () => {
    using object = await loadObject({ name: 'tortie', elf: podElf, maps: small });
    const map = object.map('tortie_sources');
    const key = sourceKey(1, '10.65.0.3/32');
    expect(map.get(key)).toBeUndefined();
    map.set(key, u32Key(7));
    expect(map.get(key)).toEqual(u32Key(7));
    expect(() => map.set(key, u32Key(8), 'create')).toThrow(
      expect.objectContaining({ code: 'EEXIST', object: 'set in map tortie_sources' }),
    );
    expect(map.delete(key)).toBe(true);
    expect(map.delete(key)).toBe(false);
  });

  test('that is full says so', async () => {
    using object = await loadObject({
      name: 'tortie',
      elf: podElf,
      maps: { ...small, tortie_sources: { maxEntries: 1 } },
    });
    const map = object.map('tortie_sources');
    map.set(sourceKey(1, '10.65.0.3/32'), u32Key(1));
    expect(() => map.set(sourceKey(1, '10.65.0.4/32'), u32Key(1))).toThrow(expect.objectContaining({ code: 'ENOSPC' }));
  });

  test('keeps one value for each CPU', async () => {
    using object = await loadObject({ name: 'tortie', elf: podElf, maps: small });
    const map = object.map('tortie_counters');
    const value = new Uint8Array(map.cpus * map.valueStride).map((_, i) => i % 251);
    map.set(u32Key(1), value);
    expect(map.get(u32Key(1))).toEqual(value);
    expect(await map.entries()).toEqual([{ key: u32Key(1), value }]);
  });

  test.each(['tortie_counters', 'tortie_sources'])(
    'of kind %s is dumped whole, however many batches that takes',
    async (name) => {
      using object = await loadObject({ name: 'tortie', elf: podElf, maps: { [name]: { maxEntries: 6000 } } });
      const map = object.map(name);
      const keyOf = (i: number): Uint8Array => (name === 'tortie_sources' ? sourceKey(i, '10.65.0.3/32') : u32Key(i));
      const value = new Uint8Array(map.cpus * map.valueStride);
      for (let done = 0; done < 6000;) {
        const some = Array.from({ length: Math.min(200, 6000 - done) }, (_, i) => ({ key: keyOf(done + i), value }));
        // The kernel refills its stock of per-CPU memory in the background, and says ENOMEM to who is faster.
        const failure = await map.setMany(some).then(
          () => undefined,
          (error: { code: string }) => error.code,
        );
        expect([undefined, 'ENOMEM']).toContain(failure);
        if (failure === undefined) done += some.length;
      }
      const keys = new Set((await map.entries()).map(({ key }) => Buffer.from(key).toString('hex')));
      expect(keys.size).toBe(6000);
    },
  );

  test('says how far a batch came when it is full', async () => {
    using object = await loadObject({ name: 'tortie', elf: podElf, maps: small });
    const elements = Array.from({ length: 6 }, (_, i) => ({ key: sourceKey(i, '10.65.0.3/32'), value: u32Key(1) }));
    await expect(object.map('tortie_sources').setMany(elements)).rejects.toMatchObject({
      code: 'ENOSPC',
      completed: 4,
    });
  });

  test.each([
    ['a key that is too short', new Uint8Array(3), u32Key(1)],
    ['a value that is too long', sourceKey(1, '10.65.0.3/32'), new Uint8Array(5)],
    ['no bytes at all', 'key', u32Key(1)],
  ])('takes no %s', async (_, key, value) => {
    using object = await loadObject({ name: 'tortie', elf: podElf, maps: small });
    expect(() => object.map('tortie_sources').set(key as Uint8Array, value)).toThrow(
      expect.objectContaining({ code: 'EINVAL' }),
    );
  });

  test('is closed once, however often it is disposed of, and then says so', async () => {
    using object = await loadObject({ name: 'tortie', elf: podElf, maps: small });
    const map = object.map('tortie_sources');
    map[Symbol.dispose]();
    map[Symbol.dispose]();
    expect(() => map.get(sourceKey(1, '10.65.0.3/32'))).toThrow(expect.objectContaining({ code: 'EBADF' }));
    await expect(async () => await map.entries()).rejects.toMatchObject({ code: 'EBADF' });
  });

  test('may be disposed of while a dump is under way', async () => {
    using object = await loadObject({ name: 'tortie', elf: podElf, maps: small });
    const map = object.map('tortie_sources');
    map.set(sourceKey(1, '10.65.0.3/32'), u32Key(1));
    const dump = map.entries();
    map[Symbol.dispose]();
    expect(await dump).toHaveLength(1);
  });
});

describe('a pin', () => {
  test('brings a map and a program back', async () => {
    using object = await loadObject({ name: 'tortie', elf: podElf, maps: small });
    object.map('tortie_sources').pin(join(bpffs, 'map'));
    object.program('tortie_to_pod').pin(join(bpffs, 'program'));
    using map = openPinnedMap(join(bpffs, 'map'), mapShapes.tortie_sources);
    using program = openPinnedProgram(join(bpffs, 'program'));
    expect(map?.id).toBe(object.map('tortie_sources').id);
    expect(program).toMatchObject({ id: object.program('tortie_to_pod').id, name: 'tortie_to_pod' });
    expect(() => object.map('tortie_sources').pin(join(bpffs, 'map'))).toThrow(
      expect.objectContaining({ code: 'EEXIST' }),
    );
  });

  test('that is not there is undefined', () => {
    expect(openPinnedMap(join(bpffs, 'nothing'))).toBeUndefined();
    expect(openPinnedProgram(join(bpffs, 'nothing'))).toBeUndefined();
  });

  test('of another shape is refused, and the message says what differs', async () => {
    using object = await loadObject({ name: 'tortie', elf: podElf, maps: small });
    object.map('tortie_counters').pin(join(bpffs, 'other'));
    expect(() => openPinnedMap(join(bpffs, 'other'), mapShapes.tortie_sources)).toThrow(
      expect.objectContaining({
        code: 'BPF_MAP_MISMATCH',
        message: expect.stringContaining(
          'type is 5, expected 11, key size is 4, expected 28, value size is 1024, expected 4',
        ),
      }),
    );
  });

  test('of a program is no map', async () => {
    using object = await loadObject({ name: 'tortie', elf: podElf, maps: small });
    object.program('tortie_to_pod').pin(join(bpffs, 'no-map'));
    expect(() => openPinnedMap(join(bpffs, 'no-map'))).toThrow(
      expect.objectContaining({ message: expect.stringContaining('it is no map but anon_inode:bpf-prog') }),
    );
  });
});

describe('a probe', () => {
  test.each([
    ['a device map', { map: mapShapes.tortie_devices }],
    ['an LPM map', { map: mapShapes.tortie_sources }],
    ['a per-CPU hash', { map: mapShapes.tortie_counters }],
    ['a traffic control program', { program: 3 }],
    ['clsact', { clsact: true }],
  ] as const)('says yes to %s', async (_, what) => {
    expect(await probeBpf(what)).toEqual({ answer: 'yes' });
  });

  test.each([
    ['a map type that does not exist', { map: { type: 9999, keySize: 4, valueSize: 4, flags: 0 } }],
    ['a program type that does not exist', { program: 9999 }],
  ])('says no to %s, and why', async (_, what) => {
    expect(await probeBpf(what)).toEqual({ answer: 'no', reason: expect.stringContaining('EINVAL') });
  });
});
