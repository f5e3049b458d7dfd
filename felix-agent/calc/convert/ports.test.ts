import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { groupPorts, parsePorts, simplePorts } from './ports.ts';

describe('ports', () => {
  test.each([
    [[], [], []],
    [[80], [[80, 80]], []],
    [['80', '81:90', 91], [[80, 91]], []],
    [['http', 'dns', 'http'], [], ['dns', 'http']],
    [
      [1, 3, '65535:65535', '2000:3000', '2500:2600'],
      [
        [1, 1],
        [3, 3],
        [2000, 3000],
        [65535, 65535],
      ],
      [],
    ],
  ])('%j', (ports, ranges, names) => {
    expect(parsePorts(ports)).toEqual({ ranges: ranges.map(([min, max]) => ({ min, max })), names });
  });

  test.each([['0'], ['90:80'], ['65536'], ['a b'], [0], [65536]])('%j is refused', (port) => {
    expect(() => parsePorts([port])).toThrow(expect.objectContaining({ code: 'bad-rule' }));
  });
});

test('ranges are the same ports as before, ascending, and as few as can be', () => {
  const range = fc
    .tuple(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 0, max: 6 }))
    .map(([min, more]) => ({ kind: 'range' as const, min, max: min + more }));
  fc.assert(
    fc.property(fc.array(range, { maxLength: 12 }), (given) => {
      const { ranges } = simplePorts(given);
      const covers = (list: readonly { min: number; max: number }[], port: number) =>
        list.some(({ min, max }) => min <= port && port <= max);
      for (let port = 0; port <= 70; port++) {
        expect(covers(ranges, port)).toBe(covers(given, port));
      }
      for (const [index, { min }] of ranges.entries()) {
        expect(index === 0 || min > (ranges[index - 1]?.max ?? 0) + 1).toBe(true);
      }
    }),
    { seed: Date.now() & 0x7fffffff, numRuns: 500, interruptAfterTimeLimit: 1500 },
  );
});

test('no entries are everything, and all of a protocol is all of it alone', () => {
  expect(groupPorts([])).toEqual([{}]);
  expect(
    groupPorts([
      { protocol: 17, port: 'all' },
      { protocol: 17, port: { kind: 'name', name: 'dns' } },
      { protocol: 6, port: { kind: 'name', name: 'http' } },
    ]),
  ).toEqual([{ protocol: 6, ports: { ranges: [], names: ['http'] } }, { protocol: 17 }]);
});
