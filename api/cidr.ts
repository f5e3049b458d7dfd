/**
 * Addresses and networks. IPv4 is a plain number, because it is on every hot path; IPv6 is a BigInt. Text is always canonical
 * (RFC 5952 for IPv6), so equal addresses have equal text and may be keys of maps.
 */
import ipaddr from 'ipaddr.js';

/** An address in canonical text, without a prefix length. */
export type IpText = string & { readonly __ip?: never };
/** A network (no host bits set) in canonical text, for example `10.65.0.0/26`. */
export type CidrText = string & { readonly __cidr?: never };

export type Family = 4 | 6;

/** An IPv4 address; `value` is 0 to 2^32-1. */
export interface Ip4 {
  readonly family: 4;
  readonly value: number;
  readonly text: IpText;
}

/** An IPv6 address; `value` is 0 to 2^128-1. */
export interface Ip6 {
  readonly family: 6;
  readonly value: bigint;
  readonly text: IpText;
}

export type Ip = Ip4 | Ip6;

/** A network: its first address and its prefix length. */
export type Cidr = (Ip4Range | Ip6Range) & { readonly prefix: number; readonly text: CidrText };
interface Ip4Range {
  readonly family: 4;
  readonly first: number;
}
interface Ip6Range {
  readonly family: 6;
  readonly first: bigint;
}

/** Text that is no address or network, with what was expected. */
export class AddressError extends Error {
  override readonly name = 'AddressError';
  readonly code = 'bad-address';
}

/** An address, or undefined. No zone, no prefix length, no leading zeros, no IPv4 inside IPv6. */
export function tryParseIp(text: string): Ip | undefined {
  if (text.includes(':')) {
    return tryParseIp6(text);
  }
  const value = parse4(text);
  return value === undefined ? undefined : { family: 4, value, text };
}

/** An address; throws `AddressError` if it is none. */
export function parseIp(text: string): Ip {
  const ip = tryParseIp(text);
  if (ip === undefined) {
    throw new AddressError(`must be an IP address, e.g. 10.65.0.1 or fd00::1 (is ${text})`);
  }
  return ip;
}

/** An address with prefix length and the network that they make, or undefined. For Node annotations: `192.168.1.5/24`. */
export function tryParseIpInNetwork(text: string): { readonly ip: Ip; readonly network: Cidr } | undefined {
  const slash = text.indexOf('/');
  const ip = slash < 0 ? undefined : tryParseIp(text.slice(0, slash));
  const length = text.slice(slash + 1);
  if (ip === undefined || !/^(0|[1-9]\d{0,2})$/.test(length) || Number(length) > bitsOf(ip.family)) {
    return undefined;
  }
  return { ip, network: networkOf(ip, Number(length)) };
}

/** A network, or undefined if the text is none or has host bits set. */
export function tryParseCidr(text: string): Cidr | undefined {
  const parsed = tryParseIpInNetwork(text);
  return parsed === undefined || parsed.ip.value !== parsed.network.first ? undefined : parsed.network;
}

/** A network; throws `AddressError` if the text is none or has host bits set. */
export function parseCidr(text: string): Cidr {
  const cidr = tryParseCidr(text);
  if (cidr === undefined) {
    throw new AddressError(`must be a network address, e.g. 10.65.0.0/16 (is ${text})`);
  }
  return cidr;
}

/** A network, or a single address as its /32 or /128; undefined if the text is neither. Host bits are cut off, as Calico does. */
export function tryParseNet(text: string): Cidr | undefined {
  if (text.includes('/')) return tryParseIpInNetwork(text)?.network;
  const ip = tryParseIp(text);
  return ip === undefined ? undefined : hostCidr(ip);
}

/** The family of a valid address or network in text form; nothing is parsed. */
export function familyOf(text: IpText | CidrText): Family {
  return text.includes(':') ? 6 : 4;
}

/** The address of a network's or an address's text, whatever its prefix length; nothing is parsed. */
export function withoutPrefix(text: IpText | CidrText): IpText {
  const slash = text.indexOf('/');
  return slash < 0 ? text : text.slice(0, slash);
}

/** 32 or 128. */
export function bitsOf(family: Family): 32 | 128 {
  return family === 4 ? 32 : 128;
}

/** The network of this prefix length (0 to `bitsOf`) that holds the address; also: the block that an address lies in. */
export function networkOf(ip: Ip, prefix: number): Cidr {
  return ip.family === 4 ? cidr4(ip.value, prefix) : cidr6(ip.value, prefix);
}

/** The address alone: /32 or /128. */
export function hostCidr(ip: Ip): Cidr {
  return networkOf(ip, bitsOf(ip.family));
}

/** True if the network holds the address. */
export function containsIp(cidr: Cidr, ip: Ip): boolean {
  return cidr.family === 4
    ? ip.family === 4 && mask4(ip.value, cidr.prefix) === cidr.first
    : ip.family === 6 && mask6(ip.value, cidr.prefix) === cidr.first;
}

/** True if every address of `inner` is in `outer`. */
export function containsCidr(outer: Cidr, inner: Cidr): boolean {
  return outer.prefix <= inner.prefix && containsIp(outer, firstIp(inner));
}

/** True if they share an address. */
export function overlaps(a: Cidr, b: Cidr): boolean {
  return a.prefix <= b.prefix ? containsCidr(a, b) : containsCidr(b, a);
}

/** The first address of a network. */
export function firstIp(cidr: Cidr): Ip {
  return cidr.family === 4 ? ip4(cidr.first) : ip6(cidr.first);
}

/** How many addresses a block has. Exact for prefixes that leave at most 53 bits, as every block does. */
export function addressCount(block: Cidr): number {
  return 2 ** (bitsOf(block.family) - block.prefix);
}

/** The address with this ordinal (0 to `addressCount` - 1); every address of a block counts, the first and the last as well. */
export function ipAt(block: Cidr, ordinal: number): Ip {
  if (!Number.isInteger(ordinal) || ordinal < 0 || ordinal >= addressCount(block)) {
    throw new RangeError(`block ${block.text} has no address number ${ordinal}`);
  }
  return block.family === 4 ? ip4(block.first + ordinal) : ip6(block.first + BigInt(ordinal));
}

/** The address's ordinal in the block that holds it; throws if the block does not. */
export function ordinalOf(block: Cidr, ip: Ip): number {
  if (!containsIp(block, ip)) {
    throw new RangeError(`block ${block.text} does not hold ${ip.text}`);
  }
  return Number(block.family === 4 ? Number(ip.value) - block.first : BigInt(ip.value) - block.first);
}

/** How many blocks of this prefix length fit into a network; 0 if they are larger than it. */
export function subnetCount(cidr: Cidr, prefix: number): bigint {
  return prefix < cidr.prefix ? 0n : 1n << BigInt(prefix - cidr.prefix);
}

/** The block number `index` (0 to `subnetCount` - 1) of this prefix length in a network. */
export function subnetAt(cidr: Cidr, prefix: number, index: bigint): Cidr {
  if (index < 0n || index >= subnetCount(cidr, prefix)) {
    throw new RangeError(`${cidr.text} has no /${prefix} number ${index}`);
  }
  const offset = index << BigInt(bitsOf(cidr.family) - prefix);
  return cidr.family === 4 ? cidr4(cidr.first + Number(offset), prefix) : cidr6(cidr.first + offset, prefix);
}

/** For sorting: IPv4 first, then by value. */
export function compareIps(a: Ip, b: Ip): number {
  if (a.family !== b.family) {
    return a.family - b.family;
  }
  return a.value < b.value ? -1 : a.value > b.value ? 1 : 0;
}

/** 169.254.0.0/16 or fe80::/10: never valid beyond one link. */
export function isLinkLocal(cidr: Cidr): boolean {
  return overlaps(cidr, cidr.family === 4 ? linkLocal4 : linkLocal6);
}

/** The address of an IPv4 value (0 to 2^32-1). */
function ip4(value: number): Ip4 {
  return { family: 4, value, text: text4(value) };
}

function ip6(value: bigint): Ip6 {
  return { family: 6, value, text: text6(value) };
}

function cidr4(value: number, prefix: number): Cidr {
  const first = mask4(value, prefix);
  return { family: 4, first, prefix, text: `${text4(first)}/${prefix}` };
}

function cidr6(value: bigint, prefix: number): Cidr {
  const first = mask6(value, prefix);
  return { family: 6, first, prefix, text: `${text6(first)}/${prefix}` };
}

function mask4(value: number, prefix: number): number {
  // A shift by 32 is a shift by 0 in JavaScript.
  return prefix === 0 ? 0 : (value & (0xffffffff << (32 - prefix))) >>> 0;
}

function mask6(value: bigint, prefix: number): bigint {
  const hostBits = BigInt(128 - prefix);
  return (value >> hostBits) << hostBits;
}

function text4(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
}

function text6(value: bigint): string {
  const parts: number[] = [];
  for (let shift = 112n; shift >= 0n; shift -= 16n) {
    parts.push(Number((value >> shift) & 0xffffn));
  }
  return new ipaddr.IPv6(parts).toRFC5952String();
}

/** Four decimal parts; undefined for anything else, also for leading zeros, which some programs read as octal. */
function parse4(text: string): number | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) {
    return undefined;
  }
  let value = 0;
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) {
      return undefined;
    }
    value = value * 256 + Number(part);
  }
  return value;
}

function tryParseIp6(text: string): Ip6 | undefined {
  // ipaddr.js reads a zone and a dotted end; neither is an address that a pod or a pool can have.
  if (!/^[0-9a-fA-F:]+$/.test(text) || !ipaddr.IPv6.isValid(text)) {
    return undefined;
  }
  const address = ipaddr.IPv6.parse(text);
  return { family: 6, value: toBigInt(address), text: address.toRFC5952String() };
}

function toBigInt(address: ipaddr.IPv6): bigint {
  let value = 0n;
  for (const part of address.parts) {
    value = (value << 16n) | BigInt(part);
  }
  return value;
}

const linkLocal4 = cidr4(0xa9fe0000, 16);
const linkLocal6 = cidr6(0xfe80n << 112n, 10);
