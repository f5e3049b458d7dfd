/** Every kind that we read or write, and the one way from YAML or JSON to a typed object. */
import type * as z from 'zod/mini';
import { namespaceSchema, type Namespace } from './core/namespace.ts';
import { nodeSchema, type Node } from './core/node.ts';
import { podSchema, type Pod } from './core/pod.ts';
import { ValidationError } from './errors.ts';
import { keyText, type ObjectKey } from './meta.ts';
import { applySchema, type UnknownFields } from './schema/parse.ts';
import { blockAffinitySchema, type BlockAffinity } from './v3/block-affinity.ts';
import { clusterInformationSchema, type ClusterInformation } from './v3/cluster-information.ts';
import { felixConfigurationSchema, type FelixConfiguration } from './v3/felix-configuration.ts';
import { v3 } from './v3/group.ts';
import { ipPoolSchema, type IPPool } from './v3/ip-pool.ts';
import { ipReservationSchema, type IPReservation } from './v3/ip-reservation.ts';
import { ipamBlockSchema, type IPAMBlock } from './v3/ipam-block.ts';
import { ipamConfigurationSchema, type IPAMConfiguration } from './v3/ipam-configuration.ts';
import { ipamHandleSchema, type IPAMHandle } from './v3/ipam-handle.ts';
import { workloadEndpointSchema, type WorkloadEndpoint } from './v3/workload-endpoint.ts';

/** Kind name to the type of its objects: all fields with defaults are present, and nothing may be changed in place. */
export interface KindMap {
  Node: Node;
  Pod: Pod;
  Namespace: Namespace;
  WorkloadEndpoint: WorkloadEndpoint;
  IPPool: IPPool;
  IPAMBlock: IPAMBlock;
  BlockAffinity: BlockAffinity;
  IPAMHandle: IPAMHandle;
  IPReservation: IPReservation;
  IPAMConfiguration: IPAMConfiguration;
  FelixConfiguration: FelixConfiguration;
  ClusterInformation: ClusterInformation;
}
export type KindName = keyof KindMap;

/** What is known of a kind besides its fields. */
export interface KindInfo<K extends KindName = KindName> {
  readonly kind: K;
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
  WorkloadEndpoint: calico('WorkloadEndpoint', 'workloadendpoints', true, workloadEndpointSchema),
  IPPool: calico('IPPool', 'ippools', false, ipPoolSchema),
  IPAMBlock: calico('IPAMBlock', 'ipamblocks', false, ipamBlockSchema),
  BlockAffinity: calico('BlockAffinity', 'blockaffinities', false, blockAffinitySchema),
  IPAMHandle: calico('IPAMHandle', 'ipamhandles', false, ipamHandleSchema),
  IPReservation: calico('IPReservation', 'ipreservations', false, ipReservationSchema),
  IPAMConfiguration: calico('IPAMConfiguration', 'ipamconfigurations', false, ipamConfigurationSchema),
  FelixConfiguration: calico('FelixConfiguration', 'felixconfigurations', false, felixConfigurationSchema),
  ClusterInformation: calico('ClusterInformation', 'clusterinformations', false, clusterInformationSchema),
};

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
  if (!isKindName(kind) || kinds[kind].apiVersion !== apiVersion) {
    throw new ValidationError('unknown-kind', subjectOf(raw), [
      {
        path: '',
        message: `kind ${kind ?? '(none)'} of ${apiVersion ?? '(no apiVersion)'} is not supported${hint(kind)}`,
      },
    ]);
  }
  return parseAs(kind, raw) as ParsedObject;
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

/** True for the name of a supported kind. */
export function isKindName(name: string | undefined): name is KindName {
  return name !== undefined && Object.hasOwn(kinds, name);
}

/** How messages name an object: `IPPool pool-a`, `Pod default/web-1`. */
export function objectText(kind: string, key: ObjectKey): string {
  return `${kind} ${keyText(key)}`;
}

function core<K extends KindName>(
  kind: K,
  plural: string,
  namespaced: boolean,
  schema: z.ZodMiniType<KindMap[K]>,
): KindInfo<K> {
  return { kind, apiVersion: 'v1', plural, namespaced, schema, unknownFields: 'drop' };
}

function calico<K extends KindName>(
  kind: K,
  plural: string,
  namespaced: boolean,
  schema: z.ZodMiniType<KindMap[K]>,
): KindInfo<K> {
  return { kind, apiVersion: v3, plural, namespaced, schema, unknownFields: 'keep' };
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
  return isKindName(kind) ? `; use apiVersion ${kinds[kind].apiVersion}` : '';
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
