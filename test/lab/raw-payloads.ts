/** What follows the IP header, as hex digits, of protocols that Node has no sockets for. Checksums are right: conntrack looks at them. */
import { bytes, checksum, ipv4Bytes, ipv6Bytes, u16 } from './packets.ts';

/** IP protocol numbers. */
export const protocolNumbers = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132, udplite: 136 } as const;

/** From whom, to whom, and a word that the receiver recognises. */
export interface RawParties {
  readonly from: string;
  readonly to: string;
  readonly token: string;
}

const u32 = (value: number): number[] => [...u16(value >>> 16), ...u16(value & 0xffff)];
const hexOf = (data: Uint8Array): string => Buffer.from(data).toString('hex');
const ipBytes = (address: string): number[] => (address.includes(':') ? ipv6Bytes(address) : ipv4Bytes(address));

/** A token as it looks in what a raw listener prints. */
export const tokenHex = (token: string): string => Buffer.from(token).toString('hex');

/** An ICMP message that asks (RFC 792: 13 timestamp; RFC 4620: 139): identifier, sequence number, three words, the token. ICMPv6's checksum is the kernel's. */
export function icmpMessage(version: 4 | 6, type: number, id: number, token: string): string {
  const message = bytes([type, 0, 0, 0], u16(id), u16(1), Array<number>(12).fill(0), Buffer.from(token));
  if (version === 4) message.set(u16(checksum(message)), 2);
  return hexOf(message);
}

/** An SCTP INIT (RFC 9260, 3.3.2), with the token in a parameter that receivers skip. */
export function sctpInit(sourcePort: number, port: number, token: string): string {
  const parameter = bytes([0xc0, 0], u16(4 + token.length), Buffer.from(token.padEnd(Math.ceil(token.length / 4) * 4)));
  const chunk = bytes([1, 0], u16(20 + parameter.length), u32(7), u32(65_536), u16(1), u16(1), u32(7), parameter);
  const packet = bytes(u16(sourcePort), u16(port), u32(0), u32(0), chunk);
  new DataView(packet.buffer).setUint32(8, crc32c(packet), true);
  return hexOf(packet);
}

/**
 * A UDP-Lite datagram (RFC 3828) whose checksum covers all of it and takes UDP's protocol number: conntrack does (nf_conntrack_proto_udp.c,
 * udplite_error), and calls everything else invalid.
 */
export function udplite({ from, to, token }: RawParties, sourcePort: number, port: number): string {
  const payload = Buffer.from(token);
  const length = 8 + payload.length;
  const packet = bytes(u16(sourcePort), u16(port), u16(length), u16(0), payload);
  packet.set(u16(checksum(bytes(pseudoHeader(from, to, length, protocolNumbers.udp), packet)) || 0xffff), 6);
  return hexOf(packet);
}

/** A UDP datagram that carries the token. */
export function udpDatagram({ from, to, token }: RawParties, sourcePort: number, port: number): string {
  const length = 8 + token.length;
  const packet = bytes(u16(sourcePort), u16(port), u16(length), u16(0), Buffer.from(token));
  packet.set(u16(checksum(bytes(pseudoHeader(from, to, length, protocolNumbers.udp), packet)) || 0xffff), 6);
  return hexOf(packet);
}

/** TCP's flags (RFC 9293, 3.1). */
export const tcpFlags = { syn: 0x02, ack: 0x10 } as const;

/** A TCP segment without options that carries the token, somewhere in its sequence space. */
export function tcpSegment({ from, to, token }: RawParties, sourcePort: number, port: number, flags: number): string {
  const numbers = [...u32(0x1234_5678), ...u32(flags & tcpFlags.ack ? 0x2345_6789 : 0)];
  const header = [...u16(sourcePort), ...u16(port), ...numbers, 5 << 4, flags, ...u16(64_240), ...u16(0), ...u16(0)];
  const packet = bytes(header, Buffer.from(token));
  packet.set(u16(checksum(bytes(pseudoHeader(from, to, packet.length, protocolNumbers.tcp), packet))), 16);
  return hexOf(packet);
}

/** What checksums cover of the IP header (RFC 768, RFC 8200 8.1). */
function pseudoHeader(from: string, to: string, length: number, protocol: number): Uint8Array {
  return bytes(ipBytes(from), ipBytes(to), u32(length), u32(protocol));
}

/** A TCP reset without payload (RFC 9293), whose sequence number is 1: far from that of any connection that is used. */
export function tcpReset({ from, to }: Omit<RawParties, 'token'>, sourcePort: number, port: number): string {
  const packet = bytes(u16(sourcePort), u16(port), u32(1), u32(0), [0x50, 0x04], u16(0), u16(0), u16(0));
  const pseudo = bytes(ipBytes(from), ipBytes(to), u32(packet.length), u32(6));
  packet.set(u16(checksum(bytes(pseudo, packet))), 16);
  return hexOf(packet);
}

/** CRC-32C, bit by bit: packets are few and short. */
function crc32c(data: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f6_3b78 : 0);
  }
  return ~crc >>> 0;
}
