/** Records of a ring buffer: native/bpf-ring.ts. */
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from '@jest/globals';
import { loadObject, openBpfRing, type LoadedObject } from '#native/bpf.ts';
import { must } from '#test/lab/exec.ts';

const elf = new URL('../../build/bpf/native.bpf.o', import.meta.url).pathname;

const load = async (): Promise<LoadedObject> => await loadObject({ name: 'native', elf, programs: { emit: {} } });

/** Has `count` records of `size` bytes made; how many found no room. */
const emit = (object: LoadedObject, count: number, size = 16): number => {
  using view = object.map('shared').mmap();
  view.value(2).set(new Uint8Array(Uint32Array.of(count, 0, size).buffer));
  object.program('emit').testRun({ data: new Uint8Array(64) });
  return view.load32(2, 4);
};
const numberOf = (record: Uint8Array): number => new DataView(record.buffer, record.byteOffset).getUint32(0, true);

describe('a ring buffer', () => {
  test('hands out its records in order, whole', async () => {
    using object = await load();
    using ring = openBpfRing(object.map('ring'));
    expect(emit(object, 3, 20)).toBe(0);
    const records: Uint8Array[] = [];
    for await (const record of ring) {
      records.push(record);
      if (records.length === 3) break;
    }
    expect(records.map(numberOf)).toEqual([0, 1, 2]);
    expect(records.map((record) => record.length)).toEqual([20, 20, 20]);
  });

  test('wakes who waits', async () => {
    using object = await load();
    using ring = openBpfRing(object.map('ring'));
    for (let round = 0; round < 20; round++) {
      const next = ring.next();
      await turn();
      emit(object, 1);
      expect((await next).done).toBe(false);
    }
  });

  test('that is full loses what comes, which the program counts, and goes on once it is read', async () => {
    using object = await load();
    using ring = openBpfRing(object.map('ring'));
    // 256 bytes with their headers; 1 MiB.
    const lost = emit(object, 10_000, 248);
    expect(lost).toBeGreaterThan(0);
    for (let i = 0; i < 10_000 - lost; i++) expect(numberOf((await ring.next()).value ?? new Uint8Array(4))).toBe(i);
    expect(emit(object, 2)).toBe(0);
    expect(numberOf((await ring.next()).value ?? new Uint8Array(4))).toBe(0);
  });

  test('gives the event loop its turn between many records', async () => {
    using object = await load();
    using ring = openBpfRing(object.map('ring'));
    const count = 20_000 - emit(object, 20_000);
    let turns = 0;
    let isDone = false;
    const counting = (async () => {
      while (!isDone) {
        await turn();
        turns++;
      }
    })();
    for (let i = 0; i < count; i++) await ring.next();
    isDone = true;
    await counting;
    expect(count).toBe(20_000);
    expect(turns).toBeGreaterThanOrEqual(20_000 / 1024);
  });

  test('that is closed says so to who waits, and to who asks later', async () => {
    using object = await load();
    const ring = openBpfRing(object.map('ring'));
    const waiting = ring.next();
    await turn();
    ring[Symbol.dispose]();
    ring[Symbol.dispose]();
    expect(await waiting).toEqual({ done: true, value: undefined });
    expect(await ring.next()).toEqual({ done: true, value: undefined });
  });

  test('goes on where the last reader stopped', async () => {
    using object = await load();
    emit(object, 4);
    {
      using ring = openBpfRing(object.map('ring'));
      expect(numberOf((await ring.next()).value ?? new Uint8Array(4))).toBe(0);
    }
    emit(object, 1);
    using ring = openBpfRing(object.map('ring'));
    // What was read with the first, and not asked for, is gone with its reader.
    expect(numberOf((await ring.next()).value ?? new Uint8Array(4))).toBe(0);
  });

  test('is no other map', async () => {
    using object = await load();
    expect(() => openBpfRing(object.map('shared'))).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  test('keeps no process alive', async () => {
    const script = `
      import { loadObject, openBpfRing } from ${JSON.stringify(new URL('../../native/bpf.ts', import.meta.url).href)};
      const object = await loadObject({ name: 'native', elf: ${JSON.stringify(elf)}, programs: { emit: {} } });
      const ring = openBpfRing(object.map('ring'));
      console.log('done');`;
    expect(await must(process.execPath, '--input-type=module-typescript', '-e', script)).toContain('done');
  });
});
