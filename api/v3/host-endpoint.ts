import * as z from 'zod/mini';
import { dnsSubdomain, fieldsRule, interfaceName, ip, port, portName, portProtocol } from '../schema/checks.ts';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { v3 } from './group.ts';

const spec = z
  .object({
    node: dnsSubdomain,
    /** A device; `*`: every one that no other host endpoint of the node names; absent or empty: the one with one of `expectedIPs`. */
    interfaceName: z.optional(
      z.union([z.literal(['', '*']), interfaceName], {
        error: "must be an interface name of 1 to 15 characters, or '*'",
      }),
    ),
    /** What selectors and named ports take for its addresses; nobody asks the device. */
    expectedIPs: z.optional(z.array(ip())),
    /** Evaluated in this order when no tier has decided. */
    profiles: z.optional(z.array(dnsSubdomain)),
    ports: z.optional(z.array(z.object({ name: portName, protocol: portProtocol, port }))),
  })
  .check(
    fieldsRule(function* ({ interfaceName: name = '', expectedIPs = [] }) {
      if (name === '' && expectedIPs.length === 0) {
        yield { path: ['interfaceName'], message: 'must be given, or expectedIPs must' };
      }
    }),
  );

/** A host's own interface. From then on what is to or from the host itself is denied unless policy, profile or failsafe allows it. */
export const hostEndpointSchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('HostEndpoint'),
  metadata: clusterMeta,
  spec,
});

/** A host's own interface. */
export type HostEndpoint = DeepReadonly<z.infer<typeof hostEndpointSchema>>;
