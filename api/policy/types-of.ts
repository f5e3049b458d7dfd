/** Which directions a policy is about: the one rule for all kinds, so that everyone reads a policy without `types` in the same way. */

/** The directions in which a policy isolates what it selects. */
export interface Directions {
  readonly ingress: boolean;
  readonly egress: boolean;
}

interface V3Directions {
  readonly types?: readonly ('Ingress' | 'Egress')[] | undefined;
  readonly ingress?: readonly unknown[] | undefined;
  readonly egress?: readonly unknown[] | undefined;
}

interface KubernetesDirections {
  readonly policyTypes?: readonly ('Ingress' | 'Egress')[] | undefined;
  readonly egress?: readonly unknown[] | undefined;
}

/** Of a projectcalico.org/v3 policy: its `types`; without any, egress if it has egress rules, ingress if it has ingress rules or none at all. */
export function effectiveTypes({ types = [], ingress = [], egress = [] }: V3Directions): Directions {
  return types.length > 0
    ? { ingress: types.includes('Ingress'), egress: types.includes('Egress') }
    : { ingress: ingress.length > 0 || egress.length === 0, egress: egress.length > 0 };
}

/** Of a Kubernetes NetworkPolicy (staged or not): its `policyTypes`; without any, always ingress, and egress if it has egress rules. */
export function effectivePolicyTypes({ policyTypes = [], egress = [] }: KubernetesDirections): Directions {
  return policyTypes.length > 0
    ? { ingress: policyTypes.includes('Ingress'), egress: policyTypes.includes('Egress') }
    : { ingress: true, egress: egress.length > 0 };
}
