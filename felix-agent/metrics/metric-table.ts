/**
 * Every metric of the agent, once: name, type, help, labels. `docs/metrics.md` is generated from here. Names are Felix's where the meaning
 * is the same, and begin with `tortie_` otherwise.
 */

/** One metric. */
export interface MetricInfo {
  readonly type: 'gauge' | 'counter' | 'summary';
  readonly help: string;
  readonly labels?: readonly string[];
}

export const metricTable = {
  felix_active_local_endpoints: {
    type: 'gauge',
    help: 'Workload and host endpoints of this node.',
  },
  felix_active_local_policies: { type: 'gauge', help: 'Policies that select an endpoint of this node.' },
  felix_active_local_selectors: {
    type: 'gauge',
    help: 'Sets of addresses (selectors, nets, named ports, services) that rules of this node use.',
  },
  felix_cluster_num_hosts: { type: 'gauge', help: 'Nodes in the cluster.' },
  felix_cluster_num_workload_endpoints: { type: 'gauge', help: 'Workload endpoints in the cluster.' },
  felix_cluster_num_host_endpoints: { type: 'gauge', help: 'Host endpoints in the cluster.' },
  felix_cluster_num_policies: { type: 'gauge', help: 'Policies in the cluster.' },
  felix_cluster_num_profiles: {
    type: 'gauge',
    help: 'Profiles in the cluster: one a namespace, one a service account, and those written by users.',
  },
  felix_cluster_num_tiers: { type: 'gauge', help: 'Tiers in the cluster.' },
  felix_resync_state: {
    type: 'gauge',
    help: 'Reading of the datastore: 1 waiting for it, 2 under way, 3 everything was seen once.',
  },
  felix_calc_graph_output_events: { type: 'counter', help: 'Messages from the calculation to the dataplane.' },
  felix_int_dataplane_apply_time_seconds: { type: 'summary', help: 'Time of one cycle that programmed the dataplane.' },
  felix_int_dataplane_failures: {
    type: 'counter',
    help: 'Cycles in which something could not be programmed and stays to be tried again.',
  },
  felix_int_dataplane_messages: {
    type: 'counter',
    help: 'Messages that the dataplane has been told, by type.',
    labels: ['type'],
  },
  felix_int_dataplane_initial_resync_time_seconds: {
    type: 'gauge',
    help: 'Time from the start of the process until the kernel was in sync for the first time.',
  },
  felix_iptables_restore_calls: { type: 'counter', help: 'Runs of iptables-restore.' },
  felix_iptables_restore_errors: { type: 'counter', help: 'Runs of iptables-restore that failed.' },
  felix_iptables_save_calls: { type: 'counter', help: 'Runs of iptables-save.' },
  felix_iptables_save_errors: { type: 'counter', help: 'Runs of iptables-save that failed.' },
  felix_exec_time_micros: {
    type: 'summary',
    help: 'Time of runs of other programs, in microseconds.',
    labels: ['fork', 'process'],
  },
  felix_ipsets_calico: { type: 'gauge', help: 'Sets of addresses that are announced to the dataplane.' },
  ipam_allocations_in_use: {
    type: 'gauge',
    help: 'Addresses that workloads of this node have.',
    labels: ['ippool', 'node'],
  },
  ipam_allocations_borrowed: {
    type: 'gauge',
    help: "Addresses that workloads of this node have in other nodes' blocks.",
    labels: ['ippool', 'node'],
  },
  ipam_blocks: { type: 'gauge', help: 'Blocks of this node.', labels: ['ippool', 'node'] },
  ipam_allocations_gc_candidates: {
    type: 'gauge',
    help: 'Addresses of this node that look unused, and are released after the time of grace.',
    labels: ['ippool', 'node'],
  },
  ipam_allocations_gc_reclamations: {
    type: 'counter',
    help: 'Addresses that this agent has released because nobody used them, or because their node was deleted.',
    labels: ['ippool', 'node'],
  },
  felix_host: { type: 'gauge', help: 'Always 1; the label is the name of this node.', labels: ['host'] },
  felix_bpf_conntrack_used: {
    type: 'gauge',
    help: 'Elements (flows, and pointers to translated ones) in the tables of the eBPF dataplane at the last sweep.',
  },
  felix_bpf_conntrack_sweeps: { type: 'counter', help: 'Sweeps of these tables.' },
  felix_bpf_conntrack_sweep_duration: { type: 'gauge', help: 'How long the last sweep took, in ns.' },
  tortie_flow_table_size: {
    type: 'gauge',
    help: 'How many elements these tables have room for. A full one drops packets by which new flows become answered ones, of TCP the last one of the handshake.',
    labels: ['family'],
  },
  tortie_flow_table_elements: {
    type: 'gauge',
    help: 'How many there were at the last sweep.',
    labels: ['family'],
  },
  tortie_flows_expired_total: {
    type: 'counter',
    help: 'Elements whose time was over, by what they were: tcp, udp, icmp, other, pointer.',
    labels: ['family', 'kind'],
  },
  tortie_flow_sweep_failures_total: { type: 'counter', help: 'Tables that a sweep could not go through.' },
  tortie_map_elements: {
    type: 'gauge',
    help: 'Elements of a BPF map that are taken (eBPF dataplane), those included that wait to be freed.',
    labels: ['map'],
  },
  tortie_map_size: {
    type: 'gauge',
    help: 'How many elements this map has room for. What finds no room is denied, and said by status.',
    labels: ['map'],
  },
  tortie_map_writes_total: { type: 'counter', help: "Elements of policy's BPF maps written since the start." },
  tortie_policy_units: {
    type: 'gauge',
    help: 'Lists of rules that the eBPF dataplane has compiled; endpoints with equal policy share one.',
  },
  tortie_policy_units_failed: {
    type: 'gauge',
    help: 'Those that could not be made: the endpoints that have one get nothing through.',
  },
  tortie_services: { type: 'gauge', help: 'Services with a cluster IP that the eBPF dataplane translates.' },
  tortie_services_limited: {
    type: 'gauge',
    help: 'Services that it does otherwise than they say (session affinity, for example), or not wholly (tortie services).',
  },
  tortie_ready: { type: 'gauge', help: '1 while the node is ready, as /readiness says.' },
  tortie_dataplane_active: { type: 'gauge', help: '1 for the dataplane in the path of the packets.', labels: ['kind'] },
  tortie_objects_not_programmed: { type: 'gauge', help: 'Objects that could not be programmed at the last try.' },
  tortie_repairs_total: { type: 'counter', help: 'Things that somebody else had changed and that were put right.' },
  tortie_invalid_objects: {
    type: 'gauge',
    help: 'Objects in the datastore that can not be used, by what holds meanwhile: last-valid, denies, ignored.',
    labels: ['effect'],
  },
  tortie_conversion_problems: {
    type: 'gauge',
    help: 'Parts of valid policies that can not be enforced as they are written.',
  },
  tortie_preflight_problems: {
    type: 'gauge',
    help: 'Things of the node that are not as they should be (tortie check), by what they do: blocks, degrades, note.',
    labels: ['severity'],
  },
  tortie_policy_rule_packets_total: {
    type: 'counter',
    help: 'Packets (the first of each flow) that a rule has matched on this node.',
    labels: ['rule'],
  },
  tortie_metric_read_failures_total: {
    type: 'counter',
    help: 'Times that a metric could not be read at a scrape and was left out.',
    labels: ['metric'],
  },
  process_cpu_seconds_total: { type: 'counter', help: 'CPU time of the agent, in seconds.' },
  process_resident_memory_bytes: { type: 'gauge', help: 'Resident memory of the agent.' },
  process_start_time_seconds: { type: 'gauge', help: 'When the agent was started, in seconds since 1970.' },
} as const satisfies Readonly<Record<string, MetricInfo>>;

export type MetricName = keyof typeof metricTable;
