/** Rules of ClusterNetworkPolicy and of Kubernetes' NetworkPolicy on trial. */
import { given } from './cel.ts';
import { networkPattern } from './constraints.ts';
import type { CrdRule } from './rules.ts';

const cluster = ['ClusterNetworkPolicy'] as const;
const nested = { namespaces: {} };
const sides = [
  ['ingress', 'from'],
  ['egress', 'to'],
] as const;

function countOf(fields: readonly string[]): string {
  return `[${fields.map((field) => `has(self.${field})`).join(', ')}].filter(is, is).size()`;
}

function* clusterRules(): Generator<CrdRule> {
  yield {
    kinds: cluster,
    at: 'spec.subject',
    rule: '!has(self.namespaces) || !has(self.pods)',
    message: 'must not be given with namespaces',
    fieldPath: '.pods',
    breaks: { namespaces: {}, pods: { podSelector: {} } },
  };
  yield {
    kinds: cluster,
    at: 'spec.subject',
    rule: 'has(self.namespaces) || has(self.pods)',
    message: 'must have one field that selects something',
    breaks: {},
  };
  for (const [direction, peers] of sides) {
    const fields = ['namespaces', 'pods', ...(direction === 'egress' ? ['nodes', 'networks', 'domainNames'] : [])];
    yield {
      kinds: cluster,
      at: `spec.${direction}[].${peers}[]`,
      rule: `${countOf(fields)} <= 1`,
      message: 'must not have more than one field',
      ours: 'must not be given with namespaces',
      breaks: { ...nested, pods: { podSelector: {} } },
    };
    const protocols = `spec.${direction}[].protocols[]`;
    yield {
      kinds: cluster,
      at: protocols,
      rule: `${countOf(['tcp', 'udp', 'sctp', 'destinationNamedPort'])} <= 1`,
      message: 'must not have more than one field',
      ours: 'must not be given with tcp',
      breaks: { tcp: {}, udp: {} },
    };
    for (const protocol of ['tcp', 'udp', 'sctp']) {
      const port = `${protocols}.${protocol}.destinationPort`;
      yield {
        kinds: cluster,
        at: port,
        rule: 'has(self.number) || has(self.range)',
        message: 'must have one field that selects something',
        breaks: {},
      };
      yield {
        kinds: cluster,
        at: port,
        rule: '!has(self.number) || !has(self.range)',
        message: 'must not be given with number',
        fieldPath: '.range',
        breaks: { number: 80, range: { start: 1, end: 2 } },
      };
      yield {
        kinds: cluster,
        at: `${port}.range`,
        rule: 'self.start < self.end',
        message: 'must be greater than start',
        fieldPath: '.end',
        breaks: { start: 80, end: 80 },
      };
    }
  }
  yield {
    kinds: cluster,
    at: 'spec.egress[].to[].networks[]',
    rule: 'isCIDR(self)',
    message: 'must be a network with its prefix length, e.g. 10.0.0.0/8',
    breaks: '10.0.0.1',
  };
  yield {
    kinds: cluster,
    at: 'spec.egress[].to[].domainNames[]',
    limits: {
      pattern: String.raw`^(\*\.)?([a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.)+[a-zA-Z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.?$`,
    },
    message: "must be a domain's name, which may start with '*.'",
    breaks: 'a b.com',
  };
  yield {
    kinds: cluster,
    at: 'spec.egress[]',
    rule: `!${given('self.protocols')} || !self.protocols.exists(entry, has(entry.destinationNamedPort)) || !self.to.exists(peer, has(peer.networks) || has(peer.nodes) || has(peer.domainNames))`,
    message: 'must not be given with networks, nodes or domainNames, which have no names for ports',
    fieldPath: '.protocols',
    breaks: { action: 'Accept', to: [{ nodes: {} }], protocols: [{ destinationNamedPort: 'http' }] },
  };
}

function* stagedRules(): Generator<CrdRule> {
  const kinds = ['StagedKubernetesNetworkPolicy'] as const;
  for (const [direction, peers] of sides) {
    for (const path of ['cidr', 'except[]']) {
      yield {
        kinds,
        at: `spec.${direction}[].${peers}[].ipBlock.${path}`,
        limits: { pattern: networkPattern },
        message: 'must be a network with its prefix length, e.g. 10.65.0.0/16',
        breaks: '10.0.0.0',
      };
    }
  }
}

export const clusterNetworkPolicyRules: readonly CrdRule[] = [...clusterRules(), ...stagedRules()];
