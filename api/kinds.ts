/** Every kind that we read or write, and the one way from YAML or JSON to a typed object. */
import type * as z from 'zod/mini';
import {
  clusterNetworkPolicySchema,
  policyV1alpha2,
  type ClusterNetworkPolicy,
} from './core/cluster-network-policy.ts';
import { configMapSchema, type ConfigMap } from './core/config-map.ts';
import { discoveryV1, endpointSliceSchema, type EndpointSlice } from './core/endpoint-slice.ts';
import {
  kubernetesNetworkPolicySchema,
  networkingV1,
  stagedKubernetesNetworkPolicySchema,
  type KubernetesNetworkPolicy,
  type StagedKubernetesNetworkPolicy,
} from './core/kubernetes-network-policy.ts';
import { coordinationV1, leaseSchema, type Lease } from './core/lease.ts';
import { namespaceSchema, type Namespace } from './core/namespace.ts';
import { nodeSchema, type Node } from './core/node.ts';
import { podSchema, type Pod } from './core/pod.ts';
import { serviceAccountSchema, type ServiceAccount } from './core/service-account.ts';
import { serviceSchema, type Service } from './core/service.ts';
import { ValidationError } from './errors.ts';
import { keyText, type ObjectKey } from './meta.ts';
import { applySchema, type UnknownFields } from './schema/parse.ts';
import { bgpConfigurationSchema, type BGPConfiguration } from './v3/bgp-configuration.ts';
import { blockAffinitySchema, type BlockAffinity } from './v3/block-affinity.ts';
import { clusterInformationSchema, type ClusterInformation } from './v3/cluster-information.ts';
import { felixConfigurationSchema, type FelixConfiguration } from './v3/felix-configuration.ts';
import {
  globalNetworkPolicySchema,
  stagedGlobalNetworkPolicySchema,
  type GlobalNetworkPolicy,
  type StagedGlobalNetworkPolicy,
} from './v3/global-network-policy.ts';
import { v3 } from './v3/group.ts';
import { hostEndpointSchema, type HostEndpoint } from './v3/host-endpoint.ts';
import { ipPoolSchema, type IPPool } from './v3/ip-pool.ts';
import { ipReservationSchema, type IPReservation } from './v3/ip-reservation.ts';
import { ipamBlockSchema, type IPAMBlock } from './v3/ipam-block.ts';
import { ipamConfigurationSchema, type IPAMConfiguration } from './v3/ipam-configuration.ts';
import { ipamHandleSchema, type IPAMHandle } from './v3/ipam-handle.ts';
import {
  networkPolicySchema,
  stagedNetworkPolicySchema,
  type NetworkPolicy,
  type StagedNetworkPolicy,
} from './v3/network-policy.ts';
import { globalNetworkSetSchema, networkSetSchema, type GlobalNetworkSet, type NetworkSet } from './v3/network-set.ts';
import { profileSchema, type Profile } from './v3/profile.ts';
import { tierSchema, type Tier } from './v3/tier.ts';
import { workloadEndpointSchema, type WorkloadEndpoint } from './v3/workload-endpoint.ts';

/** Kind name to the type of its objects: all fields with defaults are present, and nothing may be changed in place. */
export interface KindMap {
  Node: Node;
  Pod: Pod;
  Namespace: Namespace;
  Service: Service;
  EndpointSlice: EndpointSlice;
  ServiceAccount: ServiceAccount;
  ConfigMap: ConfigMap;
  Lease: Lease;
  /** `NetworkPolicy` of networking.k8s.io/v1: in YAML its kind is Calico's as well. */
  KubernetesNetworkPolicy: KubernetesNetworkPolicy;
  ClusterNetworkPolicy: ClusterNetworkPolicy;
  WorkloadEndpoint: WorkloadEndpoint;
  IPPool: IPPool;
  IPAMBlock: IPAMBlock;
  BlockAffinity: BlockAffinity;
  IPAMHandle: IPAMHandle;
  IPReservation: IPReservation;
  IPAMConfiguration: IPAMConfiguration;
  FelixConfiguration: FelixConfiguration;
  ClusterInformation: ClusterInformation;
  BGPConfiguration: BGPConfiguration;
  Tier: Tier;
  NetworkPolicy: NetworkPolicy;
  GlobalNetworkPolicy: GlobalNetworkPolicy;
  StagedNetworkPolicy: StagedNetworkPolicy;
  StagedGlobalNetworkPolicy: StagedGlobalNetworkPolicy;
  StagedKubernetesNetworkPolicy: StagedKubernetesNetworkPolicy;
  NetworkSet: NetworkSet;
  GlobalNetworkSet: GlobalNetworkSet;
  HostEndpoint: HostEndpoint;
  Profile: Profile;
}
export type KindName = keyof KindMap;

/** What is known of a kind besides its fields. */
export interface KindInfo<K extends KindName = KindName> {
  /** How this program names it: one name, one kind. Folders, messages and maps use it. */
  readonly name: K;
  /** What objects have in `kind`; together with `apiVersion` it names one kind. */
  readonly kind: string;
  readonly apiVersion: string;
  /** The resource's name in API addresses. */
  readonly plural: string;
  readonly namespaced: boolean;
  /** For generators in this area; everyone else parses by `parseObject` and `parseAs`. */
  readonly schema: z.ZodMiniType<KindMap[K]>;
  /** `drop` for kinds of which we hold only what we use: such an object must never be written back whole. */
  readonly unknownFields: UnknownFields;
}

export const kinds: { readonly [K in KindName]: KindInfo<K> } = {
  Node: core('Node', 'nodes', false, nodeSchema),
  Pod: core('Pod', 'pods', true, podSchema),
  Namespace: core('Namespace', 'namespaces', false, namespaceSchema),
  Service: core('Service', 'services', true, serviceSchema),
  EndpointSlice: { ...core('EndpointSlice', 'endpointslices', true, endpointSliceSchema), apiVersion: discoveryV1 },
  ServiceAccount: core('ServiceAccount', 'serviceaccounts', true, serviceAccountSchema),
  ConfigMap: core('ConfigMap', 'configmaps', true, configMapSchema),
  // Whole: it is written back.
  Lease: { ...calico('Lease', 'leases', true, leaseSchema), apiVersion: coordinationV1 },
  // Whole, unlike other kinds of Kubernetes: a field that is misspelt here lets traffic through, so it has to be listed.
  KubernetesNetworkPolicy: {
    ...calico('KubernetesNetworkPolicy', 'networkpolicies', true, kubernetesNetworkPolicySchema),
    kind: 'NetworkPolicy',
    apiVersion: networkingV1,
  },
  ClusterNetworkPolicy: {
    ...calico('ClusterNetworkPolicy', 'clusternetworkpolicies', false, clusterNetworkPolicySchema),
    apiVersion: policyV1alpha2,
  },
  WorkloadEndpoint: calico('WorkloadEndpoint', 'workloadendpoints', true, workloadEndpointSchema),
  IPPool: calico('IPPool', 'ippools', false, ipPoolSchema),
  IPAMBlock: calico('IPAMBlock', 'ipamblocks', false, ipamBlockSchema),
  BlockAffinity: calico('BlockAffinity', 'blockaffinities', false, blockAffinitySchema),
  IPAMHandle: calico('IPAMHandle', 'ipamhandles', false, ipamHandleSchema),
  IPReservation: calico('IPReservation', 'ipreservations', false, ipReservationSchema),
  IPAMConfiguration: calico('IPAMConfiguration', 'ipamconfigurations', false, ipamConfigurationSchema),
  FelixConfiguration: calico('FelixConfiguration', 'felixconfigurations', false, felixConfigurationSchema),
  ClusterInformation: calico('ClusterInformation', 'clusterinformations', false, clusterInformationSchema),
  BGPConfiguration: calico('BGPConfiguration', 'bgpconfigurations', false, bgpConfigurationSchema),
  Tier: calico('Tier', 'tiers', false, tierSchema),
  NetworkPolicy: calico('NetworkPolicy', 'networkpolicies', true, networkPolicySchema),
  GlobalNetworkPolicy: calico('GlobalNetworkPolicy', 'globalnetworkpolicies', false, globalNetworkPolicySchema),
  StagedNetworkPolicy: calico('StagedNetworkPolicy', 'stagednetworkpolicies', true, stagedNetworkPolicySchema),
  StagedGlobalNetworkPolicy: calico(
    'StagedGlobalNetworkPolicy',
    'stagedglobalnetworkpolicies',
    false,
    stagedGlobalNetworkPolicySchema,
  ),
  StagedKubernetesNetworkPolicy: calico(
    'StagedKubernetesNetworkPolicy',
    'stagedkubernetesnetworkpolicies',
    true,
    stagedKubernetesNetworkPolicySchema,
  ),
  NetworkSet: calico('NetworkSet', 'networksets', true, networkSetSchema),
  GlobalNetworkSet: calico('GlobalNetworkSet', 'globalnetworksets', false, globalNetworkSetSchema),
  HostEndpoint: calico('HostEndpoint', 'hostendpoints', false, hostEndpointSchema),
  Profile: calico('Profile', 'profiles', false, profileSchema),
};

/** By what objects say of themselves; `kind` alone does not name one. */
const namesByHead: ReadonlyMap<string, KindName> = new Map(
  Object.values(kinds).map(({ name, kind, apiVersion }) => [`${apiVersion} ${kind}`, name]),
);

/** The kind of an object that says this of itself; undefined if it is none that we read. */
export function kindNameOf(kind: string | undefined, apiVersion: string | undefined): KindName | undefined {
  return namesByHead.get(`${apiVersion} ${kind}`);
}

/** Groups under which some of our kinds are known elsewhere: where Calico stores them, and where Kubernetes once had them. */
const otherGroups: Readonly<Record<string, string>> = {
  'crd.projectcalico.org': 'projectcalico.org',
  extensions: 'networking.k8s.io',
};

/**
 * The kinds that an object is meant to be of: the one that it says, else those of this `kind` whose API group it names in another version,
 * or, where it names none, all of this `kind`. Empty for what has nothing to do with us: others have kinds called Service or Profile, too.
 */
export function kindsMeant(kind: string | undefined, apiVersion: string | undefined): readonly KindName[] {
  const exact = kindNameOf(kind, apiVersion);
  if (exact !== undefined) {
    return [exact];
  }
  const group = apiVersion === undefined ? undefined : groupOf(apiVersion);
  return Object.values(kinds).flatMap((info) =>
    info.kind === kind && (group === undefined || groupOf(info.apiVersion) === (otherGroups[group] ?? group))
      ? [info.name]
      : [],
  );
}

/** Empty for Kubernetes' first group, which has no name. */
function groupOf(apiVersion: string): string {
  const slash = apiVersion.indexOf('/');
  return slash < 0 ? '' : apiVersion.slice(0, slash);
}

/** An object that passed validation. */
export interface ParsedAs<K extends KindName> {
  readonly kind: K;
  readonly object: KindMap[K];
  /** Paths of fields that no schema knows, kept in the object; always empty for core kinds, which drop them. */
  readonly unknownFields: readonly string[];
}

/** An object that passed validation, of a kind that `kind` tells. */
export type ParsedObject = { [K in KindName]: ParsedAs<K> }[KindName];

/**
 * Validates any supported object, fills in defaults and freezes it. Throws `ValidationError`: `unknown-kind` for what is of no
 * supported kind and version, else `invalid`.
 */
export function parseObject(raw: unknown): ParsedObject {
  const { kind, apiVersion } = headOf(raw);
  const name = kindNameOf(kind, apiVersion);
  if (name === undefined) {
    throw new ValidationError('unknown-kind', subjectOf(raw), [
      {
        path: '',
        message: `kind ${kind ?? '(none)'} of ${apiVersion ?? '(no apiVersion)'} is not supported${hint(kind)}`,
      },
    ]);
  }
  return parseAs(name, raw) as ParsedObject;
}

/** Validates an object that must be of this kind, fills in defaults and freezes it. Throws `ValidationError` with code `invalid`. */
export function parseAs<K extends KindName>(kind: K, raw: unknown): ParsedAs<K> {
  const info: KindInfo<K> = kinds[kind];
  const outcome = applySchema<KindMap[K]>(info.schema, raw, info.unknownFields);
  if (!outcome.ok) {
    throw new ValidationError('invalid', subjectOf(raw, kind), outcome.issues);
  }
  return { kind, object: outcome.value, unknownFields: outcome.unknownFields };
}

/** True for the name of a supported kind. (Not for what stands in an object's `kind`: that is `kindNameOf`'s.) */
export function isKindName(name: string | undefined): name is KindName {
  return name !== undefined && Object.hasOwn(kinds, name);
}

/** How messages name an object: `IPPool pool-a`, `Pod default/web-1`. */
export function objectText(kind: string, key: ObjectKey): string {
  return `${kind} ${keyText(key)}`;
}

function core<K extends KindName>(
  name: K,
  plural: string,
  namespaced: boolean,
  schema: z.ZodMiniType<KindMap[K]>,
): KindInfo<K> {
  return { name, kind: name, apiVersion: 'v1', plural, namespaced, schema, unknownFields: 'drop' };
}

function calico<K extends KindName>(
  name: K,
  plural: string,
  namespaced: boolean,
  schema: z.ZodMiniType<KindMap[K]>,
): KindInfo<K> {
  return { name, kind: name, apiVersion: v3, plural, namespaced, schema, unknownFields: 'keep' };
}

function headOf(raw: unknown): { kind?: string | undefined; apiVersion?: string | undefined } {
  if (typeof raw !== 'object' || raw === null) {
    return {};
  }
  const { kind, apiVersion } = raw as Record<string, unknown>;
  return {
    kind: typeof kind === 'string' ? kind : undefined,
    apiVersion: typeof apiVersion === 'string' ? apiVersion : undefined,
  };
}

function hint(kind: string | undefined): string {
  const versions = Object.values(kinds).flatMap((info) => (info.kind === kind ? [info.apiVersion] : []));
  return versions.length === 0 ? '' : `; use apiVersion ${versions.join(' or ')}`;
}

function subjectOf(raw: unknown, kind = headOf(raw).kind ?? 'object'): string {
  const metadata = typeof raw === 'object' && raw !== null ? (raw as Record<string, unknown>)['metadata'] : undefined;
  if (typeof metadata !== 'object' || metadata === null) {
    return `${kind} (without a name)`;
  }
  const { name, namespace } = metadata as Record<string, unknown>;
  if (typeof name !== 'string') {
    return `${kind} (without a name)`;
  }
  return `${kind} "${keyText({ name, namespace: typeof namespace === 'string' ? namespace : undefined })}"`;
}
