import { DEFAULT_SOCKET } from '#cni/conf.ts';
import type { CniVersion } from '#cni/versions.ts';
import { openPools, type IpamFacts } from '#ipam/pools.ts';
import type { CniConfSettings } from '../config/bootstrap.ts';

/** Sorts before what other networks call theirs, as runtimes take the first. */
export const confFileName = '10-tortie.conflist';
/** In the state dir: what we wrote last. */
export const confRecordName = 'cni-conf.json';

/** What the network configuration is made of. */
export interface ConflistSettings {
  readonly version: CniVersion;
  /** Bytes; undefined: the agent says it at each ADD. */
  readonly mtu: number | undefined;
  readonly has4: boolean;
  readonly has6: boolean;
  /** The agent's. */
  readonly socket: string;
}

/**
 * The text of the configuration: ourselves, then portmap for hostPorts. No `bandwidth`: its ingress qdisc excludes the eBPF dataplane's
 * clsact (before Linux 6.6 nothing stands in for that), and Calico's chain has none either. The network is called as Calico's, since addresses are recorded under
 * `<network>.<container id>`: a DEL of a pod that Calico has wired finds its address. Undefined while pods could get no address.
 */
export function conflistText({ version, mtu, has4, has6, socket }: ConflistSettings): string | undefined {
  if (!has4 && !has6) return undefined;
  const tortie = {
    type: 'tortie',
    ...(socket === DEFAULT_SOCKET ? {} : { socket }),
    ...(mtu === undefined ? {} : { mtu }),
    ipam: { type: 'tortie', assign_ipv4: String(has4), assign_ipv6: String(has6) },
  };
  const portmap = { type: 'portmap', snat: true, capabilities: { portMappings: true } };
  return `${JSON.stringify({ cniVersion: version, name: 'k8s-pod-network', plugins: [tortie, portmap] }, null, 2)}\n`;
}

/** The text that fits the settings and the pools that this node's pods get addresses from. */
export function confTextOf(
  { version, mtu }: CniConfSettings,
  socket: string,
  facts: IpamFacts | undefined,
): string | undefined {
  const families = new Set(facts === undefined ? [] : openPools(facts).map(({ cidr }) => cidr.family));
  return conflistText({ version, mtu, has4: families.has(4), has6: families.has(6), socket });
}
