/** Packets on their way through all chains of a node, table after table, as netfilter orders them. */
import { describe, expect, test } from '@jest/globals';
import type { DataplaneConfig } from '../../messages.ts';
import type { HostEndpointInfo, PolicyInfo, RuleInfo, TierInfo } from '../../policy.ts';
import { testHostEndpoint } from '../../shared/test-config.ts';
import { context, ruleInfo, tier } from './everything-for-tests.ts';
import { hostChains, hostNeeds } from './host-chains.ts';
import { type Packet, walk } from './interpreter-for-tests.ts';
import { unitOf, unitSetName } from './names.ts';
import { policyChain } from './policy-chains.ts';
import { staticRules } from './static-chains.ts';
import type { Chain, HostDevice, TableName } from './types.ts';
import { dispatchChains, unitChains } from './unit-chains.ts';

/** Policies that do one thing to everything. */
const oneRule = (action: RuleInfo['action']): readonly RuleInfo[] => [ruleInfo({ id: `${action} all`, action })];
const policies = new Map<string, PolicyInfo>(
  (['allow', 'deny', 'pass'] as const).flatMap((action) =>
    [false, true].map((staged): [string, PolicyInfo] => [
      staged ? `staged ${action}` : action,
      { tier: 't', staged, ingress: oneRule(action), egress: oneRule(action) },
    ]),
  ),
);
policies.set('silent', { tier: 't', staged: false, ingress: [], egress: [] });
const known = { policies, profiles: new Set<string>() };
export const both = (...ids: string[]): TierInfo[] => [tier(ids)];

/** What a packet meets, in order. */
const WAYS = {
  'in to the host': [
    ['raw', 'PREROUTING'],
    ['mangle', 'PREROUTING'],
    ['filter', 'INPUT'],
  ],
  'out of the host': [
    ['raw', 'OUTPUT'],
    ['filter', 'OUTPUT'],
    ['mangle', 'POSTROUTING'],
  ],
  forwarded: [
    ['raw', 'PREROUTING'],
    ['mangle', 'PREROUTING'],
    ['filter', 'FORWARD'],
    ['mangle', 'POSTROUTING'],
  ],
} as const satisfies Record<string, readonly (readonly [TableName, string])[]>;

const addresses = {
  4: {
    pod: '10.65.0.1',
    other: '10.65.0.2',
    far: '192.0.2.9',
    forged: '10.99.0.1',
    service: '10.96.0.10',
    host: '192.0.2.1',
  },
  6: {
    pod: 'fd00:65::1',
    other: 'fd00:65::2',
    far: '2001:db8::9',
    forged: 'fd99::1',
    service: 'fd96::10',
    host: '2001:db8::1',
  },
};
type Address = keyof (typeof addresses)[4];

export interface Case {
  readonly what: string;
  readonly way: keyof typeof WAYS;
  readonly packet: Partial<Omit<Packet, 'source' | 'destination'>>;
  readonly from?: Address;
  readonly to?: Address;
  /** Policy of pod `pod` (device cali1); pod `other` (cali2) allows everything. */
  readonly pod?: readonly TierInfo[];
  readonly hosts?: Readonly<Record<string, Partial<HostEndpointInfo>>>;
  readonly config?: Partial<DataplaneConfig>;
  readonly family?: 4 | 6;
  /** Rules of others in filter FORWARD: between ours, or (chainInsertMode append) before all of ours. */
  readonly others?: readonly string[];
  /** `on`: nobody of us has decided, the kernel's chains go on with others' rules and their own policy. */
  readonly expect: 'accepted' | 'dropped' | 'rejected' | 'on' | 'accepted untracked';
}

export const NEW = { state: ['NEW'] };
export const allowed = both('allow');
export const denied = both('deny');
export const tcp = (port: number, more: Partial<Packet> = {}): Partial<Packet> => ({
  ...NEW,
  protocol: 6,
  sourcePort: 40_000,
  port,
  ...more,
});
export const failsafes: Partial<DataplaneConfig> = {
  failsafeInbound: [{ protocol: 'tcp', port: 22 }],
  failsafeOutbound: [{ protocol: 'udp', port: 53, net: '192.0.2.0/24' }],
};

export const podToPod = {
  way: 'forwarded',
  from: 'pod',
  to: 'other',
  packet: tcp(80, { inDevice: 'cali1', outDevice: 'cali2' }),
} as const;
export const toPod = {
  way: 'forwarded',
  from: 'far',
  to: 'pod',
  packet: tcp(80, { inDevice: 'eth0', outDevice: 'cali1' }),
} as const;
export const fromPod = {
  way: 'forwarded',
  from: 'pod',
  to: 'far',
  packet: tcp(80, { inDevice: 'cali1', outDevice: 'eth0' }),
} as const;
export const podToHost = {
  way: 'in to the host',
  from: 'pod',
  to: 'host',
  packet: tcp(80, { inDevice: 'cali1' }),
} as const;
export const hostToPod = {
  way: 'out of the host',
  from: 'host',
  to: 'pod',
  packet: tcp(80, { outDevice: 'cali1' }),
} as const;
export const toHost = {
  way: 'in to the host',
  from: 'far',
  to: 'host',
  packet: tcp(80, { inDevice: 'eth0' }),
} as const;
export const fromHost = {
  way: 'out of the host',
  from: 'host',
  to: 'far',
  packet: tcp(80, { outDevice: 'eth0' }),
} as const;
export const through = {
  way: 'forwarded',
  from: 'far',
  to: 'far',
  packet: tcp(80, { inDevice: 'eth0', outDevice: 'eth1' }),
} as const;

/** Runs the cases, each in every family that it is for. */
export function testWays(cases: readonly Case[]): void {
  describe.each([4, 6] as const)('IPv%d', (family) => {
    test.each(cases.filter((row) => row.family === undefined || row.family === family))('$what: $expect', (row) => {
      expect(fate(row, family)).toBe(row.expect);
    });
  });
}

/** Sends the packet of a case through everything that is rendered for it. */
function fate(row: Case, family: 4 | 6): Case['expect'] {
  const ctx = context(family, row.config);
  const units = {
    pod: unitOf({ tiers: row.pod ?? [], profiles: [] }),
    other: unitOf({ tiers: allowed, profiles: [] }),
  };
  const hosts = Object.entries(row.hosts ?? {}).map(([device, more]): HostDevice => ({
    device,
    endpoint: testHostEndpoint(more),
  }));
  const statics = staticRules(hostNeeds(hosts), ['10.96.0.0/12', 'fd96::/16'], ctx);
  const ofHosts = hostChains(hosts, known, ctx);
  const distinct = units.pod.id === units.other.id ? [units.pod] : [units.pod, units.other];
  const unitParts = [...distinct.flatMap((unit) => unitChains(unit, known, ctx)), ...dispatchChains(distinct, ctx)];
  const chainsOf = (table: TableName): Chain[] => [
    ...(['ingress', 'egress'] as const).flatMap((direction) =>
      [...policies].map(([id, policy]) => policyChain(id, policy, direction, table, ctx)),
    ),
    ...ofHosts[table],
    ...statics[table].chains,
    ...(table === 'filter' ? unitParts : []),
  ];
  const { pod, other, ...rest } = addresses[family];
  const members = { pod: `${pod},cali1`, other: `${other},cali2` };
  const sets = new Map<string, Set<string>>([[`cali${family}0wl-src`, new Set(Object.values(members))]]);
  for (const which of ['pod', 'other'] as const) {
    const name = unitSetName(family, units[which].id);
    sets.set(name, new Set([...(sets.get(name) ?? []), members[which]]));
  }
  const named = { pod, other, ...rest };
  let packet: Packet = {
    protocol: 6,
    ...row.packet,
    source: named[row.from ?? 'far'],
    destination: named[row.to ?? 'host'],
  };
  let isTracked = true;
  let isAccepted = false;
  for (const [table, kernelChain] of WAYS[row.way]) {
    const hook = statics[table].hooks.get(kernelChain);
    const { first = [], last = [] } = hook ?? {};
    const others = kernelChain === 'FORWARD' ? (row.others ?? []) : [];
    const lines =
      ctx.config.chainInsertMode === 'append' ? [...others, ...first, ...last] : [...first, ...others, ...last];
    const whole: Chain = { name: kernelChain, rules: lines.map((text) => ({ text })) };
    const walked = walk(kernelChain, [whole, ...chainsOf(table)], packet, sets);
    if (walked.verdict === 'DROP') return 'dropped';
    if (walked.verdict === 'REJECT') return 'rejected';
    if (table === 'filter') isAccepted = walked.verdict === 'ACCEPT';
    isTracked &&= walked.isTracked;
    packet = { ...packet, mark: walked.mark };
  }
  if (!isAccepted) return 'on';
  return isTracked ? 'accepted' : 'accepted untracked';
}
