import type { TierInfo } from '../../policy.ts';
import { FAILSAFE_IN, FAILSAFE_OUT, failsafeChains } from './failsafe-chains.ts';
import { deviceName, hostChainName } from './names.ts';
import { comment, words } from './text.ts';
import { isEnforced, profileRules, stagedRules, tierRules } from './tier-rules.ts';
import type {
  Chain,
  ChainRule,
  Direction,
  HostDevice,
  HostNeeds,
  KnownPolicies,
  RenderContext,
  TableName,
} from './types.ts';
import { ALLOW_CHAIN, conntrackRules, ESTABLISHED } from './verdicts.ts';

/** In every table that has host endpoint policy: by the device that a packet came in by, or goes out by. */
export const FROM_HOST_DISPATCH = 'cali-from-host-endpoint';
export const TO_HOST_DISPATCH = 'cali-to-host-endpoint';
/** In filter, for what is forwarded. */
export const FROM_HOST_FORWARD = 'cali-from-hep-forward';
export const TO_HOST_FORWARD = 'cali-to-hep-forward';

type HostPurpose = Parameters<typeof hostChainName>[0];

/** What the host endpoints together need. */
export function hostNeeds(hosts: readonly HostDevice[]): HostNeeds {
  const some = (tiersOf: (endpoint: HostDevice['endpoint']) => readonly TierInfo[]): boolean =>
    hosts.some(({ endpoint }) => tiersOf(endpoint).some(({ ingress, egress }) => ingress.length + egress.length > 0));
  return {
    normal: hosts.length > 0,
    forward: some(({ forwardTiers }) => forwardTiers),
    preDnat: some(({ preDnatTiers }) => preDnatTiers),
    untracked: some(({ untrackedTiers }) => untrackedTiers),
  };
}

/**
 * The chains of all host endpoints, their dispatch chains and the failsafe chains, by table. A table that no host endpoint needs gets
 * none; `staticRules` with the same hosts' needs jumps to no other. Throws `E_DEVICE_NAME`.
 */
export function hostChains(
  hosts: readonly HostDevice[],
  known: KnownPolicies,
  ctx: RenderContext,
): Readonly<Record<TableName, readonly Chain[]>> {
  const needs = hostNeeds(hosts);
  // `*` is what is left when no device's name has matched.
  const sorted = hosts.toSorted((a, b) => order(a.device) - order(b.device) || (a.device < b.device ? -1 : 1));
  const normal = (table: TableName, direction: Direction): Chain[] =>
    dispatched(sorted, NORMAL, direction, ({ endpoint }) => [
      ...conntrackRules(ctx.config),
      { text: `-j ${direction === 'ingress' ? FAILSAFE_IN : FAILSAFE_OUT}` },
      ...tierRules({ tiers: endpoint.tiers, direction, table, endOfTier: 'apply' }, known, ctx),
      ...profileRules(endpoint.profiles, direction, table, known, ctx),
    ]);
  const early = (table: TableName, direction: Direction, tiersOf: (host: HostDevice) => readonly TierInfo[]): Chain[] =>
    dispatched(sorted, NORMAL, direction, (host) => {
      const tiers = tiersOf(host);
      return hasPolicy(tiers, direction)
        ? [
            { text: `-j ${direction === 'ingress' ? FAILSAFE_IN : FAILSAFE_OUT}` },
            ...tierRules({ tiers, direction, table, endOfTier: 'goOn' }, known, ctx),
          ]
        : undefined;
    });
  const forward = (direction: Direction): Chain[] =>
    dispatched(sorted, FORWARDED, direction, ({ endpoint }) =>
      forwardRules(endpoint.forwardTiers, direction, known, ctx),
    );

  const filter = [
    ...(needs.normal
      ? [...failsafeChains('filter', ctx), ...normal('filter', 'ingress'), ...normal('filter', 'egress')]
      : []),
    ...(needs.forward ? [...forward('ingress'), ...forward('egress')] : []),
  ];
  const mangle = [
    ...(needs.normal ? [...failsafeChains('mangle', ctx), ...normal('mangle', 'egress')] : []),
    ...(needs.preDnat ? early('mangle', 'ingress', ({ endpoint }) => endpoint.preDnatTiers) : []),
  ];
  const untracked = (direction: Direction): Chain[] =>
    early('raw', direction, ({ endpoint }) => endpoint.untrackedTiers);
  const raw = needs.untracked ? [...failsafeChains('raw', ctx), ...untracked('ingress'), ...untracked('egress')] : [];
  return { filter, mangle, raw };
}

interface Dispatch {
  readonly chain: Readonly<Record<Direction, string>>;
  readonly purpose: Readonly<Record<Direction, HostPurpose>>;
}
const NORMAL: Dispatch = {
  chain: { ingress: FROM_HOST_DISPATCH, egress: TO_HOST_DISPATCH },
  purpose: { ingress: 'fh', egress: 'th' },
};
const FORWARDED: Dispatch = {
  chain: { ingress: FROM_HOST_FORWARD, egress: TO_HOST_FORWARD },
  purpose: { ingress: 'fhfw', egress: 'thfw' },
};

/**
 * A chain for every host endpoint that has rules here, and before them the one that finds it by device. A device without rules of its own
 * must not come to those of `*`, which stands for devices that have no host endpoint. The loopback device is none of these unless it is named:
 * a host that can't talk to itself is broken, whatever it was to be protected from.
 */
function dispatched(
  hosts: readonly HostDevice[],
  { chain, purpose }: Dispatch,
  direction: Direction,
  rulesOf: (host: HostDevice) => readonly ChainRule[] | undefined,
): Chain[] {
  const flag = direction === 'ingress' ? '-i' : '-o';
  const chains: Chain[] = [];
  const dispatch = hosts.flatMap((host): ChainRule[] => {
    const rules = rulesOf(host);
    const match = host.device === '*' ? '' : `${flag} ${deviceName(host.device)}`;
    if (rules === undefined) return match === '' ? [] : [{ text: words(match, '-j RETURN') }];
    const name = hostChainName(purpose[direction], host.device);
    chains.push({ name, rules });
    const loopback = host.device === '*' ? [{ text: `${flag} lo -j RETURN` }] : [];
    return [...loopback, { text: words(match, `-g ${name}`) }];
  });
  return [{ name: chain[direction], rules: dispatch }, ...chains];
}

/**
 * What passes through the host is left alone unless a policy says otherwise: where none is in force, no mark changes, so that what the
 * pods' policies have accepted stays so. What all tiers pass on is accepted.
 */
function forwardRules(
  tiers: readonly TierInfo[],
  direction: Direction,
  known: KnownPolicies,
  ctx: RenderContext,
): readonly ChainRule[] | undefined {
  if (!hasPolicy(tiers, direction)) return undefined;
  if (!isEnforced(tiers, direction, known)) {
    return [{ text: `${ESTABLISHED} -j RETURN` }, ...stagedRules(tiers, direction)];
  }
  return [
    ...conntrackRules(ctx.config),
    ...tierRules({ tiers, direction, table: 'filter', endOfTier: 'apply' }, known, ctx),
    { text: words(comment('passed by all tiers'), `-g ${ALLOW_CHAIN}`) },
  ];
}

const hasPolicy = (tiers: readonly TierInfo[], direction: Direction): boolean =>
  tiers.some((tier) => tier[direction].length > 0);

const order = (device: string): number => (device === '*' ? 1 : 0);
