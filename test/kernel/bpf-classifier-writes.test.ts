/** What the classifier writes into the kernel's maps, judged by the program that reads them, against the messages judged as they stand. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Classifier, type ClassifierUpdate } from '#dataplanes/ebpf/classifier/classifier.ts';
import { KernelMaps } from '#dataplanes/ebpf/classifier/kernel-maps.ts';
import { unitLists } from '#dataplanes/ebpf/classifier/unit-lists.ts';
import type { Unit } from '#dataplanes/ebpf/classifier/units.ts';
import { RuleAction } from '#dataplanes/ebpf/bpf-types.gen.ts';
import type { WorkloadEndpointInfo } from '#dataplanes/messages.ts';
import { seededRandom, soakMs } from '#test/lab/agent-lab.ts';
import { MessageEvaluator } from '#test/oracle/evaluate-messages.ts';
import { DenseNode } from '#test/oracle/generate-messages.ts';
import { Random } from '#test/oracle/random.ts';
import { packetText } from '#test/oracle/report.ts';
import { ClassifierBed } from './classifier-bed.ts';

const budgetMs = soakMs(4);
let bed: ClassifierBed;
let maps: KernelMaps;

beforeAll(async () => {
  bed = await ClassifierBed.load();
  maps = new KernelMaps(
    (name) => bed.map(name),
    (name) => `${name}Size`,
  );
});
afterAll(() => {
  (maps as KernelMaps | undefined)?.[Symbol.dispose]();
  (bed as ClassifierBed | undefined)?.[Symbol.dispose]();
});

test(
  'random messages: the kernel decides by the same rule, and its maps are empty in the end',
  async () => {
    const random = new Random(seededRandom('classifier, kernel maps'));
    const end = Date.now() + budgetMs;
    let decisions = 0;
    while (Date.now() < end) {
      const node = new DenseNode(random);
      const evaluator = new MessageEvaluator();
      const classifier = new Classifier(maps);
      const pods = new Map<string, WorkloadEndpointInfo>();
      let units = new Map<string, Unit>();
      for (let change = 0; change < 20; change++) {
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
  budgetMs + 60_000,
);
