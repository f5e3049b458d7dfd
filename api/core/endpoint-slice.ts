import * as z from 'zod/mini';
import { portOrZero } from '../schema/checks.ts';
import { namespacedMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';

/** The API group and version of EndpointSlice. */
export const discoveryV1 = 'discovery.k8s.io/v1';

/** The label that says which Service of its namespace a slice belongs to. */
export const serviceNameLabel = 'kubernetes.io/service-name';

/** Some endpoints of a Service, with what we use of them. Every port holds for every endpoint. */
export const endpointSliceSchema = z.object({
  apiVersion: z.literal(discoveryV1),
  kind: z.literal('EndpointSlice'),
  metadata: namespacedMeta,
  /** IPv4, IPv6 or FQDN. */
  addressType: z.string(),
  endpoints: z._default(
    z.array(
      z.object({
        /** All are of the same endpoint; whoever sends traffic takes the first. */
        addresses: z._default(z.array(z.string()), () => []),
        /** Absent values mean: ready and serving (unknown counts as yes), and not terminating. */
        conditions: z.optional(
          z.object({
            ready: z.optional(z.boolean()),
            serving: z.optional(z.boolean()),
            terminating: z.optional(z.boolean()),
          }),
        ),
        nodeName: z.optional(z.string()),
        zone: z.optional(z.string()),
      }),
    ),
    () => [],
  ),
  ports: z._default(
    z.array(
      z.object({
        /** The name of the Service's port that it is for. */
        name: z._default(z.string(), ''),
        protocol: z._default(z.string(), 'TCP'),
        /** Absent: all ports. */
        port: z.optional(portOrZero),
      }),
    ),
    () => [],
  ),
});

/** Some endpoints of a Service, with what we use of them. */
export type EndpointSlice = DeepReadonly<z.infer<typeof endpointSliceSchema>>;
