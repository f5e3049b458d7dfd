/**
 * Kubernetes Services as calc says them to a dataplane: where a service is reached, and who answers. Plain data, a service's object replaces what
 * was said of it before. Which backend a connection gets (those on this node only, terminating ones as a last resort, affinity) is the dataplane's
 * to choose, by the rules of kube-proxy; what counts as a port and a backend of the service is settled here (docs/design/calc.md).
 */
import type { IpText } from './messages.ts';

/** `<namespace>/<name>` of the Service. */
export type ServiceId = string;

/** One of each address family; a family without is left out. */
export interface FamilyAddresses {
  readonly ipv4?: IpText;
  readonly ipv6?: IpText;
}

/** Who may answer a connection. The pair of address and port is there once in its list. */
export interface BackendInfo {
  readonly address: IpText;
  /** 1 to 65535. */
  readonly port: number;
  /** Where it runs; absent: nobody says, so it is on no node as far as internalTrafficPolicy is concerned. */
  readonly nodeName?: string;
  /** Of the topology, as the slice says it. */
  readonly zone?: string;
  /** Takes new connections (never while it terminates, unless the Service publishes what isn't ready). */
  readonly ready: boolean;
  /** Would be ready, whether it terminates or not. */
  readonly serving: boolean;
  /** Is being ended. */
  readonly terminating: boolean;
}

/** One port of a service, with those who answer on it. */
export interface ServicePortInfo {
  /** Empty for the only port of a Service that gave it no name. */
  readonly name: string;
  /** TCP 6, UDP 17 or SCTP 132. */
  readonly protocol: number;
  /** At the clusterIPs, 1 to 65535. */
  readonly port: number;
  /** By the text of the address, then by port. Empty in a family in which the service has no address. */
  readonly ipv4Backends: readonly BackendInfo[];
  readonly ipv6Backends: readonly BackendInfo[];
}

/**
 * A Service with at least one clusterIP and one port; others aren't said. By protocol and port, each pair is there once. In one flush an address may pass
 * from one service to another, and be said of both until the flush is over.
 */
export interface ServiceInfo {
  readonly clusterIps: FamilyAddresses;
  /** By protocol, then by port. */
  readonly ports: readonly ServicePortInfo[];
  /** sessionAffinity ClientIP: how long after its last connection a client still comes to the same backend, in s. Absent: no affinity. */
  readonly clientIpAffinityS?: number;
  /** Of traffic to the clusterIPs: `local` is for backends on this node only, and refused without one. */
  readonly internalTrafficPolicy: 'cluster' | 'local';
}
