import * as z from 'zod/mini';
import { namespacedMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';

/** What a Lease's objects have in `apiVersion`. */
export const coordinationV1 = 'coordination.k8s.io/v1';

/** A Kubernetes Lease: who does something that only one may do at a time. */
export const leaseSchema = z.object({
  apiVersion: z.literal(coordinationV1),
  kind: z.literal('Lease'),
  metadata: namespacedMeta,
  spec: z.prefault(
    z.object({
      holderIdentity: z.optional(z.nullable(z.string())),
      leaseDurationSeconds: z.optional(z.nullable(z.int())),
      /** RFC 3339 with microseconds, here and below. */
      acquireTime: z.optional(z.nullable(z.string())),
      renewTime: z.optional(z.nullable(z.string())),
      leaseTransitions: z.optional(z.nullable(z.int())),
    }),
    {},
  ),
});

/** A Kubernetes Lease: who does something that only one may do at a time. */
export type Lease = DeepReadonly<z.infer<typeof leaseSchema>>;
