import * as z from 'zod/mini';
import { net, port } from '../schema/checks.ts';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { v3 } from './group.ts';

const ranges = z.optional(
  z.array(
    z.object({
      cidr: z.optional(
        z.union([z.literal(''), net], { error: 'must be an IP address or a network, e.g. 10.96.0.0/12' }),
      ),
    }),
  ),
);

/** Settings of BGP. There is no BGP here: of the object named `default` we use where the services' addresses are. */
export const bgpConfigurationSchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('BGPConfiguration'),
  metadata: clusterMeta,
  spec: z.prefault(
    z.object({
      serviceClusterIPs: ranges,
      serviceExternalIPs: ranges,
      serviceLoadBalancerIPs: ranges,
      logSeverityScreen: z.optional(z.string()),
      nodeToNodeMeshEnabled: z.optional(z.boolean()),
      asNumber: z.optional(z.union([z.string(), z.int()])),
      listenPort: z.optional(port),
      bindMode: z.optional(z.string()),
      communities: z.optional(z.array(z.object({ name: z.optional(z.string()), value: z.optional(z.string()) }))),
      prefixAdvertisements: z.optional(
        z.array(z.object({ cidr: z.optional(net), communities: z.optional(z.array(z.string())) })),
      ),
      /** Names a Secret; there is nothing secret in it. */
      nodeMeshPassword: z.optional(
        z.object({
          secretKeyRef: z.optional(
            z.object({ name: z.optional(z.string()), key: z.string(), optional: z.optional(z.boolean()) }),
          ),
        }),
      ),
      nodeMeshMaxRestartTime: z.optional(z.string()),
      ignoredInterfaces: z.optional(z.array(z.string())),
      localWorkloadPeeringIPV4: z.optional(z.string()),
      localWorkloadPeeringIPV6: z.optional(z.string()),
    }),
    {},
  ),
});

/** Settings of BGP, of which we use the services' ranges. */
export type BGPConfiguration = DeepReadonly<z.infer<typeof bgpConfigurationSchema>>;
