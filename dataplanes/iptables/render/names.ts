import { createHash } from 'node:crypto';
import type { Family } from '#native/types.ts';
import { setName } from '../../netfilter/ipsets.ts';
import type { PolicyId, ProfileId, SetId, TierInfo } from '../../policy.ts';
import { RenderError } from './errors.ts';
import type { Direction, PolicyUnit } from './types.ts';

/**
 * Names in the kernel. A chain's name has at most 28 bytes (XT_EXTENSION_MAXNAMELEN less the final zero), a set's 31; ids are longer, so
 * names carry 16 characters of a hash: 96 bits. All are functions of the id alone, so a restarted agent finds its own chains.
 */
const HASH_LENGTH = 16;

/** The first characters of the id's SHA-224 in base64url. */
function hash(id: string): string {
  return createHash('sha224').update(id).digest('base64url').slice(0, HASH_LENGTH);
}

export const policyChainName = (direction: Direction, id: PolicyId): string =>
  `cali-p${direction === 'ingress' ? 'i' : 'o'}-${hash(id)}`;

export const profileChainName = (direction: Direction, id: ProfileId): string =>
  `cali-pr${direction === 'ingress' ? 'i' : 'o'}-${hash(id)}`;

/** The unit of endpoints with these lists. */
export function unitOf({ tiers, profiles }: Omit<PolicyUnit, 'id'>): PolicyUnit {
  const lists = tiers.map(({ name, defaultAction, ingress, egress }: TierInfo) => [
    name,
    defaultAction,
    ingress,
    egress,
  ]);
  return { id: hash(JSON.stringify([lists, profiles])), tiers, profiles };
}

/** Ingress: `cali-tu-...`, towards the pod; egress: `cali-fu-...`, from it. */
export const unitChainName = (direction: Direction, unitId: string): string =>
  `cali-${direction === 'ingress' ? 't' : 'f'}u-${unitId}`;

/** The unit's members of one family: {address, device}, `hash:net,iface`. */
export const unitSetName = (family: Family, unitId: string): string => setName(family, `u-${unitId}`);

/** The kernel's name of a set of calc's. Hashed whole: cutting long ids would make one set of two. */
export const policySetName = (family: Family, id: SetId): string => setName(family, `s-${hash(id)}`);

/** The host endpoint that stands for every other device; longer than a device's name can be, so never one. */
const EVERY_OTHER = 'every-other-device';

/** `purpose` is `fh`, `th` (from and to the host) or `fhfw`, `thfw` (forwarded). */
export const hostChainName = (purpose: 'fh' | 'th' | 'fhfw' | 'thfw', device: string): string =>
  `cali-${purpose}-${device === '*' ? EVERY_OTHER : deviceName(device)}`;

/**
 * A device's name as rules may hold it: iptables takes a final `+` for a wildcard, and blanks and quotes would end the word.
 * Throws `E_DEVICE_NAME` for others.
 */
export function deviceName(device: string): string {
  if (!/^[\w.:@-]{1,15}$/.test(device)) {
    throw new RenderError(
      'E_DEVICE_NAME',
      `device ${JSON.stringify(device)} can't be named in an iptables rule: only letters, digits and _.:@- are safe there, at most 15; rename it`,
    );
  }
  return device;
}
