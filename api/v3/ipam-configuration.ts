import * as z from 'zod/mini';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { v3 } from './group.ts';

/** How IPAM works in the whole cluster; one object, named `default`. */
export const ipamConfigurationSchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('IPAMConfiguration'),
  metadata: clusterMeta,
  spec: z.object({
    /** Nodes use no address from a block of another node. */
    strictAffinity: z._default(z.boolean(), false),
    /** Blocks a node may have, per family; 0 is 20 per family. */
    maxBlocksPerHost: z._default(z.int().check(z.gte(0), z.lte(1_000_000)), 0),
    /** Nodes take new blocks by themselves when theirs are full. */
    autoAllocateBlocks: z._default(z.boolean(), true),
    /** Seconds that a released address is not given again. */
    ipCooldownSeconds: z.optional(z.int().check(z.gte(0), z.lte(1200))),
    kubeVirtVMAddressPersistence: z.optional(z.enum(['Enabled', 'Disabled'])),
  }),
});

/** How IPAM works in the whole cluster; one object, named `default`. */
export type IPAMConfiguration = DeepReadonly<z.infer<typeof ipamConfigurationSchema>>;
