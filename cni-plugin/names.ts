/** Names of what an attachment leaves on the node: device, alias, address handle, endpoint. */
import { createHash } from 'node:crypto';
import { hostDeviceName, workloadEndpointObjectName } from '#api/names.ts';
import type { PodRef } from './args.ts';

/** The interface that Calico's names are made for. Any other one gets names of its own, so that a pod can have several. */
export const PRIMARY_IFNAME = 'eth0';
/** Every host link of ours has an alias that begins so. */
const ALIAS_PREFIX = 'tortie:';

/** One attachment: the triple by which the specification's GC knows it. */
export interface Attachment {
  /** The conf's `name`. */
  readonly network: string;
  readonly containerId: string;
  readonly ifname: string;
}

/** An alias read back. Long names are hashed in it (`isHashed`): compare by `aliasOf`, or one part with `aliasPart`. */
export interface AliasParts {
  readonly network: string;
  readonly containerId: string;
  readonly ifname: string;
}

/**
 * The host's end of the veth, the preferred name first. For a pod's eth0 it is Calico's: prefix + 11 hex digits of SHA-1 over
 * `namespace.pod`. For other containers Calico takes prefix + the first 11 characters of the container id; ids that people choose may
 * share those, so a hash of the whole id is the second choice. For any other interface the hash also covers `.ifname`.
 */
export function hostDeviceNames(
  prefix: string,
  pod: PodRef | undefined,
  { containerId, ifname }: Attachment,
): readonly string[] {
  const owner = pod === undefined ? containerId : `${pod.namespace}.${pod.name}`;
  if (ifname !== PRIMARY_IFNAME) return [hostDeviceName(prefix, `${owner}.${ifname}`)];
  const hashed = hostDeviceName(prefix, owner);
  return pod === undefined ? [prefix + containerId.slice(0, 11), hashed] : [hashed];
}

/** The alias of the host's link: tells our links from others', and whose they are. At most 255 bytes (IFALIASZ). */
export function aliasOf({ network, containerId, ifname }: Attachment): string {
  return `${ALIAS_PREFIX}${aliasPart(network)}/${aliasPart(containerId)}/${ifname}`;
}

/** Whose link it is, by its alias; undefined if it isn't ours. */
export function parseAlias(alias: string | undefined): AliasParts | undefined {
  if (alias?.startsWith(ALIAS_PREFIX) !== true) return undefined;
  const [network, containerId, ifname, ...rest] = alias.slice(ALIAS_PREFIX.length).split('/');
  return network && containerId && ifname && rest.length === 0 ? { network, containerId, ifname } : undefined;
}

/** A network's or container's name as it stands in an alias: itself, or `~` and its hash if it is long. */
export function aliasPart(name: string): string {
  return name.length <= 100 ? name : `~${createHash('sha256').update(name).digest('hex')}`;
}

/** True for a part of an alias that stands for a long name: names of networks and containers begin with a letter or digit. */
export function isHashed(part: string): boolean {
  return part.startsWith('~');
}

/**
 * IPAM's handle: Calico's `<network>.<containerID>`; with `.<ifname>` for further interfaces, so that a DEL of one leaves the others'
 * addresses alone.
 */
export function handleOf({ network, containerId, ifname }: Attachment): string {
  return ifname === PRIMARY_IFNAME ? `${network}.${containerId}` : `${network}.${containerId}.${ifname}`;
}

/** What a WorkloadEndpoint is called and what stands in it. */
export interface EndpointIdentity {
  readonly namespace: string;
  readonly name: string;
  readonly orchestrator: 'k8s' | 'cni';
  /** The pod's name, or the container id. */
  readonly workload: string;
  readonly endpoint: string;
}

/** Who the endpoint is. Two sandboxes of one pod have the same identity: the later one takes over. */
export function endpointIdentity(
  node: string,
  pod: PodRef | undefined,
  { containerId, ifname }: Attachment,
): EndpointIdentity {
  const orchestrator = pod === undefined ? 'cni' : 'k8s';
  const workload = pod?.name ?? containerId;
  const name = workloadEndpointObjectName({ node, orchestrator, workload, endpoint: ifname });
  return { namespace: pod?.namespace ?? 'default', name, orchestrator, workload, endpoint: ifname };
}
