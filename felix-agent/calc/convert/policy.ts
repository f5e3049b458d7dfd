/** What all kinds of policies have in common. */
import type { KindName } from '#api/kinds.ts';
import type { Directions } from '#api/policy/types-of.ts';
import { Selector } from '#api/selector/selector.ts';
import type { SelectorNode } from '#api/selector/ast.ts';
import type { PolicyId } from '#dataplanes/policy.ts';
import type { CalcPolicy, CalcRule } from '../model.ts';
import { ConversionError } from './problem.ts';
import type { Direction, RulesContext } from './rules.ts';
import { nothing } from './selectors.ts';

/** Which policy. */
export interface PolicyHead {
  readonly kind: KindName;
  /** Absent for cluster-wide kinds. */
  readonly namespace?: string | undefined;
  readonly name: string;
}

/** What a kind says of one policy. */
export interface PolicyParts {
  readonly tier: string;
  readonly order: number;
  /** Throws `ConversionError`. */
  readonly subject: () => SelectorNode;
  readonly types: Directions;
  readonly staged?: boolean;
  /** Which traffic of host endpoints it is about; of no meaning for pods. */
  readonly forHosts?: {
    readonly applyOnForward?: boolean | undefined;
    readonly doNotTrack?: boolean | undefined;
    readonly preDNAT?: boolean | undefined;
  };
  readonly rules: (context: RulesContext, direction: Direction) => readonly CalcRule[];
}

/** `<kind> [<namespace>/]<name>`. */
export function policyId({ kind, namespace, name }: PolicyHead): PolicyId {
  return namespace === undefined ? `${kind} ${name}` : `${kind} ${namespace}/${name}`;
}

/** Rules of a direction that the policy is not about are left out: nothing may ever look at them. */
export function policyOf(head: PolicyHead, parts: PolicyParts): CalcPolicy {
  const id = policyId(head);
  const problems: string[] = [];
  const context: RulesContext = { kind: head.kind, owner: id, problems };
  const { ingress, egress } = parts.types;
  return {
    id,
    tier: parts.tier,
    order: parts.order,
    name: head.name,
    ...(head.namespace === undefined ? {} : { namespace: head.namespace }),
    kind: head.kind,
    selector: subjectOf(parts.subject, problems),
    ingressType: ingress,
    egressType: egress,
    staged: parts.staged ?? false,
    applyOnForward: parts.forHosts?.applyOnForward ?? false,
    doNotTrack: parts.forHosts?.doNotTrack ?? false,
    preDnat: parts.forHosts?.preDNAT ?? false,
    ingress: ingress ? parts.rules(context, 'ingress') : [],
    egress: egress ? parts.rules(context, 'egress') : [],
    problems,
  };
}

function subjectOf(subject: () => SelectorNode, problems: string[]): Selector {
  try {
    return new Selector(subject());
  } catch (error) {
    if (!(error instanceof ConversionError)) {
      throw error;
    }
    problems.push(`it selects nothing, because its subject can't be converted: ${error.message}`);
    return nothing;
  }
}
