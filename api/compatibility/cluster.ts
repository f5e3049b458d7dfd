/** Rows of the kinds that manage addresses and the cluster, and of Kubernetes' own kinds, of which we hold only what we use. */
import type { KindName } from '../kinds.ts';
import { conditionsRows } from './shared.ts';
import { each, kept, no, partly, under, yes, yesBut, type FieldTable } from './row.ts';

const noOverlay = 'no overlay yet: traffic between nodes goes as it is, by routes';
const noBgp = 'no BGP';
const ours = 'our own record, in the shape that other programs of Calico read';

const container = (path: string): FieldTable => ({
  [`${path}.name`]: kept('for people'),
  ...each(
    yes,
    `${path}.ports[].name`,
    `${path}.ports[].containerPort`,
    `${path}.ports[].protocol`,
    `${path}.restartPolicy`,
  ),
  ...each(
    kept('the CNI plugin portmap is asked by the runtime itself'),
    `${path}.ports[].hostPort`,
    `${path}.ports[].hostIP`,
  ),
});

export const clusterTables = {
  IPPool: {
    ...each(yes, 'spec.cidr', 'spec.natOutgoing', 'spec.disabled', 'spec.blockSize', 'spec.nodeSelector'),
    ...each(yes, 'spec.namespaceSelector', 'spec.assignmentMode'),
    ...each(no(noOverlay, 'Never'), 'spec.vxlanMode', 'spec.ipipMode'),
    'spec.disableBGPExport': no(noBgp),
    'spec.allowedUses': partly(
      'Workload; there are no tunnels and no addresses for load balancers',
      ['Workload'],
      ['Workload', 'Tunnel'],
    ),
    ...under('status', conditionsRows),
  },
  IPReservation: { 'spec.reservedCIDRs': yes },
  IPAMConfiguration: {
    ...each(yes, 'spec.strictAffinity', 'spec.maxBlocksPerHost', 'spec.autoAllocateBlocks', 'spec.ipCooldownSeconds'),
    'spec.kubeVirtVMAddressPersistence': no('no KubeVirt support', 'Disabled'),
  },
  IPAMBlock: {
    ...each(
      yesBut(ours),
      'spec.cidr',
      'spec.affinity',
      'spec.affinityClaimTime',
      'spec.allocations',
      'spec.unallocated',
      'spec.attributes[].handle_id',
      'spec.attributes[].secondary',
      'spec.attributes[].releasedAt',
      'spec.sequenceNumber',
      'spec.sequenceNumberForAllocation',
      'spec.deleted',
    ),
    'spec.attributes[].alternate': kept('a second owner during a migration of KubeVirt, which others write'),
    'spec.strictAffinity': kept('without meaning in Calico too'),
  },
  BlockAffinity: each(yesBut(ours), 'spec.state', 'spec.node', 'spec.type', 'spec.cidr', 'spec.deleted'),
  IPAMHandle: each(yesBut(ours), 'spec.handleID', 'spec.block', 'spec.deleted'),
  WorkloadEndpoint: {
    ...each(
      yesBut(ours),
      'spec.orchestrator',
      'spec.workload',
      'spec.node',
      'spec.containerID',
      'spec.pod',
      'spec.endpoint',
      'spec.serviceAccountName',
      'spec.ipNetworks',
      'spec.profiles',
      'spec.interfaceName',
      'spec.mac',
      'spec.ports[].name',
      'spec.ports[].protocol',
      'spec.ports[].port',
      'spec.allowSpoofedSourcePrefixes',
    ),
    ...each(
      kept('written for others'),
      'spec.ipv4Gateway',
      'spec.ipv6Gateway',
      'spec.ports[].hostPort',
      'spec.ports[].hostIP',
    ),
    ...each(no('no floating IPs yet'), 'spec.ipNATs[].internalIP', 'spec.ipNATs[].externalIP'),
  },
  ClusterInformation: {
    'spec.datastoreReady': yes,
    ...each(
      kept('for people and other programs'),
      'spec.clusterGUID',
      'spec.clusterType',
      'spec.calicoVersion',
      'spec.variant',
    ),
  },
  BGPConfiguration: {
    ...each(
      yesBut(
        "of the object default: where the services' addresses are, for serviceLoopPrevention; in eBPF mode also which are left to kube-proxy",
      ),
      'spec.serviceClusterIPs[].cidr',
      'spec.serviceExternalIPs[].cidr',
      'spec.serviceLoadBalancerIPs[].cidr',
    ),
    ...each(
      no(noBgp),
      'spec.logSeverityScreen',
      'spec.nodeToNodeMeshEnabled',
      'spec.asNumber',
      'spec.listenPort',
      'spec.bindMode',
      'spec.communities[].name',
      'spec.communities[].value',
      'spec.prefixAdvertisements[].cidr',
      'spec.prefixAdvertisements[].communities',
      'spec.nodeMeshPassword.secretKeyRef.name',
      'spec.nodeMeshPassword.secretKeyRef.key',
      'spec.nodeMeshPassword.secretKeyRef.optional',
      'spec.nodeMeshMaxRestartTime',
      'spec.ignoredInterfaces',
      'spec.localWorkloadPeeringIPV4',
      'spec.localWorkloadPeeringIPV6',
    ),
  },
  Node: {
    ...each(yes, 'status.addresses[].type', 'status.addresses[].address'),
    ...each(
      yesBut('NetworkUnavailable is set to False where it is not'),
      'status.conditions[].type',
      'status.conditions[].status',
    ),
    ...each(
      yesBut('only to find the range of the first IPPool; addresses come from IPPools'),
      'spec.podCIDR',
      'spec.podCIDRs',
    ),
  },
  Pod: {
    ...each(
      yes,
      'spec.nodeName',
      'spec.serviceAccountName',
      'spec.hostNetwork',
      'status.phase',
      'status.podIP',
      'status.podIPs[].ip',
    ),
    ...container('spec.containers[]'),
    ...container('spec.initContainers[]'),
  },
  Namespace: {},
  ServiceAccount: {},
  ConfigMap: { data: yesBut('of tortie-config and kubeadm-config in kube-system') },
  Lease: each(
    yesBut('of tortie-controllers in kube-system: which agent collects for nodes that are gone'),
    'spec.holderIdentity',
    'spec.leaseDurationSeconds',
    'spec.acquireTime',
    'spec.renewTime',
    'spec.leaseTransitions',
  ),
  Service: {
    'spec.type': kept("node ports and load balancers are kube-proxy's"),
    ...each(
      yesBut("in eBPF mode, for pods and the node's own processes; everything else of Services is kube-proxy's"),
      'spec.clusterIP',
      'spec.clusterIPs',
      'spec.internalTrafficPolicy',
      'spec.ports[].name',
      'spec.ports[].protocol',
      'spec.ports[].port',
    ),
    ...each(
      kept(
        'kube-proxy acts on it; in eBPF mode each connection that Tortie leads gets any backend, and `tortie services` says so',
      ),
      'spec.sessionAffinity',
      'spec.sessionAffinityConfig.clientIP.timeoutSeconds',
    ),
  },
  EndpointSlice: {
    ...each(yes, 'addressType', 'endpoints[].addresses', 'ports[].protocol', 'ports[].port'),
    ...each(
      kept('rules with services take every address, ready or not'),
      'endpoints[].conditions.ready',
      'endpoints[].conditions.serving',
      'endpoints[].conditions.terminating',
    ),
    ...each(kept('no traffic is sent by it'), 'endpoints[].nodeName', 'endpoints[].zone', 'ports[].name'),
  },
} satisfies { readonly [K in KindName]?: FieldTable };
