import { beforeEach, describe, expect, test } from '@jest/globals';
import { FakeClock } from '#api/fake-clock.ts';
import { FakeXtables } from '../netfilter/fake-xtables.ts';
import { VariantChoice } from '../netfilter/variant-choice.ts';
import { TEST_CONFIG } from '../shared/test-config.ts';
import { silentLogger } from '../silent-logger.ts';
import { hostMarksMissing, packetMarks } from './marks.ts';
import { stackRules } from './stack-rules.ts';
import { StackTables } from './stack-tables.ts';

const docker = ['*filter', ':FORWARD DROP [0:0]', ':DOCKER - [0:0]', '-A FORWARD -j DOCKER', 'COMMIT', ''].join('\n');

let fake: FakeXtables;
let hasIpv6: boolean;
let clock: FakeClock;
let due: number;
let tables: StackTables;

const create = (): StackTables => {
  clock = new FakeClock({ sleepsPass: true });
  due = 0;
  const variants = new VariantChoice(fake, silentLogger);
  return new StackTables(
    { commands: fake, variants, hasIpv6: () => hasIpv6, clock, log: silentLogger },
    () => void due++,
  );
};

beforeEach(() => {
  fake = new FakeXtables();
  fake.write('iptables-nft', docker);
  hasIpv6 = true;
  tables = create();
});

/** One chain's rules, without comments of ours. */
const chain = (tool: string, table: string, name: string): readonly string[] =>
  (fake.tables(tool).get(table)?.get(name)?.rules ?? []).map((rule) => rule.replace(/ -m comment .*$/, ''));

describe('the bits of the mark', () => {
  test('come after those of the other dataplane, and a mask that has too few says so', () => {
    expect(packetMarks({ markMask: 0xffff0000 })).toEqual({
      seen: 0x200000,
      host: 0x400000,
      notLocal: 0x800000,
      untracked: 0x1000000,
      preAccepted: 0x2000000,
    });
    expect(hostMarksMissing({ markMask: 0xffff0000 })).toBeUndefined();
    expect(packetMarks({ markMask: 0x80000000 | 0x3f })).toEqual({
      seen: 0x20,
      host: 0x80000000,
      notLocal: 0,
      untracked: 0,
      preAccepted: 0,
    });
    expect(hostMarksMissing({ markMask: 0x1ff })).toContain('is 0x1ff: host endpoints need 10 bits');
    expect(() => packetMarks({ markMask: 0x3f })).toThrow(
      expect.objectContaining({ code: 'E_MARK_BITS', message: expect.stringContaining('0x3f, which has 6 bits') }),
    );
  });
});

describe("netfilter's part while programs judge", () => {
  test('stands around what others have, once it is hooked, in both families', async () => {
    tables.setConfig(TEST_CONFIG);
    tables.setServiceRanges(['10.96.0.0/12', 'fd00:96::/112']);
    expect(await tables.apply()).toEqual({ failed: [], repaired: [] });
    expect(chain('iptables-nft', 'filter', 'FORWARD')).toEqual(['-j DOCKER']);
    await tables.hook(true);
    expect(chain('iptables-nft', 'filter', 'FORWARD')).toEqual([
      '-j tortie-FORWARD',
      '-j DOCKER',
      '-j tortie-loops',
      '-i cali+ -m mark --mark 0x200000/0x200000 -j ACCEPT',
      '-o cali+ -j ACCEPT',
    ]);
    expect(chain('iptables-nft', 'filter', 'tortie-FORWARD')).toEqual(['-i cali+ -m mark --mark 0x0/0x200000 -j DROP']);
    expect(chain('iptables-nft', 'mangle', 'OUTPUT')).toEqual(['-j tortie-OUTPUT']);
    expect(chain('ip6tables-nft', 'filter', 'tortie-loops')).toEqual(['-d fd00:96::/112 -j DROP']);
    expect(chain('ip6tables-nft', 'filter', 'INPUT')).toEqual(['-j tortie-INPUT']);
  });

  test.each([
    ['drop', 'DROP'],
    ['return', 'RETURN'],
    ['accept', 'ACCEPT'],
  ] as const)('says what pods may have of the node: %s', (endpointToHostAction, target) => {
    const { filter } = stackRules(6, { ...TEST_CONFIG, endpointToHostAction }, []);
    const rules = filter.chains.get('tortie-to-host') ?? [];
    expect(rules.at(-1)).toBe(`-j ${target}`);
    expect(rules).toContain('-p 58 -m icmp6 --icmpv6-type 135 -j ACCEPT');
    expect(rules.at(-2)).toContain('ESTABLISHED');
  });

  test('is put right when others have changed it, and follows the configuration', async () => {
    tables.setConfig(TEST_CONFIG);
    await tables.apply();
    await tables.hook(true);
    fake.write('iptables-nft', docker);
    tables.requestResync();
    const { repaired } = await tables.apply();
    expect(repaired.join()).toContain('our rules in chain FORWARD had been changed');
    tables.setConfig({ ...TEST_CONFIG, interfacePrefixes: ['tap', 'veth'], filterAllowAction: 'return' });
    expect(await tables.apply()).toEqual({ failed: [], repaired: [] });
    expect(chain('iptables-nft', 'filter', 'FORWARD').at(-1)).toBe('-o veth+ -j RETURN');
  });

  test('is put right by the comparison whose time has come, and is not looked at before that', async () => {
    tables.setConfig(TEST_CONFIG);
    await tables.apply();
    await tables.hook(true);
    fake.write('iptables-nft', docker);
    expect(await tables.apply()).toEqual({ failed: [], repaired: [] });
    clock.advance(clock.nextInMs ?? 0);
    expect(due).toBeGreaterThan(0);
    const { repaired } = await tables.apply();
    expect(repaired.join()).toContain('our rules in chain FORWARD had been changed');
  });

  test('goes when IPv6 is switched off, and is left alone where the kernel has none', async () => {
    tables.setConfig(TEST_CONFIG);
    await tables.apply();
    await tables.hook(true);
    tables.setConfig({ ...TEST_CONFIG, ipv6Support: false });
    expect(await tables.apply()).toEqual({ failed: [], repaired: [] });
    expect(chain('ip6tables-nft', 'filter', 'FORWARD')).toEqual([]);
    expect(chain('iptables-nft', 'filter', 'FORWARD')).not.toEqual([]);
    hasIpv6 = false;
    fake.runs.length = 0;
    tables = create();
    tables.setConfig(TEST_CONFIG);
    await tables.apply();
    expect(fake.runs.filter((run) => run.startsWith('ip6'))).toEqual([]);
  });

  test('is found as it stands by the next agent, and removed by one that knows nothing', async () => {
    tables.setConfig(TEST_CONFIG);
    await tables.apply();
    await tables.hook(true);
    const before = fake.dump('iptables-nft', 'filter');
    const restores = fake.restores;
    tables = create();
    tables.setConfig(TEST_CONFIG);
    await tables.apply();
    await tables.hook(true);
    expect(fake.restores).toBe(restores);
    expect(fake.dump('iptables-nft', 'filter')).toBe(before);
    await create().cleanup();
    expect(fake.dump('iptables-nft', 'filter')).not.toContain('tortie');
    expect(chain('iptables-nft', 'filter', 'FORWARD')).toEqual(['-j DOCKER']);
    expect(fake.tables('iptables-nft').has('mangle')).toBe(false);
  });

  test('that can not be said is a failure with the reason, and is tried again', async () => {
    tables.setConfig({ ...TEST_CONFIG, markMask: 0x1f });
    for (let tries = 0; tries < 2; tries++) {
      expect(await tables.apply()).toMatchObject({
        failed: [{ object: 'netfilter rules', reason: expect.stringContaining('0x1f, which has 5 bits') }],
      });
    }
    await expect(tables.hook(true)).rejects.toThrow(/which has 5 bits/);
  });
});

describe('what host endpoints need of netfilter', () => {
  const marks = packetMarks(TEST_CONFIG);
  const hex = (bit: number): string => `0x${bit.toString(16)}/0x${bit.toString(16)}`;

  test('is there while they need it, and costs a node without them no table', async () => {
    tables.setConfig(TEST_CONFIG);
    await tables.hook(true);
    expect(chain('iptables-nft', 'filter', 'tortie-INPUT')).toEqual(['-i cali+ -g tortie-to-host']);
    expect(fake.tables('iptables-nft').has('raw')).toBe(false);
    tables.setHosts({ notLocal: true, untracked: false });
    await tables.apply();
    expect(chain('iptables-nft', 'filter', 'tortie-INPUT')).toEqual([
      `-m mark --mark ${hex(marks.notLocal)} -j DROP`,
      '-i cali+ -g tortie-to-host',
    ]);
    expect(fake.tables('iptables-nft').has('raw')).toBe(false);
    tables.setHosts({ notLocal: true, untracked: true });
    expect(await tables.apply()).toEqual({ failed: [], repaired: [] });
    expect(chain('iptables-nft', 'raw', 'PREROUTING')).toEqual(['-j tortie-PREROUTING']);
    expect(chain('ip6tables-nft', 'raw', 'tortie-PREROUTING')).toEqual([
      `-m mark --mark ${hex(marks.untracked)} -j CT --notrack`,
      `-m mark --mark ${hex(marks.untracked)} -j MARK --set-xmark 0x0/0x${marks.untracked.toString(16)}`,
    ]);
    // Nothing that the node sends has the mark by then.
    expect(chain('iptables-nft', 'raw', 'OUTPUT')).toEqual([]);
    tables.setHosts({ notLocal: false, untracked: false });
    expect(await tables.apply()).toEqual({ failed: [], repaired: [] });
    expect(chain('iptables-nft', 'raw', 'PREROUTING')).toEqual([]);
    expect(fake.tables('iptables-nft').get('raw')?.get('tortie-PREROUTING')).toBeUndefined();
    expect(chain('iptables-nft', 'filter', 'tortie-INPUT')).toEqual(['-i cali+ -g tortie-to-host']);
  });

  test("of an earlier agent's goes when nobody needs it any more", async () => {
    tables.setConfig(TEST_CONFIG);
    tables.setHosts({ notLocal: true, untracked: true });
    await tables.hook(true);
    tables[Symbol.dispose]();
    tables = create();
    tables.setConfig(TEST_CONFIG);
    await tables.apply();
    await tables.hook(true);
    expect(chain('iptables-nft', 'raw', 'PREROUTING')).toEqual([]);
    expect(fake.tables('iptables-nft').get('raw')?.get('tortie-PREROUTING')).toBeUndefined();
  });
});
