import { beforeAll, describe, expect, test } from '@jest/globals';
import { compareCounts, type Counts, countInstructions, readRecords, recordLine } from '../bpf/instructions.ts';

const line = recordLine();
const recorded = readRecords()[line];
describe('what is installed', () => {
  let counts: Counts;

  beforeAll(async () => {
    counts = await countInstructions();
    if (recorded === undefined) process.stdout.write(`with ${line}: ${JSON.stringify(counts)}\n`);
  });

  (recorded === undefined ? test.skip : test)(
    `no program costs the verifier 10 % more than is recorded${recorded === undefined ? `: bpf/instructions.json has nothing for ${line}` : ''}`,
    () => {
      const { wrong, told } = compareCounts(counts, recorded ?? {});
      for (const words of told) process.stdout.write(`${words} (make bpf-instructions records it)\n`);
      if (wrong.length > 0)
        throw new Error(
          `with ${line}:\n${wrong.join('\n')}\nIf it is worth that, run make bpf-instructions and commit bpf/instructions.json.`,
        );
    },
  );

  test('no program is anywhere near the limit of a million', () => {
    expect(Object.entries(counts).filter(([, count]) => count > 200_000)).toEqual([]);
  });
});

describe('a comparison', () => {
  const known = { 'x/same': 1000, 'x/more': 1000, 'x/less': 1000, 'x/gone': 10 };
  test.each([
    ['is silent about 10 % more', { 'x/more': 1100 }, [], 3],
    ['blames more than that', { 'x/more': 1101 }, ['x/more: 1101 instructions, recorded are 1000'], 3],
    ['blames what is not recorded', { 'x/new': 5 }, ['x/new: 5 instructions, and nothing is recorded'], 4],
    ['tells of less', { 'x/less': 899 }, [], 4],
  ])('%s', (_, made, wrong, told) => {
    const found = compareCounts(made, known);
    expect(found.wrong).toEqual(wrong);
    expect(found.told).toHaveLength(told);
  });
});
