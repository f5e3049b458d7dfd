/** Two dataplanes of ours keep rules in the same tables while one takes over from the other. */
import { describe, expect, test } from '@jest/globals';
import { FakeClock } from '#api/fake-clock.ts';
import type { CommandRunner } from '#native/command-runner.ts';
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

const remove = (fake: CommandRunner, owner: RuleOwner): Promise<void> =>
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

  test.each(['iptables-nft-save', 'iptables-nft-restore', 'nft list', 'nft delete'])(
    'one comes while the other goes, before its %s: what it made goes with it, however that ends',
    async (command) => {
      const fake = new FakeXtables();
      await made(fake, CALI_RULES);
      let comes: Promise<Tables> | undefined;
      await remove(
        runningBefore(fake, command, async () => void (await (comes ??= made(fake, TORTIE_RULES)))),
        CALI_RULES,
      );
      // What was deleted under it is put back: others' changes are looked for behind each write.
      const tables = await comes;
      tables?.requestResync();
      await tables?.apply();
      const left = fake.dump('iptables-nft', 'mangle');
      expect(left).not.toContain('cali-');
      expect(left).toContain('-j tortie-OUTPUT');
      await remove(fake, TORTIE_RULES);
      expect(fake.tables('iptables-nft').has('mangle')).toBe(false);
    },
  );
});

test.each(['iptables-nft-save', 'iptables-nft-restore', 'nft list', 'nft delete'])(
  'who removes is killed before %s: the next one leaves no table',
  async (command) => {
    const fake = new FakeXtables();
    await made(fake, CALI_RULES);
    const killed = Promise.withResolvers<void>();
    void remove(
      runningBefore(fake, command, () => {
        killed.resolve();
        return new Promise(() => {}); // It does nothing any more.
      }),
      CALI_RULES,
    );
    await killed.promise;
    await remove(fake, CALI_RULES);
    expect(fake.tables('iptables-nft').has('mangle')).toBe(false);
  },
);

/** The same tools; this is done before the command that begins so. */
function runningBefore(fake: FakeXtables, command: string, deed: () => Promise<void>): CommandRunner {
  return {
    run: async (file, args, options) => {
      if ([file, ...args].join(' ').startsWith(command)) await deed();
      return await fake.run(file, args, options);
    },
  };
}
