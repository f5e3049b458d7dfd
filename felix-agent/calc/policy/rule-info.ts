/** Rules as the dataplane is told them: sets by their ids. */
import type { PeerMatch, RuleInfo } from '#dataplanes/policy.ts';
import type { CalcPeer, CalcRule, SetSpec } from '../model.ts';

/** What has rules: a policy or a profile. */
export interface Rules {
  readonly ingress: readonly CalcRule[];
  readonly egress: readonly CalcRule[];
}

export function ruleInfos(rules: readonly CalcRule[]): readonly RuleInfo[] {
  return rules.map((rule) => ({ ...rule, source: peerMatch(rule.source), destination: peerMatch(rule.destination) }));
}

/** Every set that the rules refer to, each once. */
export function setsOf({ ingress, egress }: Rules): ReadonlyMap<string, SetSpec> {
  const specs = new Map<string, SetSpec>();
  for (const { source, destination } of [...ingress, ...egress]) {
    for (const { sets, notSets, portSets, notPortSets, ipPortSets } of [source, destination]) {
      for (const list of [sets, notSets, portSets, notPortSets, ipPortSets]) {
        for (const spec of list) specs.set(spec.id, spec);
      }
    }
  }
  return specs;
}

function peerMatch(peer: CalcPeer): PeerMatch {
  return {
    ...peer,
    sets: ids(peer.sets),
    notSets: ids(peer.notSets),
    portSets: ids(peer.portSets),
    notPortSets: ids(peer.notPortSets),
    ipPortSets: ids(peer.ipPortSets),
  };
}

function ids(specs: readonly SetSpec[]): readonly string[] {
  return specs.map(({ id }) => id);
}
