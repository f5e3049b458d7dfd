import * as z from 'zod/mini';
import { fieldsRule } from '../schema/checks.ts';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { v3 } from './group.ts';
import { directionProblems } from './rule-problems.ts';
import { rulesSchema } from './rule.ts';

/**
 * Rules and labels for the endpoints that name it; its rules count when no tier has decided. Those of pods (`kns.`, `ksa.`) are derived
 * from namespaces and service accounts and are no objects.
 */
export const profileSchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('Profile'),
  metadata: clusterMeta,
  spec: z.prefault(
    z
      .object({
        ingress: z.optional(rulesSchema),
        egress: z.optional(rulesSchema),
        /** For endpoints that have no label of that name themselves. */
        labelsToApply: z.optional(z.record(z.string(), z.string())),
      })
      .check(fieldsRule((spec) => directionProblems(spec, true))),
    {},
  ),
});

/** Rules and labels for the endpoints that name it. */
export type Profile = DeepReadonly<z.infer<typeof profileSchema>>;
