import type { Family } from '#native/types.ts';

/** The kernel's limit for a set's name, without the final zero (IPSET_MAXNAMELEN). */
const MAX_NAME_LENGTH = 31;
/** Every set of ours begins with this. */
export const NAME_PREFIX = 'cali';
/** The kernel's name of our set `id`: `cali40` or `cali60` and the id, which has at most 24 bytes (so that its temporary name fits, too). */
export function setName(family: Family, id: string): string {
  const name = `${NAME_PREFIX}${family}0${id}`;
  if (temporaryName(name).length > MAX_NAME_LENGTH) throw new TypeError(`${id} is too long for the name of an ipset`);
  return name;
}

/** The name under which a set is filled that will replace `name`. */
export const temporaryName = (name: string): string => `${name.slice(0, 5)}t-${name.slice(6)}`;

/** A net as the kernel lists it: without the prefix length of a single address. A /0, which hash:net can't hold, is two halves. */
export function netMembers(cidr: string): readonly string[] {
  if (cidr === '0.0.0.0/0') return ['0.0.0.0/1', '128.0.0.0/1'];
  if (cidr === '::/0') return ['::/1', '8000::/1'];
  const whole = cidr.includes(':') ? '/128' : '/32';
  return [cidr.endsWith(whole) ? cidr.slice(0, -whole.length) : cidr];
}
