import ipaddr from 'ipaddr.js';
import type { Family } from '#native/types.ts';

/** The family of an address or CIDR in text form. */
export const familyOf = (text: string): Family => (text.includes(':') ? 6 : 4);

/** A CIDR parsed once for many look-ups. */
export interface ParsedCidr {
  readonly family: Family;
  readonly bytes: readonly number[];
  readonly prefixLength: number;
}

/** Parses `10.0.0.0/8`; a bare address is a single one. Throws on what isn't an address. */
export function parseCidr(text: string): ParsedCidr {
  const [address = '', length] = text.split('/');
  const bytes = ipaddr.parse(address).toByteArray();
  return {
    family: bytes.length === 4 ? 4 : 6,
    bytes,
    prefixLength: length === undefined ? bytes.length * 8 : Number(length),
  };
}

/** True if `address` (a single one) is inside `cidr`. */
export function contains(cidr: ParsedCidr, address: ParsedCidr): boolean {
  if (cidr.family !== address.family) return false;
  const whole = cidr.prefixLength >> 3;
  for (let i = 0; i < whole; i += 1) if (cidr.bytes[i] !== address.bytes[i]) return false;
  const rest = cidr.prefixLength & 7;
  if (rest === 0) return true;
  const mask = 0xff << (8 - rest);
  return (((cidr.bytes[whole] ?? 0) ^ (address.bytes[whole] ?? 0)) & mask & 0xff) === 0;
}
