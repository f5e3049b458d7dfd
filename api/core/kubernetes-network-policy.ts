import * as z from 'zod/mini';
import { containsCidr, tryParseIpInNetwork } from '../cidr.ts';
import { fieldsRule, portName, rule } from '../schema/checks.ts';
import { namespacedMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { stagedAction, stagedDeleteProblems } from '../v3/policy-spec.ts';
import { v3 } from '../v3/group.ts';
import { labelSelectorSchema } from './label-selector.ts';

/** The API group and version of Kubernetes' own NetworkPolicy. */
export const networkingV1 = 'networking.k8s.io/v1';

/** With a prefix length; host bits mean nothing, as in Kubernetes. */
const block = z
  .string()
  .check(
    rule((text) =>
      tryParseIpInNetwork(text) === undefined
        ? 'must be a network with its prefix length, e.g. 10.65.0.0/16'
        : undefined,
    ),
  );

const ipBlock = z.object({ cidr: block, except: z.optional(z.array(block)) }).check(
  fieldsRule(function* ({ cidr, except = [] }) {
    const outer = tryParseIpInNetwork(cidr)?.network;
    for (const [index, text] of except.entries()) {
      const inner = tryParseIpInNetwork(text)?.network;
      if (outer !== undefined && inner !== undefined && !(outer.prefix < inner.prefix && containsCidr(outer, inner))) {
        yield { path: ['except', index], message: `must be a smaller network inside of ${cidr}` };
      }
    }
  }),
);

/** Who may talk: pods of this namespace, of others, or a network. */
const peer = z
  .object({
    /** Of the policy's namespace unless there is a namespaceSelector. */
    podSelector: z.optional(labelSelectorSchema),
    namespaceSelector: z.optional(labelSelectorSchema),
    ipBlock: z.optional(ipBlock),
  })
  .check(
    fieldsRule(function* ({ podSelector, namespaceSelector, ipBlock: network }) {
      const selects = podSelector !== undefined || namespaceSelector !== undefined;
      if (!selects && network === undefined) {
        yield { path: [], message: 'must have podSelector, namespaceSelector or ipBlock' };
      }
      if (selects && network !== undefined) {
        yield { path: ['ipBlock'], message: 'must stand alone' };
      }
    }),
  );

const policyPort = z
  .object({
    protocol: z._default(z.enum(['TCP', 'UDP', 'SCTP']), 'TCP'),
    /** Absent: all ports of the protocol. A name is looked up in each destination pod. */
    port: z.optional(
      z.union([z.int().check(z.gte(1), z.lte(65535)), portName], {
        error: 'must be a port from 1 to 65535 or the name of one',
      }),
    ),
    /** The last one of a range that starts at `port`. */
    endPort: z.optional(z.int().check(z.gte(1), z.lte(65535))),
  })
  .check(
    fieldsRule(function* ({ port, endPort }) {
      if (endPort !== undefined && typeof port !== 'number') {
        yield { path: ['endPort'], message: 'must not be given unless port is a number' };
      } else if (endPort !== undefined && endPort < Number(port)) {
        yield { path: ['endPort'], message: 'must not be less than port' };
      }
    }),
  );

const ports = z.optional(z.array(policyPort));

/** Fields of a Kubernetes NetworkPolicy's spec. An absent or empty list of ports or peers asks nothing. */
const fields = {
  podSelector: z.prefault(labelSelectorSchema, {}),
  ingress: z.optional(z.array(z.object({ ports, from: z.optional(z.array(peer)) }))),
  egress: z.optional(z.array(z.object({ ports, to: z.optional(z.array(peer)) }))),
  /** Read by `effectivePolicyTypes`. */
  policyTypes: z.optional(z.array(z.enum(['Ingress', 'Egress'])).check(z.maxLength(2))),
};

/** Kubernetes' own NetworkPolicy. (In this program its kind is KubernetesNetworkPolicy, since Calico's has the same name.) */
export const kubernetesNetworkPolicySchema = z.object({
  apiVersion: z.literal(networkingV1),
  kind: z.literal('NetworkPolicy'),
  metadata: namespacedMeta,
  spec: z.prefault(z.object(fields), {}),
});

/** Kubernetes' own NetworkPolicy. */
export type KubernetesNetworkPolicy = DeepReadonly<z.infer<typeof kubernetesNetworkPolicySchema>>;

/** Calico's kind for a Kubernetes NetworkPolicy on trial: it is evaluated and counted, and decides nothing. */
export const stagedKubernetesNetworkPolicySchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('StagedKubernetesNetworkPolicy'),
  metadata: namespacedMeta,
  spec: z
    .object({ stagedAction, ...fields })
    .check(fieldsRule((spec) => (spec.stagedAction === 'Delete' ? stagedDeleteProblems(spec, []) : []))),
});

/** A Kubernetes NetworkPolicy on trial. */
export type StagedKubernetesNetworkPolicy = DeepReadonly<z.infer<typeof stagedKubernetesNetworkPolicySchema>>;
