/** What the specs of projectcalico.org/v3 policies share. */
import * as z from 'zod/mini';
import { dnsSubdomain, endpointSelector, rule, type FieldProblem } from '../schema/checks.ts';
import { directionProblems } from './rule-problems.ts';
import { rulesSchema, type Rule } from './rule.ts';

/** Fields of every projectcalico.org/v3 policy. `types` is read by `effectiveTypes`; a missing `order` is after all others. */
const commonFields = {
  tier: z._default(dnsSubdomain, 'default'),
  order: z.optional(z.number()),
  /** Empty: everything. */
  selector: z.optional(endpointSelector),
  types: z.optional(
    z.array(z.enum(['Ingress', 'Egress'])).check(
      z.maxLength(2),
      rule((types) => (new Set(types).size === types.length ? undefined : 'must not have a direction twice')),
    ),
  ),
  ingress: z.optional(rulesSchema),
  egress: z.optional(rulesSchema),
  /** Only pods whose ServiceAccount it selects. */
  serviceAccountSelector: z.optional(endpointSelector),
  /** Never changes what is allowed. */
  performanceHints: z.optional(z.array(z.enum(['AssumeNeededOnEveryNode']))),
};

/** `spec` of a NetworkPolicy. */
export const networkPolicyFields = commonFields;

/** `spec` of a GlobalNetworkPolicy. */
export const globalNetworkPolicyFields = {
  ...commonFields,
  /** Only pods of namespaces that it selects; empty: everything, also what has no namespace. */
  namespaceSelector: z.optional(endpointSelector),
  /** Before connection tracking, both directions; host endpoints only. */
  doNotTrack: z._default(z.boolean(), false),
  /** Before destinations are translated; host endpoints only. */
  preDNAT: z._default(z.boolean(), false),
  /** At host endpoints also what is forwarded; without it only what is from or to the host itself. */
  applyOnForward: z._default(z.boolean(), false),
};

/** What happens to a staged policy when it is promoted; it decides nothing before. */
export const stagedAction = z._default(z.enum(['Set', 'Delete', 'Learn', 'Ignore']), 'Set');

interface PolicySpec {
  readonly types?: readonly string[] | undefined;
  readonly ingress?: readonly Rule[] | undefined;
  readonly egress?: readonly Rule[] | undefined;
}

interface GlobalPolicySpec extends PolicySpec {
  readonly doNotTrack: boolean;
  readonly preDNAT: boolean;
  readonly applyOnForward: boolean;
}

/** Rules between the fields of a NetworkPolicy's spec. */
export function* networkPolicyProblems(spec: PolicySpec): Generator<FieldProblem> {
  yield* directionProblems(spec, false);
}

/** Rules between the fields of a GlobalNetworkPolicy's spec. */
export function* globalNetworkPolicyProblems(spec: GlobalPolicySpec): Generator<FieldProblem> {
  yield* directionProblems(spec, true);
  if (spec.doNotTrack && spec.preDNAT) {
    yield { path: ['preDNAT'], message: 'must not be true with doNotTrack' };
  }
  if (!spec.applyOnForward && (spec.doNotTrack || spec.preDNAT)) {
    yield { path: ['applyOnForward'], message: `must be true with ${spec.preDNAT ? 'preDNAT' : 'doNotTrack'}` };
  }
  if (spec.preDNAT && (spec.egress?.length ?? 0) > 0) {
    yield { path: ['egress'], message: 'must have no rules with preDNAT, which is for ingress only' };
  }
  if (spec.preDNAT && spec.types?.includes('Egress') === true) {
    yield { path: ['types'], message: 'must not have Egress with preDNAT, which is for ingress only' };
  }
}

/** A staged deletion says which policy would go, and nothing else. `allowed` are the fields that it may have. */
export function* stagedDeleteProblems(
  spec: Readonly<Record<string, unknown>>,
  allowed: readonly string[],
): Generator<FieldProblem> {
  for (const [field, value] of Object.entries(spec)) {
    if (field !== 'stagedAction' && !allowed.includes(field) && !isZero(value)) {
      yield { path: [field], message: 'must not be given when stagedAction is Delete' };
    }
  }
}

/** What Go writes for a field that was left out. */
function isZero(value: unknown): boolean {
  return (
    value === undefined ||
    value === false ||
    value === '' ||
    value === 0 ||
    (typeof value === 'object' && value !== null && Object.values(value).every(isZero))
  );
}
