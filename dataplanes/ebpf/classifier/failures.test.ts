import { describe, expect, test } from '@jest/globals';
import type { MapWrite } from './classifier-maps.ts';
import { from, lists, nobody, packet, policy, rule, start } from './rules-for-tests.ts';
import type { Unit } from './units.ts';

type Started = ReturnType<typeof start>;
const notFrom = (...notSets: string[]) => ({ source: { ...nobody, notSets } });
const setOf = ({ classifier }: Started, id: string, ...members: string[]) =>
  classifier.onUpdate({ type: 'ipSetUpdate', id, setType: 'net', members });
const policyOf = ({ classifier }: Started, id: string, ...rules: Parameters<typeof policy>) =>
  classifier.onUpdate({ type: 'policyUpdate', id, policy: policy(...rules) });
const host = (index: number) => `10.1.${index >> 8}.${index & 255}/32`;

describe('a unit that is too large', () => {
  /** `small` is in force; `big` names 200 sets of one address each. */
  async function both(others: Parameters<typeof start>[1]) {
    const started = start(100_000, others);
    const { twin, classifier } = started;
    setOf(started, 'web', '10.0.0.1/32');
    policyOf(started, 'small', rule('s', from('web')));
    const small = classifier.acquire(lists(['small']));
    await classifier.flush();
    await classifier.settle();
    const sets = Array.from({ length: 200 }, (_, index) => `b${index}`);
    for (const [index, id] of sets.entries()) setOf(started, id, host(index));
    policyOf(started, 'big', ...sets.map((id) => rule(id, from(id))));
    const big = classifier.acquire(lists(['big']));
    await classifier.flush();
    const isAllowed = (source: string) => twin.classify(small.number, { ...packet, from: source }).action === 'allow';
    return { ...started, small, big, isAllowed };
  }

  test.each([
    ['tortie_rows', 100],
    ['tortie_rowtab', 60],
    ['tortie_chunks', 60],
    ['tortie_addr4', 100],
    ['tortie_rules', 100],
  ] as const)('%s: takes nothing that another needs, however often it is tried', async (map, entries) => {
    const { classifier, small, big, isAllowed } = await both({ [map]: entries });
    expect(classifier.failed).toEqual([big]);
    expect(big.failure).toContain(map);
    const before = classifier.figures;
    classifier.onUpdate({ type: 'ipSetDelta', id: 'web', added: [host(0)], removed: [] });
    for (let round = 0; round < 3; round++) {
      await classifier.flush();
      expect([small.failure, isAllowed('10.0.0.1'), isAllowed('10.1.0.0')]).toEqual([undefined, true, true]);
      await classifier.settle();
    }
    const { rows, chunks, rowEntries, records, ruleWords } = classifier.figures;
    expect({ chunks, rowEntries, records, ruleWords }).toEqual({
      chunks: before.chunks,
      rowEntries: before.rowEntries,
      records: before.records,
      ruleWords: before.ruleWords,
    });
    expect(rows).toBeLessThanOrEqual(2);
  });

  test('is tried again only when something was freed, after the smaller ones', async () => {
    const { twin, classifier, big } = await both({ tortie_rows: 100 });
    await classifier.settle();
    await classifier.settle();
    const before = twin.writes;
    for (let round = 0; round < 3; round++) await classifier.flush();
    expect(twin.writes).toBe(before);
    classifier.onUpdate({ type: 'policyUpdate', id: 'big', policy: policy(rule('b', from('b0', 'web'))) });
    await classifier.flush();
    expect([classifier.failed, big.failure]).toEqual([[], undefined]);
  });

  test('leaves a share of the row keys for new classes of units in force', async () => {
    const started = start(100_000, { tortie_rows: 64 });
    const { twin, classifier } = started;
    setOf(started, 'web', '10.0.0.1/32');
    policyOf(started, 'small', rule('s', from('web')));
    const small = classifier.acquire(lists(['small']));
    const sets = Array.from({ length: 59 }, (_, index) => `b${index}`);
    for (const [index, id] of sets.entries()) setOf(started, id, host(index));
    for (const count of [60, 59]) {
      if (count === 60) setOf(started, 'b59', host(59));
      const names = Array.from({ length: count }, (_, index) => `b${index}`);
      policyOf(started, `p${count}`, ...names.map((id) => rule(`${count} ${id}`, from(id))));
      classifier.acquire(lists([`p${count}`]));
    }
    await classifier.flush();
    expect(classifier.failed.map((unit) => unit.lists.tiers[0]?.policies)).toEqual([['p60']]);
    classifier.onUpdate({ type: 'ipSetDelta', id: 'web', added: [host(0)], removed: [] });
    await classifier.flush();
    expect(small.failure).toBeUndefined();
    expect(twin.classify(small.number, { ...packet, from: '10.1.0.0' }).action).toBe('allow');
  });
});

describe('an error in one unit', () => {
  test('denies there, and whatever else has changed comes into force', async () => {
    const started = start();
    const { twin, classifier } = started;
    for (const id of ['p', 'q']) policyOf(started, id, rule(`${id} 0`));
    const [p, q] = [classifier.acquire(lists(['p'])), classifier.acquire(lists(['q']))];
    await classifier.flush();
    policyOf(started, 'q', rule('q 0', { source: { ...nobody, net: '10.0.0.300/32' } }));
    policyOf(started, 'p', rule('p 0', { action: 'deny' }));
    await classifier.flush();
    expect(twin.classify(p.number, packet).action).toBe('deny');
    expect(twin.classify(q.number, packet).action).toBe('deny');
    expect(q.failure).toContain('10.0.0.300/32');
    expect(classifier.failed).toEqual([q]);
  });

  test.each([
    ['before it is used', false],
    ['while it is used', true],
  ])(
    'a bad member (%s): who asks for the set denies, its other members are right, and it comes back',
    async (_, used) => {
      const started = start();
      const { twin, classifier } = started;
      setOf(started, 's', '10.0.0.7/32');
      setOf(started, 't', '10.0.0.1/32');
      policyOf(started, 'p', rule('p 0', notFrom('s')));
      policyOf(started, 'q', rule('q 0', from('t')));
      const q = classifier.acquire(lists(['q']));
      let p: Unit | undefined = used ? classifier.acquire(lists(['p'])) : undefined;
      if (used) await classifier.flush();
      classifier.onUpdate({ type: 'ipSetDelta', id: 's', added: ['nonsense', '10.0.0.8/32'], removed: [] });
      classifier.onUpdate({ type: 'ipSetDelta', id: 't', added: ['10.0.0.2/32'], removed: [] });
      p ??= classifier.acquire(lists(['p']));
      await classifier.flush();
      expect(twin.classify(p.number, packet).action).toBe('deny');
      expect(p.failure).toContain('nonsense');
      expect(twin.classify(q.number, { ...packet, from: '10.0.0.2' }).action).toBe('allow');
      classifier.onUpdate({ type: 'ipSetDelta', id: 's', added: [], removed: ['nonsense'] });
      await classifier.flush();
      expect(p.failure).toBeUndefined();
      expect(twin.classify(p.number, packet).action).toBe('allow');
      expect(twin.classify(p.number, { ...packet, from: '10.0.0.8' }).action).toBe('deny');
    },
  );

  test('a set that is of another type by now is not taken for the old one', async () => {
    const started = start();
    const { classifier } = started;
    setOf(started, 's', '10.0.0.1/32');
    policyOf(started, 'p', rule('p 0', from('s')));
    const p = classifier.acquire(lists(['p']));
    await classifier.flush();
    classifier.onUpdate({ type: 'ipSetUpdate', id: 's', setType: 'ipPort', members: [] });
    policyOf(started, 'p', rule('p 1', from('s')));
    await classifier.flush();
    expect(p.failure).toBe('set s is not of type net');
  });
});

describe('writes that fail', () => {
  test('a number that was freed and is used again is not emptied by what was written before', async () => {
    const started = start();
    const { twin, classifier } = started;
    const change = (count: number) =>
      policyOf(
        started,
        'p',
        rule('a', notFrom('s')),
        ...Array.from({ length: count }, (_, index) => rule(`x${index}`, { protocol: 40 + index, ...notFrom('s') })),
      );
    setOf(started, 's', '10.0.0.1/32');
    change(0);
    const unit = classifier.acquire(lists(['p']));
    await classifier.flush();
    await classifier.settle();
    change(1);
    await classifier.flush();
    twin.onGrace = () => {
      twin.failAfter = 0;
    };
    await expect(classifier.settle()).rejects.toMatchObject({ code: 'ENOMEM' });
    twin.onGrace = () => undefined;
    change(2);
    twin.onWrite = () => expect(twin.classify(unit.number, packet).action).toBe('deny');
    for (const failAfter of [4, 8, 3, Infinity]) {
      twin.failAfter = failAfter;
      await classifier.flush().catch((error: unknown) => expect(error).toMatchObject({ code: 'ENOMEM' }));
    }
    expect(unit.failure).toBeUndefined();
  });

  test('no memory after every third write: the flush comes to its end', async () => {
    const started = start();
    const { twin, classifier } = started;
    setOf(started, 's', ...Array.from({ length: 100 }, (_, index) => host(index)));
    policyOf(started, 'p', rule('p 0', from('s')));
    const unit = classifier.acquire(lists(['p']));
    let made = 0;
    twin.onWrite = () => {
      made++;
      twin.failAfter = made % 3 === 0 ? 0 : Infinity;
      twin.failTimes = 2;
    };
    await classifier.flush();
    expect(twin.classify(unit.number, { ...packet, from: '10.1.0.99' }).action).toBe('allow');
    expect(twin.writes).toBe(classifier.figures.writes);
  });

  const entryOf = (write: MapWrite, text: string) => write.map === 'addresses' && String(write.address) === text;

  test.each([
    ['an address', (write: MapWrite) => entryOf(write, '167772162') && 'value' in write && write.value !== undefined],
    ['a row', (write: MapWrite) => write.map === 'rows' && write.row !== undefined && write.record > 2],
  ])(
    'no room for %s that was counted: its users deny, all others come into force, and it is tried again',
    async (_, refuses) => {
      const started = start();
      const { twin, classifier } = started;
      setOf(started, 's', '10.0.0.1/32');
      setOf(started, 't', '10.0.0.3/32');
      policyOf(started, 'p', rule('p 0', notFrom('s')));
      policyOf(started, 'q', rule('q 0', from('t')));
      const [p, q] = [classifier.acquire(lists(['p'])), classifier.acquire(lists(['q']))];
      await classifier.flush();
      await classifier.settle();
      twin.refuses = refuses;
      policyOf(started, 'p', rule('p 1', notFrom('s')));
      classifier.onUpdate({ type: 'ipSetDelta', id: 's', added: ['10.0.0.2/32'], removed: [] });
      classifier.onUpdate({ type: 'ipSetDelta', id: 't', added: ['10.0.0.4/32'], removed: [] });
      await classifier.flush();
      expect(p.failure).toContain('is full');
      expect(twin.classify(p.number, { ...packet, from: '10.0.0.2' }).action).toBe('deny');
      expect(twin.classify(q.number, { ...packet, from: '10.0.0.4' }).action).toBe('allow');
      twin.refuses = () => false;
      policyOf(started, 'p', rule('p 2', notFrom('s')));
      await classifier.flush();
      await classifier.settle();
      expect(p.failure).toBeUndefined();
      expect(twin.classify(p.number, { ...packet, from: '10.0.0.2' }).action).toBe('deny');
      expect(twin.classify(p.number, { ...packet, from: '10.0.0.5' }).action).toBe('allow');
    },
  );
});

test('a unit that got no number gets one later, and its owner hears of it when it is in force', async () => {
  const started = start(100_000, { tortie_units: 2 });
  const { twin, classifier } = started;
  for (const id of ['p', 'q']) policyOf(started, id, rule(`${id} 0`));
  const [p, q] = [classifier.acquire(lists(['p'])), classifier.acquire(lists(['q']))];
  const heard: [Unit, string][] = [];
  classifier.onNumber((unit) => heard.push([unit, twin.classify(unit.number, packet).action]));
  await classifier.flush();
  expect([q.number, classifier.failed, classifier.unitByNumber(1)]).toEqual([0, [q], p]);
  classifier.release(p);
  await classifier.flush();
  await classifier.settle();
  expect(heard).toEqual([[q, 'allow']]);
  expect([q.number, classifier.failed, classifier.unitByNumber(q.number)]).toEqual([1, [], q]);
});

test('a row that a record left and takes again before it is freed has one user: nothing is left in the end', async () => {
  const started = start();
  const { classifier } = started;
  const ids = Array.from({ length: 40 }, (_, index) => `t${index}`);
  for (const [index, id] of ids.entries()) setOf(started, id, host(index));
  setOf(started, 's');
  policyOf(started, 'p', rule('p 0', from('s')));
  policyOf(started, 'q', ...ids.map((id) => rule(id, from(id))));
  const units = ['p', 'q'].map((id) => classifier.acquire(lists([id])));
  await classifier.flush();
  await classifier.settle();
  const change = async (added: string[], removed: string[]) => {
    classifier.onUpdate({ type: 'ipSetDelta', id: 's', added, removed });
    await classifier.flush();
  };
  // The only class with the row goes, and at some moment before that is over another comes that has it.
  for (let index = 0; index < 39; index++) {
    await change([host(index)], []);
    await change([], [host(index)]);
    const settled = classifier.settle();
    for (let turn = 0; turn < index; turn++) await Promise.resolve();
    await change([host(index + 1)], []);
    await settled;
    await change([], [host(index + 1)]);
    await classifier.settle();
  }
  for (const unit of units) classifier.release(unit);
  await classifier.flush();
  await classifier.settle();
  const { rowEntries, chunks, rows, records } = classifier.figures;
  expect({ rowEntries, chunks, rows, records }).toEqual({ rowEntries: 0, chunks: 0, rows: 0, records: 0 });
});

test('a unit whose rules stay while a set of theirs goes is made once that is announced anew', async () => {
  const started = start();
  const { twin, classifier } = started;
  const ofWeb = rule('s', from('web'));
  setOf(started, 'web', '10.0.0.1/32');
  policyOf(started, 'p', ofWeb);
  const unit = classifier.acquire(lists(['p']));
  await classifier.flush();
  classifier.onUpdate({ type: 'ipSetRemove', id: 'web' });
  policyOf(started, 'p', ofWeb, rule('t', notFrom('web')));
  await classifier.flush();
  expect(unit.failure).toContain('set web is not known');
  setOf(started, 'web', '10.0.0.1/32');
  await classifier.flush();
  expect(unit.failure).toBeUndefined();
  expect(twin.classify(unit.number, packet).action).toBe('allow');
});

test('addresses for which there was no room leave while what is around them changes: they take no room for that', async () => {
  const started = start(100_000, { tortie_addr4: 1 });
  const { twin, classifier } = started;
  setOf(started, 'around', '10.9.0.0/24');
  policyOf(started, 'q', rule('q 0', from('around')));
  const unit = classifier.acquire(lists(['q']));
  await classifier.flush();
  setOf(started, 'inside', '10.0.0.1/32', '10.0.0.2/32');
  policyOf(started, 'p', rule('p 0', from('inside')));
  const full = classifier.acquire(lists(['p']));
  await classifier.flush();
  expect(classifier.failed).toEqual([full]);
  setOf(started, 'inside');
  setOf(started, 'around', '10.0.0.0/24');
  policyOf(started, 'q', rule('q 0', { protocol: 17 }), rule('q 1', from('around')));
  await classifier.flush();
  expect(twin.classify(unit.number, { ...packet, from: '10.0.0.1' }).action).toBe('allow');
  await classifier.settle();
  expect(twin.classify(unit.number, { ...packet, from: '10.0.0.2' }).action).toBe('allow');
  expect(classifier.figures.addresses).toBe(1);
});
