import type { Family, Route, Sysctl, SysctlResult } from '#native/types.ts';
import type { ApplyFailure } from '../contract.ts';
import type { WorkloadEndpointInfo } from '../messages.ts';

/** Sysctls of the node's namespace. */
export interface SysctlPort {
  /** Gives each its value, writing only what differs. */
  write(sysctls: readonly Sysctl[]): readonly SysctlResult[];
  /** The present value without the newline; undefined when the kernel has no such sysctl. */
  read(path: string): string | undefined;
}

/** RTPROT_RA: a route learnt from a router advertisement. */
const RA_PROTOCOL = 9;

/** What makes the node a router. */
export function forwardingSysctls(families: readonly Family[]): readonly Sysctl[] {
  return [
    { path: 'net/ipv4/ip_forward', value: '1' },
    ...(families.includes(6) ? [{ path: 'net/ipv6/conf/all/forwarding', value: '1' }] : []),
  ];
}

/**
 * With IPv6 forwarding a device with accept_ra=1 no longer hears router advertisements, and a node that got its default route from one
 * loses it when the route's lifetime ends. accept_ra=2 means "also when forwarding" (kernel: ip-sysctl, accept_ra). So each device that has a
 * route from an advertisement and accept_ra=1 gets 2; others keep what they have.
 */
export function acceptRaSysctls(
  port: SysctlPort,
  routes: Iterable<Route>,
  nameOf: (linkIndex: number) => string | undefined,
): readonly Sysctl[] {
  const names = new Set<string>();
  for (const { family, protocol, linkIndex } of routes) {
    const name = family === 6 && protocol === RA_PROTOCOL && linkIndex !== undefined ? nameOf(linkIndex) : undefined;
    if (name !== undefined) names.add(name);
  }
  return [...names]
    .map((name) => `net/ipv6/conf/${name}/accept_ra`)
    .filter((path) => port.read(path) === '1')
    .map((path) => ({ path, value: '2' }));
}

/**
 * What a pod's host device needs; the CNI plugin has written the same, and a device that went down and up again, or somebody's
 * sysctl.conf, may have lost it. The node answers ARP and ND for the gateway that the pod believes in (proxy_arp, proxy_ndp), forwards
 * for it, lets it reach the node's 127.0.0.0/8 services where a rule sends it there (route_localnet), and takes no route from it.
 */
export function podDeviceSysctls(
  endpoint: WorkloadEndpointInfo,
  families: readonly Family[],
  reversePathFilter: string,
): readonly Sysctl[] {
  const { ifaceName } = endpoint;
  const v4 = { route_localnet: '1', proxy_arp: '1', forwarding: '1', rp_filter: reversePathFilter };
  const v6 = { disable_ipv6: '0', proxy_ndp: '1', forwarding: '1', accept_ra: '0', accept_dad: '0' };
  return [
    ...(endpoint.ipv4Nets.length === 0 ? [] : conf(4, ifaceName, v4)),
    ...(endpoint.ipv4Nets.length === 0 ? [] : [{ path: `net/ipv4/neigh/${ifaceName}/proxy_delay`, value: '0' }]),
    ...(endpoint.ipv6Nets.length === 0 || !families.includes(6) ? [] : conf(6, ifaceName, v6)),
  ];
}

/**
 * The reverse path filter of a pod's device. Sources are checked by the dataplane, exactly; the kernel's filter stays at the host's default,
 * except where a pod may use other sources (`mayUseOthers`): no route to those leads back to the pod. The kernel takes the stricter of
 * the device's value and `all`'s, where 1 is strict, 2 loose, and 2 beats 1: so 0 where `all` is 0, else 2.
 */
export function reversePathFilterFor(port: SysctlPort, mayUseOthers: boolean): string {
  if (!mayUseOthers) return port.read('net/ipv4/conf/default/rp_filter') ?? '0';
  return port.read('net/ipv4/conf/all/rp_filter') === '0' ? '0' : '2';
}

/** The failures of a write, and the names of what had been otherwise. */
export function summarise(results: readonly SysctlResult[]): { failed: ApplyFailure[]; written: string[] } {
  const failed: ApplyFailure[] = [];
  const written: string[] = [];
  for (const result of results) {
    if (result.status === 'failed')
      failed.push({ object: `sysctl ${result.path.replaceAll('/', '.')}`, reason: result.error.message });
    else if (result.status === 'written') written.push(result.path.replaceAll('/', '.'));
  }
  return { failed, written };
}

const conf = (family: Family, ifaceName: string, values: Readonly<Record<string, string>>): Sysctl[] =>
  Object.entries(values).map(([name, value]) => ({ path: `net/ipv${family}/conf/${ifaceName}/${name}`, value }));
