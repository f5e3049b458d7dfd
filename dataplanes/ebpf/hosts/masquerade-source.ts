import { familyOf } from '#api/cidr.ts';
import type { Address, Family } from '#native/types.ts';
import type { HostInfo, IpText } from '../../messages.ts';

/** What pods that are masqueraded have for a source, by family; undefined: netfilter says. */
export type MasqueradeSources = Readonly<Record<Family, IpText | undefined>>;

/** What the node says of them. */
export interface MasqueradeSettings {
  /** natOutgoingAddress. */
  readonly address: IpText | undefined;
  /** The node's addresses. */
  readonly node: HostInfo;
}

/**
 * The address that packets get which leave by a device with these, where the kernel would give them the same: the one that is set; else of the device's
 * primary global addresses the node's, else the first. Of IPv6 none, if the device has a unique local one (fd00::/8) and others: the kernel chooses
 * by the destination then.
 */
export function masqueradeSources(
  addresses: ReadonlyMap<IpText, Address>,
  { address, node }: MasqueradeSettings,
): MasqueradeSources {
  const of = (family: Family): IpText | undefined => {
    if (address !== undefined && familyOf(address) === family) return address;
    const usable = [...addresses].filter(([, has]) => has.family === family && isUsable(has)).map(([ip]) => ip);
    if (family === 6 && new Set(usable.map(isUniqueLocal)).size > 1) return undefined;
    const ofNode = family === 4 ? node.ipv4 : node.ipv6;
    return ofNode !== undefined && usable.includes(ofNode) ? ofNode : usable[0];
  };
  return { 4: of(4), 6: of(6) };
}

/** Not those that the kernel doesn't choose by itself. */
const isUsable = ({ scope, flags }: Address): boolean =>
  scope === 'global' && !flags.some((flag) => ['secondary', 'deprecated', 'tentative', 'dadfailed'].includes(flag));

/** fc00::/7. Asked for each device by each apply, so by the text, which the kernel gives without leading zeros. */
const isUniqueLocal = (text: IpText): boolean => /^f[cd][0-9a-f]{2}:/i.test(text);
