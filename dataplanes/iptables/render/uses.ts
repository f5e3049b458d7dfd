import type { HostEndpointInfo, TierInfo } from '../../policy.ts';
import type { ChainUse, Direction, PolicyUnit, TableName } from './types.ts';

const BOTH: readonly Direction[] = ['ingress', 'egress'];

/** The chains of policies and profiles that a unit's chains jump to; one that several lists name appears as often. */
export function unitUses({ tiers, profiles }: Omit<PolicyUnit, 'id'>): ChainUse[] {
  return [...tierUses('filter', BOTH, tiers), ...profileUses('filter', BOTH, profiles)];
}

/** As `unitUses`, of a host endpoint's chains in all tables. */
export function hostUses(endpoint: HostEndpointInfo): ChainUse[] {
  const { tiers, forwardTiers, preDnatTiers, untrackedTiers, profiles } = endpoint;
  return [
    ...tierUses('filter', BOTH, tiers),
    ...tierUses('filter', BOTH, forwardTiers),
    ...profileUses('filter', BOTH, profiles),
    // What the host sends and a service translates is judged in mangle POSTROUTING.
    ...tierUses('mangle', ['egress'], tiers),
    ...profileUses('mangle', ['egress'], profiles),
    ...tierUses('mangle', ['ingress'], preDnatTiers),
    ...tierUses('raw', BOTH, untrackedTiers),
  ];
}

function tierUses(table: TableName, directions: readonly Direction[], tiers: readonly TierInfo[]): ChainUse[] {
  return directions.flatMap((direction) =>
    tiers.flatMap((tier) => tier[direction].map((id): ChainUse => ({ table, direction, kind: 'policy', id }))),
  );
}

function profileUses(table: TableName, directions: readonly Direction[], profiles: readonly string[]): ChainUse[] {
  return directions.flatMap((direction) => profiles.map((id): ChainUse => ({ table, direction, kind: 'profile', id })));
}
