/** Two dataplanes of ours keep rules in the same tables while one takes over from the other. */
import { describe, expect, test } from '@jest/globals';
import { FakeClock } from '#api/fake-clock.ts';
import { silentLogger } from '../silent-logger.ts';
import { FakeXtables } from './fake-xtables.ts';
import { removeLeftovers } from './leftovers.ts';
import { CALI_RULES, type RuleOwner, TORTIE_RULES } from './rules.ts';
import { Tables } from './tables.ts';
import { Xtables } from './xtables.ts';

const SETTINGS = { lockTimeoutS: 0, refreshIntervalMs: 0, postWriteCheckMs: 0, insertMode: 'insert' } as const;

async function made(fake: FakeXtables, owner: RuleOwner): Promise<Tables> {
  const { chainPrefix } = owner;
  const clock = new FakeClock({ sleepsPass: true });
  const tools = new Xtables(fake, 'nft', 4, owner);
  const tables = new Tables(tools, ['mangle'], SETTINGS, { clock, log: silentLogger }, () => {});
  const mangle = tables.table('mangle');
  mangle.setChain(`${chainPrefix}OUTPUT`, ['-j RETURN']);
  mangle.setHook('OUTPUT', { first: [`-j ${chainPrefix}OUTPUT`] });
  tables.allowRemoval();
  tables.setHooked(true);
  expect((await tables.apply()).failed).toEqual([]);
  return tables;
}

const remove = (fake: FakeXtables, owner: RuleOwner): Promise<void> =>
  removeLeftovers(fake, silentLogger, {
    variants: ['nft'],
    families: [4],
    tables: ['mangle'],
    lockTimeoutS: 0,
    owner,
  });

describe('two owners of rules in one table', () => {
  test('let each other be, and neither says that the other has moved its rules', async () => {
    const fake = new FakeXtables();
    const both = [await made(fake, CALI_RULES), await made(fake, TORTIE_RULES)];
    const before = fake.dump('iptables-nft', 'mangle');
    expect(before).toContain('-j cali-OUTPUT');
    expect(before).toContain('-j tortie-OUTPUT');
    for (const tables of both) {
      tables.requestResync();
      expect(await tables.apply()).toEqual({ failed: [], repaired: [], rewritten: [] });
    }
    expect(fake.dump('iptables-nft', 'mangle')).toBe(before);
  });

  test.each([
    ['the first', CALI_RULES, TORTIE_RULES],
    ['the second', TORTIE_RULES, CALI_RULES],
  ])('go one after the other (%s first), and the last takes the table along that neither found', async (_, a, b) => {
    const fake = new FakeXtables();
    await made(fake, CALI_RULES);
    await made(fake, TORTIE_RULES);
    await remove(fake, a);
    const left = fake.dump('iptables-nft', 'mangle');
    expect(left).not.toContain(a.chainPrefix);
    expect(left).toContain(`-j ${b.chainPrefix}OUTPUT`);
    await remove(fake, b);
    expect(fake.tables('iptables-nft').has('mangle')).toBe(false);
  });
});
