import ipaddr from 'ipaddr.js';
import { type Family as IpFamily, tryParseIp, tryParseIpInNetwork } from '#api/cidr.ts';
import type { CidrText, IpText } from '../messages.ts';
import { Family, SourceKey } from './bpf-types.gen.ts';

/** Bits of a source key before its address: they always have to match. */
const fixedBits = (SourceKey.offsets.address - SourceKey.offsets.ifindex) * 8;

/** A u32 as maps hold it (the machine's byte order; all machines we run on are little-endian). */
export function u32Key(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

/** A u64 as maps hold it, of its two halves. */
export function u64Value(high: number, low: number): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, low, true);
  view.setUint32(4, high, true);
  return bytes;
}

/** The six bytes of `0a:58:0a:41:00:01`. Throws `RangeError` for other text. */
export function macBytes(mac: string): Uint8Array {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(mac)) throw new RangeError(`${mac} is no MAC`);
  return Uint8Array.from(mac.split(':'), (byte) => Number.parseInt(byte, 16));
}

/** An address of this many bytes (4 or 16) as packets hold it; zeros: there is none. */
export function addressBytes(text: IpText | undefined, length: 4 | 16): Uint8Array {
  const bytes = new Uint8Array(length);
  const ip = text === undefined ? undefined : tryParseIp(text);
  if (ip !== undefined) writeAddress(new DataView(bytes.buffer), 0, length === 4 ? 4 : 6, ip.value);
  return bytes;
}

/** Writes an address as packets hold it: 4 or 16 bytes, the most significant one first. */
export function writeAddress(view: DataView, at: number, family: IpFamily, value: number | bigint): void {
  if (family === 4) {
    view.setUint32(at, Number(value));
    return;
  }
  view.setBigUint64(at, BigInt(value) >> 64n);
  view.setBigUint64(at + 8, BigInt(value) & 0xffff_ffff_ffff_ffffn);
}

/** The number in a u32 key or value. */
export function readU32(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
}

/** The key under which a device may send from a prefix: `10.65.0.3/32`, `fd00::/64`. Bits behind the prefix are cleared. Throws `RangeError` for other text. */
export function sourceKey(ifindex: number, cidr: CidrText): Uint8Array {
  const network = tryParseIpInNetwork(cidr)?.network;
  if (network === undefined) throw new RangeError(`${cidr} is no network`);
  const address = new Uint8Array(16);
  writeAddress(new DataView(address.buffer), 0, network.family, network.first);
  const family = network.family === 4 ? Family.ipv4 : Family.ipv6;
  return SourceKey.encode({ prefixLen: fixedBits + network.prefix, ifindex, family, address });
}

/** The device and prefix of a source key, for people and for comparing. */
export function readSourceKey(key: Uint8Array): { readonly ifindex: number; readonly cidr: CidrText } {
  const { prefixLen, ifindex, family, address } = SourceKey.read(
    new DataView(key.buffer, key.byteOffset, key.byteLength),
  );
  const bytes = [...(family === Family.ipv4 ? address.subarray(0, 4) : address)];
  return { ifindex, cidr: `${ipaddr.fromByteArray(bytes).toString()}/${prefixLen - fixedBits}` };
}
