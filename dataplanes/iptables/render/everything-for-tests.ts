/** One of everything that can be rendered, for the tests that feed it to the real tools. */
import type { Family } from '#native/types.ts';
import type { DataplaneConfig } from '../../messages.ts';
import type { PeerMatch, PolicyId, PolicyInfo, ProfileInfo, RuleInfo, TierInfo } from '../../policy.ts';
import { ANY_PEER, ANY_RULE, TEST_CONFIG, testHostEndpoint } from '../../shared/test-config.ts';
import { wlSourceSet } from '../wl-source.ts';
import { hostChains, hostNeeds } from './host-chains.ts';
import { parseMarks } from './marks.ts';
import { policySetName, unitOf, unitSetName } from './names.ts';
import { policyChain, profileChain } from './policy-chains.ts';
import { staticRules } from './static-chains.ts';
import {
  TABLE_NAMES,
  type Chain,
  type ChainUse,
  type HostDevice,
  type PolicyUnit,
  type RenderContext,
  type TableName,
  type TableRules,
} from './types.ts';
import { dispatchChains, unitChains } from './unit-chains.ts';
import { hostUses, unitUses } from './uses.ts';

export const peer = (more: Partial<PeerMatch>): PeerMatch => ({ ...ANY_PEER, ...more });

export const ruleInfo = (more: Partial<RuleInfo> = {}): RuleInfo => ({
  id: 'NetworkPolicy default/web ingress 0',
  action: 'allow',
  ...ANY_RULE,
  ...more,
});

export const context = (family: Family, config: Partial<DataplaneConfig> = {}): RenderContext => {
  const merged = { ...TEST_CONFIG, ...config };
  return { family, config: merged, marks: parseMarks(merged.markMask) };
};

export const tier = (ingress: readonly PolicyId[], more: Partial<TierInfo> = {}): TierInfo => ({
  name: 'default',
  defaultAction: 'deny',
  ingress,
  egress: ingress,
  ...more,
});

/** Sets that a rule of every kind refers to. */
export const NET_SETS = [
  's:one',
  's:a-very-long-id-that-the-kernel-would-cut',
  's:a-very-long-id-that-the-kernel-would-cut-2',
];
export const PORT_SETS = ['n:http', 'svc:default/web'];

const manyPorts = Array.from({ length: 12 }, (_, index) => ({
  min: 1000 + 10 * index,
  max: 1000 + 10 * index + (index % 3),
}));

/** Every field of a rule, alone and in the combinations that are rendered otherwise. */
export function everyRule(family: Family): RuleInfo[] {
  const [net, notNet, all] =
    family === 4 ? ['10.0.0.0/8', '10.1.0.0/16', '0.0.0.0/0'] : ['fd00::/16', 'fd00:1::/32', '::/0'];
  const protocol = 6;
  const icmp = family === 4 ? 1 : 58;
  const [one = '', two = '', three = ''] = NET_SETS;
  const [named = '', service = ''] = PORT_SETS;
  const peers: PeerMatch[] = [
    peer({ net }),
    peer({ notNet }),
    peer({ net, notNet }),
    peer({ net: all, notNet }),
    peer({ sets: [one, two], notSets: [three] }),
    peer({ ports: [{ min: 80, max: 80 }] }),
    peer({ ports: [{ min: 0, max: 65_535 }], notPorts: [{ min: 22, max: 22 }] }),
    peer({ ports: manyPorts, notPorts: manyPorts }),
    peer({ ports: manyPorts, portSets: [named] }),
    peer({ portSets: [named] }),
    peer({ portSets: PORT_SETS, notPortSets: PORT_SETS }),
    peer({ ipPortSets: [service] }),
    peer({ net, notNet, sets: [one], notSets: [two], ports: manyPorts, portSets: [named], notPorts: manyPorts }),
  ];
  const matches: Partial<RuleInfo>[] = [
    {},
    { ipVersion: family },
    { protocol },
    { protocol: 132 },
    { protocol: 47 },
    { notProtocol: 17 },
    { protocol: icmp },
    { protocol: icmp, icmp: { type: 8 } },
    { protocol: icmp, icmp: { type: 3, code: 1 }, notIcmp: { type: 8, code: 0 } },
    { protocol: icmp, notIcmp: { type: 254 } },
    ...peers.flatMap((end) => [
      { protocol, source: end },
      { protocol, destination: end },
      { protocol, source: end, destination: end },
      { source: end, destination: end },
      { notProtocol: 17, source: end, destination: end },
    ]),
  ];
  const actions = ['allow', 'deny', 'pass', 'log'] as const;
  return matches.map((match, index) => ({ ...ruleInfo(match), action: actions[index % 4] ?? 'allow' }));
}

/** A table as it should be, and what must exist before: the sets by name and type. */
export interface Everything {
  readonly tables: Readonly<Record<TableName, TableRules>>;
  readonly sets: ReadonlyMap<string, 'hash:net' | 'hash:ip,port' | 'hash:net,iface'>;
}

/** All chains and hooks of a node with units, staged policies and host endpoints of every kind. */
export function everything(ctx: RenderContext): Everything {
  const { family } = ctx;
  const rules = (id: string, direction: string): RuleInfo[] =>
    everyRule(family).map((rule, index) => ({ ...rule, id: `${id} ${direction} ${index}` }));
  const policies = new Map<PolicyId, PolicyInfo>(
    [
      'NetworkPolicy default/web',
      'StagedNetworkPolicy default/web',
      `GlobalNetworkPolicy ${'long-name.'.repeat(25)}end`,
      'KubernetesNetworkPolicy default/quote"back\\slash $x `y` é\nline --comment "cali:AAAAAAAAAAAAAAAA"',
    ].map((id): [PolicyId, PolicyInfo] => [
      id,
      {
        tier: 'default',
        staged: id.startsWith('Staged'),
        ingress: rules(id, 'ingress'),
        egress: rules(id, 'egress'),
      },
    ]),
  );
  const profiles = new Map<string, ProfileInfo>(
    ['kns.default', 'ksa.default.default'].map((id) => [
      id,
      {
        ingress: [ruleInfo({ id: `Profile ${id} ingress 0` })],
        egress: [ruleInfo({ id: `Profile ${id} egress 0`, action: 'log' })],
      },
    ]),
  );
  const known = { policies, profiles };
  const tiers = [tier([...policies.keys()], { name: 'first', defaultAction: 'pass' }), tier([...policies.keys()])];
  const units = [
    unitOf({ tiers, profiles: [...profiles.keys()] }),
    unitOf({ tiers: [tier(['StagedNetworkPolicy default/web'])], profiles: ['not defined'] }),
    unitOf({ tiers: [tier(['NetworkPolicy default/not-known'])], profiles: [] }),
  ];
  const endpoint = testHostEndpoint({
    tiers,
    forwardTiers: tiers,
    preDnatTiers: tiers,
    untrackedTiers: tiers,
    profiles: [...profiles.keys()],
  });
  const hosts: HostDevice[] = [
    { device: '*', endpoint },
    { device: 'eth0', endpoint },
    { device: 'eth0.4094:a@b_-', endpoint: testHostEndpoint() },
  ];
  const ranges = ['10.96.0.0/12', '198.51.100.1/32', 'fd00:96::/108'];
  const statics = staticRules(hostNeeds(hosts), ranges, ctx);
  const hostTables = hostChains(hosts, known, ctx);
  const uses = [...units.flatMap(unitUses), ...hostUses(endpoint)];
  const chainsOf = (table: TableName): Chain[] => {
    const shared = uses.filter((use) => use.table === table).map((use) => usedChain(use, policies, profiles, ctx));
    const unique = new Map(shared.flatMap((chain) => (chain === undefined ? [] : [[chain.name, chain] as const])));
    return [
      ...unique.values(),
      ...hostTables[table],
      ...(table === 'filter' ? unitParts(units, known, ctx) : []),
      ...statics[table].chains,
    ];
  };
  const tables = Object.fromEntries(
    TABLE_NAMES.map((table) => [table, { chains: chainsOf(table), hooks: statics[table].hooks }]),
  ) as unknown as Everything['tables'];
  return {
    tables,
    sets: new Map([
      ...NET_SETS.map((id) => [policySetName(family, id), 'hash:net'] as const),
      ...PORT_SETS.map((id) => [policySetName(family, id), 'hash:ip,port'] as const),
      ...[wlSourceSet(family), ...units.map(({ id }) => unitSetName(family, id))].map(
        (name) => [name, 'hash:net,iface'] as const,
      ),
    ]),
  };
}

const unitParts = (
  units: readonly PolicyUnit[],
  known: Parameters<typeof unitChains>[1],
  ctx: RenderContext,
): Chain[] => [...units.flatMap((unit) => unitChains(unit, known, ctx)), ...dispatchChains(units, ctx)];

function usedChain(
  { table, direction, kind, id }: ChainUse,
  policies: ReadonlyMap<string, PolicyInfo>,
  profiles: ReadonlyMap<string, ProfileInfo>,
  ctx: RenderContext,
): Chain | undefined {
  const [policy, profile] = [policies.get(id), profiles.get(id)];
  if (kind === 'policy') return policy && policyChain(id, policy, direction, table, ctx);
  return profile && profileChain(id, profile, direction, table, ctx);
}
