import * as z from 'zod/mini';
import { cidr } from '../schema/checks.ts';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { v3 } from './group.ts';

/** A node's claim to a block. */
export const blockAffinitySchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('BlockAffinity'),
  metadata: clusterMeta,
  spec: z.object({
    /** `pending`: the block is being claimed. `confirmed`: it is the node's. `pendingDeletion`: it is being given back. */
    state: z.enum(['pending', 'confirmed', 'pendingDeletion']),
    node: z.string().check(z.minLength(1)),
    /** `host`, or `virtual` where `node` is no node. */
    type: z._default(z.enum(['host', 'virtual']), 'host'),
    cidr,
    /** Set, by compare-and-swap, just before the object is deleted. */
    deleted: z._default(z.boolean(), false),
  }),
});

/** A node's claim to a block. */
export type BlockAffinity = DeepReadonly<z.infer<typeof blockAffinitySchema>>;
