/** Annotations of Pods, Namespaces and Nodes that the network plugin reads and writes; names and formats are Calico's. */
import {
  tryParseIp,
  tryParseIpInNetwork,
  tryParseNet,
  type Cidr,
  type CidrText,
  type Family,
  type Ip,
  type IpText,
} from './cidr.ts';

/** Annotation names, by what they are for. */
export const annotation = {
  /** JSON list of pools, by name or CIDR; on a Pod or, for all its pods, a Namespace. */
  ipv4Pools: 'cni.projectcalico.org/ipv4pools',
  ipv6Pools: 'cni.projectcalico.org/ipv6pools',
  /** JSON list: exactly these addresses, allocated from their pools. */
  ipAddrs: 'cni.projectcalico.org/ipAddrs',
  /** JSON list: exactly these addresses, without IPAM; only where the CNI conf allows it. */
  ipAddrsNoIpam: 'cni.projectcalico.org/ipAddrsNoIpam',
  /** JSON list of `IPv4` and `IPv6`: overrides assign_ipv4 and assign_ipv6 of the CNI conf; on a Pod or a Namespace. */
  ipFamilies: 'cni.projectcalico.org/ipFamilies',
  /** MAC address of the pod's interface. */
  hwAddr: 'cni.projectcalico.org/hwAddr',
  /** JSON list of addresses that are mapped one to one to the pod's. */
  floatingIPs: 'cni.projectcalico.org/floatingIPs',
  /** JSON list of networks that the pod may send from besides its own addresses. */
  allowedSourcePrefixes: 'cni.projectcalico.org/allowedSourcePrefixes',
  /** Read, for it is the plugin `bandwidth` that acts on it: what the pod may send, in bits a second (`10M`). */
  egressBandwidth: 'kubernetes.io/egress-bandwidth',
  /** Written: the pod's first address with /32 or /128; blank when its network is gone. */
  podIP: 'cni.projectcalico.org/podIP',
  /** Written: all its addresses, separated by commas; blank when its network is gone. */
  podIPs: 'cni.projectcalico.org/podIPs',
  /** Written: the sandbox that owns the addresses. */
  containerID: 'cni.projectcalico.org/containerID',
  /** On Nodes: the node's address with the prefix length of its subnet. */
  nodeIPv4: 'projectcalico.org/IPv4Address',
  nodeIPv6: 'projectcalico.org/IPv6Address',
} as const;

/** An annotation whose value can't be used; the message names it. */
export class AnnotationError extends Error {
  override readonly name = 'AnnotationError';
  readonly code = 'bad-annotation';
  /** The annotation's full name. */
  readonly annotation: string;

  constructor(name: string, expected: string, value: string) {
    const shown = value.length > 120 ? `${value.slice(0, 117)}...` : value;
    super(`annotation ${name} must be ${expected} (is ${shown})`);
    this.annotation = name;
  }
}

type Annotations = Readonly<Record<string, string>> | undefined;

/** What a namespace asks for its pods, and a pod for itself; undefined where nothing is said. */
export interface NamespaceAnnotations {
  /** Pool names or CIDRs, in order of preference. */
  readonly ipv4Pools: readonly string[] | undefined;
  readonly ipv6Pools: readonly string[] | undefined;
  readonly ipFamilies: readonly Family[] | undefined;
}

/** What a pod asks for; undefined where nothing is said. */
export interface PodAnnotations extends NamespaceAnnotations {
  /** At most one of each family. */
  readonly ipAddrs: readonly Ip[] | undefined;
  /** At most one of each family; never together with `ipAddrs`. */
  readonly ipAddrsNoIpam: readonly Ip[] | undefined;
  /** Lower case with colons. */
  readonly hwAddr: string | undefined;
  readonly floatingIPs: readonly IpText[] | undefined;
  readonly allowedSourcePrefixes: readonly CidrText[] | undefined;
}

/** What a namespace's annotations ask for its pods. Throws `AnnotationError`. */
export function parseNamespaceAnnotations(annotations: Annotations): NamespaceAnnotations {
  return {
    ipv4Pools: jsonList(annotations, annotation.ipv4Pools, 'of IPv4 pools, by name or CIDR', poolOf(4)),
    ipv6Pools: jsonList(annotations, annotation.ipv6Pools, 'of IPv6 pools, by name or CIDR', poolOf(6)),
    ipFamilies: jsonList(annotations, annotation.ipFamilies, 'of IPv4 and IPv6', familyOf),
  };
}

/** Everything that a pod's annotations ask for. Throws `AnnotationError`. */
export function parsePodAnnotations(annotations: Annotations): PodAnnotations {
  const ipAddrs = addresses(annotations, annotation.ipAddrs);
  const ipAddrsNoIpam = addresses(annotations, annotation.ipAddrsNoIpam);
  if (ipAddrs !== undefined && ipAddrsNoIpam !== undefined) {
    const value = annotations?.[annotation.ipAddrsNoIpam] ?? '';
    throw new AnnotationError(annotation.ipAddrsNoIpam, `absent where ${annotation.ipAddrs} is set`, value);
  }
  const mac = annotations?.[annotation.hwAddr];
  if (mac !== undefined && !/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(mac)) {
    throw new AnnotationError(annotation.hwAddr, 'a MAC address, e.g. 02:00:00:00:00:01', mac);
  }
  return {
    ...parseNamespaceAnnotations(annotations),
    ipAddrs,
    ipAddrsNoIpam,
    hwAddr: mac?.toLowerCase(),
    floatingIPs: jsonList(annotations, annotation.floatingIPs, 'of IP addresses', (text) => tryParseIp(text)?.text),
    allowedSourcePrefixes: jsonList(
      annotations,
      annotation.allowedSourcePrefixes,
      'of networks or IP addresses',
      (text) => tryParseNet(text)?.text,
    ),
  };
}

/** What the plugin writes on a pod that is wired: addresses with prefix lengths, the first one first. */
export function podNetworkAnnotations(addresses: readonly CidrText[], containerID: string): Record<string, string> {
  return {
    [annotation.podIP]: addresses[0] ?? '',
    [annotation.podIPs]: addresses.join(','),
    [annotation.containerID]: containerID,
  };
}

/** What the plugin wrote on a pod: its addresses as /32 and /128; an empty list means that its network is gone, undefined that nothing was written. */
export function parsePodIPs(annotations: Annotations): readonly Cidr[] | undefined {
  const name = annotations?.[annotation.podIPs] === undefined ? annotation.podIP : annotation.podIPs;
  const value = annotations?.[name];
  if (value === undefined) {
    return undefined;
  }
  return value
    .split(',')
    .filter((text) => text.trim() !== '')
    .map((text) => {
      const network = tryParseNet(text.trim());
      if (network === undefined) {
        throw new AnnotationError(name, 'addresses separated by commas', value);
      }
      return network;
    });
}

/** A node's address and subnet from its annotation; undefined if it has none of that family. Throws `AnnotationError`. */
export function parseNodeAddress(
  annotations: Annotations,
  family: Family,
): { readonly ip: Ip; readonly network: Cidr } | undefined {
  const name = family === 4 ? annotation.nodeIPv4 : annotation.nodeIPv6;
  const value = annotations?.[name];
  if (value === undefined || value === '') {
    return undefined;
  }
  const parsed = tryParseIpInNetwork(value);
  if (parsed === undefined || parsed.ip.family !== family) {
    throw new AnnotationError(name, `an IPv${family} address with its subnet's prefix length`, value);
  }
  return parsed;
}

function addresses(annotations: Annotations, name: string): readonly Ip[] | undefined {
  const list = jsonList(annotations, name, 'of one IP address, or one of each family', tryParseIp);
  const value = annotations?.[name];
  if (value !== undefined && (list === undefined || new Set(list.map(({ family }) => family)).size < list.length)) {
    throw new AnnotationError(name, 'a JSON list of one IP address, or one of each family', value);
  }
  return list;
}

/** A JSON list of strings, each read by `read`, which returns undefined for what it can't use. An empty list says nothing. */
function jsonList<T>(
  annotations: Annotations,
  name: string,
  contents: string,
  read: (text: string) => T | undefined,
): readonly T[] | undefined {
  const value = annotations?.[name];
  if (value === undefined) {
    return undefined;
  }
  const result = parseList(value)?.map((item) => (typeof item === 'string' ? read(item) : undefined));
  if (result === undefined || result.includes(undefined)) {
    throw new AnnotationError(name, `a JSON list ${contents}`, value);
  }
  return result.length === 0 ? undefined : (result as T[]);
}

function parseList(value: string): readonly unknown[] | undefined {
  try {
    const list: unknown = JSON.parse(value);
    return Array.isArray(list) ? list : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) {
      return undefined;
    }
    throw error;
  }
}

/** A pool's name, or a CIDR of the right family in canonical text. */
function poolOf(family: Family): (text: string) => string | undefined {
  return (text) => {
    if (!text.includes('/')) {
      return text === '' ? undefined : text;
    }
    const network = tryParseNet(text);
    return network?.family === family ? network.text : undefined;
  };
}

function familyOf(text: string): Family | undefined {
  switch (text.toLowerCase()) {
    case 'ipv4':
      return 4;
    case 'ipv6':
      return 6;
    default:
      return undefined;
  }
}
