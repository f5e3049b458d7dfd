import * as z from 'zod/mini';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { v3 } from './group.ts';

/** See `sequence.ts`. */
const sequenceNumber = z.union([z.int(), z.bigint()]);

/** Who has an address. Several addresses of one owner share an entry. */
const allocationAttribute = z.object({
  handle_id: z.optional(z.string()),
  /** The owner: node, namespace, pod, timestamp; Calico's name for it is historical. */
  secondary: z.optional(z.record(z.string(), z.string())),
  /** A second owner while a virtual machine migrates. */
  alternate: z.optional(z.record(z.string(), z.string())),
  releasedAt: z.optional(z.string()),
});

/** A block of addresses, and which of them are in use: the unit of compare-and-swap. */
export const ipamBlockSchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('IPAMBlock'),
  metadata: clusterMeta,
  spec: z.object({
    cidr: z.string(),
    /** `host:<node>` or `virtual:<name>`; absent: nobody's. */
    affinity: z.optional(z.string()),
    affinityClaimTime: z.optional(z.string()),
    /** By ordinal in the block: the index in `attributes`, or null for free. */
    allocations: z.array(z.nullable(z.int().check(z.gte(0)))),
    /** Free ordinals, next to be used first: what was freed last comes last. */
    unallocated: z.array(z.int().check(z.gte(0))),
    attributes: z.array(allocationAttribute),
    /** Grows with each write. */
    sequenceNumber: z._default(sequenceNumber, 0),
    /** Ordinal (as text) to the block's sequence number when it was given: makes a release safe against re-use. */
    sequenceNumberForAllocation: z._default(z.record(z.string(), sequenceNumber), {}),
    /** Set, by compare-and-swap, just before the object is deleted. */
    deleted: z._default(z.boolean(), false),
    /** Without meaning; Calico still writes it. */
    strictAffinity: z.optional(z.boolean()),
  }),
});

/** A block of addresses, and which of them are in use. */
export type IPAMBlock = DeepReadonly<z.infer<typeof ipamBlockSchema>>;
