import { beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { FakeClock } from '#api/fake-clock.ts';
import { silentLogger } from '../silent-logger.ts';
import { FakeXtables } from './fake-xtables.ts';
import type { TableSettings } from './table-settings.ts';
import { removeOurs, Table } from './table.ts';
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

describe.each(['nft', 'legacy'] as const)('a table (%s)', (variant) => {
  const tool = `iptables-${variant}`;
  let fake: FakeXtables;
  let clock: FakeClock;
  let due: number;

  const make = (settings: Partial<TableSettings> = {}): Table => {
    const table = new Table(
      'filter',
      new Xtables(fake, variant, 4),
      { ...SETTINGS, ...settings },
      { clock, log: silentLogger },
      () => (due += 1),
    );
    table.setChain('cali-FORWARD', ['-i cali+ -j ACCEPT', '-o cali+ -j ACCEPT']);
    table.setHook('FORWARD', { first: ['-j cali-FORWARD'], last: ['-m mark --mark 1 -j ACCEPT'] });
    return table;
  };
  const running = async (settings: Partial<TableSettings> = {}): Promise<Table> => {
    const table = make(settings);
    table.allowRemoval();
    table.setHooked(true);
    await table.apply();
    return table;
  };

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
    expect(await table.apply()).toEqual([]);
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
      table.setChain('cali-FORWARD', ['-j ACCEPT']);
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
    expect(await table.apply()).toEqual([expect.stringContaining('cali-FORWARD')]);
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
    expect(await table.apply()).toEqual([]);
    table.requestResync();
    expect((await table.apply()).join()).toContain(words);
    expect(fake.tables(tool).get('filter')?.get('cali-FORWARD')?.rules).toEqual(good);
    expect(fake.tables(tool).get('filter')?.get('FORWARD')?.rules[0]).toMatch(/-j cali-FORWARD$/);
    table.requestResync();
    expect(await table.apply()).toEqual([]);
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
    table.setChain('cali-FORWARD', ['-j ACCEPT']);
    fake.failNextRestores = 5;
    await expect(table.apply()).rejects.toMatchObject({
      code: 'XTABLES_FAILED',
      message: expect.stringContaining('Resource temporarily unavailable'),
    });
    await table.apply();
    expect(fake.dump(tool, 'filter')).toContain('-A cali-FORWARD # -j ACCEPT');
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
    await expect(make().apply()).rejects.toMatchObject({
      code: 'XTABLES_MISSING',
      message: expect.stringContaining('Debian package iptables'),
    });
  });

  test("leaves others' part byte for byte as it was", async () => {
    const before = fake.dump(tool, 'filter');
    const table = await running();
    table.setChain('cali-more', ['-j cali-FORWARD']);
    await table.apply();
    const tools = new Xtables(fake, variant, 4);
    const saved = (await tools.save()).get('filter') ?? new Map();
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
      const make = (): Table => {
        const table = new Table(
          'filter',
          new Xtables(fake, 'legacy', 4),
          SETTINGS,
          { clock: new FakeClock({ sleepsPass: true }), log: silentLogger },
          () => {},
        );
        table.allowRemoval();
        for (const [name, rules] of wanted) table.setChain(name, rules);
        table.setHook('FORWARD', { first: ['-j cali-a'], last: ['-j ACCEPT'] });
        table.setHooked(hooked);
        return table;
      };
      let table = make();
      await table.apply();
      for (const now of steps) {
        if (now.do === 'set') {
          wanted.set(now.chain, now.rules);
          table.setChain(now.chain, now.rules);
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
          expect(chains?.get(name)?.rules.map((text) => text.replace(/^.*" /, ''))).toEqual(rules);
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
  const table = new Table(
    'raw',
    tools,
    SETTINGS,
    { clock: new FakeClock({ sleepsPass: true }), log: silentLogger },
    () => {},
  );
  table.setChain('cali-PREROUTING', ['-j DROP']);
  table.setHook('PREROUTING', { first: ['-j cali-PREROUTING'] });
  table.setHooked(true);
  await table.apply();
  const saved = (await tools.save()).get('raw') ?? new Map();
  expect(await removeOurs(tools, 'raw', saved, 0)).toBe('tableIsEmpty');
  expect(fake.tables('iptables-nft').has('raw')).toBe(false);
});
