import * as z from 'zod/mini';
import { tryParseIpInNetwork } from '../cidr.ts';
import { fieldsRule, rule, type FieldProblem } from '../schema/checks.ts';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { conditionsStatus } from '../schema/status.ts';
import { labelSelectorSchema } from './label-selector.ts';

/** The API group and version of ClusterNetworkPolicy. */
export const policyV1alpha2 = 'policy.networking.k8s.io/v1alpha2';

const maxRules = 25;
const maxEntries = 25;

const namespacedPod = z.object({
  namespaceSelector: z.prefault(labelSelectorSchema, {}),
  podSelector: labelSelectorSchema,
});

const subject = z
  .object({ namespaces: z.optional(labelSelectorSchema), pods: z.optional(namespacedPod) })
  .check(fieldsRule((fields) => [...exactlyOne(fields)]));

const network = z.string().check(
  z.maxLength(43),
  rule((text) =>
    tryParseIpInNetwork(text) === undefined ? 'must be a network with its prefix length, e.g. 10.0.0.0/8' : undefined,
  ),
);

const domainName = z
  .string()
  .check(
    rule((text) =>
      /^(\*\.)?([a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.)+[a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.?$/.test(text)
        ? undefined
        : "must be a domain's name, which may start with '*.'",
    ),
  );

const ingressPeerFields = { namespaces: z.optional(labelSelectorSchema), pods: z.optional(namespacedPod) };

/**
 * A peer without any field that we know is one of a newer version, and no reason to refuse the policy: what is to be done then is said by
 * rule (Deny and Pass become a denial of everything, Accept matches nothing), and the calculation does it.
 */
const ingressPeer = z.object(ingressPeerFields).check(fieldsRule(atMostOne));
const egressPeer = z
  .object({
    ...ingressPeerFields,
    nodes: z.optional(labelSelectorSchema),
    networks: z.optional(z.array(network).check(z.minLength(1), z.maxLength(maxEntries))),
    domainNames: z.optional(z.array(domainName).check(z.minLength(1), z.maxLength(maxEntries))),
  })
  .check(fieldsRule(atMostOne));

const portNumber = z.int().check(z.gte(1), z.lte(65535));
const port = z
  .object({
    number: z.optional(portNumber),
    range: z.optional(
      z.object({ start: portNumber, end: portNumber }).check(
        fieldsRule(function* ({ start, end }) {
          if (start >= end) {
            yield { path: ['end'], message: 'must be greater than start' };
          }
        }),
      ),
    ),
  })
  .check(fieldsRule((fields) => [...exactlyOne(fields)]));

const withPort = z.optional(z.object({ destinationPort: z.optional(port) }));

/** As with peers: an entry of an unknown protocol is for the calculation to treat, by the rule's action. */
const protocols = z.optional(
  z
    .array(
      z
        .object({ tcp: withPort, udp: withPort, sctp: withPort, destinationNamedPort: z.optional(z.string()) })
        .check(fieldsRule(atMostOne)),
    )
    .check(z.minLength(1), z.maxLength(maxEntries)),
);

const ruleFields = {
  name: z.optional(z.string().check(z.maxLength(100))),
  action: z.enum(['Accept', 'Deny', 'Pass']),
  protocols,
};

const ingressRule = z.object({
  ...ruleFields,
  from: z.array(ingressPeer).check(z.minLength(1), z.maxLength(maxEntries)),
});
const egressRule = z
  .object({ ...ruleFields, to: z.array(egressPeer).check(z.minLength(1), z.maxLength(maxEntries)) })
  .check(
    fieldsRule(function* ({ to, protocols: wanted = [] }) {
      const named = wanted.findIndex(({ destinationNamedPort }) => destinationNamedPort !== undefined);
      const nameless = to.some(({ networks, nodes, domainNames }) => networks ?? nodes ?? domainNames);
      if (named >= 0 && nameless) {
        yield {
          path: ['protocols', named, 'destinationNamedPort'],
          message: 'must not be given with networks, nodes or domainNames, which have no names for ports',
        };
      }
    }),
  );

/** An administrator's policy for pods of many namespaces: before (Admin) or after (Baseline) all NetworkPolicies. */
export const clusterNetworkPolicySchema = z.object({
  apiVersion: z.literal(policyV1alpha2),
  kind: z.literal('ClusterNetworkPolicy'),
  metadata: clusterMeta,
  spec: z.object({
    tier: z.enum(['Admin', 'Baseline']),
    /** Lower ones first. */
    priority: z.int().check(z.gte(0), z.lte(1000)),
    subject,
    /** A direction without rules is none of its business. */
    ingress: z.optional(z.array(ingressRule).check(z.maxLength(maxRules))),
    egress: z.optional(z.array(egressRule).check(z.maxLength(maxRules))),
  }),
  status: z.optional(conditionsStatus),
});

/** An administrator's policy for pods of many namespaces. */
export type ClusterNetworkPolicy = DeepReadonly<z.infer<typeof clusterNetworkPolicySchema>>;

function* atMostOne(fields: Readonly<Record<string, unknown>>): Generator<FieldProblem> {
  const given = Object.keys(fields).filter((field) => fields[field] !== undefined);
  for (const field of given.slice(1)) {
    yield { path: [field], message: `must not be given with ${given[0]}` };
  }
}

function* exactlyOne(fields: Readonly<Record<string, unknown>>): Generator<FieldProblem> {
  yield* atMostOne(fields);
  if (Object.values(fields).every((value) => value === undefined)) {
    yield { path: [], message: 'must have one field that selects something' };
  }
}
