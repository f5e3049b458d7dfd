import * as z from 'zod/mini';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';

/** A Kubernetes Node, with what we use of it. */
export const nodeSchema = z.object({
  apiVersion: z.literal('v1'),
  kind: z.literal('Node'),
  metadata: clusterMeta,
  spec: z.prefault(
    z.object({
      podCIDR: z.optional(z.string()),
      podCIDRs: z.optional(z.array(z.string())),
    }),
    {},
  ),
  status: z.prefault(
    z.object({
      /** `type`: InternalIP, ExternalIP, Hostname, ... */
      addresses: z._default(z.array(z.object({ type: z.string(), address: z.string() })), () => []),
      /** `type`: Ready, NetworkUnavailable, ...; `status`: True, False or Unknown. */
      conditions: z._default(z.array(z.object({ type: z.string(), status: z.string() })), () => []),
    }),
    {},
  ),
});

/** A Kubernetes Node, with what we use of it. */
export type Node = DeepReadonly<z.infer<typeof nodeSchema>>;
