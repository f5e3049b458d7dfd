/** Random clusters' policies, compiled into the kernel's maps and judged there, against the messages judged as they stand. */
import { expect, test } from '@jest/globals';
import { seededRandom, soakMs } from '#test/lab/agent-lab.ts';
import { CalcSide, eventsBetween, eventsFor, nodeNames } from '#test/oracle/calc-side.ts';
import { changed, imaginaryGround, randomCluster, randomPacket } from '#test/oracle/generate.ts';
import { Random } from '#test/oracle/random.ts';
import { KernelSide } from './classifier-kernel-side.ts';

const budgetMs = soakMs(4);

test(
  'clusters: the kernel says what the messages say, by the same rules, change after change',
  async () => {
    const random = new Random(seededRandom('bpf-classifier-oracle, clusters'));
    const end = Date.now() + budgetMs;
    let checked = 0;
    while (Date.now() < end || checked === 0) {
      using kernel = await KernelSide.create();
      const ground = imaginaryGround(random);
      let docs = randomCluster(random, ground);
      const names = nodeNames(docs);
      const here = random.pick(names);
      const calc = new CalcSide(names, (node, updates) => {
        if (node === here) kernel.take(updates);
      });
      for (const event of eventsFor(docs)) calc.handle(event);
      for (let change = 0; change <= 6; change += 1) {
        await kernel.flush();
        for (let i = 0; i < 40; i += 1) checked += kernel.check(randomPacket(random, docs, { real: false }));
        if (random.chance(0.3)) await kernel.settle();
        const next = changed(random, ground, docs);
        for (const event of eventsBetween(docs, next)) calc.handle(event);
        calc.handle({ do: 'flush' });
        docs = next;
      }
    }
    process.stdout.write(`${checked} verdicts\n`);
    expect(checked).toBeGreaterThan(0);
  },
  budgetMs + 180_000,
);
