/** What the API server's limit on the cost of CEL demands: it reckons with the longest lists that the schema allows. */
import type { KindName } from '#api/kinds.ts';

/** Calico's own limit for network sets; about what fits into one object in etcd. */
export const maxListed = 100_000;

/** Lists that have a rule for each entry, and no limit in our validator. */
export const boundedLists: { readonly [K in KindName]?: readonly string[] } = {
  NetworkSet: ['spec.nets'],
  GlobalNetworkSet: ['spec.nets'],
  IPReservation: ['spec.reservedCIDRs'],
  IPPool: ['spec.allowedUses'],
  WorkloadEndpoint: ['spec.allowSpoofedSourcePrefixes', 'spec.ports'],
  HostEndpoint: ['spec.expectedIPs', 'spec.ports'],
  FelixConfiguration: [
    'spec.externalNodesList',
    'spec.bpfDSROptoutCIDRs',
    'spec.bpfExcludeCIDRsFromNAT',
    'spec.failsafeInboundHostPorts',
    'spec.failsafeOutboundHostPorts',
  ],
  BGPConfiguration: [
    'spec.serviceClusterIPs',
    'spec.serviceExternalIPs',
    'spec.serviceLoadBalancerIPs',
    'spec.prefixAdvertisements',
  ],
};

/** Lists whose entries have a pattern in place of their rule: two directions, two ends and two lists of 256 for each of 1,024 rules cost too much. */
export const unruledLists: readonly string[] = ['ingress', 'egress'].flatMap((direction) =>
  ['source', 'destination'].flatMap((end) => ['nets', 'notNets'].map((field) => `spec.${direction}[].${end}.${field}`)),
);
