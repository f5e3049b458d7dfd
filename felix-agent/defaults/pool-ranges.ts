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
  readonly ranges: readonly Range[];
  readonly problems: readonly string[];
}

/**
 * The ranges of the default pools. Each family for itself: what the ConfigMap says; what kubeadm was told; the /16 (IPv6: /48) that holds every
 * Node's podCIDR of the family. Who says a range of one family says that there is no other. Only where nobody says any: IPv4 gets the first of Calico's
 * ranges that is not in use on this node, unless no Node has an IPv4 address; IPv6 gets a random unique local /48 if every Node has an IPv6 address, since
 * blocks are routed by the nodes' addresses. Either is chosen also where a family's podCIDRs don't fit into one range. A range with a Node's address in
 * it would cut that node off: then nothing is decided.
 */
export function decideRanges(inputs: RangeInputs): RangeDecision {
  const said = families.map((family) => saidRange(inputs, family));
  const nobodySays = said.every((range) => range === undefined);
  const decisions = families.flatMap((family, index) => {
    const range = said[index];
    if (range !== undefined && range !== 'scattered') return [range];
    if (range === undefined && !nobodySays) return [];
    return chooseRange(inputs, family, range === 'scattered') ?? [];
  });
  const problems = decisions.flatMap((decision) =>
    'problem' in decision ? [decision.problem] : conflicts(inputs, decision),
  );
  const ranges = decisions.flatMap((decision) => ('problem' in decision ? [] : [decision]));
  if (decisions.length === 0) {
    problems.push(`nobody says which range pods get, and not every Node has an InternalIP yet; ${sayIt[6]}`);
  }
  return problems.length > 0 ? { ranges: [], problems } : { ranges, problems };
}

/** The first that is free is taken when nobody says anything. */
export const freeRanges: readonly Cidr[] = [
  parseCidr('192.168.0.0/16'),
  ...Array.from({ length: 16 }, (_, index) => parseCidr(`172.${16 + index}.0.0/16`)),
];

interface Range {
  readonly cidr: Cidr;
  readonly because: string;
}
type Decision = Range | { readonly problem: string };

const families = [4, 6] as const;
const sayIt: Readonly<Record<Family, string>> = {
  4: 'say podCIDR in ConfigMap kube-system/tortie-config',
  6: 'say podCIDRv6 in ConfigMap kube-system/tortie-config',
};

/** What somebody has said; `scattered`: podCIDRs that don't fit into one range. */
function saidRange({ config, kubeadm, nodes }: RangeInputs, family: Family): Range | 'scattered' | undefined {
  const said = config.ranges[family];
  if (said !== undefined) return { cidr: said, because: 'ConfigMap kube-system/tortie-config says so' };
  const given = kubeadm.find((range) => range.family === family);
  if (given !== undefined) return { cidr: given, because: 'kubeadm was told so' };
  const podCidrs = nodes.flatMap((node) => podCidrsOf(node, family));
  const [first] = podCidrs;
  if (first === undefined) return undefined;
  const around = networkOf(firstIp(first), aroundPrefix[family]);
  return podCidrs.every((range) => containsCidr(around, range))
    ? { cidr: around, because: "it holds every Node's podCIDR" }
    : 'scattered';
}

const aroundPrefix: Readonly<Record<Family, number>> = { 4: 16, 6: 48 };

function chooseRange(inputs: RangeInputs, family: Family, isScattered: boolean): Decision | undefined {
  const why = isScattered ? `the Nodes' podCIDRs are not of one /${aroundPrefix[family]}` : 'nobody says anything else';
  return family === 4 ? freeIpv4(inputs, why) : freshIpv6(inputs, why, isScattered);
}

/** True if a Node has a range of the family already; false may become true a moment after the Node has come. */
export function hasPodCidr(nodes: Iterable<Node>): boolean {
  return [...nodes].some(({ spec }) => spec.podCIDR !== undefined || (spec.podCIDRs?.length ?? 0) > 0);
}

function podCidrsOf({ spec }: Node, family: Family): readonly Cidr[] {
  const texts = spec.podCIDRs ?? (spec.podCIDR === undefined ? [] : [spec.podCIDR]);
  return texts.flatMap((text) => tryParseCidr(text) ?? []).filter((range) => range.family === family);
}

function freeIpv4({ nodes, hostNetworks }: RangeInputs, why: string): Decision | undefined {
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
  return cidr === undefined
    ? { problem: `192.168.0.0/16 and each of 172.16.0.0/16 to 172.31.0.0/16 is in use on this node; ${sayIt[4]}` }
    : { cidr, because: `${why}, and it is free on this node` };
}

function freshIpv6({ nodes, uniqueLocal }: RangeInputs, why: string, isWanted: boolean): Decision | undefined {
  const isEverywhere = nodes.every((node) => addressesOf([node]).some(({ ip }) => ip.family === 6));
  return isWanted || isEverywhere ? { cidr: uniqueLocal(), because: `${why}, and it is random` } : undefined;
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
