/** Which kinds share which rules. */

export const globalPolicies = ['GlobalNetworkPolicy', 'StagedGlobalNetworkPolicy'] as const;
export const policies = ['NetworkPolicy', 'StagedNetworkPolicy', ...globalPolicies] as const;
export const stagedPolicies = ['StagedNetworkPolicy', 'StagedGlobalNetworkPolicy'] as const;
/** Kinds that have Calico's rules in `ingress` and `egress`. */
export const kindsWithRules = [...policies, 'Profile'] as const;
