/**
 * Rules between fields, in CEL: what our validator checks by code, the API server checks by these. Each row says what breaks it, and the
 * tests have both judge that: our parser must refuse it at the same field with the same words. So neither can change alone.
 */
import type { KindName } from '#api/kinds.ts';
import { clusterNetworkPolicyRules } from './rules-cluster.ts';
import { ipamRules } from './rules-ipam.ts';
import { policyRules } from './rules-policy.ts';
import { settingsRules } from './rules-settings.ts';
import type { CelRule, CrdSchema } from './schema.ts';

/** A CEL rule, where it stands, and what breaks it. */
export interface CrdRule extends CelRule {
  readonly kinds: readonly KindName[];
  /** Where `self` is: `spec`, `spec.ingress[].source`; '' is the object. */
  readonly at: string;
  /** Limits that the rule needs for its cost; our validator's verdict on what is beyond them is the same. */
  readonly limits?: CrdSchema;
  /** What stands at `at` and breaks this rule and no other. A whole object's `spec` and `metadata` where `at` is ''. */
  readonly breaks: unknown;
  /** Before an update, for a rule about changes: it has no counterpart in our validator, which sees one object at a time. */
  readonly before?: unknown;
}

export const allRules: readonly CrdRule[] = [
  ...ipamRules,
  ...policyRules,
  ...clusterNetworkPolicyRules,
  ...settingsRules,
];

/** The rules of a kind, in the table's order. */
export function rulesFor(kind: KindName): readonly CrdRule[] {
  return allRules.filter((row) => row.kinds.includes(kind));
}
