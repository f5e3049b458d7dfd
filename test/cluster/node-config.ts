/** Configuration files of a node's programs, each with what a node that is only a namespace needs to be said. */

/** Address ranges of a cluster, IPv4 first. */
export interface ClusterRanges {
  readonly pods: readonly string[];
  readonly services: readonly string[];
  /** The name server's Service. */
  readonly dns: string;
}

/** `config.toml` of containerd 1.6 and 1.7. Its directories are at their usual places: each node has its own there. */
export function containerdConfig(sandboxImage: string): string {
  return `version = 2
# Root without CAP_SYS_RESOURCE, as in a container, may not lower anybody's score; runc would die of it.
oom_score = 0
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${sandboxImage}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
`;
}

/** KubeletConfiguration. */
export function kubeletConfig(ranges: ClusterRanges): object {
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    // Who reaches its port is on this machine and has the administrator's token there anyway: no certificates to make.
    authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
    authorization: { mode: 'AlwaysAllow' },
    clusterDNS: [ranges.dns],
    clusterDomain: 'cluster.local',
    resolvConf: '',
    failSwapOn: false,
    // A node shares its machine's controllers with everything else there: no reservation, no guarantee.
    failCgroupV1: false,
    cgroupDriver: 'cgroupfs',
    cgroupsPerQOS: false,
    enforceNodeAllocatable: [],
    evictionHard: { 'memory.available': '50Mi', 'nodefs.available': '1%', 'imagefs.available': '1%' },
    imageGCHighThresholdPercent: 100,
    containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
    volumePluginDir: '/var/lib/kubelet/volume-plugins',
    oomScoreAdj: 0,
    maxPods: 110,
    // What a small cluster can bear, and tests needn't wait for: 5 and 10 are the defaults.
    kubeAPIQPS: 50,
    kubeAPIBurst: 100,
    syncFrequency: '10s',
    nodeStatusUpdateFrequency: '4s',
  };
}

/** KubeProxyConfiguration. */
export function proxyConfig(node: string, ranges: ClusterRanges, kubeconfig: string): object {
  return {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    mode: 'iptables',
    hostnameOverride: node,
    clusterCIDR: ranges.pods.join(','),
    clientConnection: { kubeconfig },
    // The machine's own limit holds for all of its namespaces, and can't be set from one.
    conntrack: { maxPerCore: 0 },
    iptables: { minSyncPeriod: '100ms' },
    oomScoreAdj: 0,
  };
}
