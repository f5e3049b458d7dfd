/**
 * Packets for tests, byte by byte: builders with a default for everything, so that a test names only what matters to it. Checksums are
 * right unless a test breaks the packet on purpose.
 */

/** The addresses that tests talk about. `stranger` belongs to nobody. */
export const v4 = {
  podOne: '10.65.0.3',
  podTwo: '10.65.0.4',
  stranger: '203.0.113.9',
  gateway: '169.254.1.1',
} as const;
export const v6 = {
  podOne: 'fd65::3',
  podTwo: 'fd65::4',
  stranger: '2001:db8::9',
  linkLocal: 'fe80::bad:cafe',
  unspecified: '::',
  allNodes: 'ff02::1',
  allRouters: 'ff02::2',
  mldRouters: 'ff02::16',
} as const;
export const mac = { podOne: '0a:58:0a:41:00:03', host: 'ee:ee:ee:ee:ee:ee', broadcast: 'ff:ff:ff:ff:ff:ff' } as const;

export const bytes = (...parts: (readonly number[] | Uint8Array)[]): Uint8Array =>
  new Uint8Array(parts.flatMap((part) => [...part]));
export const u16 = (value: number): number[] => [(value >> 8) & 0xff, value & 0xff];
const macBytes = (text: string): number[] => text.split(':').map((part) => Number.parseInt(part, 16));

/** The four bytes of an IPv4 address. */
export const ipv4Bytes = (text: string): number[] => text.split('.').map(Number);

/** The sixteen bytes of an IPv6 address (no embedded IPv4). */
export function ipv6Bytes(text: string): number[] {
  const [head = '', tail] = text.split('::');
  const words = (part: string): number[] =>
    part === '' ? [] : part.split(':').map((word) => Number.parseInt(word, 16));
  const left = words(head);
  const right = tail === undefined ? [] : words(tail);
  const zeros = tail === undefined ? 0 : 8 - left.length - right.length;
  return [...left, ...Array<number>(zeros).fill(0), ...right].flatMap(u16);
}

/** The Internet checksum (RFC 1071). */
export function checksum(data: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < data.length; i += 2) sum += ((data[i] ?? 0) << 8) | (data[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

/** An Ethernet frame. */
export function ethernet(protocol: number, payload: Uint8Array): Uint8Array {
  return bytes(macBytes(mac.host), macBytes(mac.podOne), u16(protocol), payload);
}

/** What can be said of an IPv4 packet. The three `...Claim`s go into the header whatever is true. */
export interface Ipv4 {
  readonly from: string;
  readonly to?: string;
  readonly payload?: Uint8Array;
  readonly versionClaim?: number;
  /** In words of four bytes. */
  readonly headerLengthClaim?: number;
  readonly totalLengthClaim?: number;
}

/** An IPv4/UDP frame. */
export function ipv4(packet: Ipv4): Uint8Array {
  const payload = packet.payload ?? udp();
  const header = bytes(
    [((packet.versionClaim ?? 4) << 4) | (packet.headerLengthClaim ?? 5), 0],
    u16(packet.totalLengthClaim ?? 20 + payload.length),
    [0, 0, 0, 0, 64, 17, 0, 0],
    ipv4Bytes(packet.from),
    ipv4Bytes(packet.to ?? v4.podTwo),
  );
  header.set(u16(checksum(header)), 10);
  return ethernet(0x0800, bytes(header, payload));
}

/** A UDP datagram of 12 bytes; its checksum is left out, as IPv4 allows. */
export function udp(): Uint8Array {
  return bytes(u16(40_000), u16(7777), u16(12), u16(0), [1, 2, 3, 4]);
}

export interface Ipv6 {
  readonly from: string;
  readonly to?: string;
  readonly next?: number;
  readonly hopLimit?: number;
  readonly payload?: Uint8Array;
  readonly versionClaim?: number;
  readonly payloadLengthClaim?: number;
}

/** An IPv6 frame; UDP unless `next` and `payload` say else. */
export function ipv6(packet: Ipv6): Uint8Array {
  const payload = packet.payload ?? udp();
  return ethernet(
    0x86dd,
    bytes(
      [(packet.versionClaim ?? 6) << 4, 0, 0, 0],
      u16(packet.payloadLengthClaim ?? payload.length),
      [packet.next ?? 17, packet.hopLimit ?? 64],
      ipv6Bytes(packet.from),
      ipv6Bytes(packet.to ?? v6.podTwo),
      payload,
    ),
  );
}

/** An ICMPv6 message of a type, by default as neighbour discovery sends it: hop limit 255 (RFC 4861). */
export function icmpv6(type: number, packet: Ipv6): Uint8Array {
  return ipv6({ hopLimit: 255, next: 58, payload: bytes([type, 0, 0, 0], Array<number>(20).fill(0)), ...packet });
}

/** A multicast listener report: behind a hop-by-hop router alert, hop limit 1 (RFC 3810). */
export function mld(type: number, packet: Ipv6): Uint8Array {
  const alert = [58, 0, 5, 2, 0, 0, 1, 0];
  return ipv6({
    hopLimit: 1,
    next: 0,
    to: v6.mldRouters,
    payload: bytes(alert, [type, 0, 0, 0], Array<number>(4).fill(0)),
    ...packet,
  });
}

export interface Arp {
  readonly senderIp: string;
  readonly targetIp?: string;
  /** 1 asks, 2 answers. */
  readonly operation?: number;
  readonly hardwareType?: number;
}

export function arp(packet: Arp): Uint8Array {
  return ethernet(
    0x0806,
    bytes(
      u16(packet.hardwareType ?? 1),
      u16(0x0800),
      [6, 4],
      u16(packet.operation ?? 1),
      macBytes(mac.podOne),
      ipv4Bytes(packet.senderIp),
      [0, 0, 0, 0, 0, 0],
      ipv4Bytes(packet.targetIp ?? v4.gateway),
    ),
  );
}

/** The first `length` bytes of a frame. */
export const cut = (frame: Uint8Array, length: number): Uint8Array => frame.slice(0, length);
