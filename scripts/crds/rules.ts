/**
 * Rules between fields, in CEL: what our validator checks by code, the API server checks by these. Each row says what breaks it, and the
 * tests have both judge that: our parser must refuse it at the same field with the same words. So neither can change alone.
 */
import type { KindName } from '#api/kinds.ts';
import { clusterNetworkPolicyRules } from './rules-cluster.ts';
import { ipamRules } from './rules-ipam.ts';
import { entryRules } from './rules-entries.ts';
import { policyRules } from './rules-policy.ts';
import { settingsRules } from './rules-settings.ts';
import type { CelRule, CrdSchema } from './schema.ts';

/** A rule, where it stands, and what breaks it. */
export interface CrdRule extends Pick<CelRule, 'message' | 'fieldPath'> {
  readonly kinds: readonly KindName[];
  /** Where `self` is: `spec`, `spec.ingress[].source`; '' is the object. */
  readonly at: string;
  /** CEL; without it `limits` are the rule. */
  readonly rule?: string;
  /** What our validator says where it puts values into its words, which CEL could do only at a cost that the API server refuses. */
  readonly ours?: string;
  /** A limit or pattern for the schema at `at`: the rule itself, or what it needs to be cheap. Our validator's verdict is the same. */
  readonly limits?: CrdSchema;
  /** What stands at `at` and breaks this rule and no other. A whole object's `spec` and `metadata` where `at` is ''. */
  readonly breaks: unknown;
  /** What must stand beside that, for the rest to be right. */
  readonly beside?: object;
  /** Before an update, for a rule about changes: it has no counterpart in our validator, which sees one object at a time. */
  readonly before?: unknown;
}

export const allRules: readonly CrdRule[] = [
  ...ipamRules,
  ...entryRules,
  ...policyRules,
  ...clusterNetworkPolicyRules,
  ...settingsRules,
];

/** The rules of a kind, in the table's order. */
export function rulesFor(kind: KindName): readonly CrdRule[] {
  return allRules.filter((row) => row.kinds.includes(kind));
}
