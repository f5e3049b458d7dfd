/** What `kubectl` shows and takes for each kind that we define: names as in Calico's own definitions and its API server. */
import { kinds, type KindName } from '#api/kinds.ts';
import type { PrinterColumn } from './schema.ts';

/** A kind's face in `kubectl`. */
export interface CrdKind {
  readonly shortNames: readonly string[];
  readonly columns: readonly PrinterColumn[];
  readonly description: string;
  /**
   * True where fields that the schema doesn't know are kept: of what programs write, since a program that reads, changes and writes an object
   * must lose nothing that a newer one put there, and of FelixConfiguration, whose unknown settings the agent names. In what people write,
   * `kubectl` refuses a field that the schema doesn't know: a misspelt field of a policy would make a rule wider.
   */
  readonly keepsUnknown: boolean;
  /** Where the definition is somebody else's: the group that its owners had approved. */
  readonly approval?: string;
}

const age: PrinterColumn = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' };

function column(name: string, jsonPath: string, type: PrinterColumn['type'] = 'string'): PrinterColumn {
  return { name, type, jsonPath };
}

const policyColumns = [
  column('Tier', '.spec.tier'),
  column('Order', '.spec.order', 'number'),
  column('Selector', '.spec.selector'),
  age,
];
const stagedColumns = [column('Action', '.spec.stagedAction'), ...policyColumns];

function people(description: string, shortNames: readonly string[], columns: readonly PrinterColumn[]): CrdKind {
  return { description, shortNames, columns, keepsUnknown: false };
}

function programs(description: string, shortNames: readonly string[], columns: readonly PrinterColumn[]): CrdKind {
  return { description, shortNames, columns, keepsUnknown: true };
}

// A row a line, however long: it is read as a table.
// oxfmt-ignore
const table: { readonly [K in KindName]?: CrdKind } = {
  NetworkPolicy: people('Rules for the endpoints of one namespace.', ['cnp', 'caliconetworkpolicy', 'caliconetworkpolicies'], policyColumns),
  GlobalNetworkPolicy: people('Rules for endpoints of all namespaces and for host endpoints.', ['gnp', 'cgnp', 'calicoglobalnetworkpolicies'], policyColumns),
  StagedNetworkPolicy: people('A NetworkPolicy on trial: it is evaluated and counted, and decides nothing.', ['snp'], stagedColumns),
  StagedGlobalNetworkPolicy: people('A GlobalNetworkPolicy on trial: it is evaluated and counted, and decides nothing.', ['sgnp'], stagedColumns),
  StagedKubernetesNetworkPolicy: people('A Kubernetes NetworkPolicy on trial: it is evaluated and counted, and decides nothing.', ['sknp'], [column('Action', '.spec.stagedAction'), age]),
  ClusterNetworkPolicy: { ...people('Rules for pods of all namespaces, before or after what namespaces say themselves.', ['cnp'], [column('Tier', '.spec.tier'), column('Priority', '.spec.priority', 'integer'), age]), approval: 'https://github.com/kubernetes-sigs/network-policy-api/pull/300' },
  Tier: people('A stage of policy evaluation: the policies that name it are evaluated together.', [], [column('Order', '.spec.order', 'number'), column('DefaultAction', '.spec.defaultAction'), age]),
  NetworkSet: people('Networks with labels, which selectors find like endpoints of the namespace.', ['netsets'], [age]),
  GlobalNetworkSet: people('Networks with labels, which selectors find like endpoints of no namespace.', ['gns'], [age]),
  HostEndpoint: people("A host's own interface.", ['hep', 'heps'], [column('Node', '.spec.node'), column('Interface', '.spec.interfaceName'), age]),
  Profile: people('Rules and labels for the endpoints that name it.', [], [age]),
  WorkloadEndpoint: programs("A container's interface on a node.", ['wep', 'weps'], [column('Node', '.spec.node'), column('Networks', '.spec.ipNetworks'), column('Interface', '.spec.interfaceName'), age]),
  IPPool: people('A range that addresses are given from, and how its traffic travels.', [], [column('CIDR', '.spec.cidr'), column('VXLAN', '.spec.vxlanMode'), column('NAT', '.spec.natOutgoing', 'boolean'), column('Disabled', '.spec.disabled', 'boolean'), age]),
  IPReservation: people('Addresses that are never given automatically.', [], [column('CIDRs', '.spec.reservedCIDRs'), age]),
  IPAMConfiguration: people('How addresses are managed in the whole cluster; one object, named default.', ['ipamconfig'], [column('StrictAffinity', '.spec.strictAffinity', 'boolean'), age]),
  IPAMBlock: programs('A block of addresses, and which of them are in use.', [], [column('CIDR', '.spec.cidr'), column('Affinity', '.spec.affinity')]),
  BlockAffinity: programs("A node's claim to a block.", ['affinity', 'affinities'], [column('CIDR', '.spec.cidr'), column('Node', '.spec.node'), column('State', '.spec.state')]),
  IPAMHandle: programs('Which blocks hold addresses of one handle.', [], [column('Handle', '.spec.handleID')]),
  FelixConfiguration: programs("The agent's settings: default for all nodes, node.NAME for one.", ['felixconfig', 'felixconfigs'], [column('BPF', '.spec.bpfEnabled', 'boolean'), age]),
  BGPConfiguration: programs("Settings of BGP, of which the services' ranges are used.", ['bgpconfig', 'bgpconfigs'], [age]),
  ClusterInformation: programs('What is so of the whole cluster; one object, named default.', ['clusterinfo'], [column('Ready', '.spec.datastoreReady', 'boolean'), age]),
};

/** API groups whose kinds need a definition; those of others are there in every Kubernetes. */
const definedGroups = new Set(['projectcalico.org', 'policy.networking.k8s.io']);

/** Every kind that needs a definition, in the order of the table of kinds. Throws for one without a row, or a row without a kind. */
export function crdKinds(): ReadonlyMap<KindName, CrdKind> {
  const defined = (Object.keys(kinds) as KindName[]).filter((kind) =>
    definedGroups.has(kinds[kind].apiVersion.split('/')[0] ?? ''),
  );
  const missing = defined.filter((kind) => table[kind] === undefined);
  const left = (Object.keys(table) as KindName[]).filter((kind) => !defined.includes(kind));
  if (missing.length + left.length > 0) {
    throw new Error(
      `scripts/crds/kinds.ts: no row for ${missing.join(', ') || 'none'}; no kind for ${left.join(', ') || 'none'}`,
    );
  }
  return new Map(defined.map((kind) => [kind, table[kind] as CrdKind]));
}
