/** Lookups that stop after each of their reads, while changes are written: each is judged as before or as after. */
import { expect, test } from '@jest/globals';
import type { RuleInfo } from '../../policy.ts';
import { from, lists, nobody, packet, policy, rule, start } from './rules-for-tests.ts';
import type { TwinDecision } from './twin-for-tests.ts';

const notFrom = (...notSets: string[]): Partial<RuleInfo> => ({ source: { ...nobody, notSets } });
/** More reads than a lookup has. */
const READS = 40;

interface Case {
  readonly about: string;
  readonly sets: Readonly<Record<string, readonly string[]>>;
  readonly rules: readonly RuleInfo[];
  /** Of other units. */
  readonly others: readonly RuleInfo[];
  /** Each is flushed by itself: sets with what is added and removed, or other units that come. */
  readonly changes: readonly {
    readonly deltas?: Readonly<Record<string, readonly [added: string[], removed: string[]]>>;
    readonly rules?: readonly RuleInfo[];
    readonly otherComes?: boolean;
  }[];
  readonly packet?: Partial<typeof packet>;
  readonly allowed: readonly string[];
}

const cases: readonly Case[] = [
  {
    about: 'a network that both ends are in joins a set that one end must be in and the other must not',
    sets: { s: ['192.0.2.0/24'], x: ['10.0.0.0/24'] },
    rules: [rule('a', { source: { ...nobody, sets: ['s'] }, destination: { ...nobody, notSets: ['s'] } })],
    others: [rule('o', from('x'))],
    changes: [{ otherComes: true }, { deltas: { s: [['10.0.0.0/24'], []] } }],
    allowed: ['deny'],
  },
  {
    about: 'an address that talks to itself leaves such a set',
    sets: { s: ['10.0.0.1/32'], x: ['10.0.0.1/32'] },
    rules: [rule('a', { source: { ...nobody, notSets: ['s'] }, destination: { ...nobody, sets: ['s'] } })],
    others: [],
    changes: [{ deltas: { s: [[], ['10.0.0.1/32']] } }],
    packet: { to: '10.0.0.1' },
    allowed: ['deny'],
  },
  {
    about: 'a record that was replaced is being read when another policy names a set more',
    sets: { s: ['10.0.0.1/32'], t: ['10.0.0.1/32'] },
    rules: [rule('a', notFrom('s'))],
    others: [rule('o', from('t'))],
    changes: [{ rules: [rule('b', notFrom('s'))] }, { otherComes: true }],
    allowed: ['deny'],
  },
  {
    about: 'an address gets an entry of its own, and the network around it leaves the set',
    sets: { s: ['10.0.0.0/24'] },
    rules: [rule('a', notFrom('s'))],
    others: [],
    changes: [{ deltas: { s: [['10.0.0.1/32'], ['10.0.0.0/24']] } }],
    allowed: ['deny'],
  },
  {
    about: 'the element of one address becomes that of another',
    sets: { s: ['10.0.0.1/32'], t: ['10.0.0.1/32', '10.0.0.2/32'], u: ['10.0.0.2/32'] },
    rules: [rule('a', notFrom('s'))],
    others: [rule('o', from('t')), rule('p', from('u'))],
    changes: [
      { otherComes: true },
      { deltas: { t: [[], ['10.0.0.1/32']] } },
      { deltas: { u: [[], ['10.0.0.2/32']] } },
      { deltas: { t: [['10.0.0.1/32'], []] } },
    ],
    allowed: ['deny'],
  },
];

test.each(cases)('$about', async ({ sets, rules, others, changes, allowed, packet: other }) => {
  const { twin, classifier } = start();
  for (const [id, members] of Object.entries(sets)) {
    classifier.onUpdate({ type: 'ipSetUpdate', id, setType: 'net', members });
  }
  const announce = (id: string, now: readonly RuleInfo[]) =>
    classifier.onUpdate({ type: 'policyUpdate', id, policy: policy(...now) });
  announce('p', rules);
  announce('o', others);
  const unit = classifier.acquire(lists(['p']));
  await classifier.flush();
  await classifier.settle();
  const asked = { ...packet, ...other };
  const found: TwinDecision[] = [twin.classify(unit.number, asked)];
  const finish = (steps: Generator<undefined, TwinDecision>) => {
    for (;;) {
      const { done, value } = steps.next();
      if (done === true) return found.push(value);
    }
  };
  let writes = 0;
  /** Stopped after some reads, for each number of reads; they go on after this write. */
  let underWay: { readonly steps: Generator<undefined, TwinDecision>; readonly until: number }[] = [];
  const land = (isDue: (until: number) => boolean) => {
    for (const { steps, until } of underWay) if (isDue(until)) finish(steps);
    underWay = underWay.filter(({ until }) => !isDue(until));
  };
  const launch = () => {
    for (let reads = 0; reads < READS; reads++) {
      for (let more = 1; more < 12; more++) {
        const steps = twin.lookup(unit.number, asked);
        let isOver = false;
        for (let read = 0; read < reads && !isOver; read++) isOver = steps.next().done === true;
        if (!isOver) underWay.push({ steps, until: writes + more });
      }
    }
  };
  twin.onWrite = ({ map }) => {
    if (map !== 'addresses' && map !== 'units') return;
    writes++;
    land((until) => until <= writes);
    launch();
  };
  twin.onGrace = () => land(() => true);
  launch();
  for (const { deltas = {}, rules: now, otherComes } of changes) {
    for (const [id, [added, removed]] of Object.entries(deltas)) {
      classifier.onUpdate({ type: 'ipSetDelta', id, added, removed });
    }
    if (now !== undefined) announce('p', now);
    if (otherComes === true) classifier.acquire(lists(['o']));
    await classifier.flush();
  }
  await classifier.settle();
  land(() => true);
  const seen = new Set(found.filter(({ isUnstable }) => isUnstable !== true).map(({ action }) => action));
  expect([...seen]).toEqual(allowed);
});
