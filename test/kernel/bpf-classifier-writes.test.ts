/** What the classifier writes into the kernel's maps, judged by the program that reads them, against the messages judged as they stand. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Classifier, type ClassifierUpdate } from '#dataplanes/ebpf/classifier/classifier.ts';
import type { MapWrite } from '#dataplanes/ebpf/classifier/classifier-maps.ts';
import { type ClassifierMap, KernelMaps, type WriteManner } from '#dataplanes/ebpf/classifier/kernel-maps.ts';
import { unitLists } from '#dataplanes/ebpf/classifier/unit-lists.ts';
import type { Unit } from '#dataplanes/ebpf/classifier/units.ts';
import { RuleAction } from '#dataplanes/ebpf/bpf-types.gen.ts';
import type { WorkloadEndpointInfo } from '#dataplanes/messages.ts';
import type { BpfMap, MapElement } from '#native/bpf.ts';
import { seededRandom, soakMs } from '#test/lab/agent-lab.ts';
import { MessageEvaluator } from '#test/oracle/evaluate-messages.ts';
import { DenseNode } from '#test/oracle/generate-messages.ts';
import { Random } from '#test/oracle/random.ts';
import { packetText } from '#test/oracle/report.ts';
import { ClassifierBed } from './classifier-bed.ts';

const budgetMs = soakMs(2);
let bed: ClassifierBed;

beforeAll(async () => {
  bed = await ClassifierBed.load();
});
afterAll(() => (bed as ClassifierBed | undefined)?.[Symbol.dispose]());

/** The rows, which nobody may write twice: a lookup reads them without a second look (bpf/search.h). */
function rowsOnce(map: BpfMap): ClassifierMap {
  const check = (key: Uint8Array) => {
    if (map.get(key) !== undefined)
      throw new Error(`row ${Buffer.from(key).toString('hex')} is there and written again`);
  };
  return {
    shape: map.shape,
    set: (key, value) => {
      check(key);
      map.set(key, value);
    },
    setMany: async (elements) => {
      for (const { key } of elements as readonly MapElement[]) check(key);
      await map.setMany(elements);
    },
    delete: (key) => map.delete(key),
    deleteMany: (keys) => map.deleteMany(keys),
    mmap: () => map.mmap(),
  };
}

test.each<[string, WriteManner]>([
  ['few at once singly, many by workers', {}],
  ['all by workers', { singly: 0 }],
])(
  'random messages, %s: the kernel decides by the same rule, and its maps are empty in the end',
  async (manner, how) => {
    using maps = new KernelMaps(
      (name) => (name === 'tortie_rows' ? rowsOnce(bed.map(name)) : bed.map(name)),
      (name) => `${name}Size`,
      how,
    );
    const random = new Random(seededRandom(`classifier, kernel maps, ${manner}`));
    const end = Date.now() + budgetMs;
    let decisions = 0;
    while (Date.now() < end || decisions <= 10) {
      const node = new DenseNode(random);
      const evaluator = new MessageEvaluator();
      const classifier = new Classifier(maps);
      const pods = new Map<string, WorkloadEndpointInfo>();
      let units = new Map<string, Unit>();
      for (let change = 0; change < 20 && (change < 3 || Date.now() < end); change++) {
        const updates = change === 0 ? node.begin() : node.change();
        evaluator.apply(updates);
        for (const update of updates) {
          if (update.type === 'workloadEndpointUpdate') pods.set(update.id, update.endpoint);
          else classifier.onUpdate(update as ClassifierUpdate);
        }
        const before = [...units.values()];
        units = new Map(
          [...pods.values()].flatMap((pod) =>
            (['ingress', 'egress'] as const).flatMap((direction) =>
              ([4, 6] as const).map((family) => [
                `${pod.ipv4Nets[0]?.split('/')[0]} ${direction} ${family}`,
                classifier.acquire(unitLists('endpoint', direction, family, pod)),
              ]),
            ),
          ),
        );
        await classifier.flush();
        for (const unit of before) classifier.release(unit);
        for (let count = 0; count < 5; count++) {
          const packet = node.packet();
          for (const [about, unit] of units) {
            const [address, direction, family] = about.split(' ') as [string, 'ingress' | 'egress', string];
            if (packet.from.includes(':') !== (family === '6')) continue;
            const decision = bed.judge(unit.number, packet);
            const wanted = evaluator.decide(address, direction, packet);
            const { form, firstRule } = unit.published!.compiled;
            const action = decision.action === RuleAction.allow ? 'allow' : 'deny';
            const reason = form.ruleIds[decision.rule - firstRule];
            if (action !== wanted.action || reason !== wanted.reason)
              throw new Error(
                `${about}, ${packetText(packet)}: ${action} by ${reason}, should be ${wanted.action} by ${wanted.reason}`,
              );
            decisions++;
          }
        }
        if (random.chance(0.4)) await classifier.settle();
      }
      for (const unit of units.values()) classifier.release(unit);
      await classifier.flush();
      await classifier.settle();
      for (const name of ['addr4', 'addr6', 'net4', 'net6', 'named4', 'named6', 'rows']) {
        expect(await bed.map(`tortie_${name}`).entries()).toEqual([]);
      }
    }
    process.stdout.write(`${decisions} decisions\n`);
    expect(decisions).toBeGreaterThan(10);
  },
  budgetMs + 240_000,
);

test('a map that is full says how many of the writes were made, and they are', async () => {
  using small = await ClassifierBed.load({ tortie_addr4: 64 });
  for (const singly of [0, 1000]) {
    using maps = new KernelMaps(
      (name) => small.map(name),
      (name) => `${name}Size`,
      { singly },
    );
    const write = (index: number, cls: number | undefined): MapWrite => {
      const value = cls === undefined ? undefined : { class: cls, hop: 0 };
      return { map: 'addresses', family: 4, address: 0x0a00_0000 + index, prefix: 32, value };
    };
    const writes = Array.from({ length: 100 }, (_, index) => write(index, 1));
    await expect(maps.write(writes)).rejects.toMatchObject({ name: 'WriteFailure', code: 'E2BIG', made: 64 });
    const keys = (await small.map('tortie_addr4').entries()).map(({ key }) => key[3] ?? 0).sort((a, b) => a - b);
    expect(keys).toEqual(Array.from({ length: 64 }, (_, index) => index));
    await maps.write(writes.map((_, index) => write(index, undefined)));
    expect(await small.map('tortie_addr4').entries()).toEqual([]);
  }
});
