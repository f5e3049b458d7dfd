import { beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { FakeClock } from '#api/fake-clock.ts';
import { silentLogger } from '../silent-logger.ts';
import type { CommandRunner } from '#native/command-runner.ts';
import { FakeXtables } from './fake-xtables.ts';
import type { TableSettings } from './table-settings.ts';
import { removeLeftovers, removeOurs } from './leftovers.ts';
import { ruleTag } from './rules.ts';
import { EMPTY_TABLE } from './saved.ts';
import { Tables } from './tables.ts';
import { Xtables } from './xtables.ts';

const SETTINGS: TableSettings = {
  lockTimeoutS: 5,
  refreshIntervalMs: 180_000,
  postWriteCheckMs: 5_000,
  insertMode: 'insert',
};
const FOREIGN = [
  '*filter',
  ':KUBE-FORWARD - [0:0]',
  '-A FORWARD -j KUBE-FORWARD',
  '-A KUBE-FORWARD -j ACCEPT',
  'COMMIT',
  '',
].join('\n');

describe.each(['nft', 'legacy'] as const)('the tables of a family (%s)', (variant) => {
  const tool = `iptables-${variant}`;
  let fake: FakeXtables;
  let clock: FakeClock;
  let due: number;

  const make = (settings: Partial<TableSettings> = {}): Tables => {
    const tables = new Tables(
      new Xtables(fake, variant, 4),
      ['filter'],
      { ...SETTINGS, ...settings },
      { clock, log: silentLogger, mayHold: (chain) => chain.startsWith('cali-pi-') },
      () => (due += 1),
    );
    setChain(tables, 'cali-FORWARD', ['-i cali+ -j ACCEPT', '-o cali+ -j ACCEPT']);
    tables.table('filter').setHook('FORWARD', { first: ['-j cali-FORWARD'], last: ['-m mark --mark 1 -j ACCEPT'] });
    return tables;
  };
  const running = async (settings: Partial<TableSettings> = {}): Promise<Tables> => {
    const tables = make(settings);
    tables.allowRemoval();
    tables.setHooked(true);
    expect((await tables.apply()).failed).toEqual([]);
    return tables;
  };
  const setChain = (tables: Tables, name: string, rules: readonly string[]): void =>
    void tables.table('filter').setChain(name, rules);

  beforeEach(() => {
    fake = new FakeXtables();
    clock = new FakeClock({ sleepsPass: true });
    due = 0;
    fake.write(tool, FOREIGN);
  });

  test("writes chains and hooks around others' rules in one restore", async () => {
    await running();
    expect(fake.dump(tool, 'filter')).toBe(
      [
        '*filter',
        ':INPUT ACCEPT',
        ':FORWARD ACCEPT',
        ':OUTPUT ACCEPT',
        ':KUBE-FORWARD -',
        ':cali-FORWARD -',
        '-A FORWARD # -j cali-FORWARD',
        '-A FORWARD -j KUBE-FORWARD',
        '-A FORWARD # -m mark --mark 1 -j ACCEPT',
        '-A KUBE-FORWARD -j ACCEPT',
        '-A cali-FORWARD # -i cali+ -j ACCEPT',
        '-A cali-FORWARD # -o cali+ -j ACCEPT',
        'COMMIT',
        '',
      ].join('\n'),
    );
    expect(fake.restores).toBe(1);
  });

  test('puts every rule at the end in append mode', async () => {
    await running({ insertMode: 'append' });
    expect(
      fake
        .tables(tool)
        .get('filter')
        ?.get('FORWARD')
        ?.rules.map((rule) => /-j \S+/.exec(rule)?.[0]),
    ).toEqual(['-j KUBE-FORWARD', '-j cali-FORWARD', '-j ACCEPT']);
  });

  test('is written by one cycle after the other, though a second is asked for meanwhile', async () => {
    const table = make();
    const first = table.apply();
    table.setHooked(true);
    await Promise.all([first, table.apply()]);
    table.requestResync();
    expect((await table.apply()).repaired).toEqual([]);
    expect(fake.dump(tool, 'filter').match(/-A FORWARD # -j cali-FORWARD/g)).toHaveLength(1);
  });

  test('leaves hooks as they are until told, and takes them out and in', async () => {
    const table = make();
    await table.apply();
    expect(fake.dump(tool, 'filter')).not.toContain('-A FORWARD #');
    table.setHooked(true);
    await table.apply();
    expect(fake.dump(tool, 'filter')).toContain('-A FORWARD # -j cali-FORWARD');
    const successor = make();
    await successor.apply();
    expect(fake.dump(tool, 'filter')).toContain('-A FORWARD # -j cali-FORWARD');
    successor.setHooked(false);
    await successor.apply();
    expect(fake.dump(tool, 'filter')).not.toContain('-A FORWARD #');
  });

  test.each(Array.from({ length: 12 }, (_, turns) => turns))(
    'does not forget what is set, or asked for, %d turns into a cycle',
    async (turns) => {
      const table = make();
      const cycle = table.apply();
      for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
      table.setHooked(true);
      await cycle;
      await table.apply();
      expect(fake.dump(tool, 'filter')).toContain('-A FORWARD # -j cali-FORWARD');
      setChain(table, 'cali-FORWARD', ['-j ACCEPT']);
      const second = table.apply();
      for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
      fake.write(tool, '*filter\n-F FORWARD\nCOMMIT\n');
      table.requestResync();
      await second;
      await table.apply();
      expect(fake.dump(tool, 'filter')).toContain('-A FORWARD # -j cali-FORWARD');
    },
  );

  test('writes nothing when a successor finds everything as it should be', async () => {
    await running();
    const before = fake.dump(tool, 'filter');
    await running();
    expect(fake.restores).toBe(1);
    expect(fake.dump(tool, 'filter')).toBe(before);
  });

  test('forks nothing while nothing changes and nothing is due', async () => {
    const table = await running();
    const runs = fake.runs.length;
    for (let i = 0; i < 10; i += 1) await table.apply();
    expect(fake.runs).toHaveLength(runs);
  });

  test('compares after a write at 5 s, doubling, then each refresh interval', async () => {
    const table = await running();
    const delays: (number | undefined)[] = [];
    for (let i = 0; i < 8; i += 1) {
      delays.push(clock.nextInMs);
      clock.advance(clock.nextInMs ?? 0);
      await table.apply();
    }
    expect(delays).toEqual([5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 180_000, 180_000]);
    expect(due).toBe(8);
    expect(fake.restores).toBe(1);
  });

  test('counts new intervals from now, also when there were none', async () => {
    const table = await running({ refreshIntervalMs: 0, postWriteCheckMs: 0 });
    expect(clock.nextInMs).toBeUndefined();
    table.setSettings({ ...SETTINGS, refreshIntervalMs: 1_000 });
    expect(clock.nextInMs).toBe(1_000);
    fake.write(tool, '*filter\n-F cali-FORWARD\nCOMMIT\n');
    clock.advance(1_000);
    expect((await table.apply()).repaired).toEqual([expect.stringContaining('cali-FORWARD')]);
  });

  test.each([
    ['a flushed table', '-F FORWARD\n-F cali-FORWARD', 'rules of chain cali-FORWARD had been changed'],
    ['a deleted chain', '-F FORWARD\n-F cali-FORWARD\n-X cali-FORWARD', 'chain cali-FORWARD was missing'],
    ['a rule put before our jump', '-I FORWARD -j DROP', 'our rules in chain FORWARD had been changed'],
    ['a rule put into our chain', '-I cali-FORWARD -j DROP', 'rules of chain cali-FORWARD had been changed'],
  ])('repairs %s and says so', async (_name, input, words) => {
    const table = await running();
    const good = fake.tables(tool).get('filter')?.get('cali-FORWARD')?.rules;
    fake.write(tool, `*filter\n${input}\nCOMMIT\n`);
    expect((await table.apply()).repaired).toEqual([]);
    table.requestResync();
    expect((await table.apply()).repaired.join()).toContain(words);
    expect(fake.tables(tool).get('filter')?.get('cali-FORWARD')?.rules).toEqual(good);
    expect(fake.tables(tool).get('filter')?.get('FORWARD')?.rules[0]).toMatch(/^-j cali-FORWARD -m comment/);
    table.requestResync();
    expect((await table.apply()).repaired).toEqual([]);
  });

  test('before everything is known there is only something new: chains and hooks of an earlier agent stay', async () => {
    await running();
    const before = fake.dump(tool, 'filter');
    const table = make();
    table.setHooked(true);
    setChain(table, 'cali-FORWARD', ['-j DROP']);
    table.table('filter').setHook('FORWARD', { first: ['-j cali-FORWARD', '-j LOG'] });
    setChain(table, 'cali-new', ['-j DROP']);
    await table.apply();
    expect(fake.dump(tool, 'filter').replace(/.*cali-new.*\n/g, '')).toBe(before);
    expect(fake.dump(tool, 'filter')).toContain('-A cali-new # -j DROP');
    table.allowRemoval();
    await table.apply();
    expect(fake.dump(tool, 'filter')).toContain('-A cali-FORWARD # -j DROP');
    expect(fake.dump(tool, 'filter')).toContain('-A FORWARD # -j LOG');
    expect(fake.restores).toBe(3);
  });

  test('removes its unknown chains only when allowed', async () => {
    fake.write(tool, '*filter\n:cali-old - [0:0]\n-A cali-old -j DROP\nCOMMIT\n');
    const table = make();
    table.setHooked(true);
    await table.apply();
    expect(fake.tables(tool).get('filter')?.has('cali-old')).toBe(true);
    table.allowRemoval();
    await table.apply();
    expect(fake.tables(tool).get('filter')?.has('cali-old')).toBe(false);
  });

  test('retries a failed restore, then reports the words of the tool and stays dirty', async () => {
    fake.failNextRestores = 2;
    const table = await running();
    expect(fake.restores).toBe(3);
    setChain(table, 'cali-FORWARD', ['-j ACCEPT']);
    fake.failNextRestores = 5;
    expect((await table.apply()).failed).toEqual([
      {
        object: `table filter (${tool})`,
        table: 'filter',
        reason: expect.stringContaining('Resource temporarily unavailable'),
      },
    ]);
    expect((await table.apply()).failed).toEqual([]);
    expect(fake.dump(tool, 'filter')).toContain('-A cali-FORWARD # -j ACCEPT');
  });

  test('writes only chains that changed, and says which', async () => {
    const table = await running();
    setChain(table, 'cali-a', ['-j DROP']);
    setChain(table, 'cali-FORWARD', ['-i cali+ -j ACCEPT', '-o cali+ -j ACCEPT']);
    const { rewritten } = await table.apply();
    expect(rewritten).toEqual([{ table: 'filter', chain: 'cali-a' }]);
    expect(fake.inputs.at(-1)).not.toContain('cali-FORWARD');
  });

  test('chains go in the transaction that takes out what jumps to them', async () => {
    const table = await running();
    setChain(table, 'cali-a', ['-j DROP']);
    setChain(table, 'cali-FORWARD', ['-j cali-a']);
    await table.apply();
    setChain(table, 'cali-FORWARD', ['-j cali-b']);
    setChain(table, 'cali-b', []);
    table.table('filter').removeChain('cali-a');
    expect(await table.apply()).toMatchObject({ failed: [] });
    expect([...(fake.tables(tool).get('filter')?.keys() ?? [])].filter((name) => name.startsWith('cali-'))).toEqual([
      'cali-FORWARD',
      'cali-b',
    ]);
  });

  test('a chain whose rules are refused is left as it was, a new one closed; the others are written', async () => {
    const table = await running();
    setChain(table, 'cali-pi-old', ['-j ACCEPT']);
    await table.apply();
    fake.badWords.add('bad');
    setChain(table, 'cali-pi-old', ['-m bad -j ACCEPT']);
    setChain(table, 'cali-pi-new', ['-j RETURN', '-m bad -j ACCEPT']);
    setChain(table, 'cali-pi-good', ['-j RETURN']);
    const { failed } = await table.apply();
    expect(new Set(failed.map(({ chain }) => chain))).toEqual(new Set(['cali-pi-new', 'cali-pi-old']));
    expect(failed[0]?.reason).toContain('unknown option');
    const rulesOf = (chain: string): string[] | undefined =>
      fake
        .tables(tool)
        .get('filter')
        ?.get(chain)
        ?.rules.map((rule) => rule.replace(/ -m comment --comment "cali:\S+"$/, ''));
    expect(['cali-pi-old', 'cali-pi-new', 'cali-pi-good'].map(rulesOf)).toEqual([
      ['-j ACCEPT'],
      ['-j DROP'],
      ['-j RETURN'],
    ]);
    const restores = fake.restores;
    expect((await table.apply()).failed).toHaveLength(2);
    expect(fake.restores).toBe(restores);
    setChain(table, 'cali-pi-old', ['-j DROP']);
    expect((await table.apply()).failed.map(({ chain }) => chain)).toEqual(['cali-pi-new']);
    fake.badWords.clear();
    table.requestResync();
    expect((await table.apply()).failed).toEqual([]);
    expect(['cali-pi-old', 'cali-pi-new'].map(rulesOf)).toEqual([['-j DROP'], ['-j RETURN', '-m bad -j ACCEPT']]);
  });

  test('a refused chain that hooks lead to fails the table: nothing is closed for everybody', async () => {
    const table = await running();
    fake.badWords.add('bad');
    setChain(table, 'cali-FORWARD', ['-m bad -j ACCEPT']);
    const { failed } = await table.apply();
    expect(failed).toMatchObject([{ table: 'filter' }]);
    expect(failed[0]).not.toHaveProperty('chain');
    expect(fake.dump(tool, 'filter')).toContain('-A cali-FORWARD # -o cali+ -j ACCEPT');
  });

  test('counters come with the chain and the tag of their rule', async () => {
    const table = await running();
    fake.counted.set('-i cali+ -j ACCEPT', 7);
    const counters = [...(await table.counters())];
    const hash = table.table('filter').chainHash('cali-FORWARD') ?? '';
    expect(counters).toEqual([
      { table: 'filter', chain: 'cali-FORWARD', tag: ruleTag(hash, 0), packets: 7, bytes: 70 },
      { table: 'filter', chain: 'cali-FORWARD', tag: ruleTag(hash, 1), packets: 0, bytes: 0 },
    ]);
  });

  test('a table that iptables cannot show is not written', async () => {
    const commands: CommandRunner = {
      run: (file, args, options) =>
        file.endsWith('-save')
          ? Promise.resolve({
              status: 0,
              signal: null,
              stdout: "# Table `filter' is incompatible, use 'nft' tool.\n",
              stderr: '',
            })
          : fake.run(file, args, options),
    };
    const blind = new Tables(
      new Xtables(commands, variant, 4),
      ['filter'],
      SETTINGS,
      { clock, log: silentLogger },
      () => {},
    );
    blind.table('filter').setChain('cali-a', []);
    expect((await blind.apply()).failed).toMatchObject([{ reason: expect.stringContaining("iptables can't show") }]);
    expect(fake.restores).toBe(0);
  });

  test("doesn't remove another's rule when one is inserted between reading and writing", async () => {
    const table = await running();
    table.setHooked(false);
    fake.beforeRestore = () => {
      fake.beforeRestore = undefined;
      fake.write(tool, '*filter\n-I FORWARD -j LOG\nCOMMIT\n');
    };
    await table.apply();
    expect(fake.tables(tool).get('filter')?.get('FORWARD')?.rules).toEqual(['-j LOG', '-j KUBE-FORWARD']);
  });

  test('names the Debian package when the tool is missing', async () => {
    fake.missing.add(`${tool}-save`);
    expect((await make().apply()).failed).toMatchObject([
      { table: 'filter', reason: expect.stringContaining('Debian package iptables') },
    ]);
  });

  test("leaves others' part byte for byte as it was", async () => {
    const before = fake.dump(tool, 'filter');
    const table = await running();
    setChain(table, 'cali-more', ['-j cali-FORWARD']);
    await table.apply();
    const tools = new Xtables(fake, variant, 4);
    const saved = (await tools.save()).get('filter') ?? EMPTY_TABLE;
    expect(await removeOurs(tools, 'filter', saved, 5)).toBe('removed');
    expect(fake.dump(tool, 'filter')).toBe(before);
  });
});

test('a table reaches the wanted chains from any state, in at most one restore a step', async () => {
  const rule = fc.constantFrom('-j ACCEPT', '-j DROP', '-i cali+ -j RETURN');
  const step = fc.oneof(
    fc.record({
      do: fc.constant('set' as const),
      chain: fc.constantFrom('cali-a', 'cali-b', 'cali-c'),
      rules: fc.array(rule, { maxLength: 4 }),
    }),
    fc.record({ do: fc.constant('remove' as const), chain: fc.constantFrom('cali-b', 'cali-c') }),
    fc.record({ do: fc.constant('hook' as const), on: fc.boolean() }),
    fc.record({
      do: fc.constant('foreign' as const),
      input: fc.constantFrom('-A FORWARD -j LOG', '-I FORWARD -j LOG', '-F FORWARD', '-A cali-a -j DROP'),
    }),
    fc.record({ do: fc.constant('restart' as const) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
      const fake = new FakeXtables();
      const wanted = new Map<string, readonly string[]>([['cali-a', []]]);
      let hooked = false;
      const make = (): Tables => {
        const tables = new Tables(
          new Xtables(fake, 'legacy', 4),
          ['filter'],
          SETTINGS,
          { clock: new FakeClock({ sleepsPass: true }), log: silentLogger },
          () => {},
        );
        tables.allowRemoval();
        for (const [name, rules] of wanted) tables.table('filter').setChain(name, rules);
        tables.table('filter').setHook('FORWARD', { first: ['-j cali-a'], last: ['-j ACCEPT'] });
        tables.setHooked(hooked);
        return tables;
      };
      let table = make();
      await table.apply();
      for (const now of steps) {
        if (now.do === 'set') {
          wanted.set(now.chain, now.rules);
          table.table('filter').setChain(now.chain, now.rules);
        } else if (now.do === 'remove') {
          wanted.delete(now.chain);
          table.table('filter').removeChain(now.chain);
        } else if (now.do === 'hook') {
          hooked = now.on;
          table.setHooked(hooked);
        } else if (now.do === 'foreign') {
          fake.write('iptables-legacy', `*filter\n${now.input}\nCOMMIT\n`);
          table.requestResync();
        } else {
          table = make();
        }
        const restores = fake.restores;
        await table.apply();
        expect(fake.restores - restores).toBeLessThanOrEqual(1);
        const chains = fake.tables('iptables-legacy').get('filter');
        for (const [name, rules] of wanted)
          expect(chains?.get(name)?.rules.map((text) => text.replace(/ -m comment --comment "cali:\S+"$/, ''))).toEqual(
            rules,
          );
        const ours = [...(chains?.keys() ?? [])].filter((name) => name.startsWith('cali-'));
        expect(ours.sort()).toEqual([...wanted.keys()].sort());
        const forward = chains?.get('FORWARD')?.rules ?? [];
        expect(forward.filter((text) => text.includes('cali:'))).toHaveLength(hooked ? 2 : 0);
        if (hooked) expect([forward[0], forward.at(-1)].every((text) => text?.includes('cali:'))).toBe(true);
      }
    }),
    { numRuns: 120 },
  );
});

test('an nft table that did not exist before us is known as ours, and goes when nothing else is in it', async () => {
  const fake = new FakeXtables();
  const tools = new Xtables(fake, 'nft', 4);
  const tables = new Tables(
    tools,
    ['raw'],
    SETTINGS,
    { clock: new FakeClock({ sleepsPass: true }), log: silentLogger },
    () => {},
  );
  tables.table('raw').setChain('cali-PREROUTING', ['-j DROP']);
  tables.table('raw').setHook('PREROUTING', { first: ['-j cali-PREROUTING'] });
  tables.setHooked(true);
  await tables.apply();
  const saved = (await tools.save()).get('raw') ?? EMPTY_TABLE;
  expect(await removeOurs(tools, 'raw', saved, 0)).toBe('markIsLeft');
  const places = { variants: ['nft'], families: [4], tables: ['raw'], lockTimeoutS: 0 } as const;
  await removeLeftovers(fake, silentLogger, places);
  expect(fake.tables('iptables-nft').has('raw')).toBe(false);
});
