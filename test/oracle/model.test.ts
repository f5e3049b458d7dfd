/** Objects through calc to messages, against the reference: many clusters a second, no kernel. */
import { expect, it } from '@jest/globals';
import { seededRandom, soakMs } from '#test/lab/agent-lab.ts';
import { CalcSide, eventsBetween, nodeNames, type ClusterEvent } from './calc-side.ts';
import type { Doc } from './cluster.ts';
import { changed, imaginaryGround, randomCluster, randomPacket } from './generate.ts';
import { docsAfter, explainDifference } from './model-case.ts';
import { Random } from './random.ts';
import { Reference } from './reference.ts';

const budgetMs = soakMs(15);
const changesEach = 8;
const packetsEach = 12;

/** The cluster's objects in any order, some said in between. */
function beginning(random: Random, docs: readonly Doc[]): ClusterEvent[] {
  const left = [...docs];
  const events: ClusterEvent[] = [];
  while (left.length > 0) {
    events.push(...left.splice(random.below(left.length), 1).map((doc) => ({ do: 'set', doc }) as const));
    if (random.chance(0.1)) events.push({ do: 'flush' });
  }
  return [...events, { do: 'flush' }];
}

it(
  'calc says what the reference says, whatever the cluster and whatever happened before',
  async () => {
    const random = new Random(seededRandom('oracle, model'));
    const figures = { clusters: 0, packets: 0, allowed: 0 };
    const end = Date.now() + budgetMs;
    while (Date.now() < end) {
      figures.clusters++;
      const ground = imaginaryGround(random);
      let docs = randomCluster(random, ground);
      const events: ClusterEvent[] = beginning(random, docs);
      const side = new CalcSide(nodeNames(docs));
      let done = 0;
      for (let change = 0; change <= changesEach; change++) {
        if (change > 0) {
          const next = changed(random, ground, docs);
          events.push(...eventsBetween(docs, next, () => random.chance(0.02)));
          docs = next;
          // Changes that come together are squashed.
          if (random.chance(0.3) && change < changesEach) continue;
          events.push({ do: 'flush' });
        }
        const packets = Array.from({ length: packetsEach }, () => randomPacket(random, docs, { real: false }));
        try {
          for (; done < events.length; done++) side.handle(events[done]!);
        } catch {
          throw new Error(await explainDifference({ events: [...events.slice(0, done + 1)], packet: packets[0]! }));
        }
        const reference = new Reference(docsAfter(events));
        for (const packet of packets) {
          figures.packets++;
          const { allowed } = reference.judge(packet);
          if (allowed) figures.allowed++;
          if (side.judge(packet).allowed !== allowed) throw new Error(await explainDifference({ events, packet }));
        }
      }
    }
    const share = figures.allowed / figures.packets;
    process.stdout.write(
      `${figures.clusters} clusters, ${figures.packets} packets, ${Math.round(100 * share)} % allowed\n`,
    );
    expect(share).toBeGreaterThan(0.2);
    expect(share).toBeLessThan(0.8);
  },
  budgetMs + 120_000,
);
