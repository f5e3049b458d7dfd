import { createHash } from 'node:crypto';
import { withoutPrefix } from '#api/cidr.ts';
import type { NetlinkOp, RouteOp, Sysctl, VethAdd } from '#native/types.ts';
import { PRIMARY_IFNAME } from './names.ts';
import { hostDeviceSysctls, podSysctls, type Families } from './sysctls.ts';

/** Of every host device: the pod's neighbour entries and IPv6 gateway never change, whatever node it is on. */
export const HOST_MAC = 'ee:ee:ee:ee:ee:ee';
/** The pod's gateways: addresses that no device has, and the link-local address that follows from the MAC (RFC 4291, appendix A). */
export const GATEWAY4 = '169.254.1.1';
export const GATEWAY6 = 'fe80::ecee:eeff:feee:eeee';

/** Everything about the wires of one attachment. */
export interface WiringSpec {
  readonly hostDevice: string;
  readonly alias: string;
  /** True if a device of ours under that name may be replaced: another sandbox of the same pod has it. False: only this attachment's. */
  readonly replacesOthers: boolean;
  readonly ifname: string;
  /** The pod's network namespace as the runtime names it. */
  readonly netns: string;
  /** And by a path of this process. */
  readonly netnsPath: string;
  /** Of the pod's end. */
  readonly mac: string;
  /** Bytes; undefined leaves the kernel's 1500. */
  readonly mtu: number | undefined;
  readonly queues: number | undefined;
  /** The pod's addresses with /32 and /128. */
  readonly addresses: readonly string[];
  /** Networks that the pod reaches through the node. Absent: everything. */
  readonly customRoutes: readonly string[] | undefined;
  readonly includeDefaultRoutes: boolean;
  readonly allowForwarding: boolean;
  /** What the dataplane wants on the host device before it is up. */
  readonly deviceOps: readonly NetlinkOp[];
  readonly routes: { readonly protocol: number; readonly metric4: number; readonly metric6: number };
}

/** The same as requests: two visits to sysctls and three batches. Plain data. */
export interface WiringPlan {
  readonly spec: WiringSpec;
  readonly podSysctls: readonly Sysctl[];
  /** From the host's socket; makes both ends. */
  readonly veth: VethAdd;
  readonly hostSysctls: readonly Sysctl[];
  readonly hostOps: readonly NetlinkOp[];
  /** From the pod's socket. */
  readonly podOps: readonly NetlinkOp[];
}

/** What must be done, in the order of the fields. */
export function planWiring(spec: WiringSpec): WiringPlan {
  const families = familiesOf(spec.addresses);
  const sizes = {
    ...(spec.mtu === undefined ? {} : { mtu: spec.mtu }),
    ...(spec.queues === undefined ? {} : { queues: spec.queues }),
  };
  return {
    spec,
    podSysctls: podSysctls(families, spec.allowForwarding),
    veth: {
      op: 'veth.add',
      name: spec.hostDevice,
      mac: HOST_MAC,
      alias: spec.alias,
      ...sizes,
      peer: { name: spec.ifname, mac: spec.mac, netns: { path: spec.netnsPath }, ...sizes },
    },
    hostSysctls: hostDeviceSysctls(spec.hostDevice, families),
    hostOps: hostOps(spec),
    podOps: podOps(spec, families),
  };
}

/** Which families a set of addresses or networks has. */
export function familiesOf(addresses: readonly string[]): Families {
  return { has4: addresses.some((text) => !isV6(text)), has6: addresses.some(isV6) };
}

/** One route in the pod's namespace. */
export interface PodRoute {
  readonly dst: string;
  readonly family: 4 | 6;
  /** Absent: the link route to the gateway itself. */
  readonly via?: string;
  readonly metric?: number;
}

/**
 * The pod's routes. Those of an interface other than eth0 have a metric, made from its name: several interfaces can be in one namespace,
 * and eth0's routes win. (IPv6 routes without a metric have 1024.)
 */
export function podRoutes(
  { ifname, customRoutes, includeDefaultRoutes }: Pick<WiringSpec, 'ifname' | 'customRoutes' | 'includeDefaultRoutes'>,
  { has4, has6 }: Families,
): readonly PodRoute[] {
  const isPrimary = ifname === PRIMARY_IFNAME;
  const metric = isPrimary
    ? {}
    : { metric: 2000 + (createHash('sha1').update(ifname).digest().readUInt16BE() % 30_000) };
  const routesOf = (family: 4 | 6, everything: string, via: string): readonly PodRoute[] => {
    const custom = (customRoutes ?? []).filter((dst) => isV6(dst) === (family === 6));
    const withDefault = customRoutes === undefined || (includeDefaultRoutes && !custom.includes(everything));
    return [...(withDefault ? [everything] : []), ...custom].map((dst) => ({ dst, family, via, ...metric }));
  };
  return [
    ...(has4 && isPrimary ? [{ dst: `${GATEWAY4}/32`, family: 4 as const }] : []),
    ...(has4 ? routesOf(4, '0.0.0.0/0', GATEWAY4) : []),
    ...(has6 ? routesOf(6, '::/0', GATEWAY6) : []),
  ];
}

/** The dataplane's requests first: no packet may pass before its policy is there. */
function hostOps(spec: WiringSpec): readonly NetlinkOp[] {
  const link = spec.hostDevice;
  return [
    ...spec.deviceOps,
    { op: 'link.set', link, up: true },
    ...spec.addresses.map((address) => hostRoute(spec, address)),
    ...spec.addresses.map((address): NetlinkOp => ({
      op: 'neigh.replace',
      link,
      address: withoutPrefix(address),
      mac: spec.mac,
      state: 'permanent',
    })),
  ];
}

function hostRoute({ hostDevice, routes }: WiringSpec, address: string): RouteOp {
  const metric = isV6(address) ? routes.metric6 : routes.metric4;
  return {
    op: 'route.add',
    dst: address,
    link: hostDevice,
    protocol: routes.protocol,
    ...(isV6(address) ? {} : { scope: 'link' as const }),
    ...(metric === 0 ? {} : { metric }),
  };
}

/**
 * The gateways' neighbour entries are permanent: the first packet needs no ARP or ND, and a node without a default route, whose proxy ARP
 * is silent, still routes for its pods.
 */
function podOps(spec: WiringSpec, families: Families): readonly NetlinkOp[] {
  const link = spec.ifname;
  const gateways = [...(families.has4 ? [GATEWAY4] : []), ...(families.has6 ? [GATEWAY6] : [])];
  return [
    ...spec.addresses.map((address): NetlinkOp => ({ op: 'addr.add', link, address, noDad: true })),
    { op: 'link.set', link, up: true },
    ...gateways.map((address): NetlinkOp => ({
      op: 'neigh.replace',
      link,
      address,
      mac: HOST_MAC,
      state: 'permanent',
    })),
    ...podRoutes(spec, families).map(({ dst, family, via, metric }): NetlinkOp => ({
      op: 'route.add',
      dst,
      family,
      link,
      // Only eth0 has the link route that says where the IPv4 gateway is.
      ...(via === undefined
        ? { scope: 'link' }
        : { via, ...(family === 4 && metric !== undefined ? { onlink: true } : {}) }),
      ...(metric === undefined ? {} : { metric }),
    })),
  ];
}

export function isV6(text: string): boolean {
  return text.includes(':');
}
