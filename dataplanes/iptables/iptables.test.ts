import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { FakeClock } from '#api/fake-clock.ts';
import type { DataplaneConfig, DataplaneUpdate, WorkloadEndpointInfo } from '../messages.ts';
import { FakeSets } from '../netfilter/fake-sets.ts';
import { FakeXtables } from '../netfilter/fake-xtables.ts';
import { VariantChoice } from '../netfilter/variant-choice.ts';
import { TEST_CONFIG, testEndpoint } from '../shared/test-config.ts';
import { silentLogger } from '../silent-logger.ts';
import { IptablesDataplane } from './iptables.ts';

let commands: FakeXtables;
let sets: FakeSets;
let clock: FakeClock;
let hasIpv6: boolean;
const started: IptablesDataplane[] = [];

const make = (): IptablesDataplane => {
  const dataplane = new IptablesDataplane({
    commands,
    sets,
    clock,
    log: silentLogger,
    hasIpv6: () => hasIpv6,
    variants: new VariantChoice(commands, silentLogger),
  });
  started.push(dataplane);
  return dataplane;
};
const config = (more: Partial<DataplaneConfig> = {}): DataplaneUpdate => ({
  type: 'configUpdate',
  config: { ...TEST_CONFIG, ...more },
});
const pod = (n: number, more: Partial<WorkloadEndpointInfo> = {}): DataplaneUpdate => ({
  type: 'workloadEndpointUpdate',
  id: `pod-${n}`,
  endpoint: testEndpoint(n, more),
});
const tell = (dataplane: IptablesDataplane, ...updates: DataplaneUpdate[]): void => {
  for (const update of updates) dataplane.onUpdate(update);
};
const members = (family: 4 | 6): string[] => [...(sets.sets.get(`cali${family}0wl-src`)?.members ?? [])].sort();
const rules = (tool: string, table: string): string[] =>
  commands
    .dump(tool, table)
    .split('\n')
    .filter((line) => line.startsWith('-A'));

async function running(...updates: DataplaneUpdate[]): Promise<IptablesDataplane> {
  const dataplane = make();
  tell(dataplane, config(), ...updates, { type: 'inSync' });
  expect((await dataplane.apply()).failed).toEqual([]);
  await dataplane.activate();
  return dataplane;
}

beforeEach(() => {
  commands = new FakeXtables();
  sets = new FakeSets();
  clock = new FakeClock({ sleepsPass: true });
  hasIpv6 = true;
});
afterEach(async () => {
  for (const dataplane of started.splice(0)) await dataplane[Symbol.asyncDispose]();
});

test('the rules: sources are checked by one set per family, forwarding is accepted at the end', async () => {
  await running(pod(1));
  expect(rules('iptables-nft', 'raw')).toEqual([
    '-A PREROUTING # -j cali-PREROUTING',
    '-A cali-PREROUTING # -i cali+ -m set ! --match-set cali40wl-src src,src -j DROP',
  ]);
  expect(rules('ip6tables-nft', 'raw')).toEqual([
    '-A PREROUTING # -j cali-PREROUTING',
    ...[135, 136, 131, 132, 143].map(
      (type) => `-A cali-wl-link-local # -p ipv6-icmp -m icmp6 --icmpv6-type ${type} -j RETURN`,
    ),
    '-A cali-wl-link-local # -j DROP',
    '-A cali-PREROUTING # -i cali+ -s fe80::/64 -g cali-wl-link-local',
    '-A cali-PREROUTING # -i cali+ -m set ! --match-set cali60wl-src src,src -j DROP',
  ]);
  expect(rules('iptables-nft', 'filter')).toEqual([
    '-A FORWARD # -j cali-FORWARD',
    '-A cali-FORWARD # -i cali+ -j ACCEPT',
    '-A cali-FORWARD # -o cali+ -j ACCEPT',
  ]);
  expect([members(4), members(6)]).toEqual([['10.65.0.1,cali1'], ['fd00:65::1,cali1']]);
});

test('a new pod is one set member per family and no process', async () => {
  const dataplane = await running(pod(1));
  const runs = commands.runs.length;
  sets.calls.length = 0;
  tell(dataplane, pod(2));
  expect(await dataplane.apply()).toEqual({ programmed: ['pod-2'], removed: [], failed: [], repaired: [] });
  expect(sets.calls).toEqual(['update cali40wl-src +10.65.0.2,cali2', 'update cali60wl-src +fd00:65::2,cali2']);
  expect(commands.runs).toHaveLength(runs);
  tell(dataplane, { type: 'workloadEndpointRemove', id: 'pod-2' });
  expect((await dataplane.apply()).removed).toEqual(['pod-2']);
  expect(members(4)).toEqual(['10.65.0.1,cali1']);
});

test.each(Array.from({ length: 25 }, (_, turns) => turns))(
  'pods that come and go %d turns into a cycle are the next one’s',
  async (turns) => {
    const dataplane = make();
    tell(dataplane, config(), pod(1), pod(3), { type: 'inSync' });
    const cycle = dataplane.apply();
    for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
    tell(dataplane, pod(2), { type: 'workloadEndpointRemove', id: 'pod-3' });
    expect(await cycle).toMatchObject({ programmed: ['pod-1'], removed: [], failed: [] });
    expect(await dataplane.apply()).toEqual({ programmed: ['pod-2'], removed: ['pod-3'], failed: [], repaired: [] });
    expect(members(4)).toEqual(['10.65.0.1,cali1', '10.65.0.2,cali2']);
  },
);

test('no packet passes our chains before activate, nor after release', async () => {
  const dataplane = make();
  tell(dataplane, config(), pod(1), { type: 'inSync' });
  await dataplane.apply();
  expect(rules('iptables-nft', 'raw').filter((rule) => rule.startsWith('-A PREROUTING'))).toEqual([]);
  await dataplane.activate();
  expect(rules('iptables-nft', 'raw')[0]).toBe('-A PREROUTING # -j cali-PREROUTING');
  await dataplane.release();
  await dataplane.apply();
  expect(rules('iptables-nft', 'raw').filter((rule) => rule.startsWith('-A PREROUTING'))).toEqual([]);
});

test('a restarted agent writes nothing, and forgets no pod before it is in sync', async () => {
  await running(pod(1), pod(2));
  const { restores } = commands;
  sets.calls.length = 0;
  const successor = make();
  tell(successor, config(), pod(1));
  await successor.apply();
  expect(members(4)).toEqual(['10.65.0.1,cali1', '10.65.0.2,cali2']);
  expect(rules('iptables-nft', 'raw')[0]).toBe('-A PREROUTING # -j cali-PREROUTING');
  tell(successor, pod(2), { type: 'inSync' });
  await successor.apply();
  await successor.activate();
  expect(commands.restores).toBe(restores);
  expect(sets.calls.filter((call) => !/^(list|members)/.test(call))).toEqual([]);
});

test('which processes are started: reads and one write per table at the start, then only the comparisons that are due', async () => {
  const dataplane = await running(pod(1));
  expect(
    commands.runs.filter((run) => run.startsWith('iptables-')).map((run) => run.replace(/ --noflush -w 5/, '')),
  ).toEqual([
    ...['iptables-nft-save -t raw', 'iptables-nft-save -t filter', 'iptables-nft-save', 'iptables-nft-save'], // What is there, and whether the tables are new.
    ...['iptables-nft-restore', 'iptables-nft-restore'], // Chains.
    ...['iptables-nft-restore', 'iptables-nft-restore'], // activate: hooks.
    'iptables-legacy-save', // Leftovers of ours in the other variant.
  ]);
  commands.runs.length = 0;
  await dataplane.apply();
  expect(commands.runs).toEqual([]);
  clock.advance(5_000);
  await dataplane.apply();
  expect(commands.runs.sort()).toEqual([
    'ip6tables-nft-save -t filter',
    'ip6tables-nft-save -t raw',
    'iptables-nft-save -t filter',
    'iptables-nft-save -t raw',
  ]);
});

test('other prefixes, variants and families are followed while running', async () => {
  const dataplane = await running(pod(1));
  tell(dataplane, config({ interfacePrefixes: ['cali', 'tap'], iptablesBackend: 'legacy' }));
  expect((await dataplane.apply()).failed).toEqual([]);
  expect(rules('iptables-legacy', 'raw')).toContain(
    '-A cali-PREROUTING # -i tap+ -m set ! --match-set cali40wl-src src,src -j DROP',
  );
  expect(rules('iptables-legacy', 'raw')[0]).toBe('-A PREROUTING # -j cali-PREROUTING');
  expect(commands.dump('iptables-nft', 'raw')).not.toContain('cali');
  tell(dataplane, config({ iptablesBackend: 'legacy', ipv6Support: false }));
  expect((await dataplane.apply()).failed).toEqual([]);
  expect(commands.dump('ip6tables-legacy', 'raw')).not.toContain('cali');
  expect([...sets.sets.keys()]).toEqual(['cali40wl-src']);
  tell(dataplane, pod(2), config());
  expect((await dataplane.apply()).failed).toEqual([]);
  expect(members(6)).toEqual(['fd00:65::1,cali1', 'fd00:65::2,cali2']);
});

test('a pod may use its further prefixes only where the configuration allows it', async () => {
  const dataplane = await running(pod(1, { allowedSourcePrefixes: ['192.0.2.0/24', '::/0'] }));
  expect(members(4)).toEqual(['10.65.0.1,cali1']);
  tell(dataplane, config({ workloadSourceSpoofing: 'any' }));
  await dataplane.apply();
  expect(members(4)).toEqual(['10.65.0.1,cali1', '192.0.2.0/24,cali1']);
  expect(members(6)).toEqual(['8000::/1,cali1', '::/1,cali1', 'fd00:65::1,cali1']);
  tell(dataplane, config());
  await dataplane.apply();
  expect(members(6)).toEqual(['fd00:65::1,cali1']);
});

test('a failing table fails no other, keeps its endpoints waiting, and says why', async () => {
  const dataplane = make();
  commands.failNextRestores = 1_000;
  tell(dataplane, config({ ipv6Support: false }), pod(1), { type: 'inSync' });
  const report = await dataplane.apply();
  expect(report.programmed).toEqual([]);
  expect(report.failed.map(({ object }) => object).sort()).toEqual([
    'table filter (iptables-nft)',
    'table raw (iptables-nft)',
  ]);
  commands.failNextRestores = 0;
  expect(await dataplane.apply()).toMatchObject({ programmed: ['pod-1'], failed: [] });
});

test('a refused member fails its endpoint alone', async () => {
  sets.refused.set('10.65.0.1,cali1', 'the set is full');
  const dataplane = make();
  tell(dataplane, config(), pod(1), pod(2), { type: 'inSync' });
  const report = await dataplane.apply();
  expect(report.programmed).toEqual(['pod-2']);
  expect(report.failed).toEqual([
    { object: 'endpoint pod-1', endpoint: 'pod-1', reason: expect.stringContaining('the set is full') },
  ]);
});

test('cleanup leaves nothing of ours in either variant, whoever made it', async () => {
  commands.write(
    'iptables-legacy',
    '*raw\n:cali-PREROUTING - [0:0]\n-A PREROUTING -m comment --comment "cali:0123456789abcdef" -j cali-PREROUTING\nCOMMIT\n',
  );
  const dataplane = await running(pod(1));
  await dataplane.cleanup();
  for (const tool of ['iptables-nft', 'iptables-legacy', 'ip6tables-nft', 'ip6tables-legacy']) {
    for (const table of ['raw', 'filter']) expect(commands.dump(tool, table)).not.toContain('cali');
  }
  expect([...sets.sets.keys()]).toEqual([]);
});

test('without IPv6 its tools are never started', async () => {
  hasIpv6 = false;
  const dataplane = await running(pod(1, { ipv6Nets: [] }));
  await dataplane.cleanup();
  expect(commands.runs.filter((run) => run.startsWith('ip6'))).toEqual([]);
});

test('the probe names what is missing', async () => {
  expect(await make().probe()).toEqual([]);
  for (const tool of ['iptables-nft-save', 'iptables-legacy-save']) commands.missing.add(tool);
  expect(await make().probe()).toEqual([expect.stringContaining('Debian package iptables')]);
});

test('the set that a killed probe left is no obstacle to the next one, and goes', async () => {
  const left = { name: 'cali40probe', type: 'hash:net,iface', family: 4, maxelem: 64 } as const;
  await sets.create(left);
  expect(await make().probe()).toEqual([]);
  expect([...sets.sets.keys()]).toEqual([]);
  await sets.create(left);
  await running(pod(1));
  expect([...sets.sets.keys()]).toEqual(['cali40wl-src', 'cali60wl-src']);
  await sets.create(left);
  await make().cleanup();
  expect([...sets.sets.keys()]).toEqual([]);
});
