/** Short ways to say policy, for the classifier's tests. */
import type { PolicyInfo, RuleInfo } from '../../policy.ts';
import { ANY_PEER } from '../../shared/test-config.ts';
import { Classifier } from './classifier.ts';
import type { SizedMap } from './classifier-maps.ts';
import { testSizes, Twin } from './twin-for-tests.ts';
import { type UnitKind, unitLists } from './unit-lists.ts';

/** An end of a packet of which nothing is asked. */
export const nobody = ANY_PEER;

/** Allows all that `fields` don't exclude. */
export const rule = (id: string, fields: Partial<RuleInfo> = {}): RuleInfo => ({
  id,
  action: 'allow',
  source: nobody,
  destination: nobody,
  ...fields,
});

/** From addresses that are in all of the sets. */
export const from = (...sets: string[]): Partial<RuleInfo> => ({ source: { ...nobody, sets } });

/** With rules for ingress. */
export const policy = (...ingress: RuleInfo[]): PolicyInfo => ({ tier: 'default', staged: false, ingress, egress: [] });

/** One tier that ends with deny, ingress, IPv4. */
export const lists = (policies: readonly string[], kind: UnitKind = 'endpoint') =>
  unitLists(kind, 'ingress', 4, {
    tiers: [{ name: 'default', defaultAction: 'deny', ingress: policies, egress: [] }],
    profiles: [],
  });

export const packet = { from: '10.0.0.1', to: '10.0.0.9', protocol: 6, port: 80, sourcePort: 1000 };

/** A classifier that doesn't sleep, on maps with so many entries each. */
export function start(entries = 100_000, others: Partial<Record<SizedMap, number>> = {}) {
  const twin = new Twin(testSizes(entries, others));
  return { twin, classifier: new Classifier(twin, () => Promise.resolve()) };
}
