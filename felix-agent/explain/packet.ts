/** The first packet of a flow, as policy sees it: after a Service's address was translated. */
export interface Packet {
  readonly source: string;
  readonly destination: string;
  /** IP protocol number. */
  readonly protocol: number;
  /** Of TCP, UDP and SCTP: the ports of other protocols are nothing that rules can ask for. */
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** Of ICMP and ICMPv6. */
  readonly icmpType?: number;
  readonly icmpCode?: number;
}

/** 4 or 6. */
export function familyOfPacket({ source }: Packet): 4 | 6 {
  return source.includes(':') ? 6 : 4;
}
