/** Messages through the classifier to the kernel's maps, against the messages judged as they stand. */
import { expect, it } from '@jest/globals';
import { seededRandom, soakMs } from '#test/lab/agent-lab.ts';
import { CalcSide, eventsBetween, eventsFor, nodeNames } from './calc-side.ts';
import { ClassifierSide } from './classifier-side.ts';
import { DenseNode, hopNets } from './generate-messages.ts';
import { changed, imaginaryGround, randomCluster, randomPacket } from './generate.ts';
import { Random } from './random.ts';

const budgetMs = soakMs(5);
const changesEach = 8;
const packetsEach = 10;

it(
  'clusters: the maps say what the messages say, at every write the old or the new, and nothing is left in the end',
  async () => {
    const random = new Random(seededRandom('oracle, classifier'));
    const figures = { clusters: 0, flushes: 0, probes: 0 };
    const end = Date.now() + budgetMs;
    while (Date.now() < end) {
      figures.clusters++;
      const ground = imaginaryGround(random);
      let docs = randomCluster(random, ground);
      const names = nodeNames(docs);
      const nodes = new Map(names.map((name) => [name, new ClassifierSide(random)]));
      const side = new CalcSide(names, (name, updates) => nodes.get(name)?.take(updates));
      for (const event of eventsFor(docs)) side.handle(event);
      for (let change = 0; change <= changesEach; change++) {
        if (change > 0) {
          const next = changed(random, ground, docs);
          for (const event of eventsBetween(docs, next)) side.handle(event);
          side.handle({ do: 'flush' });
          docs = next;
          // Changes that come together are made together.
          if (random.chance(0.3) && change < changesEach) continue;
        }
        const packets = Array.from({ length: packetsEach }, () => randomPacket(random, docs, { real: false }));
        for (const node of nodes.values()) {
          node.follow();
          figures.flushes++;
          figures.probes += await node.flush(packets);
          if (random.chance(0.5)) await node.settle(packets);
        }
      }
      for (const node of nodes.values()) await node.end();
    }
    process.stdout.write(`${JSON.stringify(figures)}\n`);
    expect(figures.probes).toBeGreaterThan(100);
  },
  budgetMs + 60_000,
);

it(
  'few addresses in many sets that change together: no packet meets a mixture of old and new',
  async () => {
    const random = new Random(seededRandom('oracle, classifier, dense'));
    const end = Date.now() + budgetMs;
    let flushes = 0;
    while (Date.now() < end) {
      const node = new DenseNode(random);
      const side = new ClassifierSide(random);
      side.take(node.begin());
      for (let change = 0; change < 30; change++) {
        side.take(node.change());
        if (random.chance(0.3)) side.changeHop(random.pick(hopNets));
        side.follow();
        const packets = Array.from({ length: 6 }, () => node.packet());
        await side.flush(packets, () => side.take(node.change()));
        flushes++;
        // Words of units that were replaced are free behind a grace period: an agent waits for one after each flush.
        if (random.chance(0.4) || isHalfFull(side)) await side.settle(packets);
      }
      await side.end();
    }
    process.stdout.write(`${flushes} flushes\n`);
    expect(flushes).toBeGreaterThan(10);
  },
  budgetMs + 60_000,
);

/** True where what was replaced since the last grace period may soon leave no room for what replaces it. */
function isHalfFull({ classifier, twin }: ClassifierSide): boolean {
  return 2 * classifier.figures.ruleWords > twin.sizes.tortie_rules.entries;
}
