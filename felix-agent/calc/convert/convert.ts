/**
 * Validated objects to what calc works with. Pure functions of one object each; whoever calls them keeps the result as long as the object is
 * the same one.
 */
import type { KindMap, KindName } from '#api/kinds.ts';
import type { CalcPolicy } from '../model.ts';
import { convertClusterPolicy } from './cluster-policy.ts';
import { convertKubernetesPolicy } from './kubernetes-policy.ts';
import { convertGlobalNetworkPolicy, convertNetworkPolicy } from './v3-policy.ts';

export {
  convertProfile,
  defaultAllowProfile,
  namespaceProfileId,
  profileOfNamespace,
  profileOfServiceAccount,
  serviceAccountProfileId,
  type CalcProfile,
} from './profiles.ts';
export { labelKeys } from './selectors.ts';
export { builtInTiers, comparePolicies, compareTiers, convertTier, missingTier, type CalcTier } from './tiers.ts';

/** Every kind that is a policy. */
export const policyKinds = [
  'NetworkPolicy',
  'GlobalNetworkPolicy',
  'StagedNetworkPolicy',
  'StagedGlobalNetworkPolicy',
  'StagedKubernetesNetworkPolicy',
  'KubernetesNetworkPolicy',
  'ClusterNetworkPolicy',
] as const satisfies readonly KindName[];

/** A kind that is a policy. */
export type PolicyKind = (typeof policyKinds)[number];

/**
 * One policy. Undefined for a staged one that stands for the deletion of another: as in Calico it has no effect. Whatever can't be
 * converted is in the result's `problems`; it never throws for a validated object.
 */
export function convertPolicy<K extends PolicyKind>(kind: K, object: KindMap[K]): CalcPolicy | undefined {
  return converters[kind](object);
}

const converters: { readonly [K in PolicyKind]: (object: KindMap[K]) => CalcPolicy | undefined } = {
  NetworkPolicy: ({ metadata, spec }) => convertNetworkPolicy(namespaced('NetworkPolicy', metadata), spec, false),
  GlobalNetworkPolicy: ({ metadata, spec }) =>
    convertGlobalNetworkPolicy({ kind: 'GlobalNetworkPolicy', name: metadata.name }, spec, false),
  StagedNetworkPolicy: ({ metadata, spec }) =>
    isDeletion(spec) ? undefined : convertNetworkPolicy(namespaced('StagedNetworkPolicy', metadata), spec, true),
  StagedGlobalNetworkPolicy: ({ metadata, spec }) =>
    isDeletion(spec)
      ? undefined
      : convertGlobalNetworkPolicy({ kind: 'StagedGlobalNetworkPolicy', name: metadata.name }, spec, true),
  StagedKubernetesNetworkPolicy: ({ metadata, spec }) =>
    isDeletion(spec)
      ? undefined
      : convertKubernetesPolicy(namespaced('StagedKubernetesNetworkPolicy', metadata), spec, true),
  KubernetesNetworkPolicy: ({ metadata, spec }) =>
    convertKubernetesPolicy(namespaced('KubernetesNetworkPolicy', metadata), spec, false),
  ClusterNetworkPolicy: ({ metadata, spec }) =>
    convertClusterPolicy({ kind: 'ClusterNetworkPolicy', name: metadata.name }, spec),
};

function namespaced(kind: PolicyKind, { namespace, name }: { readonly namespace: string; readonly name: string }) {
  return { kind, namespace, name };
}

function isDeletion(spec: { readonly stagedAction?: string | undefined }): boolean {
  return spec.stagedAction === 'Delete';
}
