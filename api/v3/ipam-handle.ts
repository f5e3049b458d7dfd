import * as z from 'zod/mini';
import { cidr } from '../schema/checks.ts';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { v3 } from './group.ts';

/** Which blocks hold addresses of one handle. A count may be too high after a crash, never too low. */
export const ipamHandleSchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('IPAMHandle'),
  metadata: clusterMeta,
  spec: z.object({
    /** The handle as it was given; the object's name is its lower case. */
    handleID: z.string().check(z.minLength(1)),
    /** Block's CIDR to number of addresses. */
    block: z._default(z.record(cidr, z.int().check(z.gte(0))), () => ({})),
    /** Set, by compare-and-swap, just before the object is deleted. */
    deleted: z._default(z.boolean(), false),
  }),
});

/** Which blocks hold addresses of one handle. */
export type IPAMHandle = DeepReadonly<z.infer<typeof ipamHandleSchema>>;
