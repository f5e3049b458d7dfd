import { expect, jest, test } from '@jest/globals';
import { lists, packet, policy, rule, start } from './rules-for-tests.ts';
import type { Unit } from './units.ts';

/** A policy of so many rules, of which the first allows the packet and `extra` allows another protocol. */
const rules = (count: number, extra: number) =>
  policy(
    rule('a', { protocol: packet.protocol }),
    ...Array.from({ length: count - 2 }, (_, index) => rule(`${extra} ${index}`, { protocol: 200 })),
    rule(`extra ${extra}`, { protocol: extra }),
  );

/** A map of 30 words, and what a test says and asks. */
function started() {
  const { twin, classifier } = start(100_000, { tortie_rules: 30 });
  const say = (id: string, count: number, extra: number) =>
    classifier.onUpdate({ type: 'policyUpdate', id, policy: rules(count, extra) });
  const allows = (number: number, protocol: number) =>
    twin.classify(number, { ...packet, protocol }).action === 'allow';
  return { twin, classifier, say, allows };
}

/** `p` has 10 rules, and has been changed once: 22 words are taken, by its old form and by its new one. */
async function changedOnce() {
  const bed = started();
  const { twin, classifier, say, allows } = bed;
  say('p', 10, 101);
  const unit = classifier.acquire(lists(['p']));
  await classifier.flush();
  await classifier.settle();
  say('p', 10, 102);
  await classifier.flush();
  expect(classifier.figures.ruleWords).toBe(22);
  /** How often it did not allow what all its rules allow, or was said to have failed: at each write, and at each grace period. */
  let refusals = 0;
  const look = (): void => {
    if (!allows(unit.number, packet.protocol) || unit.failure !== undefined) refusals++;
  };
  [twin.onWrite, twin.onGrace] = [look, look];
  return { ...bed, unit, refusals: () => refusals };
}

test('a unit in force whose new rules have room only in the words that it has left stays in force until they are free', async () => {
  const { classifier, unit, say, allows, refusals } = await changedOnce();
  for (const extra of [103, 104, 105]) {
    say('p', 10, extra);
    await classifier.flush();
    expect([102, 103, 104, 105].filter((protocol) => allows(unit.number, protocol))).toEqual([extra]);
  }
  expect([classifier.failed, refusals()]).toEqual([[], 0]);
});

test('nor does it end while what was replaced is being freed in the background, and is changed meanwhile', async () => {
  const { classifier, unit, say, allows, refusals } = await changedOnce();
  const settled = classifier.settle();
  for (const extra of [103, 104, 105]) {
    say('p', 10, extra);
    await classifier.flush();
    expect(allows(unit.number, extra)).toBe(true);
  }
  await settled;
  expect(refusals()).toBe(0);
});

test('a new unit takes the words that others leave, with the flush that makes it', async () => {
  const { classifier, unit, say, allows } = await changedOnce();
  say('q', 10, 106);
  const other = classifier.acquire(lists(['q']));
  await classifier.flush();
  expect([allows(other.number, 106), allows(unit.number, 102), classifier.failed]).toEqual([true, true, []]);
});

test('those of a unit that nobody uses any more are taken by the rules that come with its end', async () => {
  const { classifier, say, allows } = started();
  say('p', 10, 101);
  say('q', 14, 102);
  const [unused, unit] = ['p', 'q'].map((id) => classifier.acquire(lists([id]))) as [Unit, Unit];
  await classifier.flush();
  expect([classifier.figures.ruleWords, classifier.failed]).toEqual([26, []]);
  classifier.release(unused);
  say('q', 10, 103);
  await classifier.flush();
  expect([allows(unit.number, 103), classifier.failed]).toEqual([true, []]);
});

test('rules that have no room either way fail at once: nothing is waited for', async () => {
  const { classifier, unit, say, allows } = await changedOnce();
  const settle = jest.spyOn(classifier, 'settle');
  say('q', 20, 106);
  const other = classifier.acquire(lists(['q']));
  await classifier.flush();
  expect(other.failure).toContain('tortie_rules');
  expect(allows(unit.number, 102)).toBe(true);
  say('p', 31, 103);
  await classifier.flush();
  expect(unit.failure).toContain('tortie_rules');
  expect(allows(unit.number, 102)).toBe(false);
  expect(settle).not.toHaveBeenCalled();
});

test('nor is anything waited for where enough words are free, but not one behind the other', async () => {
  const { classifier, unit, say, allows } = await changedOnce();
  await classifier.settle();
  expect(classifier.figures.ruleWords).toBe(11);
  const settle = jest.spyOn(classifier, 'settle');
  say('q', 14, 106);
  const other = classifier.acquire(lists(['q']));
  await classifier.flush();
  expect(other.failure).toContain('tortie_rules');
  expect(allows(unit.number, 102)).toBe(true);
  expect(settle).not.toHaveBeenCalled();
});
