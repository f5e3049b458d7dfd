/** Floods: flows that nobody answers, and flows that all are answered, in great number beside those that are established. */
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { flowMapShapes } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { flowLayouts } from '#dataplanes/ebpf/flows/flow-maps.ts';
import { FlowBed } from './bpf-flow-bed.ts';
import type { Version } from './classifier-bed.ts';
import { Flood, type FloodStep, takeVerdicts } from './ebpf-flood-bed.ts';

/** SYNs of each kind: a few hundred thousand, or five million with SOAK_SECONDS. */
const syns = process.env['SOAK_SECONDS'] === undefined ? 200_000 : 5_000_000;
const pieces = 5;
jest.setTimeout(600_000);

const hashes = (version: Version): readonly string[] =>
  Object.keys(flowMapShapes).filter((name) => name.startsWith(`tortie_flow${version}`));
/** The size of every node. */
const newFlows = flowMapShapes.tortie_new4.maxEntries;
/** Room for answered flows, in each of the four hashes. */
const room = 2048;
const versions = [4, 6] as const;

/** Connections of each pair; none of them has a tuple that a flood uses. */
const each = 32;
/** Number `i` of a pair: how it is opened, and what its packets do from then on. */
const pairs = [
  {
    open: (i: number) => [
      `one sends tcp S one:${20_000 + i} > two:8080`,
      `two sends tcp SA two:8080 > one:${20_000 + i}`,
    ],
    go: (i: number) => [
      [`one sends tcp A one:${20_000 + i} > two:8080`, 'pod two'],
      [`two sends tcp A two:8080 > one:${20_000 + i}`, 'pod one'],
    ],
  },
  {
    open: (i: number) => [
      `one sends tcp S one:${20_000 + i} > away:443`,
      `one gets tcp SA away:443 > one:${20_000 + i}`,
    ],
    go: (i: number) => [
      [`one sends tcp A one:${20_000 + i} > away:443`, 'stack'],
      [`one gets tcp A away:443 > one:${20_000 + i}`, 'passed'],
    ],
  },
  {
    open: (i: number) => [
      `two gets tcp S away:${20_000 + i} > two:443`,
      `two sends tcp SA two:443 > away:${20_000 + i}`,
    ],
    go: (i: number) => [
      [`two gets tcp A away:${20_000 + i} > two:443`, 'passed'],
      [`two sends tcp A two:443 > away:${20_000 + i}`, 'stack'],
    ],
  },
] as const;

function establish(bed: FlowBed, version: Version): void {
  for (const { open } of pairs) for (let i = 0; i < each; i += 1) for (const step of open(i)) bed.run(version, step);
  keepGoing(bed, version);
}

function keepGoing(bed: FlowBed, version: Version): void {
  const expected: string[] = [];
  const found: string[] = [];
  for (const { go } of pairs)
    for (let i = 0; i < each; i += 1)
      for (const [step = '', way] of go(i)) {
        expected.push(`${step}: ${way}`);
        found.push(`${step}: ${bed.run(version, step)}`);
      }
  expect(found).toEqual(expected);
}

/** The answered records, sorted: key and state, with the cookie. The same flow has the same line as long as it lives. */
async function answered(bed: FlowBed, version: Version): Promise<string[]> {
  const lines: string[] = [];
  for (const name of hashes(version))
    for (const { key, value } of await bed.map(name).entries()) {
      const state = value.subarray(flowLayouts[version].Record.offsets.state);
      lines.push(`${Buffer.from(key).toString('hex')} ${Buffer.from(state).toString('hex')}`);
    }
  return lines.sort();
}

const added = (
  one: Readonly<Record<string, number>>,
  other: Readonly<Record<string, number>>,
): Record<string, number> => {
  const sum: Record<string, number> = { ...one };
  for (const [name, count] of Object.entries(other)) sum[name] = (sum[name] ?? 0) + count;
  return sum;
};

const unanswered: readonly { readonly name: string; readonly step: FloodStep; readonly verdict: string }[] = [
  {
    name: 'from a pod to all the world',
    step: { way: 'sends', packet: 'tcp S one:0 > away:80', low: 'source port', high: 'destination' },
    verdict: 'out passed',
  },
  {
    name: 'from a pod to a pod of the node',
    step: { way: 'sends', packet: 'tcp S one:0 > two:0', low: 'source port', high: 'destination port' },
    verdict: 'out passed',
  },
  {
    name: 'from all the world to a pod',
    step: { way: 'gets', packet: 'tcp S away:0 > one:80', low: 'source port', high: 'source' },
    verdict: 'in passed',
  },
];

describe.each(versions)('IPv%i', (version) => {
  let bed: FlowBed;
  beforeAll(async () => {
    const sizes = Object.fromEntries(hashes(version).map((name) => [name, room]));
    bed = await FlowBed.create({ ...sizes, [`tortie_new${version}`]: newFlows });
  });
  afterAll(async () => await (bed as FlowBed | undefined)?.[Symbol.asyncDispose]());
  afterEach(async () => await bed.reset());

  test.each(unanswered)(`${syns} SYNs $name: what is established stays and passes`, async ({ step, verdict }) => {
    establish(bed, version);
    const before = await answered(bed, version);
    expect(before).toHaveLength(pairs.length * each);
    using flood = await Flood.make(bed, version, 'one', [step]);
    let verdicts = {};
    for (let piece = 0; piece < pieces; piece += 1) {
      takeVerdicts(bed, 'one');
      await flood.run(syns / pieces);
      verdicts = added(verdicts, takeVerdicts(bed, 'one'));
      keepGoing(bed, version);
    }
    expect(verdicts).toEqual({ [verdict]: syns });
    expect(await answered(bed, version)).toEqual(before);
    // As many as it holds, and no more.
    const waiting = (await bed.map(`tortie_new${version}`).entries()).length;
    expect(waiting).toBeLessThanOrEqual(newFlows);
    expect(waiting).toBeGreaterThan(newFlows / 2);
  });

  test('two floods at once, on two processors', async () => {
    establish(bed, version);
    const before = await answered(bed, version);
    const kinds = unanswered.filter(({ step }) => step.high !== 'destination port');
    await using floods = new AsyncDisposableStack();
    const running = await Promise.all(
      kinds.map(async ({ step }) => floods.use(await Flood.make(bed, version, 'one', [step]))),
    );
    await Promise.all(running.map((flood) => flood.run(syns / 2)));
    const half = syns / 2;
    expect(takeVerdicts(bed, 'one')).toMatchObject({ 'out passed': half, 'in passed': half });
    expect(await answered(bed, version)).toEqual(before);
    keepGoing(bed, version);
  });

  test('who opens a connection in a flood and is answered soon has it', async () => {
    const step = unanswered[0]!.step;
    using flood = await Flood.make(bed, version, 'one', [step]);
    // Nothing is free any more.
    await flood.run(2 * newFlows);
    for (const { open, go } of pairs) {
      const [ask = '', answer = ''] = open(0);
      bed.run(version, ask);
      await flood.run(newFlows / 16);
      bed.run(version, answer);
      await flood.run(2 * newFlows);
      for (const [packet = '', way] of go(0)) expect(bed.run(version, packet)).toBe(way);
    }
  });

  test('flows that all are answered: once the tables are full the next ones are refused, and what is established passes', async () => {
    establish(bed, version);
    const before = await answered(bed, version);
    using flood = await Flood.make(bed, version, 'one', [
      { way: 'sends', packet: 'tcp S one:0 > away:80', low: 'source port', high: 'destination' },
      { way: 'gets', packet: 'tcp SA away:80 > one:0', low: 'destination port', high: 'source' },
      { way: 'sends', packet: 'tcp A one:0 > away:80', low: 'source port', high: 'destination' },
    ]);
    const flows = 4 * room * hashes(version).length;
    takeVerdicts(bed, 'one');
    await flood.run(flows);
    const { 'out passed': passed = 0, 'out conntrack-full': refused = 0, ...others } = takeVerdicts(bed, 'one');
    expect(others).toEqual({ 'in passed': flows });
    expect(passed + refused).toBe(2 * flows);
    const taken = flows - refused;
    const after = new Set(await answered(bed, version));
    expect(after.size).toBe(before.length + taken);
    // All four are full: the flood is spread over them.
    expect(after.size).toBe(room * hashes(version).length);
    expect(before.filter((flow) => !after.has(flow))).toEqual([]);
    keepGoing(bed, version);
    // Nobody gets a place; ask and answer take none.
    const [ask = '', answer = ''] = pairs[2].open(each + 1);
    expect(bed.run(version, ask)).toBe('passed');
    expect(bed.run(version, answer)).toBe('stack');
    expect(bed.run(version, pairs[2].go(each + 1)[0]?.[0] ?? '')).toBe('dropped: conntrack-full');
  });

  test(`${syns} SYNs with made-up sources to a port that answers them all take no place of those who mean it`, async () => {
    establish(bed, version);
    const before = await answered(bed, version);
    using flood = await Flood.make(bed, version, 'one', [
      { way: 'gets', packet: 'tcp S away:0 > one:80', low: 'source port', high: 'source' },
      { way: 'sends', packet: 'tcp SA one:80 > away:0', low: 'destination port', high: 'destination' },
    ]);
    let verdicts = {};
    for (let piece = 1; piece <= pieces; piece += 1) {
      takeVerdicts(bed, 'one');
      await flood.run(syns / pieces);
      verdicts = added(verdicts, takeVerdicts(bed, 'one'));
      keepGoing(bed, version);
      // Who comes now is answered, and stays.
      for (const { open, go } of pairs)
        for (const step of [...open(each + piece), go(each + piece)[0]?.[0] ?? '']) bed.run(version, step);
    }
    expect(verdicts).toEqual({ 'in passed': syns, 'out passed': syns });
    const after = new Set(await answered(bed, version));
    expect(before.filter((flow) => !after.has(flow))).toEqual([]);
    expect(after.size).toBe(before.length + pairs.length * pieces);
  });
});
