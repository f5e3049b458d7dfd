import * as z from 'zod/mini';
import { port, portOrZero } from '../schema/checks.ts';
import { namespacedMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';

/** A Kubernetes Service, with what we use of it. */
export const serviceSchema = z.object({
  apiVersion: z.literal('v1'),
  kind: z.literal('Service'),
  metadata: namespacedMeta,
  spec: z.prefault(
    z.object({
      type: z._default(z.string(), 'ClusterIP'),
      /** Empty until the API server has given one; `None`: headless. */
      clusterIP: z.optional(z.string()),
      clusterIPs: z._default(z.array(z.string()), () => []),
      externalIPs: z._default(z.array(z.string()), () => []),
      ports: z._default(
        z.array(
          z.object({
            name: z.optional(z.string()),
            protocol: z._default(z.string(), 'TCP'),
            port,
            /** A container's port, or its name; absent: the same as `port`. */
            targetPort: z.optional(z.union([z.int(), z.string()])),
            nodePort: z.optional(portOrZero),
          }),
        ),
        () => [],
      ),
    }),
    {},
  ),
  status: z.prefault(
    z.object({
      loadBalancer: z.prefault(
        z.object({ ingress: z._default(z.array(z.object({ ip: z.optional(z.string()) })), () => []) }),
        {},
      ),
    }),
    {},
  ),
});

/** A Kubernetes Service, with what we use of it. */
export type Service = DeepReadonly<z.infer<typeof serviceSchema>>;
