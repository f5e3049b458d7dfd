/** IP protocols by name and number, as Calico's and Kubernetes' objects write them. */

/** Every protocol that has a name in projectcalico.org/v3, with its IANA number. Kubernetes' own objects know TCP, UDP and SCTP. */
export const protocolNumbers = {
  ICMP: 1,
  TCP: 6,
  UDP: 17,
  ICMPv6: 58,
  SCTP: 132,
  UDPLite: 136,
} as const;

/** A protocol's name, in the one spelling that objects may use. */
export type ProtocolName = keyof typeof protocolNumbers;

/** A protocol as an object says it: a name, or a number from 1 to 255 (Calico takes digits in quotes for a number, too). */
export type Protocol = string | number;

const namesByNumber: ReadonlyMap<number, ProtocolName> = new Map(
  Object.entries(protocolNumbers).map(([name, number]) => [number, name as ProtocolName]),
);

/** Protocols whose packets have ports that policy may look at, as in Calico (UDPLite is none of them). */
const withPorts: ReadonlySet<number> = new Set([protocolNumbers.TCP, protocolNumbers.UDP, protocolNumbers.SCTP]);

/** The protocol's number; undefined for what is no protocol: an unknown name (names are case-sensitive), 0, or more than 255. */
export function protocolNumber(protocol: Protocol): number | undefined {
  if (typeof protocol === 'string' && Object.hasOwn(protocolNumbers, protocol)) {
    return protocolNumbers[protocol as ProtocolName];
  }
  const number = typeof protocol === 'number' ? protocol : /^\d{1,3}$/.test(protocol) ? Number(protocol) : 0;
  return Number.isInteger(number) && number >= 1 && number <= 255 ? number : undefined;
}

/** What users read for a protocol's number: its name if it has one, else the number. */
export function protocolText(number: number): string {
  return namesByNumber.get(number) ?? String(number);
}

/** True for TCP, UDP and SCTP: only their ports can be matched. */
export function protocolHasPorts(number: number): boolean {
  return withPorts.has(number);
}
