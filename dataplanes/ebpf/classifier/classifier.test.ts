import { describe, expect, test } from '@jest/globals';
import { CHUNK_RULES, type SizedMap } from './classifier-maps.ts';
import { from, lists, nobody, packet, policy, rule, start } from './rules-for-tests.ts';
import type { RuleInfo } from '../../policy.ts';
import type { UnitKind } from './unit-lists.ts';

const hosts = (count: number) => Array.from({ length: count }, (_, index) => `10.1.${index >> 8}.${index & 255}/32`);

describe('a label change of one pod', () => {
  test.each([1, 100])('writes in proportion to what it changes, with %i units and a large cluster', async (units) => {
    const { twin, classifier } = start();
    classifier.onUpdate({
      type: 'ipSetUpdate',
      id: 'all',
      setType: 'net',
      members: [...hosts(5000), '10.0.0.1/32', '10.0.0.2/32'],
    });
    classifier.onUpdate({ type: 'ipSetUpdate', id: 'web', setType: 'net', members: ['10.0.0.2/32'] });
    for (let index = 0; index < units; index++) {
      const id = `p${index}`;
      // Other ports in each, so that no two units are alike.
      const destination = { ...nobody, ports: [{ min: index + 1, max: 10_000 }] };
      classifier.onUpdate({
        type: 'policyUpdate',
        id,
        policy: policy(rule(`${id} 0`, { ...from('all', 'web'), protocol: 6, destination })),
      });
      classifier.acquire(lists([id]));
    }
    await classifier.flush();
    await classifier.settle();
    const change = async (added: string[], removed: string[]): Promise<number> => {
      const before = twin.writes;
      classifier.onUpdate({ type: 'ipSetDelta', id: 'web', added, removed });
      await classifier.flush();
      return twin.writes - before;
    };
    // There are other pods with these labels: its class is there, and it is one element of one map.
    expect(await change(['10.0.0.1/32'], [])).toBe(1);
    expect(await change([], ['10.0.0.1/32'])).toBe(1);
    // Nobody has these labels any more; the first who gets them makes a class, with a row in every unit.
    await change([], ['10.0.0.2/32']);
    await classifier.settle();
    const first = await change(['10.0.0.1/32'], []);
    expect(first).toBeGreaterThan(units);
    expect(first).toBeLessThanOrEqual(units + 3);
  });
});

describe('units', () => {
  test.each<[UnitKind, string]>([
    ['endpoint', 'deny'],
    ['forward', 'deny'],
    ['early', 'undecided'],
  ])('what no rule of a tier decides: %s, %s', async (kind, action) => {
    const { twin, classifier } = start();
    classifier.onUpdate({ type: 'policyUpdate', id: 'p', policy: policy(rule('p 0', { protocol: 17 })) });
    const unit = classifier.acquire(lists(['p'], kind));
    await classifier.flush();
    expect(twin.classify(unit.number, packet).action).toBe(action);
    expect(twin.classify(unit.number, { ...packet, protocol: 17 }).action).toBe('allow');
  });

  test('policy for forwarded packets that is wholly staged has no opinion', async () => {
    const { twin, classifier } = start();
    classifier.onUpdate({ type: 'policyUpdate', id: 'p', policy: { ...policy(rule('p 0')), staged: true } });
    const unit = classifier.acquire(lists(['p'], 'forward'));
    await classifier.flush();
    expect(twin.classify(unit.number, packet).action).toBe('undecided');
  });

  test('log rules are noted on the way, and more rules than a chunk holds are found', async () => {
    const { twin, classifier } = start();
    const many = Array.from({ length: 3 * CHUNK_RULES }, (_, index) =>
      rule(`p ${index}`, { action: index % 500 === 0 ? 'log' : 'deny', protocol: index % 500 === 0 ? 6 : 17 }),
    );
    classifier.onUpdate({ type: 'policyUpdate', id: 'p', policy: policy(...many, rule('last', { protocol: 6 })) });
    const unit = classifier.acquire(lists(['p']));
    await classifier.flush();
    const { rule: found, logs, action } = twin.classify(unit.number, packet);
    const { form, firstRule } = unit.published!.compiled;
    expect([action, form.ruleIds[found! - firstRule]]).toEqual(['allow', 'last']);
    expect(logs.map((each) => form.ruleIds[each - firstRule])).toEqual(['p 0', 'p 500', 'p 1000', 'p 1500']);
  });

  test('equal lists share one; a new policy of the same rules writes nothing', async () => {
    const { twin, classifier } = start();
    classifier.onUpdate({ type: 'policyUpdate', id: 'p', policy: policy(rule('p 0')) });
    expect(classifier.acquire(lists(['p']))).toBe(classifier.acquire(lists(['p'])));
    await classifier.flush();
    const before = twin.writes;
    classifier.onUpdate({ type: 'policyUpdate', id: 'p', policy: policy(rule('p 0')) });
    await classifier.flush();
    expect(twin.writes).toBe(before);
  });
});

describe('a full map', () => {
  const big = { type: 'ipSetUpdate', id: 's', setType: 'net', members: hosts(20) } as const;

  test.each<[SizedMap, number]>([
    ['tortie_addr4', 19],
    ['tortie_rows', 0],
    ['tortie_rowtab', 1],
    ['tortie_chunks', 3],
    ['tortie_rules', 1],
    ['tortie_records', 1],
    ['tortie_units', 1],
    ['tortie_ports', 1],
  ])('%s: the unit denies, says why, and works when there is room', async (map, entries) => {
    const { twin, classifier } = start(100_000, { [map]: entries });
    classifier.onUpdate(big);
    classifier.onUpdate({
      type: 'policyUpdate',
      id: 'p',
      policy: policy(
        rule('p 0', { ...from('s'), protocol: 6 }),
        rule('p 1', { action: 'deny', protocol: 6 }),
        rule('p 2'),
      ),
    });
    const unit = classifier.acquire(lists(['p']));
    await classifier.flush();
    expect(twin.classify(unit.number, { ...packet, from: '10.1.0.1' }).action).toBe('deny');
    expect(twin.classify(unit.number, { ...packet, protocol: 17 }).action).toBe('deny');
    expect(classifier.failed).toEqual([unit]);
    expect(unit.failure).toContain(`${map} is full (${entries} entries; setting ${map}Size)`);
    // What was tried is not left behind.
    await classifier.settle();
    classifier.release(unit);
    classifier.onUpdate({ type: 'policyRemove', id: 'p' });
    await classifier.flush();
    await classifier.settle();
    const { rows, records, chunks, ruleWords, traits } = classifier.figures;
    expect([rows, records, chunks, ruleWords, traits]).toEqual([0, 0, 0, 0, 0]);
    expect(twin.rows.size).toBe(0);
  });

  test('units that ask for other sets stay, and the one that failed comes back when members go', async () => {
    const { twin, classifier } = start(100_000, { tortie_addr4: 19 });
    classifier.onUpdate({ ...big, id: 'other', members: hosts(1) });
    classifier.onUpdate({ type: 'policyUpdate', id: 'o', policy: policy(rule('o 0', from('other'))) });
    const other = classifier.acquire(lists(['o']));
    await classifier.flush();
    classifier.onUpdate({ ...big, members: [...hosts(20), '10.2.0.1/32'] });
    classifier.onUpdate({ type: 'policyUpdate', id: 'p', policy: policy(rule('p 0', from('s'))) });
    const unit = classifier.acquire(lists(['p']));
    await classifier.flush();
    expect(classifier.failed).toContain(unit);
    expect(twin.classify(other.number, { ...packet, from: '10.1.0.0' }).action).toBe('allow');
    classifier.onUpdate({ type: 'ipSetDelta', id: 's', added: [], removed: hosts(20).slice(5) });
    await classifier.flush();
    await classifier.settle();
    expect(classifier.failed).toEqual([]);
    expect(twin.classify(unit.number, { ...packet, from: '10.2.0.1' }).action).toBe('allow');
  });
});

test('a rule that names a set which was never announced: its unit denies and says so', async () => {
  const { twin, classifier } = start();
  classifier.onUpdate({
    type: 'policyUpdate',
    id: 'p',
    policy: policy(rule('p 0', { source: { ...nobody, notSets: ['nobody'] } })),
  });
  const unit = classifier.acquire(lists(['p']));
  await classifier.flush();
  expect(twin.classify(unit.number, packet).action).toBe('deny');
  expect(unit.failure).toBe('set nobody is not known');
});

test('a policy that is removed goes on for units in force that name it; one that comes later denies', async () => {
  const { twin, classifier } = start();
  classifier.onUpdate({ type: 'policyUpdate', id: 'p', policy: policy(rule('p 0')) });
  classifier.onUpdate({ type: 'policyUpdate', id: 'q', policy: policy(rule('q 0', { protocol: 17 })) });
  const unit = classifier.acquire(lists(['q', 'p']));
  await classifier.flush();
  classifier.onUpdate({ type: 'policyRemove', id: 'p' });
  await classifier.flush();
  expect(twin.classify(unit.number, packet).action).toBe('allow');
  // Another reason to make it anew.
  classifier.onUpdate({ type: 'policyUpdate', id: 'q', policy: policy(rule('q 0', { protocol: 1 })) });
  await classifier.flush();
  await classifier.settle();
  expect(twin.classify(unit.number, packet).action).toBe('allow');
  const late = classifier.acquire(lists(['p']));
  await classifier.flush();
  expect(twin.classify(late.number, packet).action).toBe('deny');
  classifier.onUpdate({ type: 'policyUpdate', id: 'p', policy: policy(rule('p 0', { action: 'deny' })) });
  await classifier.flush();
  expect(twin.classify(unit.number, packet).action).toBe('deny');
});

test('a profile that is removed denies at once: who has it may go on naming it', async () => {
  const { twin, classifier } = start();
  classifier.onUpdate({ type: 'profileUpdate', id: 'open', profile: { ingress: [rule('open 0')], egress: [] } });
  const unit = classifier.acquire({ ...lists([]), tiers: [], profiles: ['open'] });
  await classifier.flush();
  expect(twin.classify(unit.number, packet).action).toBe('allow');
  classifier.onUpdate({ type: 'profileRemove', id: 'open' });
  await classifier.flush();
  expect(twin.classify(unit.number, packet).action).toBe('deny');
});

test('next hops are handed on from the prefix around, whatever policy says of an address', async () => {
  const { twin, classifier } = start();
  classifier.setHop('10.0.0.0/24', 7);
  classifier.setHop('10.0.0.1/32', 3);
  classifier.onUpdate({ type: 'ipSetUpdate', id: 's', setType: 'net', members: ['10.0.0.2/32', '10.0.0.0/30'] });
  classifier.onUpdate({ type: 'policyUpdate', id: 'p', policy: policy(rule('p 0', from('s'))) });
  classifier.acquire(lists(['p']));
  await classifier.flush();
  const hops = () => ['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.9', '10.0.1.1'].map((each) => twin.hopOf(each));
  expect(hops()).toEqual([3, 7, 7, 7, 0]);
  classifier.setHop('10.0.0.0/24', 8);
  classifier.setHop('10.0.0.1/32', 0);
  await classifier.flush();
  expect(hops()).toEqual([8, 8, 8, 8, 0]);
  classifier.setHop('10.0.0.0/24', 0);
  await classifier.flush();
  await classifier.settle();
  expect(hops()).toEqual([0, 0, 0, 0, 0]);
});

test('while a grace period fails nothing is freed', async () => {
  const { twin, classifier } = start();
  classifier.onUpdate({ type: 'policyUpdate', id: 'p', policy: policy(rule('p 0', { protocol: 6 })) });
  const unit = classifier.acquire(lists(['p']));
  await classifier.flush();
  classifier.release(unit);
  await classifier.flush();
  twin.onGrace = () => {
    throw Object.assign(new Error('membarrier: EPERM'), { code: 'EPERM' });
  };
  await expect(classifier.settle()).rejects.toMatchObject({ code: 'EPERM' });
  expect(classifier.figures.records).toBe(1);
  twin.onGrace = () => undefined;
  await classifier.settle();
  expect(classifier.figures.records).toBe(0);
});

describe('while a flush is written', () => {
  /** What becomes of the packet after each write of the change, the last included. */
  async function seen(rules: readonly RuleInfo[], sets: Record<string, string[]>, change: Record<string, string[][]>) {
    const { twin, classifier } = start();
    for (const [id, members] of Object.entries(sets)) {
      classifier.onUpdate({ type: 'ipSetUpdate', id, setType: 'net', members });
    }
    classifier.onUpdate({ type: 'policyUpdate', id: 'p', policy: policy(...rules) });
    const unit = classifier.acquire(lists(['p']));
    await classifier.flush();
    await classifier.settle();
    const actions = new Set<string>();
    twin.onWrite = () => actions.add(twin.classify(unit.number, packet).action);
    for (const [id, [added = [], removed = []]] of Object.entries(change)) {
      classifier.onUpdate({ type: 'ipSetDelta', id, added, removed });
    }
    await classifier.flush();
    await classifier.settle();
    return [...actions];
  }

  test('an address that stays in a set keeps its verdict when the network around it leaves', async () => {
    const rules = [rule('p 0', from('s'))];
    expect(await seen(rules, { s: ['10.0.0.0/24'] }, { s: [['10.0.0.1/32'], ['10.0.0.0/24']] })).toEqual(['allow']);
  });

  test('an address that leaves a set while the other end joins one: never the one without the other', async () => {
    const neither = {
      source: { ...nobody, notSets: ['s'] },
      destination: { ...nobody, notSets: ['t'] },
    };
    const change = { s: [[], ['10.0.0.1/32']], t: [['10.0.0.9/32'], []] };
    expect(await seen([rule('p 0', neither)], { s: ['10.0.0.1/32'], t: [] }, change)).toEqual(['deny']);
  });

  test('both ends join a set that their rule asks for: allowed from one write on', async () => {
    const both = { source: { ...nobody, sets: ['s'] }, destination: { ...nobody, sets: ['t'] } };
    const change = { s: [['10.0.0.1/32'], []], t: [['10.0.0.9/32'], []] };
    expect(await seen([rule('p 0', both)], { s: [], t: [] }, change)).toEqual(['deny', 'allow']);
  });
});

test('a grace period begins only when the writes of flushes that came meanwhile are made', async () => {
  const { twin, classifier } = start();
  const unit = classifier.acquire(lists(['p']));
  const change = (index: number) =>
    classifier.onUpdate({ type: 'policyUpdate', id: 'p', policy: policy(rule(`p ${index}`, { protocol: index })) });
  change(1);
  await classifier.flush();
  let graces = 0;
  twin.onGrace = () => {
    graces++;
  };
  twin.onWrite = (write) => {
    if (write.map === 'records') expect(write.index).not.toBe(twin.units.get(unit.number));
  };
  for (let index = 2; index < 30; index++) {
    change(index);
    const first = classifier.flush();
    const settled = classifier.settle();
    // At another moment of the other two each time.
    for (let turn = 0; turn < index % 7; turn++) await Promise.resolve();
    change(index + 100);
    await Promise.all([first, settled, classifier.flush()]);
  }
  expect(graces).toBeGreaterThan(20);
});
