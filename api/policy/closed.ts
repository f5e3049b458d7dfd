/**
 * What stands in for a policy that can't be used and of which no earlier version is known: it denies, in the policy's directions, what the
 * policy's selector selects. Calico takes such a policy for absent, which lets everything through.
 */
import * as z from 'zod/mini';
import { clusterNetworkPolicySchema } from '../core/cluster-network-policy.ts';
import { labelSelectorSchema } from '../core/label-selector.ts';
import { ValidationError } from '../errors.ts';
import { kinds, parseAs, type KindMap, type KindName } from '../kinds.ts';
import { dnsSubdomain, endpointSelector } from '../schema/checks.ts';
import { withoutNulls } from '../schema/parse.ts';
import { effectivePolicyTypes, effectiveTypes, type Directions } from './types-of.ts';

/** Kinds that deny, and can so be replaced. Staged policies decide nothing, and nothing stands in for them. */
export type EnforcedPolicyKind =
  | 'NetworkPolicy'
  | 'GlobalNetworkPolicy'
  | 'KubernetesNetworkPolicy'
  | 'ClusterNetworkPolicy';

/** A replacement, and what it denies. */
export interface ClosedPolicy<K extends EnforcedPolicyKind = EnforcedPolicyKind> {
  /** Valid, frozen, under the policy's own name, without uid and resourceVersion. */
  readonly object: KindMap[K];
  readonly denies: Directions;
}

type Fields = Readonly<Record<string, unknown>>;

/** Before every order that people give. Where the order can't be read, a denial must not be behind what others allow. */
const firstOrder = -Number.MAX_SAFE_INTEGER;

const builders: { readonly [K in EnforcedPolicyKind]: (spec: Fields | undefined) => Draft | undefined } = {
  NetworkPolicy: (spec) => v3Draft(spec, ['selector', 'serviceAccountSelector']),
  GlobalNetworkPolicy: globalDraft,
  KubernetesNetworkPolicy: kubernetesDraft,
  ClusterNetworkPolicy: clusterDraft,
};

interface Draft {
  readonly spec: Fields;
  readonly denies: Directions;
}

/** True for the kinds that `closedPolicy` knows. */
export function isEnforcedPolicyKind(kind: KindName): kind is EnforcedPolicyKind {
  return Object.hasOwn(builders, kind);
}

/**
 * The replacement of a policy that fails validation: same name, namespace, tier, order and selectors, and a denial in each direction of its
 * types as far as they can be read (else: as its rules say). A GlobalNetworkPolicy keeps its place in the packet's way (doNotTrack, preDNAT,
 * applyOnForward), or it would deny pods that it was never about. Undefined where nobody can tell what it is to deny: its name, its
 * selector or its subject can't be used, it has no spec, or it has rules in no direction; and for every kind that denies nothing.
 */
export function closedPolicy(kind: KindName, raw: unknown): ClosedPolicy | undefined {
  if (!isEnforcedPolicyKind(kind)) {
    return undefined;
  }
  const { metadata, spec } = fieldsOf(raw) ?? {};
  const draft = builders[kind](fieldsOf(spec));
  const { name, namespace } = fieldsOf(metadata) ?? {};
  if (draft === undefined) {
    return undefined;
  }
  const { kind: yamlKind, apiVersion, namespaced } = kinds[kind];
  try {
    const { object } = parseAs(kind, {
      apiVersion,
      kind: yamlKind,
      metadata: namespaced ? { name, namespace } : { name },
      spec: draft.spec,
    });
    return { object, denies: draft.denies };
  } catch (error) {
    if (error instanceof ValidationError) {
      return undefined; // What is left of it is its name, or its namespace.
    }
    throw error;
  }
}

/** `selectorFields`: those that the kind has; what it has not says nothing, usable or not. */
function v3Draft(spec: Fields | undefined, selectorFields: readonly string[]): Draft | undefined {
  if (spec === undefined) {
    return undefined;
  }
  const selectors: Record<string, unknown> = {};
  for (const field of selectorFields) {
    if (isGiven(spec[field])) {
      if (!isA(endpointSelector, spec[field])) {
        return undefined;
      }
      selectors[field] = spec[field];
    }
  }
  const denies = directionsOf(spec, spec['types'], effectiveTypes);
  return {
    denies,
    spec: {
      ...(isA(dnsSubdomain, spec['tier']) ? { tier: spec['tier'] } : {}),
      ...(isGiven(spec['order']) ? { order: numberOf(spec['order']) ?? firstOrder } : {}),
      ...selectors,
      types: typesText(denies),
      ...(denies.ingress ? { ingress: [{ action: 'Deny' }] } : {}),
      ...(denies.egress ? { egress: [{ action: 'Deny' }] } : {}),
    },
  };
}

function globalDraft(spec: Fields | undefined): Draft | undefined {
  const draft = v3Draft(spec, ['selector', 'serviceAccountSelector', 'namespaceSelector']);
  if (spec === undefined || draft === undefined) {
    return undefined;
  }
  const doNotTrack = isYes(spec['doNotTrack']);
  // Both at once can't be; untracked policy meets more of what passes.
  const preDNAT = !doNotTrack && isYes(spec['preDNAT']);
  const applyOnForward = doNotTrack || preDNAT || isYes(spec['applyOnForward']);
  const place = { doNotTrack, preDNAT, applyOnForward };
  return preDNAT
    ? {
        denies: { ingress: true, egress: false },
        spec: { ...draft.spec, ...place, types: ['Ingress'], ingress: [{ action: 'Deny' }], egress: undefined },
      }
    : { denies: draft.denies, spec: { ...draft.spec, ...place } };
}

function kubernetesDraft(spec: Fields = {}): Draft | undefined {
  const podSelector = withoutNulls(spec['podSelector'])?.value ?? spec['podSelector'];
  if (isGiven(podSelector) && !isA(labelSelectorSchema, podSelector)) {
    return undefined;
  }
  const denies = directionsOf(spec, spec['policyTypes'], effectivePolicyTypes);
  return { denies, spec: { podSelector, policyTypes: typesText(denies) } };
}

const subjectSchema = clusterNetworkPolicySchema.shape.spec.shape.subject;

function clusterDraft(spec: Fields | undefined): Draft | undefined {
  const denies = { ingress: isPresent(spec?.['ingress']), egress: isPresent(spec?.['egress']) };
  const subject = withoutNulls(spec?.['subject'])?.value;
  if (spec === undefined || !isA(subjectSchema, subject) || !(denies.ingress || denies.egress)) {
    return undefined;
  }
  // A peer that says nothing we know makes a Deny rule one about everything: no peer of the API could say that of ingress.
  return {
    denies,
    spec: {
      tier: wordOf(spec['tier']) === 'baseline' ? 'Baseline' : 'Admin',
      priority: Math.min(Math.max(Math.trunc(numberOf(spec['priority']) ?? 0), 0), 1000),
      subject,
      ...(denies.ingress ? { ingress: [{ action: 'Deny', from: [{}] }] } : {}),
      ...(denies.egress ? { egress: [{ action: 'Deny', to: [{}] }] } : {}),
    },
  };
}

/** Of `types`, what can be read, and where something can't, the directions with rules as well; without any, what the kind takes them for. */
function directionsOf(
  spec: Fields,
  types: unknown,
  otherwise: (rules: { readonly ingress: unknown[]; readonly egress: unknown[] }) => Directions,
): Directions {
  const ingress = isPresent(spec['ingress']) ? [{}] : [];
  const egress = isPresent(spec['egress']) ? [{}] : [];
  const words = (Array.isArray(types) ? (types as unknown[]) : isGiven(types) ? [types] : []).map(wordOf);
  const unreadable = words.some((word) => word !== 'ingress' && word !== 'egress');
  const denies = {
    ingress: words.includes('ingress') || (unreadable && ingress.length > 0),
    egress: words.includes('egress') || (unreadable && egress.length > 0),
  };
  return denies.ingress || denies.egress ? denies : otherwise({ ingress, egress });
}

function typesText({ ingress, egress }: Directions): string[] {
  return [...(ingress ? ['Ingress'] : []), ...(egress ? ['Egress'] : [])];
}

/** True for rules, readable or not; an empty list is none. */
function isPresent(rules: unknown): boolean {
  return Array.isArray(rules) ? rules.length > 0 : isGiven(rules);
}

/** Kubernetes takes null for absent. */
function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null;
}

/** A word in lower case; undefined for what is none. (`String()` would throw at an object whose `toString` is no function.) */
function wordOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value.trim().toLowerCase() : undefined;
}

/** A number, also one in quotes. */
function numberOf(value: unknown): number | undefined {
  const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
  return typeof number === 'number' && Number.isFinite(number) ? number : undefined;
}

/** True, also in quotes and in YAML's old words for it. */
function isYes(value: unknown): boolean {
  return value === true || (typeof value === 'string' && /^(true|yes|on)$/i.test(value));
}

function isA(schema: z.ZodMiniType, value: unknown): boolean {
  return z.safeParse(schema, value).success;
}

function fieldsOf(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : undefined;
}
