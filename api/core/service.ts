import * as z from 'zod/mini';
import { port } from '../schema/checks.ts';
import { namespacedMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';

/** A Service (or slice) with this label, whatever its value, is another proxy's. */
export const serviceProxyNameLabel = 'service.kubernetes.io/service-proxy-name';

/** A Service (or slice) with this label, whatever its value, counts as headless. Controllers put it on the slices of headless Services. */
export const headlessLabel = 'service.kubernetes.io/headless';

/** A Service that has this annotation with the value `true` is not translated by the eBPF dataplane: its address may be the node's (a DNS cache there). */
export const natExcludeAnnotation = 'projectcalico.org/natExcludeService';

/** A Kubernetes Service, with what we use of it. */
export const serviceSchema = z.object({
  apiVersion: z.literal('v1'),
  kind: z.literal('Service'),
  metadata: namespacedMeta,
  spec: z.prefault(
    z.object({
      /** ClusterIP, NodePort, LoadBalancer or ExternalName. */
      type: z._default(z.string(), 'ClusterIP'),
      /** Empty until the API server has given one; `None`: headless. */
      clusterIP: z.optional(z.string()),
      /** At most one a family, the first the same as `clusterIP`. Empty in objects of old API servers. */
      clusterIPs: z._default(z.array(z.string()), () => []),
      /** None or ClientIP. */
      sessionAffinity: z._default(z.string(), 'None'),
      sessionAffinityConfig: z.optional(
        z.object({
          clientIP: z.optional(
            z.object({
              /** How long a client keeps its backend, in seconds. */
              timeoutSeconds: z.optional(z.int().check(z.gte(1), z.lte(86_400))),
            }),
          ),
        }),
      ),
      /** Cluster or Local. */
      internalTrafficPolicy: z._default(z.string(), 'Cluster'),
      ports: z._default(
        z.array(
          z.object({
            /** May be left out where there is one port only. Ports of slices are matched by it. */
            name: z._default(z.string(), ''),
            protocol: z._default(z.string(), 'TCP'),
            port,
          }),
        ),
        () => [],
      ),
    }),
    {},
  ),
});

/** A Kubernetes Service, with what we use of it. */
export type Service = DeepReadonly<z.infer<typeof serviceSchema>>;
