/** Frames for the parser, built from what is inside: every header takes the bytes that follow it. Lengths are right unless `claim`ed. */
import { bytes, ethernet, ipv4Bytes, ipv6Bytes, u16, v4, v6 } from '#test/lab/packets.ts';

const zeros = (count: number): number[] => Array<number>(count).fill(0);

export interface Ip4 {
  readonly protocol?: number;
  readonly from?: string;
  readonly to?: string;
  /** A multiple of 4 bytes. */
  readonly options?: readonly number[];
  readonly id?: number;
  /** In bytes. */
  readonly offset?: number;
  readonly more?: boolean;
  /** Don't fragment. */
  readonly whole?: boolean;
  readonly version?: number;
  readonly headerWords?: number;
  readonly lengthClaim?: number;
  readonly ttl?: number;
  readonly trafficClass?: number;
}

/** An IPv4 packet, without a link header. */
export function ip4(
  { protocol = 17, from = v4.podOne, to = v4.podTwo, options = [], id = 0, offset = 0, more = false, ...rest }: Ip4,
  payload: Uint8Array,
): Uint8Array {
  const length = 20 + options.length;
  return bytes(
    [((rest.version ?? 4) << 4) | (rest.headerWords ?? length / 4), rest.trafficClass ?? 0],
    u16(rest.lengthClaim ?? length + payload.length),
    u16(id),
    u16((rest.whole === true ? 0x4000 : 0) | (more ? 0x2000 : 0) | (offset / 8)),
    [rest.ttl ?? 64, protocol, 0, 0],
    ipv4Bytes(from),
    ipv4Bytes(to),
    options,
    payload,
  );
}

export interface Ip6 {
  readonly next?: number;
  readonly from?: string;
  readonly to?: string;
  readonly version?: number;
  readonly lengthClaim?: number;
  readonly hopLimit?: number;
  readonly trafficClass?: number;
}

/** An IPv6 packet. */
export function ip6({ next = 17, from = v6.podOne, to = v6.podTwo, ...rest }: Ip6, payload: Uint8Array): Uint8Array {
  const trafficClass = rest.trafficClass ?? 0;
  return bytes(
    [((rest.version ?? 6) << 4) | (trafficClass >> 4), (trafficClass & 15) << 4, 0, 0],
    u16(rest.lengthClaim ?? payload.length),
    [next, rest.hopLimit ?? 64],
    ipv6Bytes(from),
    ipv6Bytes(to),
    payload,
  );
}

/** An extension header of 8 bytes and `more` units (of 8; AH of 4 bytes), then what follows. */
export function extension(kind: number, next: number, more: number, payload: Uint8Array): Uint8Array {
  const size = kind === 51 ? 8 + 4 * more : 8 + 8 * more;
  return bytes([next, more], zeros(size - 2), payload);
}

/** An IPv6 fragment header; the offset in bytes. */
export function fragment6(next: number, offset: number, more: boolean, payload: Uint8Array, id = 0x01020304) {
  return bytes(
    [next, 0],
    u16(offset | (more ? 1 : 0)),
    [(id >>> 24) & 255, (id >> 16) & 255, (id >> 8) & 255, id & 255],
    payload,
  );
}

export const tcp = (flags = 0x02, dataOffset = 5, optionBytes = 0): Uint8Array =>
  bytes(u16(40_000), u16(443), zeros(8), [dataOffset << 4, flags], zeros(6 + optionBytes));
export const udp = (payload = 4): Uint8Array => bytes(u16(40_001), u16(53), u16(8 + payload), u16(0), zeros(payload));
export const sctp = (): Uint8Array => bytes(u16(40_002), u16(38_412), zeros(8));
export const icmp = (type: number, code: number, rest: readonly number[] = [0x12, 0x34, 0, 1], body = zeros(4)) =>
  bytes([type, code, 0, 0], rest, body);
/** An ICMP error about the packet. */
export const icmpError = (type: number, code: number, about: Uint8Array): Uint8Array =>
  bytes([type, code, 0, 0], zeros(4), about);

export const frame4 = (packet: Uint8Array): Uint8Array => ethernet(0x0800, packet);
export const frame6 = (packet: Uint8Array): Uint8Array => ethernet(0x86dd, packet);
/** The frame with an 802.1Q or 802.1ad tag in it. */
export const tagged = (frame: Uint8Array, type = 0x8100, vlan = 5): Uint8Array =>
  bytes(frame.slice(0, 12), u16(type), u16(vlan), frame.slice(12));
