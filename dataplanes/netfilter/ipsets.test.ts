import { beforeEach, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { FakeClock } from '#api/fake-clock.ts';
import { silentLogger } from '../silent-logger.ts';
import { FakeSets } from './fake-sets.ts';
import { Ipsets, netMembers, type SetReport, setName, type SetSpec, temporaryName } from './ipsets.ts';

let kernel: FakeSets;
let clock: FakeClock;
const spec = (more: Partial<SetSpec> = {}): SetSpec => ({
  name: 'cali40a',
  type: 'hash:net',
  family: 4,
  maxelem: 1000,
  ...more,
});
const owns = (name: string): boolean => name.startsWith('cali4');
const make = (): Ipsets => new Ipsets(kernel, owns, { clock, log: silentLogger }, () => {});
/** A cycle with no tables between. */
const apply = async (sets: Ipsets): Promise<SetReport> => {
  const read = await sets.read();
  sets.begin();
  const reports = [read, await sets.applyAdditions(), await sets.applyDeletions()];
  return { failed: reports.flatMap(({ failed }) => failed), repaired: reports.flatMap(({ repaired }) => repaired) };
};
const members = (name = 'cali40a'): string[] => [...(kernel.sets.get(name)?.members ?? [])].sort();

beforeEach(() => {
  kernel = new FakeSets();
  clock = new FakeClock();
});

test('one member more is one message', async () => {
  const sets = make();
  sets.setSet(spec());
  sets.addMember('cali40a', '10.0.0.1');
  await apply(sets);
  kernel.calls.length = 0;
  sets.addMember('cali40a', '10.0.0.2');
  await apply(sets);
  await apply(sets);
  expect(kernel.calls).toEqual(['update cali40a +10.0.0.2']);
});

test('members only come before removal is allowed; then what nobody wants goes', async () => {
  kernel.sets.set('cali40a', { spec: spec(), members: new Set(['10.0.0.9']) });
  kernel.sets.set('cali40old', { spec: spec({ name: 'cali40old' }), members: new Set() });
  kernel.sets.set('others', { spec: spec({ name: 'others' }), members: new Set(['10.0.0.9']) });
  const sets = make();
  sets.setSet(spec());
  sets.addMember('cali40a', '10.0.0.1');
  await apply(sets);
  await sets.applyRemovals();
  expect(members()).toEqual(['10.0.0.1', '10.0.0.9']);
  sets.allowRemoval();
  await apply(sets);
  await sets.applyRemovals();
  expect(members()).toEqual(['10.0.0.1']);
  expect([...kernel.sets.keys()]).toEqual(['cali40a', 'others']);
});

test('a set that is right is adopted without a write', async () => {
  kernel.sets.set('cali40a', { spec: spec(), members: new Set(['10.0.0.1']) });
  const sets = make();
  sets.allowRemoval();
  sets.setSet(spec());
  sets.addMember('cali40a', '10.0.0.1');
  expect(await apply(sets)).toEqual({ failed: [], repaired: [] });
  expect(kernel.calls).toEqual(['contents cali']);
});

test('what others flushed or destroyed comes back after a comparison, and is said', async () => {
  const sets = make();
  sets.setRefreshInterval(90_000);
  sets.setSet(spec());
  for (const member of ['10.0.0.1', '10.0.0.2']) sets.addMember('cali40a', member);
  await apply(sets);
  kernel.sets.get('cali40a')?.members.clear();
  expect((await apply(sets)).repaired).toEqual([]);
  clock.advance(90_000);
  expect((await apply(sets)).repaired).toEqual(['ipset cali40a: 2 members were missing']);
  kernel.sets.delete('cali40a');
  sets.requestResync();
  expect((await apply(sets)).repaired).toEqual(['ipset cali40a was missing']);
  expect(members()).toEqual(['10.0.0.1', '10.0.0.2']);
});

test.each(Array.from({ length: 12 }, (_, turns) => turns))(
  'what is wished %d turns into a cycle is not forgotten',
  async (turns) => {
    const sets = make();
    sets.allowRemoval();
    sets.setSet(spec());
    for (const member of ['10.0.0.1', '10.0.0.2']) sets.addMember('cali40a', member);
    const cycle = apply(sets);
    for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
    sets.addMember('cali40a', '10.0.0.3');
    sets.removeMember('cali40a', '10.0.0.1');
    await cycle;
    await apply(sets);
    expect(members()).toEqual(['10.0.0.2', '10.0.0.3']);
    sets.setSet(spec({ maxelem: 2000 }));
    const resize = apply(sets);
    for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
    sets.addMember('cali40a', '10.0.0.4');
    kernel.sets.get('cali40a')?.members.clear();
    sets.requestResync();
    await resize;
    await apply(sets);
    expect(members()).toEqual(['10.0.0.2', '10.0.0.3', '10.0.0.4']);
  },
);

test('a comparison reads members only of sets that were changed', async () => {
  const sets = make();
  sets.allowRemoval();
  for (const name of ['cali40a', 'cali40b']) {
    sets.setSet(spec({ name }));
    sets.setMembers(name, ['10.0.0.1', '10.0.0.2']);
  }
  await apply(sets);
  sets.removeMember('cali40a', '10.0.0.1');
  await apply(sets);
  kernel.calls.length = 0;
  sets.requestResync();
  expect(await apply(sets)).toEqual({ failed: [], repaired: [] });
  expect(kernel.calls).toEqual(['summaries cali']);
  // As many members as before.
  kernel.sets.get('cali40b')?.members.delete('10.0.0.1');
  kernel.sets.get('cali40b')?.members.add('10.0.0.9');
  sets.requestResync();
  expect((await apply(sets)).repaired).toEqual([
    'ipset cali40b: 1 members were missing',
    'ipset cali40b: 1 members too many',
  ]);
  expect(kernel.calls.slice(1)).toEqual([
    'summaries cali',
    'contents cali40b',
    'update cali40b +10.0.0.1',
    'update cali40b -10.0.0.9',
  ]);
});

test('another size is filled beside the old set and swapped in', async () => {
  const sets = make();
  sets.setSet(spec());
  sets.addMember('cali40a', '10.0.0.1');
  await apply(sets);
  kernel.calls.length = 0;
  sets.setSet(spec({ maxelem: 2000 }));
  expect(await apply(sets)).toEqual({ failed: [], repaired: [] });
  expect(kernel.calls).toEqual([
    'list',
    'create cali4t-a',
    'update cali4t-a +10.0.0.1',
    'swap cali4t-a cali40a',
    'destroy cali4t-a',
  ]);
  expect(kernel.sets.get('cali40a')?.spec.maxelem).toBe(2000);
  expect(members()).toEqual(['10.0.0.1']);
});

test('a refused member is reported with its reason, the others go in, and it is tried again', async () => {
  kernel.refused.set('10.0.0.2', 'set is full');
  const sets = make();
  sets.setSet(spec());
  for (const member of ['10.0.0.1', '10.0.0.2']) sets.addMember('cali40a', member);
  expect((await apply(sets)).failed).toMatchObject([
    { set: 'cali40a', member: '10.0.0.2', reason: expect.stringContaining('set is full') },
  ]);
  kernel.refused.clear();
  expect((await apply(sets)).failed).toEqual([]);
  expect(members()).toEqual(['10.0.0.1', '10.0.0.2']);
});

test('what moves from one set to another is added before it is taken out, whatever the order of the wishes', async () => {
  const sets = make();
  sets.allowRemoval();
  for (const name of ['cali40a', 'cali40b']) sets.setSet(spec({ name }));
  sets.addMember('cali40a', '10.0.0.1');
  await apply(sets);
  kernel.calls.length = 0;
  sets.removeMember('cali40a', '10.0.0.1');
  sets.addMember('cali40b', '10.0.0.1');
  await apply(sets);
  expect(kernel.calls).toEqual(['update cali40b +10.0.0.1', 'update cali40a -10.0.0.1']);
});

test('what is wished in the middle of a cycle is added at once, but taken out in the next one', async () => {
  const sets = make();
  sets.allowRemoval();
  for (const name of ['cali40a', 'cali40b', 'cali40c']) sets.setSet(spec({ name }));
  sets.addMember('cali40a', '10.0.0.1');
  await apply(sets);
  sets.begin();
  sets.removeMember('cali40a', '10.0.0.1');
  sets.removeSet('cali40c');
  sets.addMember('cali40b', '10.0.0.1');
  await sets.applyAdditions();
  await sets.applyDeletions();
  await sets.applyRemovals();
  expect([members('cali40a'), members('cali40b')]).toEqual([['10.0.0.1'], ['10.0.0.1']]);
  expect(kernel.sets.has('cali40c')).toBe(true);
  await apply(sets);
  await sets.applyRemovals();
  expect([members('cali40a'), members('cali40b')]).toEqual([[], ['10.0.0.1']]);
  expect(kernel.sets.has('cali40c')).toBe(false);
});

test('members of a set that is held stay until it is not', async () => {
  const sets = make();
  sets.allowRemoval();
  sets.setSet(spec());
  sets.setMembers('cali40a', ['10.0.0.1', '10.0.0.2']);
  await apply(sets);
  sets.setMembers('cali40a', ['10.0.0.2', '10.0.0.3']);
  sets.begin();
  await sets.applyAdditions();
  await sets.applyDeletions((name) => name === 'cali40a');
  expect(members()).toEqual(['10.0.0.1', '10.0.0.2', '10.0.0.3']);
  await apply(sets);
  expect(members()).toEqual(['10.0.0.2', '10.0.0.3']);
});

test('a set of another type under our name is made anew, with the new members only', async () => {
  kernel.sets.set('cali40a', { spec: spec({ type: 'hash:ip' }), members: new Set(['10.0.0.9']) });
  const sets = make();
  sets.setSet(spec());
  sets.addMember('cali40a', '10.0.0.1');
  expect((await apply(sets)).failed).toEqual([]);
  expect(kernel.sets.get('cali40a')?.spec.type).toBe('hash:net');
  expect(members()).toEqual(['10.0.0.1']);
});

test('a set that is wanted again before it could be destroyed has only the members of now', async () => {
  const sets = make();
  sets.allowRemoval();
  sets.setSet(spec());
  sets.setMembers('cali40a', ['10.0.0.1', '10.0.0.2']);
  await apply(sets);
  sets.removeSet('cali40a');
  sets.setSet(spec());
  sets.addMember('cali40a', '10.0.0.2');
  kernel.calls.length = 0;
  await apply(sets);
  await sets.applyRemovals();
  expect(kernel.calls).toEqual(['update cali40a -10.0.0.1']);
});

test('a set that could not be made is reported, and tried again', async () => {
  kernel.refused.set('cali40a', 'no memory');
  const sets = make();
  for (const name of ['cali40a', 'cali40b']) sets.setSet(spec({ name }));
  sets.addMember('cali40b', '10.0.0.1');
  expect((await apply(sets)).failed).toMatchObject([{ set: 'cali40a', reason: expect.stringContaining('no memory') }]);
  expect(members('cali40b')).toEqual(['10.0.0.1']);
  kernel.refused.clear();
  expect((await apply(sets)).failed).toEqual([]);
  expect([...kernel.sets.keys()]).toEqual(['cali40b', 'cali40a']);
});

test('a long list of members is written in parts', async () => {
  const sets = make();
  sets.setSet(spec({ maxelem: 100_000 }));
  const many = Array.from({ length: 50_000 }, (_, n) => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`);
  sets.setMembers('cali40a', many);
  await apply(sets);
  expect(kernel.calls.filter((call) => call.startsWith('update'))).toHaveLength(3);
  expect(members()).toHaveLength(50_000);
});

test('a set that a rule still refers to stays, is reported, and goes later', async () => {
  const sets = make();
  sets.allowRemoval();
  sets.setSet(spec());
  await apply(sets);
  kernel.referenced.add('cali40a');
  sets.removeSet('cali40a');
  sets.begin();
  expect((await sets.applyRemovals()).failed).toMatchObject([
    { set: 'cali40a', reason: expect.stringContaining('IPSET_ERR_BUSY') },
  ]);
  kernel.referenced.clear();
  sets.begin();
  expect((await sets.applyRemovals()).failed).toEqual([]);
  expect(kernel.sets.size).toBe(0);
});

test('names fit the kernel, nets are as the kernel prints them', () => {
  const name = setName(6, 's-0123456789012345678901');
  expect(name).toBe('cali60s-0123456789012345678901');
  expect(temporaryName(name)).toBe('cali6t-s-0123456789012345678901');
  expect(() => setName(6, 's-01234567890123456789012')).toThrow('too long');
  expect(['10.0.0.1/32', 'fd00::1/128', '10.0.0.0/8', '0.0.0.0/0', '::/0'].flatMap(netMembers)).toEqual([
    '10.0.0.1',
    'fd00::1',
    '10.0.0.0/8',
    '0.0.0.0/1',
    '128.0.0.0/1',
    '::/1',
    '8000::/1',
  ]);
});

test('any history ends with exactly the wanted members', async () => {
  const member = fc.integer({ min: 1, max: 6 }).map((n) => `10.0.0.${n}`);
  const step = fc.record({
    do: fc.constantFrom(
      'add' as const,
      'remove' as const,
      'foreignAdd' as const,
      'foreignRemove' as const,
      'flush' as const,
      'resize' as const,
      'apply' as const,
    ),
    member,
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      kernel = new FakeSets();
      const sets = make();
      const wanted = new Set<string>();
      let maxelem = 1000;
      sets.allowRemoval();
      sets.setSet(spec());
      for (const { do: what, member } of steps) {
        if (what === 'add') sets.addMember('cali40a', (wanted.add(member), member));
        else if (what === 'remove') sets.removeMember('cali40a', (wanted.delete(member), member));
        else if (what === 'foreignAdd') kernel.sets.get('cali40a')?.members.add(member);
        else if (what === 'foreignRemove') kernel.sets.get('cali40a')?.members.delete(member);
        else if (what === 'flush') kernel.sets.get('cali40a')?.members.clear();
        else if (what === 'resize') sets.setSet(spec({ maxelem: (maxelem += 1) }));
        else await apply(sets);
      }
      sets.requestResync();
      await apply(sets);
      expect(members()).toEqual([...wanted].sort());
      expect([...kernel.sets.keys()]).toEqual(['cali40a']);
      expect(kernel.sets.get('cali40a')?.spec.maxelem).toBe(maxelem);
    }),
    { numRuns: 200 },
  );
});

test('a refresh interval that changes counts from now, also from never', async () => {
  const sets = make();
  sets.setSet(spec());
  sets.addMember('cali40a', '10.0.0.1');
  await apply(sets);
  sets.setRefreshInterval(1_000);
  kernel.sets.get('cali40a')?.members.clear();
  clock.advance(1_000);
  expect((await apply(sets)).repaired).toEqual(['ipset cali40a: 1 members were missing']);
});

test('a comparison that is asked for during a cycle is the next one’s: what this one should take out goes', async () => {
  const sets = make();
  sets.allowRemoval();
  sets.setSet(spec());
  for (const member of ['10.0.0.1', '10.0.0.2']) sets.addMember('cali40a', member);
  await apply(sets);
  sets.removeMember('cali40a', '10.0.0.2');
  await sets.read();
  sets.begin();
  await sets.applyAdditions();
  sets.requestResync();
  expect((await sets.applyDeletions()).failed).toEqual([]);
  expect(members()).toEqual(['10.0.0.1']);
  kernel.calls.length = 0;
  await apply(sets);
  expect(kernel.calls).toEqual(['summaries cali']);
});

test('a set whose size is changed while it is made gets that size', async () => {
  const sets = make();
  sets.setSet(spec({ maxelem: 1000 }));
  const createAll = kernel.createAll.bind(kernel);
  kernel.createAll = async (specs) => {
    const failures = await createAll(specs);
    sets.setSet(spec({ maxelem: 2000 }));
    return failures;
  };
  await apply(sets);
  kernel.createAll = createAll;
  await apply(sets);
  expect(kernel.sets.get('cali40a')?.spec).toMatchObject({ maxelem: 2000 });
});
