/** NetworkPolicy, GlobalNetworkPolicy, and the same as staged ones. */
import { effectiveTypes } from '#api/policy/types-of.ts';
import type { GlobalNetworkPolicy } from '#api/v3/global-network-policy.ts';
import type { NetworkPolicy } from '#api/v3/network-policy.ts';
import type { CalcPolicy } from '../model.ts';
import { policyOf, type PolicyHead, type PolicyParts } from './policy.ts';
import { convertRules } from './rules.ts';
import { globalSubject, namespacedSubject } from './selectors.ts';
import { v3Action, v3Parts } from './v3-rule.ts';

/** For pods of its own namespace. */
export function convertNetworkPolicy(
  head: PolicyHead & { readonly namespace: string },
  spec: NetworkPolicy['spec'],
  staged: boolean,
): CalcPolicy {
  const { namespace } = head;
  return policyOf(head, {
    ...commonParts(spec, namespace),
    subject: () => namespacedSubject(spec, namespace),
    staged,
  });
}

/** For pods of any namespace and for host endpoints. */
export function convertGlobalNetworkPolicy(
  head: PolicyHead,
  spec: GlobalNetworkPolicy['spec'],
  staged: boolean,
): CalcPolicy {
  return policyOf(head, {
    ...commonParts(spec, undefined),
    subject: () => globalSubject(spec),
    staged,
    forHosts: spec,
  });
}

function commonParts(
  spec: NetworkPolicy['spec'],
  namespace: string | undefined,
): Omit<PolicyParts, 'subject' | 'staged'> {
  const parts = v3Parts(namespace);
  return {
    tier: spec.tier,
    order: spec.order ?? Infinity,
    types: effectiveTypes(spec),
    rules: (context, direction) => convertRules(context, direction, spec[direction] ?? [], v3Action, parts),
  };
}
