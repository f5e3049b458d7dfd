import * as z from 'zod/mini';
import { fieldsRule } from '../schema/checks.ts';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { conditionsStatus } from '../schema/status.ts';
import { v3 } from './group.ts';
import {
  globalNetworkPolicyFields,
  globalNetworkPolicyProblems,
  stagedAction,
  stagedDeleteProblems,
} from './policy-spec.ts';

/** Rules for endpoints of all namespaces and for host endpoints. */
export const globalNetworkPolicySchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('GlobalNetworkPolicy'),
  metadata: clusterMeta,
  spec: z.object(globalNetworkPolicyFields).check(fieldsRule(globalNetworkPolicyProblems)),
  status: z.optional(conditionsStatus),
});

/** Rules for endpoints of all namespaces and for host endpoints. */
export type GlobalNetworkPolicy = DeepReadonly<z.infer<typeof globalNetworkPolicySchema>>;

/** A GlobalNetworkPolicy on trial: it is evaluated and counted, and decides nothing. */
export const stagedGlobalNetworkPolicySchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('StagedGlobalNetworkPolicy'),
  metadata: clusterMeta,
  spec: z.object({ stagedAction, ...globalNetworkPolicyFields }).check(
    fieldsRule(function* (spec) {
      yield* spec.stagedAction === 'Delete' ? stagedDeleteProblems(spec, ['tier']) : globalNetworkPolicyProblems(spec);
    }),
  ),
  status: z.optional(conditionsStatus),
});

/** A GlobalNetworkPolicy on trial: it is evaluated and counted, and decides nothing. */
export type StagedGlobalNetworkPolicy = DeepReadonly<z.infer<typeof stagedGlobalNetworkPolicySchema>>;
