import { beforeEach, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { FakeClock } from '#api/fake-clock.ts';
import { silentLogger } from '../silent-logger.ts';
import { FakeSets } from './fake-sets.ts';
import { Ipsets, netMembers, setName, type SetSpec, temporaryName } from './ipsets.ts';

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
const members = (name = 'cali40a'): string[] => [...(kernel.sets.get(name)?.members ?? [])].sort();

beforeEach(() => {
  kernel = new FakeSets();
  clock = new FakeClock();
});

test('one member more is one message', async () => {
  const sets = make();
  sets.setSet(spec());
  sets.addMember('cali40a', '10.0.0.1');
  await sets.applyUpdates();
  kernel.calls.length = 0;
  sets.addMember('cali40a', '10.0.0.2');
  await sets.applyUpdates();
  await sets.applyUpdates();
  expect(kernel.calls).toEqual(['update cali40a +10.0.0.2']);
});

test('members only come before removal is allowed; then what nobody wants goes', async () => {
  kernel.sets.set('cali40a', { spec: spec(), members: new Set(['10.0.0.9']) });
  kernel.sets.set('cali40old', { spec: spec({ name: 'cali40old' }), members: new Set() });
  kernel.sets.set('others', { spec: spec({ name: 'others' }), members: new Set(['10.0.0.9']) });
  const sets = make();
  sets.setSet(spec());
  sets.addMember('cali40a', '10.0.0.1');
  await sets.applyUpdates();
  await sets.applyRemovals();
  expect(members()).toEqual(['10.0.0.1', '10.0.0.9']);
  sets.allowRemoval();
  await sets.applyUpdates();
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
  expect(await sets.applyUpdates()).toEqual({ failed: [], repaired: [] });
  expect(kernel.calls).toEqual(['list', 'members cali40a']);
});

test('what others flushed or destroyed comes back after a comparison, and is said', async () => {
  const sets = make();
  sets.setRefreshInterval(90_000);
  sets.setSet(spec());
  for (const member of ['10.0.0.1', '10.0.0.2']) sets.addMember('cali40a', member);
  await sets.applyUpdates();
  kernel.sets.get('cali40a')?.members.clear();
  expect((await sets.applyUpdates()).repaired).toEqual([]);
  clock.advance(90_000);
  expect((await sets.applyUpdates()).repaired).toEqual(['ipset cali40a: 2 members were missing']);
  kernel.sets.delete('cali40a');
  sets.requestResync();
  expect((await sets.applyUpdates()).repaired).toEqual(['ipset cali40a was missing']);
  expect(members()).toEqual(['10.0.0.1', '10.0.0.2']);
});

test.each(Array.from({ length: 12 }, (_, turns) => turns))(
  'what is wished %d turns into a cycle is not forgotten',
  async (turns) => {
    const sets = make();
    sets.allowRemoval();
    sets.setSet(spec());
    for (const member of ['10.0.0.1', '10.0.0.2']) sets.addMember('cali40a', member);
    const cycle = sets.applyUpdates();
    for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
    sets.addMember('cali40a', '10.0.0.3');
    sets.removeMember('cali40a', '10.0.0.1');
    await cycle;
    await sets.applyUpdates();
    expect(members()).toEqual(['10.0.0.2', '10.0.0.3']);
    sets.setSet(spec({ maxelem: 2000 }));
    const resize = sets.applyUpdates();
    for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
    sets.addMember('cali40a', '10.0.0.4');
    kernel.sets.get('cali40a')?.members.clear();
    sets.requestResync();
    await resize;
    await sets.applyUpdates();
    expect(members()).toEqual(['10.0.0.2', '10.0.0.3', '10.0.0.4']);
  },
);

test('another size is filled beside the old set and swapped in', async () => {
  const sets = make();
  sets.setSet(spec());
  sets.addMember('cali40a', '10.0.0.1');
  await sets.applyUpdates();
  kernel.calls.length = 0;
  sets.setSet(spec({ maxelem: 2000 }));
  expect(await sets.applyUpdates()).toEqual({ failed: [], repaired: [] });
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
  expect((await sets.applyUpdates()).failed).toMatchObject([
    { set: 'cali40a', member: '10.0.0.2', reason: expect.stringContaining('set is full') },
  ]);
  kernel.refused.clear();
  expect((await sets.applyUpdates()).failed).toEqual([]);
  expect(members()).toEqual(['10.0.0.1', '10.0.0.2']);
});

test('a set that a rule still refers to stays, is reported, and goes later', async () => {
  const sets = make();
  sets.allowRemoval();
  sets.setSet(spec());
  await sets.applyUpdates();
  kernel.referenced.add('cali40a');
  sets.removeSet('cali40a');
  expect((await sets.applyRemovals()).failed).toMatchObject([
    { set: 'cali40a', reason: expect.stringContaining('IPSET_ERR_BUSY') },
  ]);
  kernel.referenced.clear();
  expect((await sets.applyRemovals()).failed).toEqual([]);
  expect(kernel.sets.size).toBe(0);
});

test('names fit the kernel, nets are as the kernel prints them', () => {
  const name = setName(6, 's:averyveryverylongselectorhash0123456789');
  expect(name).toBe('cali60s:averyveryverylongselect');
  expect(temporaryName(name)).toHaveLength(31);
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
        else await sets.applyUpdates();
      }
      sets.requestResync();
      await sets.applyUpdates();
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
  await sets.applyUpdates();
  sets.setRefreshInterval(1_000);
  kernel.sets.get('cali40a')?.members.clear();
  clock.advance(1_000);
  expect((await sets.applyUpdates()).repaired).toEqual(['ipset cali40a: 1 members were missing']);
});
