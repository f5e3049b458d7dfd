import { afterEach, expect, jest, test } from '@jest/globals';
import { setImmediate } from 'node:timers/promises';
import { ClassSpace } from './class-space.ts';
import { from, lists, packet, policy, rule, start } from './rules-for-tests.ts';

afterEach(() => {
  jest.restoreAllMocks();
});

/** Time goes by so fast that each look at the clock is the end of a piece. */
function hurry(): void {
  let now = 0;
  jest.spyOn(performance, 'now').mockImplementation(() => (now += 1000));
}

const hosts = (first: number, count: number) =>
  Array.from({ length: count }, (_, index) => `10.1.${(first + index) >> 8}.${(first + index) & 255}/32`);

test('others have turns while a flush plans, and what they say is the next one’s', async () => {
  hurry();
  for (let turn = 1; turn < 40; turn += 3) {
    const { twin, classifier } = start();
    const set = (members: string[]) => classifier.onUpdate({ type: 'ipSetUpdate', id: 's', setType: 'net', members });
    const rules = Array.from({ length: 300 }, (_, index) => rule(`p ${index}`, { protocol: 200, ...from('s') }));
    set([...hosts(0, 600), '10.0.0.1/32']);
    classifier.onUpdate({ type: 'policyUpdate', id: 'p', policy: policy(...rules, rule('last', from('s'))) });
    classifier.onUpdate({ type: 'policyUpdate', id: 'q', policy: policy() });
    const [unit, leaving] = [classifier.acquire(lists(['p'])), classifier.acquire(lists(['q']))];
    const actionOf = (of: typeof unit) => twin.classify(of.number, packet).action;
    await classifier.flush();
    set([...hosts(300, 600), '10.0.0.1/32']);
    classifier.onUpdate({ type: 'policyUpdate', id: 'p', policy: policy(...rules.slice(1), rule('end', from('s'))) });
    classifier.release(leaving);
    let isOver = false;
    const flushed = classifier.flush().then(() => (isOver = true));
    for (let waited = 0; waited < turn; waited++) await setImmediate();
    const cameBetween = !isOver;
    expect(actionOf(unit)).toBe('allow');
    classifier.onUpdate({ type: 'ipSetDelta', id: 's', added: ['10.9.9.9/32'], removed: ['10.0.0.1/32'] });
    classifier.onUpdate({ type: 'policyUpdate', id: 'q', policy: policy(rule('q 0')) });
    classifier.setHop('10.0.0.1/32', 7);
    const again = classifier.acquire(lists(['q']));
    const settled = classifier.settle();
    await flushed;
    // Whoever spoke while it planned is not in it: what isn't said to be in force can't be.
    if (turn === 1)
      expect([cameBetween, actionOf(unit), actionOf(again), twin.hopOf('10.0.0.1')]).toEqual([
        true,
        'allow',
        'deny',
        0,
      ]);
    await classifier.flush();
    expect([actionOf(unit), actionOf(again), twin.hopOf('10.0.0.1')]).toEqual(['deny', 'allow', 7]);
    await settled;
    await classifier.settle();
    classifier.release(unit);
    classifier.release(again);
    classifier.setHop('10.0.0.1/32', 0);
    await classifier.flush();
    await classifier.settle();
    expect([twin.addresses[4].size, twin.rows.size, classifier.figures.records]).toEqual([0, 0, 0]);
  }
});

test('a set that was never announced can’t change, one that is still on its way can', () => {
  const { classifier } = start();
  const delta = { type: 'ipSetDelta', id: 's', added: ['10.0.0.1/32'], removed: [] } as const;
  expect(() => classifier.onUpdate(delta)).toThrow(expect.objectContaining({ code: 'UNKNOWN_SET' }));
  classifier.onUpdate({ type: 'ipSetUpdate', id: 's', setType: 'net', members: [] });
  classifier.onUpdate(delta);
  classifier.onUpdate({ type: 'ipSetRemove', id: 's' });
  expect(() => classifier.onUpdate(delta)).toThrow(expect.objectContaining({ code: 'UNKNOWN_SET' }));
});

test('an address that gets no class for its new sets gets its new hop all the same', async () => {
  const { twin, classifier } = start();
  classifier.setHop('10.0.0.1/32', 3);
  classifier.onUpdate({ type: 'ipSetUpdate', id: 's', setType: 'net', members: ['10.0.0.2/32'] });
  classifier.onUpdate({ type: 'policyUpdate', id: 'p', policy: policy(rule('p 0', from('s'))) });
  const unit = classifier.acquire(lists(['p']));
  await classifier.flush();
  classifier.onUpdate({ type: 'ipSetUpdate', id: 't', setType: 'net', members: ['10.0.0.1/32'] });
  classifier.onUpdate({ type: 'policyUpdate', id: 'p', policy: policy(rule('p 0', from('t'))) });
  classifier.setHop('10.0.0.1/32', 4);
  jest.spyOn(ClassSpace.prototype, 'create').mockReturnValue(undefined);
  await classifier.flush();
  expect([twin.hopOf('10.0.0.1'), unit.failure === undefined]).toEqual([4, false]);
  expect(twin.classify(unit.number, packet).action).toBe('deny');
  jest.restoreAllMocks();
  classifier.onUpdate({
    type: 'policyUpdate',
    id: 'p',
    policy: policy(rule('p 0', from('t')), rule('p 1', from('t'))),
  });
  await classifier.flush();
  expect([twin.classify(unit.number, packet).action, twin.hopOf('10.0.0.1')]).toEqual(['allow', 4]);
});
