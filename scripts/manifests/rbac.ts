/**
 * What the agent may do at the API, in one list with a reason for each line: the roles of the manifest are made of it, and a test compares it
 * with what the agent's parts read and write. No secrets, no wildcards, and of ConfigMaps and Leases only those that are named here.
 */
import { kinds, type KindName } from '#api/kinds.ts';
import { configMapName, leaseName, namespace, nodeName } from './names.ts';
import type { Documented } from './render.ts';

export type Verb = 'get' | 'list' | 'watch' | 'create' | 'update' | 'patch' | 'delete';

/** One right. */
export interface Access {
  readonly kinds: readonly KindName[];
  readonly subresource?: 'status';
  readonly verbs: readonly Verb[];
  /** Only these objects, in `namespace`; else all of the cluster. */
  readonly names?: readonly string[];
  /** True: in our namespace only, though no name can be given (a `create` has none). */
  readonly ownNamespace?: true;
  /** Why, as it stands in the manifest. */
  readonly reason: string;
}

const follow: readonly Verb[] = ['list', 'watch'];

/** The whole list. */
export const access: readonly Access[] = [
  {
    kinds: ['Node', 'Pod', 'Namespace', 'ServiceAccount'],
    verbs: ['get', ...follow],
    reason:
      'Routes follow Nodes; policies select Pods by their own labels and those of Namespace and ServiceAccount. An ADD gets what its watch has not brought yet.',
  },
  {
    kinds: ['EndpointSlice'],
    verbs: follow,
    reason: 'Rules that name Services; and who answers for a Service.',
  },
  {
    kinds: ['Service'],
    verbs: follow,
    reason: 'Where Services are reached, for a dataplane that sends their traffic on itself.',
  },
  {
    kinds: ['KubernetesNetworkPolicy'],
    verbs: follow,
    reason: "Kubernetes' own policies.",
  },
  {
    kinds: ['ClusterNetworkPolicy'],
    verbs: follow,
    reason: 'The same for the whole cluster, where the cluster has them.',
  },
  {
    kinds: [
      'NetworkPolicy',
      'GlobalNetworkPolicy',
      'StagedNetworkPolicy',
      'StagedGlobalNetworkPolicy',
      'StagedKubernetesNetworkPolicy',
      'NetworkSet',
      'GlobalNetworkSet',
      'HostEndpoint',
      'Profile',
      'BGPConfiguration',
      'IPReservation',
    ],
    verbs: follow,
    reason: 'What people write for Tortie.',
  },
  {
    kinds: ['IPPool', 'Tier', 'FelixConfiguration'],
    verbs: [...follow, 'create'],
    reason: 'The same; and agents create the defaults that are missing. They never change one that is there.',
  },
  {
    kinds: ['ClusterInformation', 'IPAMConfiguration'],
    verbs: ['get', ...follow, 'create'],
    reason: 'The same; what an agent must not decide by what it has seen a while ago, it gets.',
  },
  {
    kinds: ['IPAMBlock'],
    verbs: ['get', ...follow, 'create', 'update', 'delete'],
    reason: 'Addresses: agents give them out of blocks and take them back; routes follow blocks.',
  },
  {
    kinds: ['BlockAffinity', 'IPAMHandle'],
    verbs: ['get', 'list', 'create', 'update', 'delete'],
    reason: 'Which node has which block, and which pod has which addresses.',
  },
  {
    kinds: ['Pod'],
    subresource: 'status',
    verbs: ['patch'],
    reason: "A Pod's addresses as annotations, some time before the kubelet reports them.",
  },
  {
    kinds: ['Node'],
    subresource: 'status',
    verbs: ['patch'],
    reason: "The Node's annotations, and its condition NetworkUnavailable.",
  },
  {
    kinds: ['ConfigMap'],
    names: [configMapName, 'kubeadm-config'],
    verbs: ['get'],
    reason: "The pods' ranges, before the first IPPool is made.",
  },
  {
    kinds: ['Lease'],
    names: [leaseName],
    verbs: ['get', 'update'],
    reason: 'One agent at a time collects what nodes that are gone have left.',
  },
  {
    kinds: ['Lease'],
    ownNamespace: true,
    verbs: ['create'],
    reason: 'That Lease, the first time (a right to create knows no names).',
  },
];

/** A rule as the API has it. */
interface PolicyRule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly Verb[];
}

/** `''` for Kubernetes' first group. */
function groupOf(kind: KindName): string {
  const { apiVersion } = kinds[kind];
  return apiVersion.includes('/') ? apiVersion.slice(0, apiVersion.indexOf('/')) : '';
}

function ruleOf({ kinds: names, subresource, verbs, names: resourceNames }: Access): PolicyRule {
  return {
    apiGroups: [...new Set(names.map(groupOf))],
    resources: names.map((kind) => kinds[kind].plural + (subresource === undefined ? '' : `/${subresource}`)),
    ...(resourceNames === undefined ? {} : { resourceNames }),
    verbs,
  };
}

function isOfOwnNamespace({ names, ownNamespace }: Access): boolean {
  return names !== undefined || ownNamespace === true;
}

/** One role with its rules and, beside each, its reason. */
function roleOf(kind: 'ClusterRole' | 'Role', entries: readonly Access[]): Documented {
  return {
    object: {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind,
      metadata: kind === 'Role' ? { name: nodeName, namespace } : { name: nodeName },
      rules: entries.map(ruleOf),
    },
    comments: new Map(entries.map(({ reason }, index) => [['rules', index], reason] as const)),
  };
}

function bindingOf(kind: 'ClusterRole' | 'Role'): Documented {
  return {
    object: {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: `${kind}Binding`,
      metadata: kind === 'Role' ? { name: nodeName, namespace } : { name: nodeName },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind, name: nodeName },
      subjects: [{ kind: 'ServiceAccount', name: nodeName, namespace }],
    },
  };
}

/** Account, roles and bindings of the agent. */
export function rbacObjects(): readonly Documented[] {
  return [
    {
      head: 'Who the agents are at the API, and what they may do there.',
      object: { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: nodeName, namespace } },
    },
    roleOf(
      'ClusterRole',
      access.filter((entry) => !isOfOwnNamespace(entry)),
    ),
    bindingOf('ClusterRole'),
    roleOf('Role', access.filter(isOfOwnNamespace)),
    bindingOf('Role'),
  ];
}
