/** The rules of projectcalico.org/v3 policies and profiles. */
import * as z from 'zod/mini';
import {
  cidr,
  dnsSubdomain,
  endpointSelector,
  fieldsRule,
  peerNamespaceSelector,
  protocol,
  rule,
  rulePort,
} from '../schema/checks.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { entityProblems, ruleProblems } from './rule-problems.ts';

/** How many rules a policy may have in each direction. */
const maxRules = 1024;
const maxNets = 256;
const maxPorts = 50;
const maxHttpEntries = 20;

const icmpFields = z
  .object({
    type: z.optional(z.int().check(z.gte(0), z.lte(254))),
    code: z.optional(z.int().check(z.gte(0), z.lte(255))),
  })
  .check(
    fieldsRule(function* ({ type, code }) {
      if (code !== undefined && type === undefined) {
        yield { path: ['type'], message: 'must be given with a code' };
      }
    }),
  );

const nets = z.array(cidr).check(z.maxLength(maxNets));
const ports = z.array(rulePort).check(z.maxLength(maxPorts));

/** Go writes an empty text for what was left out. */
const nameOrEmpty = z.optional(z.union([z.literal(''), dnsSubdomain], { error: 'must be a DNS subdomain' }));

/** What a rule asks of one end. All that is given must hold; within a list one is enough. An empty list or text asks nothing. */
const entityRule = z
  .object({
    nets: z.optional(nets),
    notNets: z.optional(nets),
    /** In a namespaced policy without namespaceSelector: of the policy's own namespace. */
    selector: z.optional(endpointSelector),
    /** "Is not an endpoint that ...": true for addresses of which nothing is known. */
    notSelector: z.optional(endpointSelector),
    /** `all()`: of any namespace. `global()`: of none (GlobalNetworkSet, HostEndpoint). */
    namespaceSelector: z.optional(peerNamespaceSelector),
    /** Read by `parseRulePort`. A named port is looked up in each destination endpoint, by name and protocol. */
    ports: z.optional(ports),
    notPorts: z.optional(ports),
    serviceAccounts: z.optional(
      z.object({
        names: z.optional(z.array(z.string())),
        selector: z.optional(endpointSelector),
      }),
    ),
    /** The endpoints of a Service: as a destination with their ports, as a source without. `namespace` absent: the policy's own. */
    services: z.optional(z.object({ name: nameOrEmpty, namespace: nameOrEmpty })),
  })
  .check(fieldsRule(entityProblems));

const httpMatch = z.object({
  methods: z.optional(
    z.array(z.string()).check(
      z.maxLength(maxHttpEntries),
      rule((methods) => (new Set(methods).size === methods.length ? undefined : 'must not have a method twice')),
    ),
  ),
  paths: z.optional(
    z
      .array(
        z.object({ exact: z.optional(z.string()), prefix: z.optional(z.string()) }).check(
          rule(({ exact = '', prefix = '' }) => {
            if ((exact === '') === (prefix === '')) {
              return 'must have either exact or prefix';
            }
            return /^\/[^?# ]{0,1023}$/.test(exact + prefix)
              ? undefined
              : "must have a path that starts with '/', without '?', '#' and blanks, of at most 1024 characters";
          }),
        ),
      )
      .check(z.maxLength(maxHttpEntries)),
  ),
});

/**
 * One rule. `http` is accepted and checked as Calico does, but no dataplane here looks into a connection: a rule that has it must not be
 * enforced wider than it is meant, so the calculation leaves it out and says so.
 */
export const ruleSchema = z
  .object({
    action: z.enum(['Allow', 'Deny', 'Log', 'Pass']),
    ipVersion: z.optional(z.literal([4, 6])),
    /** Read by `protocolNumber`. */
    protocol: z.optional(protocol),
    notProtocol: z.optional(protocol),
    icmp: z.optional(icmpFields),
    /** Unlike `icmp`, Calico takes it without a protocol: "not this type of the family's ICMP". */
    notICMP: z.optional(icmpFields),
    source: z.optional(entityRule),
    destination: z.optional(entityRule),
    http: z.optional(httpMatch),
    metadata: z.optional(z.object({ annotations: z.optional(z.record(z.string(), z.string())) })),
  })
  .check(fieldsRule(ruleProblems));

/** One rule of a policy or profile. */
export type Rule = DeepReadonly<z.infer<typeof ruleSchema>>;
/** What a rule asks of its source or destination. */
export type EntityRule = DeepReadonly<z.infer<typeof entityRule>>;

/** The rules of one direction, in their order. */
export const rulesSchema = z.array(ruleSchema).check(z.maxLength(maxRules));
