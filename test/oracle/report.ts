/** How a difference is told: all that is needed to see it again, and to judge who is right. */
import { stringify } from 'yaml';
import type { Doc } from './cluster.ts';
import type { Packet } from './policy-model.ts';
import type { Verdict } from './reference.ts';

const protocolNames: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmpv6', 132: 'sctp' };

/** `10.65.0.1 port 1000 > 10.65.0.2 tcp port 80`. */
export function packetText({ from, to, protocol, sourcePort, port, icmp }: Packet): string {
  const source = sourcePort === undefined ? '' : ` port ${sourcePort}`;
  const target = port === undefined ? '' : ` port ${port}`;
  const message = icmp === undefined ? '' : ` type ${icmp.type} code ${icmp.code}`;
  return `${from}${source} > ${to} ${protocolNames[protocol] ?? `protocol ${protocol}`}${target}${message}`;
}

/** `denied (red/p1 egress: Deny by ...)`. */
export function verdictText({ allowed, because }: Verdict): string {
  return `${allowed ? 'allowed' : 'denied'} (${because.join('; ') || 'no endpoint of ours is asked'})`;
}

/** Objects as a file that can be applied. */
export function yamlOf(docs: readonly unknown[]): string {
  return docs.map((doc) => stringify(doc, { lineWidth: 0 })).join('---\n');
}

/** The whole report: what a test prints when it fails. */
export function differenceText(parts: {
  readonly packet: Packet;
  readonly reference: Verdict;
  readonly product: string;
  readonly docs: readonly Doc[];
  /** What happened before, where the objects alone don't show the difference. */
  readonly history?: string;
}): string {
  return [
    `packet:    ${packetText(parts.packet)}`,
    `reference: ${verdictText(parts.reference)}`,
    `product:   ${parts.product}`,
    ...(parts.history === undefined ? [] : [parts.history]),
    yamlOf(parts.docs),
  ].join('\n');
}
