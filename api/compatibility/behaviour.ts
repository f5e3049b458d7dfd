/** Where Tortie does something else than Calico with the same objects, and why. */

/** One difference. */
export interface Difference {
  readonly area: 'Policy' | 'Host endpoints' | 'Addresses' | 'Settings' | 'CNI' | 'Dataplanes' | 'Operation' | 'API';
  readonly calico: string;
  readonly tortie: string;
  readonly why: string;
}

// A row a line, however long: it is read as a table.
// oxfmt-ignore
export const differences: readonly Difference[] = [
  { area: 'Policy', calico: 'An invalid policy counts as absent: what it denied is open.', tortie: 'Its last valid version stays in force; without one, the directions in its `types` are denied for what its selector selects. Only if the selector is what is wrong it is ignored.', why: 'a mistake must not open anything' },
  { area: 'Policy', calico: 'A rule with `http` is enforced by the Envoy sidecar.', tortie: 'An Allow rule with `http` allows nothing, and status says so.', why: 'without it the rule would allow more than it says' },
  { area: 'Policy', calico: 'Each endpoint has chains (or programs) of its own.', tortie: 'Endpoints with equal lists of tiers and profiles share one unit: chains `cali-tu-…` and `cali-fu-…`, and an IP set of address and device.', why: 'a new pod with a known list is one set member, not a rewrite of rules' },
  { area: 'Policy', calico: 'A pod may send before its policy is programmed, unless it is made to wait.', tortie: 'ADD returns when the policy is in the kernel.', why: 'no packet before policy' },
  { area: 'Policy', calico: 'ClusterNetworkPolicy: peers of all kinds.', tortie: 'Peers `nodes` and `domainNames` are not supported: an Accept rule with one matches nothing, a Deny or Pass rule denies everything.', why: 'the API demands it of what is not supported' },
  { area: 'Policy', calico: 'Fields of a rule that nobody knows are ignored.', tortie: 'An Allow rule with one allows nothing, a Pass rule with one denies; status names the field.', why: 'a misspelt field would let the rule match more than it says' },
  { area: 'Policy', calico: 'A Kubernetes NetworkPolicy with a bad rule loses that rule.', tortie: 'It is invalid as a whole: see the first row.', why: 'half a policy is not what was meant' },
  { area: 'Policy', calico: 'A Kubernetes NetworkPolicy without `policyTypes` in the files datastore isolates ingress only.', tortie: 'It has the API server\'s default: egress, too, if it has egress rules.', why: 'the same file means the same with and without an API server' },
  { area: 'Policy', calico: '`notSelector` is folded into the selector.', tortie: 'It is a set of its own: an address is excluded if anybody whom it selects has it.', why: 'differs only for addresses with several owners' },
  { area: 'Policy', calico: 'A named port in a rule without a protocol is refused by newer validators.', tortie: 'It means TCP.', why: 'older objects have it' },
  { area: 'Policy', calico: '`notICMP` together with another protocol\'s `notProtocol` is enforced.', tortie: 'Not supported: an Allow rule with both allows nothing, a Deny rule denies everything.', why: 'one rule of the kernel can\'t say it' },
  { area: 'Policy', calico: 'ClusterNetworkPolicy: peers by `namespaces` include network sets.', tortie: 'Pods only.', why: 'the API speaks of pods' },
  { area: 'Policy', calico: 'A pod\'s own label `pcns.x` or `pcsa.x` counts as its namespace\'s or service account\'s `x`.', tortie: 'Such a label of a pod or NetworkSet is ignored, as are `projectcalico.org/namespace`, `/orchestrator` and `/serviceaccount`.', why: 'who may label a pod must not choose its namespace' },
  { area: 'Host endpoints', calico: 'Forwarded traffic that no applyOnForward policy selects is accepted at the end of FORWARD.', tortie: 'Others\' rules decide on it, as without Tortie.', why: 'what is not ours is left alone' },
  { area: 'Policy', calico: 'serviceLoopPrevention acts before others\' rules in FORWARD: a service without endpoints does not answer.', tortie: 'It acts after them: kube-proxy refuses such connections.', why: 'a refusal is seen at once, silence is not' },
  { area: 'Host endpoints', calico: 'Neighbour discovery and multicast listener messages meet a host endpoint\'s policy.', tortie: 'ICMPv6 130 to 136 and 143 of the link always pass.', why: 'a host that loses its neighbours loses everything' },
  { area: 'Host endpoints', calico: 'What preDNAT or doNotTrack policy accepts skips the rest of raw and mangle.', tortie: 'Others\' rules there still run.', why: 'what is not ours is left alone' },
  { area: 'Policy', calico: 'A container that is no Pod gets a profile that lets in only what is of the same network.', tortie: 'Its profile allows everything, as a namespace\'s does; a Profile object with the network\'s name replaces it.', why: 'clients of a published port would be cut off' },
  { area: 'Host endpoints', calico: '`interfaceName: "*"` means every device of the host.', tortie: 'Every one but the loopback device, which has to be named.', why: 'a host that can\'t talk to itself is broken' },
  { area: 'Addresses', calico: 'Traffic between nodes of a pool with VXLAN or IPIP is encapsulated.', tortie: 'It goes as it is, by routes to the nodes: nodes must share a network.', why: 'no overlay yet' },
  { area: 'Addresses', calico: 'Addresses are written to the datastore one by one, by the plugin.', tortie: 'The agent keeps up to 8 addresses per family in reserve under the handle `tortie-reserve-<node>` and writes their owners after ADD.', why: 'a round trip to the API takes longer than the whole wiring' },
  { area: 'Addresses', calico: 'A second interface of a container takes over the first one\'s WorkloadEndpoint.', tortie: 'Each has its own.', why: 'both have addresses and policy' },
  { area: 'Settings', calico: 'A wrong field of a FelixConfiguration falls back to its default, field by field.', tortie: 'The object is invalid and its last valid version holds; the API server refuses most of them at once.', why: 'half of what was meant is not what was meant' },
  { area: 'Settings', calico: 'The default takes the place of a wrong variable even where an object has a value.', tortie: 'The object\'s value holds.', why: 'it is what an administrator wrote' },
  { area: 'Addresses', calico: 'kube-controllers release leaked addresses of all nodes, after leakGracePeriod of KubeControllersConfiguration.', tortie: 'Each agent releases those of its own node, after `ipamLeakGrace` of the ConfigMap `tortie-config`; never while the container\'s device is there.', why: 'only the node itself can tell whether a container lives' },
  { area: 'Addresses', calico: 'What a deleted node had is released at once.', tortie: 'After its agent has had 30 s to say that it is alive; it then keeps everything.', why: 'a node that is deleted and added again keeps its pods' },
  { area: 'CNI', calico: 'cniVersion up to 1.0.0; STATUS and GC are not there.', tortie: 'Up to 1.1.0, with a true STATUS, GC and a CHECK that compares the live state.', why: 'containerd and Multus ask for them' },
  { area: 'Dataplanes', calico: 'nftables, iptables, eBPF and Windows.', tortie: 'iptables (legacy and nft variant) and eBPF.', why: 'nftables itself is not there yet' },
  { area: 'Dataplanes', calico: 'Changing `bpfEnabled` restarts Felix and breaks connections.', tortie: 'It switches a live node: established connections go on.', why: 'see the design note of the switch' },
  { area: 'Dataplanes', calico: 'The eBPF dataplane replaces kube-proxy.', tortie: 'It translates what pods send to cluster IPs, with or without kube-proxy, and what processes of the node send to them where no kube-proxy has; node ports, external and load balancer addresses stay with kube-proxy.', why: 'that is as much of Services as policy needs' },
  { area: 'Dataplanes', calico: 'eBPF: `sessionAffinity: ClientIP` is kept.', tortie: 'Not kept in eBPF mode: each connection that Tortie leads gets any backend. `tortie services` and the log name such Services.', why: 'not there yet' },
  { area: 'Dataplanes', calico: 'eBPF: a Log rule writes to the kernel\'s trace.', tortie: 'It counts, and writes nothing; `tortie flows` shows new flows and refusals with their rules.', why: 'one reader, names instead of numbers' },
  { area: 'Operation', calico: 'Typha, BIRD, confd and kube-controllers run beside Felix.', tortie: 'One agent per node.', why: 'fewer parts' },
  { area: 'API', calico: 'crd.projectcalico.org/v1 behind an aggregated API server, or native projectcalico.org/v3.', tortie: 'Native projectcalico.org/v3 definitions only, with CEL rules; Kubernetes 1.31 or newer.', why: 'one kind, one name, checked where it is written' },
  { area: 'API', calico: 'Fields that a definition doesn\'t know are dropped.', tortie: 'They are kept in what programs write and in FelixConfiguration, and listed; in what people write `kubectl` refuses them.', why: 'a program must lose nothing that a newer one wrote; a misspelt field of a policy makes it wider' },
];
