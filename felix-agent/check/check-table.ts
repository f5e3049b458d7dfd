import type { Severity } from './result.ts';

/** One check: what it asks of the node. `docs/check.md` is generated from the table below. */
export interface CheckInfo {
  readonly group: 'kernel' | 'iptables' | 'eBPF' | 'sysctls' | 'node';
  /** The question that `yes` answers. */
  readonly asks: string;
  readonly disables: string;
  readonly todo: string;
  readonly severity: Severity;
  /** Only this dataplane needs it: where another one is wanted, `no` is a note. */
  readonly dataplane?: 'iptables' | 'ebpf';
}

const installModules = 'load the module, or boot a kernel that has the option named';
const newerKernel = 'boot a newer kernel: Linux 6.6 has all of it';
const perhapsNewerKernel = `nothing, or ${newerKernel}`;

/** Every check, once. */
export const checkTable = {
  namespaces: {
    group: 'kernel',
    asks: 'A network namespace can be made.',
    disables: 'pods, and this check: kernel features are tried in a namespace of their own',
    todo: 'run it as root, with all capabilities',
    severity: 'blocks',
  },
  veth: {
    group: 'kernel',
    asks: 'veth devices can be made (CONFIG_VETH).',
    disables: 'every pod: its network is a veth pair',
    todo: installModules,
    severity: 'blocks',
  },
  vxlan: {
    group: 'kernel',
    asks: 'VXLAN devices can be made (CONFIG_VXLAN).',
    disables: 'IPPools with vxlanMode; unencapsulated pools work without it',
    todo: installModules,
    severity: 'note',
  },
  ipv6: {
    group: 'kernel',
    asks: 'The kernel has IPv6, and it is not switched off.',
    disables: 'IPv6 addresses for pods',
    todo: 'set ipv6Support: false in FelixConfiguration and have no IPv6 pool, or take ipv6.disable=1 from the kernel command line and set net.ipv6.conf.all.disable_ipv6=0',
    severity: 'note',
  },
  conntrack: {
    group: 'kernel',
    asks: 'Connection tracking can be read over netlink (CONFIG_NF_CT_NETLINK).',
    disables:
      "the end of an address' old connections: while they can't be flushed the address is not given to another pod",
    todo: installModules,
    severity: 'blocks',
    dataplane: 'iptables',
  },
  ipset: {
    group: 'iptables',
    asks: 'Sets of each type that rules use can be made (CONFIG_IP_SET_HASH_NET, _NETIFACE, _IPPORT).',
    disables:
      'the iptables dataplane: selectors, named ports and source checks are sets; and natOutgoing in both dataplanes',
    todo: installModules,
    severity: 'blocks',
  },
  'iptables-tools': {
    group: 'iptables',
    asks: 'A variant of iptables is installed and works.',
    disables: 'the iptables dataplane, and natOutgoing in both dataplanes',
    todo: 'install the package iptables (the image has it)',
    severity: 'blocks',
  },
  'iptables-rules': {
    group: 'iptables',
    asks: 'The kernel takes rules with every match and target that the iptables dataplane uses.',
    disables: 'the iptables dataplane: its rules are written a table at a time, or not at all',
    todo: installModules,
    severity: 'blocks',
    dataplane: 'iptables',
  },
  'iptables-variants': {
    group: 'iptables',
    asks: "Not both variants of iptables, legacy and nft, hold others' rules.",
    disables: 'nothing by itself; but a packet has to be accepted by both, and people look for rules in the wrong one',
    todo: 'find out who writes the fewer rules (iptables-legacy-save, iptables-nft-save) and have all use one variant; iptablesBackend in FelixConfiguration says which one Tortie takes',
    severity: 'note',
  },
  'forward-policy': {
    group: 'iptables',
    asks: 'No table that Tortie does not write to drops what is forwarded.',
    disables: 'all packets from and to pods that the node forwards',
    todo: 'have that table accept what comes from or goes to cali* devices, or remove it; in iptables have all programs use one variant',
    severity: 'blocks',
  },
  bpf: {
    group: 'eBPF',
    asks: 'bpf(2) is there and allowed (CONFIG_BPF_SYSCALL).',
    disables: 'the eBPF dataplane',
    todo: 'run it as root with CAP_BPF and CAP_NET_ADMIN, or boot a kernel with CONFIG_BPF_SYSCALL',
    severity: 'blocks',
    dataplane: 'ebpf',
  },
  'bpf-maps': {
    group: 'eBPF',
    asks: 'The kernel has the types of map that programs use.',
    disables: 'the eBPF dataplane',
    todo: newerKernel,
    severity: 'blocks',
    dataplane: 'ebpf',
  },
  'bpf-pods': {
    group: 'eBPF',
    asks: 'Traffic control programs can be loaded and attached: sched_cls, clsact (CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_BPF).',
    disables: 'the eBPF dataplane: everything a pod sends and gets goes through such a program',
    todo: newerKernel,
    severity: 'blocks',
    dataplane: 'ebpf',
  },
  'bpf-helpers': {
    group: 'eBPF',
    asks: 'Programs may call what shortens the way to a pod and sweeps tables.',
    disables: 'the eBPF dataplane: redirection past the stack, lookup of rules, sweep of connections',
    todo: perhapsNewerKernel,
    severity: 'blocks',
    dataplane: 'ebpf',
  },
  'bpf-softirqs': {
    group: 'eBPF',
    asks: 'A CPU ends its work on a packet before it begins with the next: no PREEMPT_RT kernel, or one that is older than 6.18 or has CONFIG_PREEMPT_RT_NEEDS_BH_LOCK.',
    disables:
      'the eBPF dataplane: its programs keep what they know of a packet by CPU, and one packet could be judged as another',
    todo: 'boot a kernel without PREEMPT_RT or with CONFIG_PREEMPT_RT_NEEDS_BH_LOCK=y, or stay with the iptables dataplane (bpfEnabled: false)',
    severity: 'blocks',
    dataplane: 'ebpf',
  },
  'bpf-tcx': {
    group: 'eBPF',
    asks: 'tcx links can be attached (Linux 6.6).',
    disables:
      'the order among programs of several owners on a host device (clsact is used instead), and pods with a limit of bandwidth on what they send (their ADD fails in eBPF mode)',
    todo: perhapsNewerKernel,
    severity: 'note',
    dataplane: 'ebpf',
  },
  'bpf-xdp': {
    group: 'eBPF',
    asks: 'XDP programs can be loaded, and run with frames that are sent on (live frames, Linux 5.18).',
    disables:
      'untracked (doNotTrack) policy in the driver or before the stack: it acts in tc then; the packet generator of the tests',
    todo: perhapsNewerKernel,
    severity: 'note',
    dataplane: 'ebpf',
  },
  'bpf-cgroup': {
    group: 'eBPF',
    asks: 'A cgroup2 tree is mounted, and programs can be attached to it (CONFIG_CGROUP_BPF).',
    disables: 'load balancing at connect time; this version does not use it',
    todo: 'mount a cgroup2 tree (any place will do), or boot a kernel with CONFIG_CGROUP_BPF',
    severity: 'note',
    dataplane: 'ebpf',
  },
  'bpf-btf': {
    group: 'eBPF',
    asks: 'The kernel has type information (CONFIG_DEBUG_INFO_BTF).',
    disables: 'programs that read kernel structures, and socket destruction; this version has none',
    todo: 'boot a kernel with CONFIG_DEBUG_INFO_BTF',
    severity: 'note',
    dataplane: 'ebpf',
  },
  bpffs: {
    group: 'eBPF',
    asks: 'Programs and maps can be pinned: a bpf file system is mounted and writable, or can be mounted.',
    disables: 'the eBPF dataplane: its programs outlive the agent by their pins',
    todo: "mount a bpf file system at /sys/fs/bpf; in a container mount the host's, with mountPropagation Bidirectional",
    severity: 'blocks',
    dataplane: 'ebpf',
  },
  'bpf-memory': {
    group: 'eBPF',
    asks: 'Maps do not count against RLIMIT_MEMLOCK (Linux 5.11), or it is high enough.',
    disables: 'large maps of the eBPF dataplane: it fails with EPERM when a node has many pods',
    todo: 'set LimitMEMLOCK=infinity in the service of containerd (or ulimit -l unlimited)',
    severity: 'degrades',
    dataplane: 'ebpf',
  },
  'bpf-jit': {
    group: 'eBPF',
    asks: 'Programs are compiled (net.core.bpf_jit_enable).',
    disables: 'the speed of the eBPF dataplane: an interpreted program takes several times as long',
    todo: 'sysctl -w net.core.bpf_jit_enable=1',
    severity: 'degrades',
    dataplane: 'ebpf',
  },
  'bpf-unprivileged': {
    group: 'eBPF',
    asks: 'Only privileged programs may use bpf(2) (kernel.unprivileged_bpf_disabled).',
    disables: 'nothing of Tortie; any user of the node can load programs, which has been a way to root before',
    todo: 'sysctl -w kernel.unprivileged_bpf_disabled=2',
    severity: 'note',
  },
  forwarding: {
    group: 'sysctls',
    asks: 'The node forwards packets (net.ipv4.ip_forward, net.ipv6.conf.all.forwarding), or the agent can make it so.',
    disables: 'all packets between a pod and anything else than its own node',
    todo: 'give the agent a writable /proc/sys (privileged: true), or set it yourself in /etc/sysctl.d',
    severity: 'blocks',
  },
  'rp-filter': {
    group: 'sysctls',
    asks: 'The reverse path filter of uplinks is off or loose (net.ipv4.conf.*.rp_filter; the higher of all and the device counts, 1 is strict).',
    disables:
      'packets that come in by another device than the answer goes out by: several uplinks, tunnels, direct return. The kernel drops them and counts only TcpExtIPReversePathFilter',
    todo: 'sysctl -w net.ipv4.conf.all.rp_filter=2, and the same in /etc/sysctl.d, unless every packet has one way in and the same way out',
    severity: 'degrades',
  },
  'conntrack-room': {
    group: 'sysctls',
    asks: 'The table of connections has room (net.netfilter.nf_conntrack_count below 80 % of nf_conntrack_max).',
    disables: 'new connections of everybody on the node: at the limit the kernel drops their first packets',
    todo: 'sysctl -w net.netfilter.nf_conntrack_max=... to twice the count; kube-proxy sets it from conntrack.maxPerCore and conntrack.min',
    severity: 'degrades',
  },
  firewalld: {
    group: 'node',
    asks: 'firewalld is not active.',
    disables:
      "forwarding for pods and access to the node's ports: its tables reject what no zone allows, after Tortie has accepted it",
    todo: 'systemctl disable --now firewalld',
    severity: 'blocks',
  },
  ufw: {
    group: 'node',
    asks: 'ufw is not active.',
    disables:
      "what its INPUT rules don't allow: other nodes' and pods' connections to this node (kubelet 10250, health 9099, metrics 9091, NodePorts served by the node itself)",
    todo: 'ufw disable, or allow these ports (ufw allow), and say the same in a GlobalNetworkPolicy for host endpoints',
    severity: 'degrades',
  },
  'network-manager': {
    group: 'node',
    asks: "NetworkManager isn't running, or leaves cali* devices alone.",
    disables: "routes and addresses of pods' devices, from time to time: it configures devices that appear",
    todo: 'write /etc/NetworkManager/conf.d/tortie.conf with the lines "[keyfile]" and "unmanaged-devices+=interface-name:cali*", then systemctl reload NetworkManager',
    severity: 'degrades',
  },
  networkd: {
    group: 'node',
    asks: "systemd-networkd isn't running, or leaves cali* devices alone.",
    disables: "pods' devices: it gives them addresses and takes their routes away",
    todo: 'write /etc/systemd/network/00-tortie.network with the lines "[Match]", "Name=cali*", "[Link]", "Unmanaged=yes", then networkctl reload',
    severity: 'degrades',
  },
  'networkd-routes': {
    group: 'node',
    asks: "systemd-networkd isn't running, or leaves routes that it didn't make (ManageForeignRoutes).",
    disables:
      "routes to other nodes' pods, each time systemd-networkd is restarted or reloads: it removes them, and they are gone until the agent, if it runs, puts them back",
    todo: 'write /etc/systemd/networkd.conf.d/tortie.conf with the lines "[Network]", "ManageForeignRoutes=no", then systemctl restart systemd-networkd',
    severity: 'degrades',
  },
  'cni-conf': {
    group: 'node',
    asks: "No other CNI configuration comes before Tortie's (10-tortie.conflist): the runtime takes the first by name.",
    disables: 'Tortie, for every new pod on this node: another plugin wires it, and no policy holds',
    todo: 'remove the file (uninstall the other plugin first), then make the pods on this node anew',
    severity: 'blocks',
  },
  'cni-directories': {
    group: 'node',
    asks: 'The directories that the runtime reads (/opt/cni/bin, /etc/cni/net.d) can be written.',
    disables: 'the install: the runtime finds no plugin, and the node stays NotReady',
    todo: "mount the directories from the host, writable; where the host's are read-only, set the runtime's bin_dir and conf_dir to others",
    severity: 'blocks',
  },
  'other-plugin': {
    group: 'node',
    asks: "No other network plugin's agent is running.",
    disables:
      "whatever both program: each takes the other's rules, routes and devices for leftovers of its own or for errors",
    todo: 'uninstall the other plugin (remove its DaemonSet), then restart the node or clean up what it left',
    severity: 'blocks',
  },
  leftovers: {
    group: 'node',
    asks: 'No devices or rules of another network plugin are left.',
    disables: "pods' packets that the leftover rules and routes still catch",
    todo: 'restart the node after the other plugin is gone; that removes devices, routes and rules',
    severity: 'degrades',
  },
  'kube-proxy': {
    group: 'node',
    asks: 'kube-proxy is there, in one mode.',
    disables:
      'Services: node ports, external and load balancer addresses; in iptables mode cluster IPs too (in eBPF mode pods and the node itself reach those without it)',
    todo: 'install kube-proxy, mode iptables or nftables; after a change of its mode run kube-proxy --cleanup once, or restart the node',
    severity: 'degrades',
  },
  ports: {
    group: 'node',
    asks: "The agent's ports are its own: health (healthPort, 9099) and metrics (prometheusMetricsPort, 9091).",
    disables: 'health checks (the kubelet restarts the agent) or metrics',
    todo: 'stop the other program, or set the port in FelixConfiguration',
    severity: 'degrades',
  },
  mtu: {
    group: 'node',
    asks: "Pods' devices have no larger MTU than the uplinks.",
    disables: 'large packets of these pods: they are fragmented or dropped on the way',
    todo: "make these pods anew: they get the uplink's MTU; have all uplinks carry the same MTU",
    severity: 'degrades',
  },
  modules: {
    group: 'node',
    asks: "The running kernel's modules are there (/lib/modules), as far as they are needed.",
    disables: 'the kernel features above that say no: perhaps they only lack their module',
    todo: 'install the modules of the running kernel; in a container mount /lib/modules from the host',
    severity: 'note',
  },
  'xtables-lock': {
    group: 'node',
    asks: "The lock of iptables (/run/xtables.lock) is the host's.",
    disables: 'the legacy variant of iptables: two programs that write at once lose rules',
    todo: 'mount /run/xtables.lock from the host into the container',
    severity: 'degrades',
    dataplane: 'iptables',
  },
} as const satisfies Readonly<Record<string, CheckInfo>>;

export type CheckId = keyof typeof checkTable;
