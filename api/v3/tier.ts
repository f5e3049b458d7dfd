import * as z from 'zod/mini';
import { dnsLabel, fieldsRule, type FieldProblem } from '../schema/checks.ts';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { conditionsStatus } from '../schema/status.ts';
import { v3 } from './group.ts';

/** Where a tier stands and what it does with what no rule of its policies decides. */
export interface TierSettings {
  /** Lower ones are evaluated first; Infinity where none is given. Ties: by name. */
  readonly order: number;
  readonly defaultAction: 'Deny' | 'Pass';
}

/** The tiers that always exist, whether or not there is an object; theirs can't be changed. */
export const builtInTiers: ReadonlyMap<string, TierSettings> = new Map([
  ['kube-admin', { order: 1_000, defaultAction: 'Pass' }],
  ['default', { order: 1_000_000, defaultAction: 'Deny' }],
  ['kube-baseline', { order: 10_000_000, defaultAction: 'Pass' }],
]);

/** A stage of policy evaluation: the policies that name it are evaluated together. */
export const tierSchema = z
  .object({
    apiVersion: z.literal(v3),
    kind: z.literal('Tier'),
    // No dots: a tier's name is a part of its policies' names.
    metadata: z.extend(clusterMeta, { name: dnsLabel }),
    spec: z.prefault(
      z.object({
        order: z.optional(z.number()),
        /** Absent: Deny, or the fixed one of a built-in tier; read it by `tierSettings`. */
        defaultAction: z.optional(z.enum(['Deny', 'Pass'])),
      }),
      {},
    ),
    status: z.optional(conditionsStatus),
  })
  .check(fieldsRule(builtInProblems));

/** A stage of policy evaluation: the policies that name it are evaluated together. */
export type Tier = DeepReadonly<z.infer<typeof tierSchema>>;

/** A tier's place and default, with what its name or its absence means filled in. */
export function tierSettings({ metadata, spec }: Pick<Tier, 'metadata' | 'spec'>): TierSettings {
  return (
    builtInTiers.get(metadata.name) ?? { order: spec.order ?? Infinity, defaultAction: spec.defaultAction ?? 'Deny' }
  );
}

function* builtInProblems({ metadata, spec }: Pick<Tier, 'metadata' | 'spec'>): Generator<FieldProblem> {
  const fixed = builtInTiers.get(metadata.name);
  for (const field of ['order', 'defaultAction'] as const) {
    if (fixed !== undefined && spec[field] !== undefined && spec[field] !== fixed[field]) {
      yield { path: ['spec', field], message: `must be ${fixed[field]} in the tier ${metadata.name}` };
    }
  }
}
