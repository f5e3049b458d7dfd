import type { DataplaneConfig } from '../messages.ts';

/** The source ports that masqueraded flows get, first and last. */
export interface NatPorts {
  readonly first: number;
  readonly last: number;
}

/** Where the node's own sockets take ports by themselves. */
const LOCAL_PORTS = 'net/ipv4/ip_local_port_range';
/** What the kernel takes for that unless it is told otherwise. */
const DEFAULT_LOCAL_LAST = 60_999;
/** Above what the kernel's range is by default, whatever it is on this node. */
const FIRST = 61_000;
const LAST = 65_535;

/**
 * The ports by which the programs masquerade: natPortRange, or those above the ones that the node's sockets take by themselves. undefined: all is
 * netfilter's, because there are none above, or exclusions are set that only its rules know.
 */
export function natPorts(
  { natPortRange, natOutgoingExclusions }: Pick<DataplaneConfig, 'natPortRange' | 'natOutgoingExclusions'>,
  readSysctl: (path: string) => string | undefined,
): NatPorts | undefined {
  if (natOutgoingExclusions !== 'IPPoolsOnly') return undefined;
  if (natPortRange !== undefined) return { first: natPortRange.min, last: natPortRange.max };
  const said = Number(readSysctl(LOCAL_PORTS)?.trim().split(/\s+/)[1]);
  const localLast = Number.isInteger(said) ? said : DEFAULT_LOCAL_LAST;
  const first = Math.max(FIRST, localLast + 1);
  return first > LAST ? undefined : { first, last: LAST };
}
