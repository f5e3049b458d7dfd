import * as z from 'zod/mini';
import { namespacedMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { v3 } from './group.ts';

const port = z.int().check(z.gte(1), z.lte(65535));

/** A container's interface on a node. Pods have none of their own in the datastore: they are derived from the Pod. */
export const workloadEndpointSchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('WorkloadEndpoint'),
  metadata: namespacedMeta,
  spec: z.object({
    /** `k8s` for a pod, `cni` for any other container. */
    orchestrator: z.string(),
    /** The pod's `namespace.name`, or the container id. */
    workload: z.optional(z.string()),
    node: z.string(),
    containerID: z.optional(z.string()),
    pod: z.optional(z.string()),
    /** The interface as it is recorded: always `eth0`, whatever it is called inside. */
    endpoint: z.string(),
    serviceAccountName: z.optional(z.string()),
    /** Its addresses, /32 and /128. */
    ipNetworks: z._default(z.array(z.string()), []),
    ipNATs: z.optional(z.array(z.object({ internalIP: z.string(), externalIP: z.string() }))),
    ipv4Gateway: z.optional(z.string()),
    ipv6Gateway: z.optional(z.string()),
    profiles: z._default(z.array(z.string()), []),
    /** The host's end. */
    interfaceName: z.string(),
    /** The container's end, lower case with colons. */
    mac: z.optional(z.string()),
    ports: z._default(
      z.array(
        z.object({
          name: z.optional(z.string()),
          protocol: z.union([z.string(), z.int().check(z.gte(1), z.lte(255))]),
          port,
          hostPort: z.optional(z.int().check(z.gte(0), z.lte(65535))),
          hostIP: z.optional(z.string()),
        }),
      ),
      [],
    ),
    allowSpoofedSourcePrefixes: z.optional(z.array(z.string())),
  }),
});

/** A container's interface on a node. */
export type WorkloadEndpoint = DeepReadonly<z.infer<typeof workloadEndpointSchema>>;
