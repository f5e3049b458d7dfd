/** Services in the kernel's own maps, and programs that look them up while they are being written. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { contentsOf } from '#dataplanes/ebpf/services/twin-for-tests.ts';
import { backend, service } from '#dataplanes/ebpf/services/twin-for-tests.ts';
import { ServiceTable } from '#dataplanes/ebpf/services/service-table.ts';
import { u32Key } from '#dataplanes/ebpf/keys.ts';
import type { BackendInfo, ServiceInfo } from '#dataplanes/services.ts';
import { loadObject, type BpfMap, type LoadedObject, type MappedArray } from '#native/bpf.ts';
import { seededRandom, soakMs } from '#test/lab/agent-lab.ts';
import { Random } from '#test/oracle/random.ts';

const families = [4, 6] as const;
type Family = (typeof families)[number];
const settingOf = (name: string) => `${name}Size`;
const budgetMs = soakMs(2);
/** What `test/bpf/services-family.h` asks for. */
const SERVICES = 8;
const ask = { port: 80, backendPort: 1000, questions: 64 } as const;
/** offsetof(struct __sk_buff, cb), and its size. */
const skb = { cb: 48, size: 192 } as const;
/** enum service_answer, and behind it how many answered for another service. */
const answerNames = ['noFrontend', 'backend', 'noBackend', 'sctpPort', 'unstable', 'foreign'] as const;

class Bed implements Disposable {
  readonly object: LoadedObject;
  readonly #arrays: Readonly<Record<Family, MappedArray>>;

  private constructor(object: LoadedObject) {
    this.object = object;
    this.#arrays = { 4: object.map('tortie_back4').mmap(), 6: object.map('tortie_back6').mmap() };
  }

  /** `sizes`: entries of maps of frontends and of backends. */
  static async load(name: string, frontends = 4096, backends = 4096): Promise<Bed> {
    const sizes = families.flatMap((family) => [
      [`tortie_front${family}`, { maxEntries: frontends }],
      [`tortie_back${family}`, { maxEntries: backends }],
    ]);
    const elf = new URL(`../../build/bpf/${name}.bpf.o`, import.meta.url).pathname;
    return new Bed(await loadObject({ name, elf, maps: Object.fromEntries(sizes) }));
  }

  readonly mapOf = (name: string): BpfMap => this.object.map(name);

  contents(): Promise<Record<string, readonly string[]>> {
    return contentsOf(
      (family) => this.#arrays[family],
      (family) => this.mapOf(`tortie_front${family}`).entries(),
    );
  }

  [Symbol.dispose](): void {
    for (const family of families) this.#arrays[family][Symbol.dispose]();
    this.object[Symbol.dispose]();
  }
}

const addressOf = (family: Family, index: number) =>
  family === 4 ? `10.96.0.${index}` : `fd00::${index.toString(16)}`;
const backendOf = (family: Family, index: number, number: number): BackendInfo =>
  backend(
    family === 4
      ? `10.${index}.${number >> 8}.${number & 255}`
      : `fd01::${index.toString(16)}:${(number + 1).toString(16)}`,
    ask.backendPort + index,
  );
/** The service with a number, with `count` backends of all that it may have. */
function randomService(random: Random, family: Family, index: number, count: number): ServiceInfo {
  const numbers = new Set(Array.from({ length: count }, () => random.below(400)));
  return service(
    addressOf(family, index),
    [...numbers].map((number) => backendOf(family, index, number)),
    { port: ask.port },
  );
}
const textsOf = ({ ports }: ServiceInfo, family: Family) =>
  ports[0]?.[`ipv${family}Backends`].map(({ address, port }) => `${address} ${port}`);

describe('maps of Services in the kernel', () => {
  test('random histories: they say what was said, and are empty in the end', async () => {
    using bed = await Bed.load('flow');
    using table = new ServiceTable(bed.mapOf, settingOf);
    const random = new Random(seededRandom('services, kernel maps'));
    const said = new Map<string, { readonly family: Family; readonly info: ServiceInfo }>();
    const until = Date.now() + budgetMs;
    let settling = Promise.resolve();
    for (let round = 0; round < 20 || Date.now() < until; round++) {
      for (let change = random.below(12); change >= 0; change--) {
        const family = random.chance(0.5) ? 4 : 6;
        const index = 1 + random.below(100);
        const id = `default/s${family}-${index}`;
        if (random.chance(0.3)) {
          said.delete(id);
          table.onUpdate({ type: 'serviceRemove', id });
        } else {
          const info = randomService(random, family, index, random.below(random.chance(0.1) ? 150 : 6));
          said.set(id, { family, info });
          table.onUpdate({ type: 'serviceUpdate', id, service: info });
        }
      }
      await table.flush('here');
      expect(table.failed).toEqual([]);
      expect(await bed.contents()).toEqual(
        Object.fromEntries(
          [...said.values()].map(({ family, info }) => [
            `${info.clusterIps[`ipv${family}`]}:${ask.port}/6`,
            textsOf(info, family),
          ]),
        ),
      );
      settling = table.settle();
      if (random.chance(0.5)) await settling;
    }
    for (const id of said.keys()) table.onUpdate({ type: 'serviceRemove', id });
    await table.flush('here');
    await settling;
    await table.settle();
    expect(await bed.contents()).toEqual({});
    expect(table.figures).toEqual({ 4: { frontends: 0, backends: 0 }, 6: { frontends: 0, backends: 0 } });
  });

  test.each(families)(
    'IPv%s: the kernel takes as many frontends as the table counts on, and one that goes makes room',
    async (family) => {
      const entries = 1000;
      using bed = await Bed.load('flow', entries);
      using table = new ServiceTable(bed.mapOf, settingOf);
      const address = (index: number) =>
        family === 4 ? `10.96.${index >> 8}.${index & 255}` : `fd00::${index.toString(16)}`;
      for (let index = 0; index <= entries; index++) {
        table.onUpdate({
          type: 'serviceUpdate',
          id: `default/s${index}`,
          service: service(address(index), [backendOf(family, 1, index % 5)]),
        });
      }
      await table.flush('here');
      expect(table.failed.map(({ object }) => object)).toEqual([`service default/s${entries}`]);
      expect(Object.keys(await bed.contents())).toHaveLength(entries);
      table.onUpdate({ type: 'serviceRemove', id: 'default/s7' });
      await table.flush('here');
      expect(table.failed).toEqual([]);
      expect(table.backendsOf(address(entries), 80, 6)?.backends).toHaveLength(1);
      expect(table.backendsOf(address(7), 80, 6)).toBeUndefined();
    },
  );
});

describe('looked up by a program', () => {
  let bed: Bed;
  let table: ServiceTable;
  /** Lookups are as programs make them, or with time between frontend and backend, in which a run could be written that was freed too early. */
  const manners = families.flatMap((family) => [
    { family, manner: 'quickly', isSlow: false, repeat: 4000 },
    { family, manner: 'slowly', isSlow: true, repeat: 4 },
  ]);

  beforeAll(async () => {
    // Few buckets and little room, so that elements are neighbours, and what is freed is used again and again.
    bed = await Bed.load('services', SERVICES, 2048);
    table = new ServiceTable(bed.mapOf, settingOf);
  });
  afterAll(() => {
    (table as ServiceTable | undefined)?.[Symbol.dispose]();
    (bed as Bed | undefined)?.[Symbol.dispose]();
  });

  const answers = (): Record<(typeof answerNames)[number], number> => {
    const bytes = bed.mapOf('answers').get(u32Key(0)) ?? new Uint8Array();
    const counts = new BigUint64Array(bytes.buffer, bytes.byteOffset, answerNames.length);
    return Object.fromEntries(answerNames.map((name, index) => [name, Number(counts[index])])) as never;
  };

  test.each(manners)(
    "IPv$family, $manner: nobody gets to another service's backend, or to none, while all of them change",
    async ({ family, manner, isSlow, repeat }) => {
      const random = new Random(seededRandom(`services, lookups, IPv${family}, ${manner}`));
      const context = new Uint8Array(skb.size);
      const cb = new DataView(context.buffer, skb.cb);
      cb.setUint32(0, SERVICES, true);
      cb.setUint32(4, Number(isSlow), true);
      const program = bed.object.program(`ask_services${family}`);
      const change = (index: number) =>
        table.onUpdate({
          type: 'serviceUpdate',
          id: `default/s${family}-${index}`,
          service: randomService(random, family, index, 1 + random.below(12)),
        });
      for (let index = 1; index <= SERVICES; index++) change(index);
      await table.flush('here');
      bed.mapOf('answers').set(u32Key(0), new Uint8Array(answerNames.length * 8));
      let [isOver, flushes, runs] = [false, 0, 0];
      const asking = (async () => {
        while (!isOver) {
          expect((await program.run({ data: new Uint8Array(64), context, repeat })).returned).toBe(0);
          runs++;
        }
      })();
      let settling = Promise.resolve();
      try {
        const until = Date.now() + budgetMs;
        while (runs < 5 || flushes <= 10 || Date.now() < until) {
          for (let index = 1; index <= SERVICES; index++) change(index);
          await table.flush('here');
          flushes++;
          // In the background, as an agent does. What has no room would be refused for a while, so then it is waited for.
          settling = table.settle();
          if (table.figures[family].backends > 1500) await settling;
          expect(table.failed).toEqual([]);
          await new Promise(setImmediate);
        }
      } finally {
        isOver = true;
        await asking;
        await settling;
      }
      const seen = answers();
      process.stdout.write(`IPv${family}, ${manner}: ${flushes} flushes, ${JSON.stringify(seen)}\n`);
      expect(seen).toMatchObject({ noFrontend: 0, noBackend: 0, sctpPort: 0, foreign: 0 });
      expect(seen.backend + seen.unstable).toBe(runs * repeat * ask.questions);
      expect(seen.unstable).toBeLessThan(seen.backend / 1000);
      expect(flushes).toBeGreaterThan(10);
    },
  );
});
