import * as z from 'zod/mini';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { v3 } from './group.ts';

/** A node's claim to a block. */
export const blockAffinitySchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('BlockAffinity'),
  metadata: clusterMeta,
  spec: z.object({
    state: z.enum(['pending', 'confirmed', 'pendingDeletion']),
    node: z.string(),
    /** `host` or `virtual`. */
    type: z._default(z.string(), 'host'),
    cidr: z.string(),
    /** Set, by compare-and-swap, just before the object is deleted. */
    deleted: z._default(z.boolean(), false),
  }),
});

/** A node's claim to a block. */
export type BlockAffinity = DeepReadonly<z.infer<typeof blockAffinitySchema>>;
