/** The generator is worth something when what it makes is valid, and when both answers are frequent. */
import { describe, expect, it } from '@jest/globals';
import { parseObject } from '#api/kinds.ts';
import { seededRandom } from '#test/lab/agent-lab.ts';
import { changed, imaginaryGround, randomCluster, randomPacket } from './generate.ts';
import { Random } from './random.ts';
import { Reference } from './reference.ts';

const clusters = 60;
const packetsEach = 30;

describe('random clusters', () => {
  const random = new Random(seededRandom('random clusters'));

  it('are of valid objects, also after changes', () => {
    for (let count = 0; count < clusters; count++) {
      const ground = imaginaryGround(random);
      for (const doc of changed(random, ground, randomCluster(random, ground))) {
        try {
          parseObject(doc);
        } catch (error) {
          throw new Error(`${String(error)}: ${JSON.stringify(doc)}`, { cause: error });
        }
      }
    }
  });

  it('allow and deny a good part of the packets each', () => {
    let allowed = 0;
    const reasons = new Set<string>();
    for (let count = 0; count < clusters; count++) {
      const ground = imaginaryGround(random);
      const docs = randomCluster(random, ground);
      const reference = new Reference(docs);
      for (let packet = 0; packet < packetsEach; packet++) {
        const verdict = reference.judge(randomPacket(random, docs, { real: false }));
        if (verdict.allowed) allowed++;
        for (const because of verdict.because) reasons.add(because.replace(/.* by (\w+) .*/, '$1'));
      }
    }
    const share = allowed / (clusters * packetsEach);
    process.stdout.write(`allowed: ${Math.round(share * 100)} %; decided by: ${[...reasons].join(', ')}\n`);
    expect(share).toBeGreaterThan(0.25);
    expect(share).toBeLessThan(0.75);
  });
});
