import * as z from 'zod/mini';
import { fieldsRule } from '../schema/checks.ts';
import { namespacedMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { conditionsStatus } from '../schema/status.ts';
import { v3 } from './group.ts';
import { networkPolicyFields, networkPolicyProblems, stagedAction, stagedDeleteProblems } from './policy-spec.ts';

/** Rules for the endpoints of one namespace. */
export const networkPolicySchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('NetworkPolicy'),
  metadata: namespacedMeta,
  spec: z.object(networkPolicyFields).check(fieldsRule(networkPolicyProblems)),
  status: z.optional(conditionsStatus),
});

/** Rules for the endpoints of one namespace. */
export type NetworkPolicy = DeepReadonly<z.infer<typeof networkPolicySchema>>;

/** A NetworkPolicy on trial: it is evaluated and counted, and decides nothing. */
export const stagedNetworkPolicySchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('StagedNetworkPolicy'),
  metadata: namespacedMeta,
  spec: z.object({ stagedAction, ...networkPolicyFields }).check(
    fieldsRule(function* (spec) {
      yield* spec.stagedAction === 'Delete' ? stagedDeleteProblems(spec, ['tier']) : networkPolicyProblems(spec);
    }),
  ),
  status: z.optional(conditionsStatus),
});

/** A NetworkPolicy on trial: it is evaluated and counted, and decides nothing. */
export type StagedNetworkPolicy = DeepReadonly<z.infer<typeof stagedNetworkPolicySchema>>;
