import { beforeEach, describe, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { FakeClock } from '#api/fake-clock.ts';
import { checkText, problemLines } from './check-text.ts';
import { Preflight } from './preflight.ts';
import type { CheckResult } from './result.ts';

const problem: CheckResult = {
  id: 'firewalld',
  subject: '',
  outcome: 'no',
  detail: 'it is running',
  severity: 'blocks',
  disables: 'forwarding',
  todo: 'stop it',
};
const fine: CheckResult = { ...problem, outcome: 'yes', detail: 'none of its rules are there' };
const note: CheckResult = { ...problem, id: 'vxlan', severity: 'note', detail: 'EOPNOTSUPP' };

let clock: FakeClock;
let lines: { readonly msg: string; readonly check?: string }[];
let looks: number;
let answer: () => Promise<readonly CheckResult[]>;
let preflight: Preflight;
/** Lets what a timer began go on. */
const settle = () => new Promise((resolve) => setImmediate(resolve));
const advance = async (ms: number) => {
  clock.advance(ms);
  await settle();
};

beforeEach(() => {
  clock = new FakeClock();
  lines = [];
  looks = 0;
  answer = () => Promise.resolve([problem, note]);
  const check = () => {
    looks += 1;
    return answer();
  };
  preflight = new Preflight(check, clock, pino({}, { write: (line: string) => void lines.push(JSON.parse(line)) }));
});

describe("the agent's pre-flight", () => {
  test('waits until the agent is in sync and has had some seconds, and looks again every hour', async () => {
    preflight.start();
    await advance(10_000);
    preflight.inSync();
    await advance(2_999);
    expect(looks).toBe(0);
    expect(preflight.problems).toBeUndefined();
    await advance(1);
    expect(looks).toBe(1);
    await advance(3_599_999);
    expect(looks).toBe(1);
    await advance(1);
    expect(looks).toBe(2);
  });

  test('looks when the agent does not get in sync: the reason may be found here', async () => {
    preflight.start();
    await advance(30_000);
    expect(looks).toBe(1);
    preflight.inSync();
    await advance(10_000);
    expect(looks).toBe(1);
  });

  test('has all results, and of them what is not fine', async () => {
    await preflight.look();
    expect(preflight.results).toEqual([problem, note]);
    expect(preflight.problems).toEqual([problem]);
  });

  test('looks once for all who ask at the same time, and anew for who asks later', async () => {
    const [one, other] = await Promise.all([preflight.look(), preflight.look()]);
    expect(one).toBe(other);
    expect(looks).toBe(1);
    await preflight.look();
    expect(looks).toBe(2);
  });

  test('logs what comes, what changes and what is gone, each once', async () => {
    await preflight.look();
    await preflight.look();
    expect(lines).toMatchObject([{ check: 'firewalld', detail: 'it is running', todo: 'stop it' }]);
    answer = () => Promise.resolve([{ ...problem, detail: 'nft table inet firewalld' }]);
    await preflight.look();
    expect(lines).toHaveLength(2);
    answer = () => Promise.resolve([fine]);
    await preflight.look();
    expect(lines).toHaveLength(3);
    expect(lines[2]).toMatchObject({ check: 'firewalld', msg: expect.stringContaining('in order now') });
  });

  test('keeps the last results when a look fails, says so, and looks again an hour later', async () => {
    await preflight.look();
    answer = () => Promise.reject(new Error('EMFILE'));
    await advance(3_600_000);
    expect(preflight.problems).toEqual([problem]);
    expect(lines.at(-1)?.msg).toContain('could not be looked at');
    await advance(3_600_000);
    expect(looks).toBe(3);
  });

  test('ends after the look under way, and begins no other', async () => {
    const gate = Promise.withResolvers<readonly CheckResult[]>();
    answer = () => gate.promise;
    preflight.start();
    await advance(30_000);
    let hasEnded = false;
    const ended = preflight[Symbol.asyncDispose]().then(() => (hasEnded = true));
    await settle();
    expect(hasEnded).toBe(false);
    gate.resolve([]);
    await ended;
    await advance(7_200_000);
    expect(looks).toBe(1);
  });
});

describe('the text of a check', () => {
  test('has what is fine in a line, everything else with what it disables and what to do, and a conclusion', () => {
    expect(checkText([{ ...fine, id: 'veth' }, note, problem]).split('\n')).toEqual([
      'kernel',
      '  ok       veth: none of its rules are there',
      '  NOTE     vxlan: EOPNOTSUPP',
      '             without it: forwarding',
      '             to do: stop it',
      '',
      'node',
      '  BLOCKS   firewalld: it is running',
      '             without it: forwarding',
      '             to do: stop it',
      '',
      'Tortie does not work on this node as it is: 1 block, 0 degrade, 1 notes, 0 could not be told',
    ]);
  });

  test('names what was tried where it differs, and counts it where it does not', () => {
    const tried = (subject: string, detail: string): CheckResult => ({ ...fine, subject, detail });
    expect(checkText([tried('a', 'works'), tried('b', 'works')])).toContain('firewalld: works (2 tried)');
    expect(checkText([tried('a', '1'), tried('b', '2')])).toContain('firewalld: a: 1; b: 2');
  });

  test('says why something could not be told, and nothing about what to do', () => {
    expect(problemLines({ ...problem, outcome: 'unknown', subject: 'x', detail: 'EPERM\nmore' })).toEqual([
      'firewalld (x): EPERM',
      '  more',
    ]);
  });
});
