import { expect, test } from '@jest/globals';
import { from, lists, packet, policy, rule, start } from './rules-for-tests.ts';

test('rules count over all units, recompiles and ends of units, while they are announced', async () => {
  const { twin, classifier } = start();
  const announce = (...ids: string[]) =>
    classifier.onUpdate({
      type: 'policyUpdate',
      id: 'p',
      policy: policy(...ids.map((id) => rule(id, { protocol: 6 }))),
    });
  classifier.onUpdate({ type: 'policyUpdate', id: 'none', policy: policy(rule('none 0', { protocol: 17 })) });
  announce('p 0', 'p 1');
  const [one, other] = [classifier.acquire(lists(['p'])), classifier.acquire(lists(['none', 'p']))];
  await classifier.flush();
  twin.count(one.number, packet, 100);
  twin.count(other.number, packet, 60);
  expect(classifier.ruleCounters().get('p 0')).toEqual({ packets: 2, bytes: 160 });
  // Compiled anew.
  classifier.onUpdate({ type: 'policyUpdate', id: 'p', policy: policy(rule('p 0'), rule('p 1'), rule('p 2')) });
  await classifier.flush();
  expect(classifier.ruleCounters().get('p 0')).toEqual({ packets: 2, bytes: 160 });
  await classifier.settle();
  twin.count(one.number, packet, 1);
  expect(classifier.ruleCounters().get('p 0')).toEqual({ packets: 3, bytes: 161 });
  // A unit ends, and its words are used for something else.
  classifier.release(other);
  await classifier.flush();
  await classifier.settle();
  classifier.acquire(lists(['none']));
  await classifier.flush();
  expect(classifier.ruleCounters().get('p 0')).toEqual({ packets: 3, bytes: 161 });
  announce('p 1');
  await classifier.flush();
  expect(classifier.ruleCounters().has('p 0')).toBe(false);
  await classifier.settle();
  announce('p 0');
  await classifier.flush();
  expect(classifier.ruleCounters().get('p 0')).toEqual({ packets: 0, bytes: 0 });
});

test('an index of the rule words names its unit and rule, or the end, until it is free', async () => {
  const { twin, classifier } = start();
  classifier.onUpdate({ type: 'policyUpdate', id: 'p', policy: policy(rule('p 0', { protocol: 17 }), rule('p 1')) });
  classifier.onUpdate({ type: 'policyUpdate', id: 'q', policy: policy(rule('q 0', { protocol: 17 })) });
  const [p, q] = [classifier.acquire(lists(['p'])), classifier.acquire(lists(['q']))];
  await classifier.flush();
  const word = twin.classify(p.number, packet).rule!;
  expect(classifier.ruleOf(word)).toEqual({ unit: p, position: 1, rule: 'p 1', text: 'p 1' });
  expect(classifier.ruleOf(twin.classify(q.number, packet).rule!)).toMatchObject({
    unit: q,
    rule: undefined,
    text: 'the end of tier default',
  });
  classifier.release(p);
  await classifier.flush();
  expect(classifier.ruleOf(word)?.unit).toBe(p);
  await classifier.settle();
  expect(classifier.ruleOf(word)).toBeUndefined();
  expect(classifier.ruleOf(1_000_000)).toBeUndefined();
});

test('rules of staged policies count as they do in chains: where nothing in force has decided, each policy by itself, and nothing comes of it', async () => {
  const { twin, classifier } = start();
  const staged = (id: string, ...rules: Parameters<typeof policy>) =>
    classifier.onUpdate({ type: 'policyUpdate', id, policy: { ...policy(...rules), staged: true } });
  staged('s', rule('s log', { action: 'log' }), rule('s deny', { action: 'deny', protocol: 6 }), rule('s rest'));
  staged('t', rule('t pass', { action: 'pass' }), rule('t rest'));
  classifier.onUpdate({ type: 'policyUpdate', id: 'p', policy: policy(rule('p 0', { protocol: 6 })) });
  staged('u', rule('u 0'));
  const unit = classifier.acquire(lists(['s', 't', 'p', 'u']));
  await classifier.flush();
  const { action, logs } = twin.count(unit.number, packet, 1);
  expect([action, logs]).toEqual(['allow', []]);
  expect(twin.count(unit.number, { ...packet, protocol: 17 }, 1).action).toBe('deny');
  const counted = [...classifier.ruleCounters()].map(([id, { packets }]) => [id, packets]);
  expect(Object.fromEntries(counted)).toEqual({
    's log': 2,
    's deny': 1,
    's rest': 1,
    't pass': 2,
    't rest': 0,
    'p 0': 1,
    // The policy in force before it has let the first packet through.
    'u 0': 1,
  });
});

test.each(['at the start', 'one pod after the other'])(
  'a set of all pods that all units name costs no key for each unit and class: %s',
  async (when) => {
    const { twin, classifier } = start(1_000_000);
    const [pods, units] = [200, 100];
    const host = (index: number) => `10.1.0.${index}/32`;
    const all = Array.from({ length: pods }, (_, index) => host(index));
    const late = when !== 'at the start';
    const own = (index: number) =>
      ({ type: 'ipSetUpdate', id: `s${index}`, setType: 'net' as const, members: [host(index)] }) as const;
    classifier.onUpdate({ type: 'ipSetUpdate', id: 'all', setType: 'net', members: late ? [] : all });
    // Each pod is in a set of its own, so each is a class of its own.
    for (let index = 0; index < pods; index++) classifier.onUpdate(own(index));
    const names = Array.from({ length: pods }, (_, index) => rule(`each ${index}`, from(`s${index}`)));
    classifier.onUpdate({ type: 'policyUpdate', id: 'each', policy: policy(...names) });
    classifier.acquire(lists(['each']));
    const made = Array.from({ length: units }, (_, index) => {
      const id = `p${index}`;
      const ports = [{ min: index + 80, max: index + 80 }];
      const destination = { ...rule('').destination, ports };
      classifier.onUpdate({
        type: 'policyUpdate',
        id,
        policy: policy(rule(`${id} 0`, { ...from('all'), protocol: 6, destination })),
      });
      return classifier.acquire(lists([id]));
    });
    await classifier.flush();
    if (late) {
      for (const member of all) {
        classifier.onUpdate({ type: 'ipSetDelta', id: 'all', added: [member], removed: [] });
        await classifier.flush();
      }
    }
    await classifier.settle();
    const { addressClasses, rows } = classifier.figures;
    expect(addressClasses).toBeGreaterThanOrEqual(pods);
    // Class 0 in each unit, ports, and the pods' own rows in the one unit that tells them apart.
    expect(rows).toBeLessThan(units * 5 + 2 * pods);
    for (const [source, action] of [
      ['10.1.0.7', 'allow'],
      ['10.9.0.1', 'deny'],
    ] as const) {
      expect(twin.classify(made[0]!.number, { ...packet, from: source }).action).toBe(action);
    }
    // Who comes new and is in no set has a class without a key or with one, and is denied.
    classifier.onUpdate({ type: 'ipSetUpdate', id: 'x', setType: 'net', members: ['10.9.0.1/32'] });
    classifier.onUpdate({ type: 'policyUpdate', id: 'x', policy: policy(rule('x 0', from('x'))) });
    classifier.acquire(lists(['x']));
    await classifier.flush();
    expect(twin.classify(made[0]!.number, { ...packet, from: '10.9.0.1' }).action).toBe('deny');
  },
);
