import * as z from 'zod/mini';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { v3 } from './group.ts';

const encapsulation = z._default(z.enum(['Never', 'Always', 'CrossSubnet']), 'Never');

/** A range that addresses are given from, and how its traffic travels. */
export const ipPoolSchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('IPPool'),
  metadata: clusterMeta,
  spec: z.object({
    cidr: z.string(),
    vxlanMode: encapsulation,
    ipipMode: encapsulation,
    /** What leaves all pools from this one gets the node's address. */
    natOutgoing: z._default(z.boolean(), false),
    /** No new addresses from it. It still counts as inside for natOutgoing. */
    disabled: z._default(z.boolean(), false),
    disableBGPExport: z._default(z.boolean(), false),
    /** Prefix length of a block; `blockSizeOf` has the default, which depends on the family. */
    blockSize: z.optional(z.int()),
    nodeSelector: z._default(z.string(), 'all()'),
    namespaceSelector: z.optional(z.string()),
    allowedUses: z._default(z.array(z.enum(['Workload', 'Tunnel', 'LoadBalancer'])), ['Workload', 'Tunnel']),
    /** Manual: only for who asks for the pool by name. */
    assignmentMode: z._default(z.enum(['Automatic', 'Manual']), 'Automatic'),
  }),
});

/** A range that addresses are given from, and how its traffic travels. */
export type IPPool = DeepReadonly<z.infer<typeof ipPoolSchema>>;
