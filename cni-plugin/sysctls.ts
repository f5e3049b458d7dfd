import type { Sysctl } from '#native/types.ts';

/** What a namespace or device is to carry. */
export interface Families {
  readonly has4: boolean;
  readonly has6: boolean;
}

/**
 * The pod's namespace, before its interface is made there. Runtimes disable IPv6 in new namespaces; `default` is what a new device starts
 * with. Duplicate address detection would keep an address tentative for a second, on a link where nobody else can be.
 */
export function podSysctls({ has4, has6 }: Families, allowForwarding: boolean): readonly Sysctl[] {
  const forwarding = allowForwarding ? '1' : '0';
  return [
    ...(has4 ? [{ path: 'net/ipv4/ip_forward', value: forwarding }] : []),
    ...(has6
      ? [
          ...['all', 'default', 'lo'].map((device) => ({ path: `net/ipv6/conf/${device}/disable_ipv6`, value: '0' })),
          { path: 'net/ipv6/conf/default/accept_dad', value: '0' },
          { path: 'net/ipv6/conf/all/forwarding', value: forwarding },
        ]
      : []),
  ];
}

/**
 * The host's device, before it is up. It answers ARP and ND for the pod's gateway (proxy_arp without delay, proxy_ndp), routes for the pod,
 * and takes no routes from it. route_localnet lets rules lead a pod to the node's 127.0.0.0/8 services. The link-local address is
 * fe80::ecee:eeff:feee:eeee only with addr_gen_mode 0 (EUI-64), whatever the host's default is.
 */
export function hostDeviceSysctls(device: string, { has4, has6 }: Families): readonly Sysctl[] {
  const under = (family: 4 | 6, values: Readonly<Record<string, string>>): readonly Sysctl[] =>
    Object.entries(values).map(([name, value]) => ({ path: `net/ipv${family}/conf/${device}/${name}`, value }));
  return [
    ...(has4
      ? [
          ...under(4, { route_localnet: '1', proxy_arp: '1', forwarding: '1' }),
          { path: `net/ipv4/neigh/${device}/proxy_delay`, value: '0' },
        ]
      : []),
    ...(has6
      ? under(6, {
          disable_ipv6: '0',
          addr_gen_mode: '0',
          proxy_ndp: '1',
          forwarding: '1',
          accept_ra: '0',
          accept_dad: '0',
        })
      : []),
  ];
}
