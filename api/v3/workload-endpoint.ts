import * as z from 'zod/mini';
import { bitsOf, tryParseNet } from '../cidr.ts';
import { interfaceName, ip, mac, net, port, portOrZero, portProtocol, rule } from '../schema/checks.ts';
import { namespacedMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { v3 } from './group.ts';

const hostNet = z.string().check(
  rule((text) => {
    const network = tryParseNet(text);
    return network !== undefined && network.prefix === bitsOf(network.family)
      ? undefined
      : 'must be one address, with /32 or /128 or without';
  }),
);

/** A container's interface on a node. Pods have none of their own in the datastore: they are derived from the Pod. */
export const workloadEndpointSchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('WorkloadEndpoint'),
  metadata: namespacedMeta,
  spec: z.object({
    /** `k8s` for a pod, `cni` for any other container. */
    orchestrator: z.string().check(z.minLength(1)),
    /** The pod's `namespace.name`, or the container id. */
    workload: z.optional(z.string()),
    node: z.string().check(z.minLength(1)),
    containerID: z.optional(z.string()),
    pod: z.optional(z.string()),
    /** The interface as it is recorded: always `eth0`, whatever it is called inside. */
    endpoint: z.string().check(z.minLength(1)),
    serviceAccountName: z.optional(z.string()),
    /** Its addresses, /32 and /128. */
    ipNetworks: z._default(z.array(hostNet), () => []),
    ipNATs: z.optional(z.array(z.object({ internalIP: ip(), externalIP: ip() }))),
    ipv4Gateway: z.optional(ip(4)),
    ipv6Gateway: z.optional(ip(6)),
    profiles: z._default(z.array(z.string()), () => []),
    /** The host's end. */
    interfaceName,
    /** The container's end, lower case with colons. */
    mac: z.optional(mac),
    ports: z._default(
      z.array(
        z.object({
          name: z.optional(z.string()),
          protocol: portProtocol,
          port,
          hostPort: z.optional(portOrZero),
          hostIP: z.optional(z.string()),
        }),
      ),
      [],
    ),
    allowSpoofedSourcePrefixes: z.optional(z.array(net)),
  }),
});

/** A container's interface on a node. */
export type WorkloadEndpoint = DeepReadonly<z.infer<typeof workloadEndpointSchema>>;
