import {
  containsCidr,
  containsIp,
  firstIp,
  networkOf,
  overlaps,
  parseCidr,
  tryParseCidr,
  tryParseIp,
  type Cidr,
  type Family,
  type Ip,
} from '#api/cidr.ts';
import type { KindMap } from '#api/kinds.ts';
import type { ClusterConfig } from './cluster-config.ts';

type Node = KindMap['Node'];

/** All that decides which ranges the first pools have. */
export interface RangeInputs {
  readonly config: Pick<ClusterConfig, 'ranges'>;
  /** What kubeadm was told, at most one of each family. */
  readonly kubeadm: readonly Cidr[];
  readonly nodes: readonly Node[];
  /** Networks that this node reaches otherwise: its routes (the default ones say nothing) and addresses. */
  readonly hostNetworks: readonly Cidr[];
  /** A new random unique local /48 (RFC 4193). */
  readonly uniqueLocal: () => Cidr;
}

/** The ranges that were decided on, with the reason for each; or why it can't be decided, and then there are none. */
export interface RangeDecision {
  readonly ranges: readonly { readonly cidr: Cidr; readonly because: string }[];
  readonly problems: readonly string[];
}

/**
 * The ranges of the default pools. Each family for itself: what the ConfigMap says; what kubeadm was told; the /16 (IPv6: /48) that holds every
 * Node's podCIDR of the family. Where nobody says anything: IPv4 gets the first of Calico's ranges that is not in use on this node, unless no Node has
 * an IPv4 address; IPv6 gets a random unique local /48 if every Node has an IPv6 address, since blocks are routed by the nodes' addresses: with a Node
 * that has none, its pods' IPv6 would lead nowhere. A range with a Node's address in it would cut that node off: then there is no decision.
 */
export function decideRanges(inputs: RangeInputs): RangeDecision {
  const decided = ([4, 6] as const).flatMap((family) => decide(inputs, family) ?? []);
  const problems = decided.flatMap((decision) =>
    'problem' in decision ? [decision.problem] : conflicts(inputs, decision),
  );
  const ranges = decided.flatMap((decision) => ('problem' in decision ? [] : [decision]));
  return problems.length > 0 ? { ranges: [], problems } : { ranges, problems };
}

/** The first that is free is taken when nobody says anything. */
export const freeRanges: readonly Cidr[] = [
  parseCidr('192.168.0.0/16'),
  ...Array.from({ length: 16 }, (_, index) => parseCidr(`172.${16 + index}.0.0/16`)),
];

type Decision = { readonly cidr: Cidr; readonly because: string } | { readonly problem: string };

const sayIt: Readonly<Record<Family, string>> = {
  4: 'say podCIDR in ConfigMap kube-system/tortie-config',
  6: 'say podCIDRv6 in ConfigMap kube-system/tortie-config',
};

function decide(inputs: RangeInputs, family: Family): Decision | undefined {
  const { config, kubeadm, nodes } = inputs;
  const said = config.ranges[family];
  if (said !== undefined) return { cidr: said, because: 'ConfigMap kube-system/tortie-config says so' };
  const given = kubeadm.find((range) => range.family === family);
  if (given !== undefined) return { cidr: given, because: 'kubeadm was told so' };
  const podCidrs = nodes.flatMap((node) => podCidrsOf(node, family));
  const around = podCidrs[0] && aroundAll(podCidrs[0], podCidrs);
  if (around !== undefined) return { cidr: around, because: "it holds every Node's podCIDR" };
  return family === 4 ? freeIpv4(inputs, podCidrs.length > 0) : freshIpv6(inputs, podCidrs.length > 0);
}

/** True if a Node has a range of the family already; false may become true a moment after the Node has come. */
export function hasPodCidr(nodes: Iterable<Node>): boolean {
  return [...nodes].some(({ spec }) => spec.podCIDR !== undefined || (spec.podCIDRs?.length ?? 0) > 0);
}

function podCidrsOf({ spec }: Node, family: Family): readonly Cidr[] {
  const texts = spec.podCIDRs ?? (spec.podCIDR === undefined ? [] : [spec.podCIDR]);
  return texts.flatMap((text) => tryParseCidr(text) ?? []).filter((range) => range.family === family);
}

/** The /16 or /48 of which all are part; undefined if there is none. */
function aroundAll(first: Cidr, all: readonly Cidr[]): Cidr | undefined {
  const around = networkOf(firstIp(first), first.family === 4 ? 16 : 48);
  return all.every((range) => containsCidr(around, range)) ? around : undefined;
}

function freeIpv4({ nodes, hostNetworks }: RangeInputs, hasScattered: boolean): Decision | undefined {
  const addresses = addressesOf(nodes);
  if (addresses.length === 0) {
    return {
      problem: `nobody says which range pods get, and no Node has an InternalIP yet to choose one by; ${sayIt[4]}`,
    };
  }
  if (addresses.every(({ ip }) => ip.family === 6)) return undefined;
  const used = hostNetworks.filter(({ prefix }) => prefix > 0);
  const cidr = freeRanges.find(
    (range) => !used.some((network) => overlaps(network, range)) && !addresses.some(({ ip }) => containsIp(range, ip)),
  );
  if (cidr === undefined) {
    return { problem: `192.168.0.0/16 and each of 172.16.0.0/16 to 172.31.0.0/16 is in use on this node; ${sayIt[4]}` };
  }
  const because = hasScattered ? "the Nodes' podCIDRs are not of one /16" : 'nobody says anything else';
  return { cidr, because: `${because}, and it is free on this node` };
}

function freshIpv6({ nodes, uniqueLocal }: RangeInputs, hasScattered: boolean): Decision | undefined {
  const isEverywhere = nodes.every((node) => addressesOf([node]).some(({ ip }) => ip.family === 6));
  if (!hasScattered && !isEverywhere) return undefined;
  const because = hasScattered ? "the Nodes' podCIDRs are not of one /48" : 'every Node has an IPv6 address';
  return { cidr: uniqueLocal(), because: `${because}; it is random` };
}

function conflicts(
  { nodes }: RangeInputs,
  { cidr, because }: { readonly cidr: Cidr; readonly because: string },
): string[] {
  return addressesOf(nodes)
    .filter(({ ip }) => containsIp(cidr, ip))
    .slice(0, 1)
    .map(
      ({ node, ip }) =>
        `the pods' range would be ${cidr.text} (${because}), but the address ${ip.text} of Node ${node} is in it; ${sayIt[cidr.family]}`,
    );
}

function addressesOf(nodes: readonly Node[]): readonly { readonly node: string; readonly ip: Ip }[] {
  return nodes.flatMap(({ metadata, status }) =>
    status.addresses.flatMap(({ type, address }) => {
      const ip = type === 'InternalIP' ? tryParseIp(address) : undefined;
      return ip === undefined ? [] : [{ node: metadata.name, ip }];
    }),
  );
}
