/** The oracle must be able to say no: mistakes that are put into calc's side are found, and told with little besides. */
import { describe, expect, it } from '@jest/globals';
import { parseAllDocuments } from 'yaml';
import { CalcSide, eventsFor, nodeNames, type ClusterEvent } from './calc-side.ts';
import type { Doc } from './cluster.ts';
import { imaginaryGround, randomCluster, randomPacket } from './generate.ts';
import { explainDifference, type ProductSide } from './model-case.ts';
import type { Packet } from './policy-model.ts';
import { Random } from './random.ts';
import { Reference } from './reference.ts';

/** Calc as it is, but for what `handle` changes in the objects on their way. */
function withMistake(mistake: (doc: Doc) => Doc): (docs: readonly Doc[]) => ProductSide {
  return (docs) => {
    const side = new CalcSide(nodeNames(docs));
    const handle = (event: ClusterEvent) => side.handle('doc' in event ? { ...event, doc: mistake(event.doc) } : event);
    return { handle, judge: (packet) => side.judge(packet) };
  };
}

/** The first random cluster and packet for which this side is wrong. */
function firstDifference(random: Random, makeSide: (docs: readonly Doc[]) => ProductSide): [readonly Doc[], Packet] {
  for (let tries = 0; tries < 1_000; tries++) {
    const docs = randomCluster(random, imaginaryGround(random));
    const side = makeSide(docs);
    for (const event of eventsFor(docs)) side.handle(event);
    const reference = new Reference(docs);
    for (let count = 0; count < 20; count++) {
      const packet = randomPacket(random, docs, { real: false });
      if (side.judge(packet).allowed !== reference.judge(packet).allowed) return [docs, packet];
    }
  }
  throw new Error('nothing was found');
}

/** The objects of a report. */
function docsOf(report: string): Doc[] {
  return parseAllDocuments(report.slice(report.indexOf('apiVersion:'))).map((document) => document.toJS() as Doc);
}

describe('a mistake is found and told with few objects', () => {
  // Always the same numbers (Park and Miller's): what is tested here is the search.
  let state = 1;
  const random = new Random(() => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647);

  const passDenies = (key: string, value: unknown) => (key === 'action' && value === 'Pass' ? 'Deny' : value);
  const isPolicy = ({ kind }: Doc) => kind.endsWith('Policy');

  it.each<[string, string, (doc: Doc) => boolean, (key: string, value: unknown) => unknown]>([
    ['except is lost', '"except":', isPolicy, (key, value) => (key === 'except' ? undefined : value)],
    ['notSelector is lost', '"notSelector":', isPolicy, (key, value) => (key === 'notSelector' ? undefined : value)],
    ['Pass denies', '"Pass"', isPolicy, passDenies],
    ['Pass of a profile denies', '"Pass"', ({ kind }) => kind === 'Profile', passDenies],
    ['the order is lost', '"order":', isPolicy, (key, value) => (key === 'order' ? 7 : value)],
  ])('%s', async (_, needed, isMeant, mistake) => {
    const makeSide = withMistake((doc) => (isMeant(doc) ? (JSON.parse(JSON.stringify(doc), mistake) as Doc) : doc));
    const [docs, packet] = firstDifference(random, makeSide);
    const report = await explainDifference({ events: eventsFor(docs), packet }, makeSide);
    const told = docsOf(report);
    expect(JSON.stringify(told)).toContain(needed);
    expect(told.length).toBeLessThanOrEqual(5);
    expect(report).toMatch(/^packet: .*\nreference: (allowed|denied)/);
  });
});
