/** What policies of every kind have in common, for the oracle. */
import type { Selectable } from './cluster.ts';

/** The first packet of a flow. Ports only where the protocol has them, `icmp` only for ICMP (1) and ICMPv6 (58). */
export interface Packet {
  readonly from: string;
  readonly to: string;
  readonly protocol: number;
  readonly sourcePort?: number;
  readonly port?: number;
  readonly icmp?: { readonly type: number; readonly code: number };
}

export type Direction = 'ingress' | 'egress';
export type Action = 'Allow' | 'Deny' | 'Pass' | 'Log';

/** A rule, whatever kind of object it comes from. */
export interface Rule {
  readonly action: Action;
  matches(packet: Packet): boolean;
}

/** A policy, whatever kind of object it comes from. A direction that it doesn't govern is absent. */
export interface Policy {
  readonly id: string;
  readonly tier: string;
  readonly order: number;
  /** What decides between equal orders: the text `name/namespace/kind`, so that `a-b` comes before `a`. */
  readonly tie: string;
  selects(endpoint: Selectable): boolean;
  /** At host endpoints also about what passes through. */
  readonly appliesOnForward?: boolean;
  readonly ingress?: readonly Rule[];
  readonly egress?: readonly Rule[];
}

/** Is this the port that the endpoint at the address calls so? */
export function isNamedPort(
  things: readonly Selectable[],
  name: string,
  ofProtocol: number,
  address: string,
  port: number | undefined,
  protocol: number,
): boolean {
  return things.some(
    ({ nets, namedPorts }) =>
      nets.includes(address) &&
      protocol === ofProtocol &&
      namedPorts.some((known) => known.name === name && known.protocol === protocol && known.port === port),
  );
}
