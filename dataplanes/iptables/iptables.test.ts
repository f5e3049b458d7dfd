import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { FakeClock } from '#api/fake-clock.ts';
import type { DataplaneConfig, DataplaneUpdate, WorkloadEndpointInfo } from '../messages.ts';
import type { HostEndpointInfo, RuleInfo } from '../policy.ts';
import { FakeSets } from '../netfilter/fake-sets.ts';
import { FakeXtables } from '../netfilter/fake-xtables.ts';
import { VariantChoice } from '../netfilter/variant-choice.ts';
import { ANY_RULE, TEST_CONFIG, testEndpoint, testHostEndpoint } from '../shared/test-config.ts';
import { FakeNetlink } from '../shared/fake-netlink.ts';
import { silentLogger } from '../silent-logger.ts';
import { IptablesDataplane } from './iptables.ts';
import { policyChainName, policySetName, profileChainName, unitChainName, unitOf } from './render/names.ts';

let commands: FakeXtables;
let sets: FakeSets;
let clock: FakeClock;
let hasIpv6: boolean;
let netlink: FakeNetlink;
/** Addresses whose connections were deleted; while `conntrackFails`, the reason why none are. */
let flushed: string[][];
let conntrackFails: string | undefined;
const started: IptablesDataplane[] = [];

const make = (): IptablesDataplane => {
  const dataplane = new IptablesDataplane({
    commands,
    sets,
    clock,
    log: silentLogger,
    hasIpv6: () => hasIpv6,
    host: netlink,
    openMonitor: () => netlink.monitor(),
    conntrack: {
      deleteOf: (addresses) => {
        if (conntrackFails !== undefined) return Promise.reject(new Error(conntrackFails));
        flushed.push([...addresses].sort());
        return Promise.resolve(addresses.length);
      },
    },
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
  endpoint: testEndpoint(n, { profiles: ['kns.default'], ...more }),
});
const remove = (n: number): DataplaneUpdate => ({ type: 'workloadEndpointRemove', id: `pod-${n}` });
const rule = (id: string, more: Partial<RuleInfo> = {}): RuleInfo => ({ ...ANY_RULE, id, action: 'allow', ...more });
const profile = (id: string): DataplaneUpdate => ({
  type: 'profileUpdate',
  id,
  profile: { ingress: [rule(`Profile ${id} ingress 0`)], egress: [rule(`Profile ${id} egress 0`)] },
});
/** A policy of tier default with these rules from outside in; `from` names a set of sources. */
const policy = (id: string, ...ingress: readonly RuleInfo[]): DataplaneUpdate => ({
  type: 'policyUpdate',
  id,
  policy: { tier: 'default', staged: false, ingress, egress: [] },
});
const from = (set: string): Partial<RuleInfo> => ({ source: { ...ANY_RULE.source, sets: [set] } });
const tier = (...ingress: readonly string[]): WorkloadEndpointInfo['tiers'][number] => ({
  name: 'default',
  defaultAction: 'deny',
  ingress,
  egress: [],
});
const set = (id: string, ...members: readonly string[]): DataplaneUpdate => ({
  type: 'ipSetUpdate',
  id,
  setType: 'net',
  members,
});
const setMembers = (family: 4 | 6, id: string): string[] | undefined => {
  const found = sets.sets.get(policySetName(family, id));
  return found === undefined ? undefined : [...found.members].sort();
};
const unitMembers = (family: 4 | 6): string[][] =>
  [...sets.sets]
    .filter(([name]) => name.startsWith(`cali${family}0u-`))
    .map(([, { members }]) => [...members].sort())
    .sort((a, b) => (a.join() < b.join() ? -1 : 1));
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
  tell(dataplane, config(), profile('kns.default'), ...updates, { type: 'inSync' });
  expect((await dataplane.apply()).failed).toEqual([]);
  await dataplane.activate();
  return dataplane;
}

beforeEach(() => {
  commands = new FakeXtables();
  sets = new FakeSets();
  clock = new FakeClock({ sleepsPass: true });
  hasIpv6 = true;
  netlink = new FakeNetlink();
  flushed = [];
  conntrackFails = undefined;
});
afterEach(async () => {
  for (const dataplane of started.splice(0)) await dataplane[Symbol.asyncDispose]();
});

test('the rules: sources are checked first, units found by sets, what policy accepts accepted at the end', async () => {
  await running(pod(1));
  const { id } = unitOf(testEndpoint(1, { profiles: ['kns.default'] }));
  for (const [family, tool] of [
    [4, 'iptables-nft'],
    [6, 'ip6tables-nft'],
  ] as const) {
    expect(rules(tool, 'raw')).toContain(
      `-A cali-PREROUTING # -i cali+ -m set ! --match-set cali${family}0wl-src src,src -j DROP`,
    );
    expect(rules(tool, 'raw')[0]).toBe('-A PREROUTING # -j cali-PREROUTING');
    const filter = rules(tool, 'filter');
    expect(filter[0]).toBe('-A INPUT # -j cali-INPUT');
    expect(filter[1]).toBe('-A FORWARD # -j cali-FORWARD');
    expect(filter[2]).toMatch(/^-A FORWARD # -m mark --mark \S+ .* -j ACCEPT$/);
    expect(filter).toContain(
      `-A cali-from-wl-dispatch # -m set --match-set cali${family}0u-${id} src,src -g ${unitChainName('egress', id)}`,
    );
    expect(filter).toContain(
      `-A cali-to-wl-dispatch # -m set --match-set cali${family}0u-${id} dst,dst -g ${unitChainName('ingress', id)}`,
    );
    expect(commands.dump(tool, 'mangle')).not.toContain('cali-P');
  }
  expect([members(4), members(6)]).toEqual([['10.65.0.1,cali1'], ['fd00:65::1,cali1']]);
  expect([unitMembers(4), unitMembers(6)]).toEqual([[['10.65.0.1,cali1']], [['fd00:65::1,cali1']]]);
});

test('a new pod of a known unit is a member of two sets per family and no process; so is one that goes', async () => {
  const dataplane = await running(pod(1));
  const runs = commands.runs.length;
  sets.calls.length = 0;
  tell(dataplane, pod(2));
  expect(await dataplane.apply()).toEqual({ programmed: ['pod-2'], removed: [], failed: [], repaired: [] });
  const { id } = unitOf(testEndpoint(1, { profiles: ['kns.default'] }));
  expect(sets.calls.sort()).toEqual(
    [
      'update cali40u-ID +10.65.0.2,cali2',
      'update cali40wl-src +10.65.0.2,cali2',
      'update cali60u-ID +fd00:65::2,cali2',
      'update cali60wl-src +fd00:65::2,cali2',
    ].map((call) => call.replace('ID', id)),
  );
  tell(dataplane, remove(2));
  expect((await dataplane.apply()).removed).toEqual([]); // Its connections are being deleted.
  expect((await dataplane.apply()).removed).toEqual(['pod-2']);
  expect([members(4), unitMembers(4)]).toEqual([['10.65.0.1,cali1'], [['10.65.0.1,cali1']]]);
  tell(dataplane, remove(1));
  await dataplane.apply();
  tell(dataplane, pod(1));
  await dataplane.apply();
  expect(commands.runs).toHaveLength(runs);
});

test('members of sets that policies refer to come and go without a process, additions first', async () => {
  const dataplane = await running(
    set('s:a', '10.65.0.7/32', 'fd00:65::7/128'),
    set('s:b', '0.0.0.0/0'),
    policy('NetworkPolicy default/p', rule('NetworkPolicy default/p ingress 0', from('s:a'))),
    pod(1, { tiers: [tier('NetworkPolicy default/p')] }),
  );
  expect([setMembers(4, 's:a'), setMembers(6, 's:a')]).toEqual([['10.65.0.7'], ['fd00:65::7']]);
  expect([setMembers(4, 's:b'), setMembers(6, 's:b')]).toEqual([['0.0.0.0/1', '128.0.0.0/1'], []]);
  const runs = commands.runs.length;
  sets.calls.length = 0;
  tell(
    dataplane,
    { type: 'ipSetDelta', id: 's:a', added: [], removed: ['10.65.0.7/32'] },
    { type: 'ipSetDelta', id: 's:b', added: ['10.65.0.7/32'], removed: [] },
  );
  expect((await dataplane.apply()).failed).toEqual([]);
  expect(sets.calls).toEqual([
    `update ${policySetName(4, 's:b')} +10.65.0.7`,
    `update ${policySetName(4, 's:a')} -10.65.0.7`,
  ]);
  expect(commands.runs).toHaveLength(runs);
});

test('sets of addresses and ports are as the kernel lists them', async () => {
  const dataplane = await running({
    type: 'ipSetUpdate',
    id: 'n:http',
    setType: 'ipPort',
    members: ['10.65.0.3,6:8080', 'fd00::3,17:53', '10.65.0.3,132:9'],
  });
  expect([setMembers(4, 'n:http'), setMembers(6, 'n:http')]).toEqual([
    ['10.65.0.3,sctp:9', '10.65.0.3,tcp:8080'],
    ['fd00::3,udp:53'],
  ]);
  expect(sets.sets.get(policySetName(4, 'n:http'))?.spec.type).toBe('hash:ip,port');
  tell(dataplane, { type: 'ipSetRemove', id: 'n:http' });
  await dataplane.apply();
  expect(setMembers(4, 'n:http')).toBeUndefined();
});

test('only chains that somebody jumps to exist, table by table', async () => {
  const dataplane = await running(
    policy('P used', rule('P used ingress 0')),
    policy('P unused', rule('P unused ingress 0')),
    profile('unused'),
    pod(1, { tiers: [tier('P used')] }),
  );
  const chains = (table: string): string[] =>
    [...(commands.tables('iptables-nft').get(table)?.keys() ?? [])].filter((name) => /^cali-pr?[io]-/.test(name));
  expect(chains('filter').sort()).toEqual(
    [
      policyChainName('ingress', 'P used'),
      profileChainName('ingress', 'kns.default'),
      profileChainName('egress', 'kns.default'),
    ].sort(),
  );
  expect([chains('raw'), chains('mangle')]).toEqual([[], []]);
  // The last one that used it has gone: the chain goes when rules are written.
  tell(dataplane, pod(1), policy('P used', rule('P used ingress 0')));
  expect((await dataplane.apply()).failed).toEqual([]);
  expect(chains('filter')).not.toContain(policyChainName('ingress', 'P used'));
});

test('a policy that changes is its own chain written anew, in one restore a family', async () => {
  const dataplane = await running(
    policy('P a', rule('P a ingress 0')),
    policy('P b', rule('P b ingress 0')),
    pod(1, { tiers: [tier('P a', 'P b')] }),
  );
  const { restores } = commands;
  tell(dataplane, policy('P a', rule('P a ingress 0', { protocol: 6 }), rule('P a ingress 1')));
  await dataplane.apply();
  expect(commands.restores - restores).toBe(2);
  for (const input of commands.inputs.slice(-2)) {
    const written = [...input.matchAll(/^:(\S+) /gm)].map(([, name]) => name);
    expect(written).toEqual([policyChainName('ingress', 'P a')]);
  }
  tell(dataplane, policy('P a', rule('P a ingress 0', { protocol: 6 }), rule('P a ingress 1')));
  await dataplane.apply();
  expect(commands.restores - restores).toBe(2);
});

test('a pod that changes its policies is in both units until the new one stands, and never in none', async () => {
  const dataplane = await running(policy('P a', rule('P a ingress 0')), pod(1));
  const seen: string[][][] = [];
  commands.beforeRestore = () => seen.push(unitMembers(4));
  sets.calls.length = 0;
  tell(dataplane, pod(1, { tiers: [tier('P a')] }));
  expect((await dataplane.apply()).programmed).toEqual(['pod-1']);
  expect(seen[0]).toEqual([['10.65.0.1,cali1'], ['10.65.0.1,cali1']]);
  const inputs = commands.inputs.slice(-2).join('');
  const [before, after] = [
    unitOf(testEndpoint(1, { profiles: ['kns.default'] })),
    unitOf(testEndpoint(1, { profiles: ['kns.default'], tiers: [tier('P a')] })),
  ];
  expect(inputs).toContain(`-X ${unitChainName('ingress', before.id)}`);
  expect(inputs).toContain(`:${unitChainName('ingress', after.id)} - [0:0]`);
  expect(sets.calls.at(-1)).toBe(`destroy cali60u-${before.id}`);
  expect(unitMembers(4)).toEqual([['10.65.0.1,cali1']]);
});

test('while the new unit cannot be written the pod stays in the old one, and is reported', async () => {
  const dataplane = await running(policy('P a', rule('P a ingress 0')), pod(1));
  commands.failNextRestores = 1_000;
  tell(dataplane, pod(1, { tiers: [tier('P a')] }), remove(9));
  const { failed, programmed } = await dataplane.apply();
  expect(programmed).toEqual([]);
  expect(failed).toContainEqual({
    object: 'endpoint pod-1',
    endpoint: 'pod-1',
    reason: expect.stringContaining('Resource temporarily unavailable'),
  });
  expect(unitMembers(4)).toEqual([['10.65.0.1,cali1'], ['10.65.0.1,cali1']]);
  commands.failNextRestores = 0;
  expect(await dataplane.apply()).toMatchObject({ programmed: ['pod-1'], failed: [] });
  expect(unitMembers(4)).toEqual([['10.65.0.1,cali1']]);
});

test('a policy whose rules are refused fails the pods that use it alone, by its name', async () => {
  commands.badWords.add('P bad ingress 0');
  const dataplane = make();
  tell(
    dataplane,
    config({ ipv6Support: false }),
    profile('kns.default'),
    policy('P bad', rule('P bad ingress 0')),
    policy('P good', rule('P good ingress 0')),
    pod(1, { tiers: [tier('P bad')] }),
    pod(2, { tiers: [tier('P good')] }),
    { type: 'inSync' },
  );
  const { failed, programmed } = await dataplane.apply();
  expect(programmed).toEqual(['pod-2']);
  expect(failed).toEqual([
    { object: 'P bad', reason: expect.stringContaining(policyChainName('ingress', 'P bad')) },
    { object: 'endpoint pod-1', endpoint: 'pod-1', reason: expect.stringContaining('P bad') },
  ]);
  expect(rules('iptables-nft', 'filter')).toContain(`-A ${policyChainName('ingress', 'P bad')} # -j DROP`);
  tell(dataplane, policy('P bad', rule('P better ingress 0')));
  expect(await dataplane.apply()).toMatchObject({ programmed: ['pod-1'], failed: [] });
});

test('a set that takes no more fails the pods whose policies refer to it, and says what it is', async () => {
  for (const member of ['10.65.0.7', '10.65.0.9']) sets.refused.set(member, 'the set is full');
  const dataplane = make();
  tell(
    dataplane,
    config(),
    profile('kns.default'),
    {
      ...(set('s:a', '10.65.0.7/32', '10.65.0.8/32', '10.65.0.9/32') as object),
      about: "role == 'db'",
    } as DataplaneUpdate,
    policy('P a', rule('P a ingress 0', from('s:a'))),
    pod(1, { tiers: [tier('P a')] }),
    pod(2),
    { type: 'inSync' },
  );
  const { failed, programmed } = await dataplane.apply();
  expect(programmed).toEqual(['pod-2']);
  // However many members it is that don't fit, one thing is to be said.
  expect(failed.map(({ object }) => object)).toEqual([
    `ipset ${policySetName(4, 's:a')} (role == 'db')`,
    'endpoint pod-1',
  ]);
  expect(failed[0]?.reason).toMatch(/the set is full.* \(2 members are refused\)$/);
  expect(setMembers(4, 's:a')).toEqual(['10.65.0.8']);
});

test('a unit whose chains are kept for a pod that was the last one goes when rules are written', async () => {
  const dataplane = await running(policy('P a', rule('P a ingress 0')), pod(1), pod(2, { tiers: [tier('P a')] }));
  tell(dataplane, remove(2));
  await dataplane.apply();
  expect(unitMembers(4)).toEqual([[], ['10.65.0.1,cali1']]);
  tell(dataplane, { type: 'policyRemove', id: 'P a' });
  expect((await dataplane.apply()).failed).toEqual([]);
  expect(unitMembers(4)).toEqual([['10.65.0.1,cali1']]);
  expect(commands.dump('iptables-nft', 'filter')).not.toContain(policyChainName('ingress', 'P a'));
});

test('a policy that becomes staged is jumped to in another way by those who use it', async () => {
  const dataplane = await running(
    policy('P a', rule('P a ingress 0', { action: 'deny' })),
    pod(1, { tiers: [tier('P a')] }),
  );
  const before = rules('iptables-nft', 'filter').filter((line) => line.startsWith('-A cali-tu-'));
  tell(dataplane, {
    type: 'policyUpdate',
    id: 'P a',
    policy: { tier: 'default', staged: true, ingress: [rule('P a ingress 0', { action: 'deny' })], egress: [] },
  });
  await dataplane.apply();
  expect(rules('iptables-nft', 'filter').filter((line) => line.startsWith('-A cali-tu-'))).not.toEqual(before);
});

test("connections of a pod that is gone are deleted when its members are out, of both families, and only then it is 'removed'", async () => {
  const dataplane = await running(pod(1), pod(2));
  conntrackFails = 'no buffer space';
  let disturbed = 0;
  dataplane.onDisturbed(() => (disturbed += 1));
  tell(dataplane, remove(1));
  expect(await dataplane.apply()).toEqual({ programmed: [], removed: [], failed: [], repaired: [] });
  await Promise.resolve();
  expect(disturbed).toBe(1); // The failure is known: it wants to say so.
  const report = await dataplane.apply();
  expect(report.removed).toEqual([]);
  expect(report.failed).toEqual([{ object: 'connections of pods that are gone', reason: 'no buffer space' }]);
  expect(members(4)).toEqual(['10.65.0.2,cali2']);
  conntrackFails = undefined;
  await dataplane.apply();
  expect((await dataplane.apply()).removed).toEqual(['pod-1']);
  expect(flushed).toEqual([['10.65.0.1', 'fd00:65::1']]);
});

test('a pod that gets the address of another one waits until the connections of that one are deleted', async () => {
  const dataplane = await running(pod(1));
  conntrackFails = 'no buffer space';
  tell(dataplane, remove(1), pod(2, { ipv4Nets: ['10.65.0.1/32'] }));
  const { failed, programmed } = await dataplane.apply();
  expect(programmed).toEqual([]);
  expect(failed.map(({ object }) => object)).toEqual(['connections of pods that are gone', 'endpoint pod-2']);
  conntrackFails = undefined;
  expect(await dataplane.apply()).toMatchObject({ programmed: ['pod-2'], removed: ['pod-1'], failed: [] });
  tell(dataplane, remove(2));
  await dataplane.apply();
  await dataplane.apply();
  expect(flushed).toEqual([
    ['10.65.0.1', 'fd00:65::1'],
    ['10.65.0.1', 'fd00:65::2'],
  ]);
});

test('a pod that is taken away and announced again, unchanged, keeps its connections; renewed, with another MAC, it does not', async () => {
  const dataplane = await running(pod(1));
  tell(dataplane, remove(1), pod(1));
  expect(await dataplane.apply()).toMatchObject({ programmed: ['pod-1'], failed: [] });
  await dataplane.apply();
  expect(flushed).toEqual([]);
  tell(dataplane, pod(1, { mac: '02:00:00:00:00:99' }));
  tell(dataplane, pod(1, { mac: '02:00:00:00:00:99', tiers: [tier()] }));
  expect(await dataplane.apply()).toMatchObject({ programmed: ['pod-1'], failed: [] });
  expect(flushed).toEqual([['10.65.0.1', 'fd00:65::1']]);
  tell(dataplane, pod(1, { mac: '02:00:00:00:00:99', ipv4Nets: ['10.65.0.9/32'] }));
  await dataplane.apply();
  expect(flushed.slice(1)).toEqual([['10.65.0.1']]);
});

test('a successor announced beside its predecessor keeps its own connections when that one goes', async () => {
  const dataplane = await running(pod(1));
  tell(dataplane, pod(2, { ipv4Nets: ['10.65.0.1/32'], ipv6Nets: [] }));
  expect(await dataplane.apply()).toMatchObject({ programmed: ['pod-2'], failed: [] });
  expect(flushed).toEqual([['10.65.0.1']]);
  tell(dataplane, remove(1));
  await dataplane.apply();
  await dataplane.apply();
  expect(flushed.slice(1)).toEqual([['fd00:65::1']]);
});

test('before the dataplane is in the path nothing is deleted from connection tracking', async () => {
  const dataplane = make();
  tell(dataplane, config(), profile('kns.default'), pod(1), { type: 'inSync' });
  await dataplane.apply();
  tell(dataplane, remove(1));
  expect((await dataplane.apply()).removed).toEqual(['pod-1']);
  expect(flushed).toEqual([]);
});

test("counters are summed over families and chains by the rule's id, and never go down", async () => {
  const text = '-m comment --comment "P a ingress 0"';
  const dataplane = await running(
    policy('P a', rule('P a ingress 0'), rule('P a ingress 1', { protocol: 6 })),
    pod(1, { tiers: [tier('P a')] }),
  );
  const count = (packets: number): void => {
    const counted = [
      ...(commands.tables('iptables-nft').get('filter')?.get(policyChainName('ingress', 'P a'))?.rules ?? []),
    ];
    for (const line of counted)
      if (line.includes(text)) commands.counted.set(line.replace(/ -m comment --comment "cali:\S{16}"$/, ''), packets);
  };
  const counters = async (): Promise<Record<string, number>> =>
    Object.fromEntries([...(await dataplane.ruleCounters())].map(([id, { packets }]) => [id, packets]));
  count(5);
  expect(await counters()).toMatchObject({ 'P a ingress 0': 10, 'P a ingress 1': 0 });
  count(0);
  tell(dataplane, policy('P a', rule('P a ingress 0', { notProtocol: 17 }), rule('P a ingress 1')));
  await dataplane.apply();
  expect(await counters()).toMatchObject({ 'P a ingress 0': 10, 'P a ingress 1': 0 });
  count(3);
  expect(await counters()).toMatchObject({ 'P a ingress 0': 16 });
  tell(dataplane, policy('P a', rule('P b ingress 0')));
  await dataplane.apply();
  expect(await counters()).not.toHaveProperty('P a ingress 0');
  const runs = commands.runs.length;
  await counters();
  expect(commands.runs.slice(runs)).toEqual(['iptables-nft-save -c', 'ip6tables-nft-save -c']);
});

const hostEndpoint = (id: string, more: Partial<HostEndpointInfo>): DataplaneUpdate => ({
  type: 'hostEndpointUpdate',
  id,
  endpoint: testHostEndpoint(more),
});

test('host endpoints have chains by device in the tables that their policies need, and leave none behind', async () => {
  const dataplane = await running(
    policy('P a', rule('P a ingress 0')),
    hostEndpoint('eth0', { ifaceName: 'eth0', preDnatTiers: [tier('P a')] }),
  );
  expect(rules('iptables-nft', 'filter')).toContain('-A cali-from-host-endpoint # -i eth0 -g cali-fh-eth0');
  expect(commands.dump('iptables-nft', 'mangle')).toContain(policyChainName('ingress', 'P a'));
  expect(rules('iptables-nft', 'mangle')[0]).toBe('-A PREROUTING # -j cali-PREROUTING');
  tell(dataplane, { type: 'hostEndpointRemove', id: 'eth0' });
  expect((await dataplane.apply()).failed).toEqual([]);
  expect(rules('iptables-nft', 'mangle')).toEqual([]);
  expect(rules('iptables-nft', 'filter').join()).not.toContain('host-endpoint');
});

test('a host endpoint whose device cannot be named in a rule is reported, the others stand', async () => {
  const dataplane = make();
  tell(dataplane, config(), hostEndpoint('a', { ifaceName: 'eth 0' }), hostEndpoint('b', { ifaceName: 'eth1' }), {
    type: 'inSync',
  });
  expect((await dataplane.apply()).failed).toEqual([
    { object: 'host endpoint a', reason: expect.stringContaining('eth 0') },
  ]);
  expect((await dataplane.apply()).failed).toHaveLength(1);
  expect(rules('iptables-nft', 'filter')).toContain('-A cali-from-host-endpoint # -i eth1 -g cali-fh-eth1');
});

test('a mask with too few bits fails everything and says so', async () => {
  const dataplane = make();
  tell(dataplane, config({ markMask: 0x7 }), pod(1), { type: 'inSync' });
  const { failed, programmed } = await dataplane.apply();
  expect(programmed).toEqual([]);
  expect(failed).toEqual([
    { object: 'dataplane iptables', reason: expect.stringContaining('iptablesMarkMask') },
    { object: 'endpoint pod-1', endpoint: 'pod-1', reason: expect.stringContaining('iptablesMarkMask') },
  ]);
});

test.each(Array.from({ length: 25 }, (_, turns) => turns))(
  'pods that come and go %d turns into a cycle are in this one or the next, wholly',
  async (turns) => {
    const dataplane = make();
    tell(dataplane, config(), profile('kns.default'), pod(1), pod(3), { type: 'inSync' });
    const cycle = dataplane.apply();
    for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
    tell(dataplane, pod(2), { type: 'workloadEndpointRemove', id: 'pod-3' });
    const first = await cycle;
    const early = first.removed.length > 0;
    expect(first).toMatchObject({
      programmed: early ? ['pod-1', 'pod-2'] : ['pod-1'],
      removed: early ? ['pod-3'] : [],
      failed: [],
    });
    expect(await dataplane.apply()).toEqual({
      programmed: early ? [] : ['pod-2'],
      removed: early ? [] : ['pod-3'],
      failed: [],
      repaired: [],
    });
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
  tell(successor, config(), profile('kns.default'), pod(1));
  await successor.apply();
  expect(members(4)).toEqual(['10.65.0.1,cali1', '10.65.0.2,cali2']);
  expect(rules('iptables-nft', 'raw')[0]).toBe('-A PREROUTING # -j cali-PREROUTING');
  tell(successor, pod(2), { type: 'inSync' });
  await successor.apply();
  await successor.activate();
  expect(commands.restores).toBe(restores);
  expect(sets.calls.filter((call) => !/^(list|contents)/.test(call))).toEqual([]);
});

test('which processes are started: one read a family and one write a table at the start, then only what is due', async () => {
  const dataplane = await running(pod(1));
  expect(
    commands.runs.filter((run) => run.startsWith('iptables-')).map((run) => run.replace(/ --noflush -w 5/, '')),
  ).toEqual([
    'iptables-nft-save',
    ...['iptables-nft-restore', 'iptables-nft-restore', 'iptables-nft-restore'], // Chains (mangle: the mark that it is ours).
    ...['iptables-nft-restore', 'iptables-nft-restore'], // activate: hooks.
    'iptables-legacy-save', // Leftovers of ours in the other variant.
  ]);
  commands.runs.length = 0;
  await dataplane.apply();
  expect(commands.runs).toEqual([]);
  clock.advance(5_000);
  await dataplane.apply();
  expect(commands.runs.sort()).toEqual(['ip6tables-nft-save', 'iptables-nft-save']);
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
  expect([...sets.sets.keys()].filter((name) => name.startsWith('cali6'))).toEqual([]);
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

test('failing tables keep their endpoints waiting, and say why', async () => {
  const dataplane = make();
  commands.failNextRestores = 1_000;
  tell(dataplane, config({ ipv6Support: false }), profile('kns.default'), pod(1), { type: 'inSync' });
  const report = await dataplane.apply();
  expect(report.programmed).toEqual([]);
  expect(report.failed.map(({ object }) => object).sort()).toEqual([
    'endpoint pod-1',
    'table filter (iptables-nft)',
    'table mangle (iptables-nft)',
    'table raw (iptables-nft)',
  ]);
  commands.failNextRestores = 0;
  expect(await dataplane.apply()).toMatchObject({ programmed: ['pod-1'], failed: [] });
});

test('a refused member fails its endpoint alone', async () => {
  sets.refused.set('10.65.0.1,cali1', 'the set is full');
  const dataplane = make();
  tell(dataplane, config(), profile('kns.default'), pod(1), pod(2), { type: 'inSync' });
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
    for (const table of ['raw', 'mangle', 'filter']) expect(commands.dump(tool, table)).not.toContain('cali');
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
  expect(commands.runs.filter((run) => run.includes('--test'))).toHaveLength(2);
  commands.badWords.add('-m multiport');
  sets.refused.set('cali60probe', 'no such type');
  expect(await make().probe()).toEqual([
    expect.stringMatching(/^iptables-nft: match multiport .*unknown option/s),
    ...['hash:net,iface', 'hash:net', 'hash:ip,port'].map((type) =>
      expect.stringContaining(`ipset of type ${type}, IPv6`),
    ),
  ]);
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
  expect([...sets.sets.keys()]).not.toContain('cali40probe');
  await sets.create(left);
  await make().cleanup();
  expect([...sets.sets.keys()]).toEqual([]);
});

test('entering the path during a cycle waits for it: its rules are written when their sets have their members', async () => {
  const dataplane = make();
  tell(dataplane, config(), profile('kns.default'), { type: 'inSync' });
  await dataplane.apply();
  const gate = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  const update = sets.update.bind(sets);
  sets.update = async (changes) => {
    asked.resolve();
    await gate.promise;
    return update(changes);
  };
  const atRestore: (readonly string[] | undefined)[] = [];
  commands.beforeRestore = () => atRestore.push(setMembers(4, 's:bad'));
  tell(
    dataplane,
    set('s:bad', '192.0.2.1'),
    policy('P', rule('P ingress 0', { action: 'deny', ...from('s:bad') })),
    pod(1, { tiers: [tier('P')] }),
  );
  const cycle = dataplane.apply();
  await asked.promise;
  const activation = dataplane.activate();
  await new Promise((resolve) => setImmediate(resolve));
  expect(atRestore).toEqual([]);
  gate.resolve();
  await Promise.all([cycle, activation]);
  expect(new Set(atRestore.map((members) => members?.join()))).toEqual(new Set(['192.0.2.1']));
});

test('rules of a family that was switched off are removed by a later cycle when they can not be now, and the other family goes on', async () => {
  const dataplane = await running(pod(1));
  tell(dataplane, config({ ipv6Support: false }), pod(2));
  const run = commands.run.bind(commands);
  commands.run = (file, args, options) =>
    file === 'ip6tables-nft-save'
      ? Promise.resolve({ status: 4, signal: null, stdout: '', stderr: 'the lock is held' })
      : run(file, args, options);
  const { failed, programmed } = await dataplane.apply();
  expect(failed).toEqual([
    { object: 'rules of ours of IPv6, which is off', reason: expect.stringContaining('the lock is held') },
  ]);
  expect(programmed).toEqual(['pod-2']);
  commands.run = run;
  expect((await dataplane.apply()).failed).toEqual([]);
  expect(commands.dump('ip6tables-nft', 'raw')).not.toContain('cali');
  expect([...sets.sets.keys()].filter((name) => name.startsWith('cali6'))).toEqual([]);
});
