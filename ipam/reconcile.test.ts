import { describe, expect, test } from '@jest/globals';
import { decide, type JournalState, type LiveState, type StoredState, type Verdict } from './reconcile.ts';

const reserve: StoredState = { is: 'reserve', sequence: '7' };
const ownedByA: StoredState = { is: 'owned', handle: 'a', sequence: '7' };
const giveA: JournalState = { type: 'give', handle: 'a', sequence: '7' };
const releaseA: JournalState = { type: 'release', handle: 'a', sequence: '7' };
const oldGiveA: JournalState = { type: 'give', handle: 'a', sequence: '3' };
const oldReleaseA: JournalState = { type: 'release', handle: 'a', sequence: '3' };
const liveA: LiveState = { handle: 'a' };
const liveB: LiveState = { handle: 'b' };
const keep: Verdict = { do: 'keep' };
const release: Verdict = { do: 'release' };
const quarantine: Verdict = { do: 'quarantine' };
const dispute: Verdict = { do: 'dispute' };
const give = (handle: string): Verdict => ({ do: 'give', handle });

const table: readonly (readonly [string, StoredState, JournalState, LiveState, Verdict, Verdict])[] = [
  // name, stored, journal, live, verdict without proof, verdict when `a` is proven gone
  ['reserve, untouched', reserve, undefined, undefined, keep, keep],
  ['reserve, live by a', reserve, undefined, liveA, give('a'), give('a')],
  ['reserve, live by something', reserve, undefined, 'unknown', quarantine, quarantine],
  ['given, not live', reserve, giveA, undefined, give('a'), release],
  ['given, live', reserve, giveA, liveA, give('a'), give('a')],
  ['given, half wired', reserve, giveA, 'unknown', give('a'), give('a')],
  ['given, but b uses it', reserve, giveA, liveB, give('b'), give('b')],
  ['given and released', reserve, releaseA, undefined, release, release],
  ['given and released, still live', reserve, releaseA, liveA, give('a'), give('a')],
  ['given and released, still live by something', reserve, releaseA, 'unknown', quarantine, quarantine],
  ['given in an earlier life of the address', reserve, oldGiveA, undefined, keep, keep],
  ['released in an earlier life of the address', reserve, oldReleaseA, undefined, keep, keep],
  ['owned, not live', ownedByA, undefined, undefined, keep, release],
  ['owned and live', ownedByA, undefined, liveA, keep, keep],
  ['owned, live by something', ownedByA, undefined, 'unknown', keep, keep],
  ['owned, but b uses it', ownedByA, undefined, liveB, give('b'), give('b')],
  ['owned, hand-over already written', ownedByA, giveA, undefined, keep, release],
  ['owned and released', ownedByA, releaseA, undefined, release, release],
  ['owned and released, still live', ownedByA, releaseA, liveA, keep, keep],
  ['owned and released, still live by something', ownedByA, releaseA, 'unknown', keep, keep],
  ['owned, released in an earlier life', ownedByA, oldReleaseA, undefined, keep, release],
  [
    'owned, release of another handle',
    ownedByA,
    { type: 'release', handle: 'b', sequence: '7' },
    undefined,
    keep,
    release,
  ],
  ['free, not live', { is: 'free' }, undefined, undefined, keep, keep],
  ['free, release already written', { is: 'free' }, releaseA, undefined, keep, keep],
  ['free, live by a', { is: 'free' }, undefined, liveA, give('a'), give('a')],
  ['free, live by something', { is: 'free' }, giveA, 'unknown', quarantine, quarantine],
  ["another's, not live", { is: 'other' }, giveA, undefined, keep, keep],
  ["another's, live by a", { is: 'other' }, undefined, liveA, dispute, dispute],
  ["another's, live by something", { is: 'other' }, undefined, 'unknown', keep, keep],
  ['in no block, live by a', { is: 'none' }, undefined, liveA, give('a'), give('a')],
  ['in no block, live by something', { is: 'none' }, undefined, 'unknown', keep, keep],
  ['in no block, journalled', { is: 'none' }, giveA, undefined, keep, keep],
];

describe('an address after a restart', () => {
  test.each(table)('%s', (_, stored, journal, live, withoutProof, whenGone) => {
    expect(decide(stored, journal, live, () => false)).toEqual(withoutProof);
    expect(decide(stored, journal, live, (handle) => handle === 'a')).toEqual(whenGone);
  });
});

describe('in every combination', () => {
  const stored: readonly StoredState[] = [reserve, ownedByA, { is: 'free' }, { is: 'other' }, { is: 'none' }];
  const journals: readonly JournalState[] = [undefined, giveA, releaseA, oldGiveA, oldReleaseA];
  const lives: readonly LiveState[] = [undefined, 'unknown', liveA, liveB];
  const all = stored.flatMap((one) =>
    journals.flatMap((journal) => lives.flatMap((live) => [true, false].map((gone) => ({ one, journal, live, gone })))),
  );

  test('what is live is never released, and goes to nobody but who uses it', () => {
    for (const { one, journal, live, gone } of all.filter((row) => row.live !== undefined)) {
      const verdict = decide(one, journal, live, () => gone);
      expect(verdict.do).not.toBe('release');
      if (verdict.do === 'give' && typeof live === 'object') {
        expect(verdict.handle).toBe(live.handle);
      }
      // Left in the reserve it would be given to the next pod.
      expect([one.is, verdict.do]).not.toEqual(['reserve', 'keep']);
    }
  });

  test("without proof and without a release in the journal no pod's address is released", () => {
    for (const { one, journal, live } of all.filter((row) => row.journal?.type !== 'release')) {
      expect(decide(one, journal, live, () => false).do).not.toBe('release');
    }
  });
});
