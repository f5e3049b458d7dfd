import { comment, words } from './text.ts';
import { profileRules, tierRules } from './tier-rules.ts';
import type { Chain, ChainRule, Direction, KnownPolicies, PolicyUnit, RenderContext } from './types.ts';
import { unitChainName, unitSetName } from './names.ts';
import { conntrackRules, denyTarget } from './verdicts.ts';

/** Called in filter by whatever judges packets of pods: from one (`egress`) and to one (`ingress`). */
export const FROM_WORKLOAD_DISPATCH = 'cali-from-wl-dispatch';
export const TO_WORKLOAD_DISPATCH = 'cali-to-wl-dispatch';

const IPIP = 4;
const UDP = 17;

/** A unit's two chains in filter: it decides on every packet, by the accept mark or by dropping it. */
export function unitChains(
  unit: PolicyUnit,
  known: KnownPolicies,
  ctx: RenderContext,
): readonly [to: Chain, from: Chain] {
  const chain = (direction: Direction): Chain => ({
    name: unitChainName(direction, unit.id),
    rules: [
      ...(direction === 'egress' ? encapsulationRules(ctx) : []),
      ...tierRules({ tiers: unit.tiers, direction, table: 'filter', endOfTier: 'apply' }, known, ctx),
      ...profileRules(unit.profiles, direction, 'filter', known, ctx),
    ],
  });
  return [chain('ingress'), chain('egress')];
}

/**
 * The two chains that find a packet's unit by {address, device}: one set per unit, whose members come and go without a rule changing.
 * Known connections come before, so only a flow's first packets walk the list. What no unit knows is dropped: a device that was not
 * announced, or an address that isn't its pod's.
 */
export function dispatchChains(units: readonly PolicyUnit[], ctx: RenderContext): readonly [from: Chain, to: Chain] {
  // The order says nothing, but one order makes one hash.
  const ids = units.map(({ id }) => id).sort();
  const chain = (name: string, direction: Direction, dimensions: string): Chain => ({
    name,
    rules: [
      ...conntrackRules(ctx.config),
      ...ids.map((id) => ({
        text: `-m set --match-set ${unitSetName(ctx.family, id)} ${dimensions} -g ${unitChainName(direction, id)}`,
      })),
      { text: words(comment('unknown pod device or address'), '-j DROP') },
    ],
  });
  return [chain(FROM_WORKLOAD_DISPATCH, 'egress', 'src,src'), chain(TO_WORKLOAD_DISPATCH, 'ingress', 'dst,dst')];
}

/** Pods must not send what other nodes would take for packets out of the node's tunnels. */
function encapsulationRules({ config }: RenderContext): ChainRule[] {
  const { allowVxlanFromWorkloads, allowIpipFromWorkloads, vxlanPort } = config;
  const deny = denyTarget('filter', config);
  return [
    ...(allowVxlanFromWorkloads
      ? []
      : [{ text: words(`-p ${UDP} -m multiport --dports ${vxlanPort}`, comment('VXLAN from a pod'), deny) }]),
    ...(allowIpipFromWorkloads ? [] : [{ text: words(`-p ${IPIP}`, comment('IP in IP from a pod'), deny) }]),
  ];
}
