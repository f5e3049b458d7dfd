import type { Dataplane } from '#dataplanes/contract.ts';
import type { FamilyFlowStats, FlowTableStats } from '#dataplanes/flows.ts';
import type { InForceView, ServicesView, TableFill } from '#dataplanes/observe.ts';
import type { Datastore } from '#datastore/datastore.ts';
import type { CalcGraph } from '../calc/calc-graph.ts';
import type { Preflight } from '../check/preflight.ts';
import type { Severity } from '../check/result.ts';
import type { Driver } from '../driver/driver.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { DataplaneSwitch } from '../switch/switch.ts';
import type { Metrics, Sample } from './metrics.ts';

/** What the metrics are read from. */
export interface MetricSources {
  readonly nodeName: string;
  readonly graph: CalcGraph;
  readonly driver: Driver;
  readonly dataplanes: DataplaneSwitch;
  readonly datastore: Datastore;
  readonly store: ObjectStore;
  readonly preflight: Preflight;
  isReady(): boolean;
}

/** Ties each metric of the agent to where its value is. */
export function watchAgent(metrics: Metrics, sources: MetricSources): void {
  const { nodeName, graph, driver, dataplanes, datastore, store, preflight } = sources;
  const one = (value: number) => [{ value }];
  metrics.read('felix_active_local_endpoints', () => one(graph.stats().activeLocalEndpoints));
  metrics.read('felix_active_local_policies', () => one(graph.stats().activePolicies));
  metrics.read('felix_active_local_selectors', () => one(graph.stats().activeSelectors));
  metrics.read('felix_cluster_num_hosts', () => one(graph.stats().hosts));
  metrics.read('felix_cluster_num_workload_endpoints', () => one(graph.stats().workloadEndpoints));
  metrics.read('felix_cluster_num_host_endpoints', () => one(graph.stats().hostEndpoints));
  metrics.read('felix_cluster_num_policies', () => one(graph.stats().policies));
  metrics.read('felix_cluster_num_profiles', () => one(graph.stats().profiles));
  metrics.read('felix_cluster_num_tiers', () => one(graph.stats().tiers));
  metrics.read('felix_ipsets_calico', () => one(driver.desired.setCount));
  metrics.read('felix_resync_state', () => one(store.hasSynced ? 3 : store.failures().length > 0 ? 1 : 2));
  metrics.read('felix_host', () => [{ value: 1, labels: { host: nodeName } }]);
  metrics.read('tortie_ready', () => one(sources.isReady() ? 1 : 0));
  metrics.read('tortie_objects_not_programmed', () => one(driver.failures().length));
  metrics.read('tortie_dataplane_active', () => {
    const { active } = dataplanes.status();
    return active === undefined ? [] : [{ value: 1, labels: { kind: active } }];
  });
  metrics.read('tortie_invalid_objects', () => {
    const effects = datastore.problems().map(({ effect }) => effect);
    return (['last-valid', 'denies', 'ignored'] as const).map((effect) => ({
      value: effects.filter((each) => each === effect).length,
      labels: { effect },
    }));
  });
  metrics.read('tortie_conversion_problems', () =>
    one([...graph.policyProblems().values()].reduce((sum, problems) => sum + problems.length, 0)),
  );
  metrics.read('tortie_policy_rule_packets_total', async () => {
    const counters = (await dataplanes.active?.ruleCounters()) ?? new Map<string, never>();
    return [...counters].map(([rule, { packets }]) => ({ value: packets, labels: { rule } }));
  });
  metrics.read('tortie_preflight_problems', () => {
    const { results } = preflight;
    if (results === undefined) return [];
    return (['blocks', 'degrades', 'note'] as const satisfies readonly Severity[]).map((severity) => ({
      value: results.filter((result) => result.outcome === 'no' && result.severity === severity).length,
      labels: { severity },
    }));
  });
  watchFlows(metrics, () => dataplanes.active?.flows?.stats);
  watchTables(metrics, () => dataplanes.active);
  readProcess(metrics);
  watchDriver(metrics, driver);
}

/** Only where the dataplane compiles policy into tables, and translates Services itself. */
function watchTables(metrics: Metrics, active: () => Dataplane | undefined): void {
  const when = (read: (view: InForceView) => readonly Sample[]) => () => {
    const view = active()?.inForce;
    return view === undefined ? [] : read(view);
  };
  const each = (value: (fill: TableFill) => number) =>
    when(({ tables }) => tables.map((fill) => ({ value: value(fill), labels: { map: fill.table } })));
  metrics.read(
    'tortie_map_elements',
    each(({ used }) => used),
  );
  metrics.read(
    'tortie_map_size',
    each(({ size }) => size),
  );
  metrics.read('tortie_map_writes_total', () => {
    const writes = active()?.mapWrites;
    return writes === undefined ? [] : [{ value: writes }];
  });
  metrics.read(
    'tortie_policy_units',
    when(({ units }) => [{ value: units }]),
  );
  metrics.read(
    'tortie_policy_units_failed',
    when(({ failedUnits }) => [{ value: failedUnits.reduce((sum, { units }) => sum + units, 0) }]),
  );
  const services = (count: (view: ServicesView) => number) => () => {
    const view = active()?.services;
    return view === undefined ? [] : [{ value: count(view) }];
  };
  metrics.read(
    'tortie_services',
    services(({ figures }) => figures.services),
  );
  metrics.read(
    'tortie_services_limited',
    services(({ figures }) => figures.limited),
  );
}

/** Only where the dataplane keeps its flows itself. */
function watchFlows(metrics: Metrics, statsOf: () => FlowTableStats | undefined): void {
  const when = (read: (stats: FlowTableStats) => readonly Sample[]) => () => {
    const stats = statsOf();
    return stats === undefined ? [] : read(stats);
  };
  const each = (value: (stats: FamilyFlowStats) => number) =>
    when((stats) =>
      ([4, 6] as const).map((family) => ({ value: value(stats[family]), labels: { family: String(family) } })),
    );
  metrics.read(
    'felix_bpf_conntrack_used',
    when((stats) => [{ value: stats[4].elements + stats[6].elements }]),
  );
  metrics.read(
    'felix_bpf_conntrack_sweeps',
    when(({ sweeps }) => [{ value: sweeps }]),
  );
  metrics.read(
    'felix_bpf_conntrack_sweep_duration',
    when(({ seconds }) => [{ value: Math.round(seconds * 1e9) }]),
  );
  metrics.read(
    'tortie_flow_table_size',
    each(({ maxElements }) => maxElements),
  );
  metrics.read(
    'tortie_flow_table_elements',
    each(({ elements }) => elements),
  );
  metrics.read(
    'tortie_flow_sweep_failures_total',
    when(({ failures }) => [{ value: failures }]),
  );
  metrics.read(
    'tortie_flows_expired_total',
    when((stats) =>
      ([4, 6] as const).flatMap((family) =>
        Object.entries(stats[family].deleted).map(([kind, value]) => ({
          value,
          labels: { family: String(family), kind },
        })),
      ),
    ),
  );
}

function readProcess(metrics: Metrics): void {
  metrics.read('process_cpu_seconds_total', () => {
    const { user, system } = process.cpuUsage();
    return [{ value: (user + system) / 1e6 }];
  });
  metrics.read('process_resident_memory_bytes', () => [{ value: process.memoryUsage.rss() }]);
  metrics.read('process_start_time_seconds', () => [{ value: performance.timeOrigin / 1000 }]);
}

function watchDriver(metrics: Metrics, driver: Driver): void {
  driver.onCycle(({ durationMs, failed, repaired }) => {
    metrics.observe('felix_int_dataplane_apply_time_seconds', durationMs / 1000);
    if (failed > 0) metrics.add('felix_int_dataplane_failures');
    metrics.add('tortie_repairs_total', repaired);
  });
  driver.onPush((updates) => {
    metrics.add('felix_calc_graph_output_events', updates.length);
    for (const { type } of updates) metrics.add('felix_int_dataplane_messages', 1, { type });
  });
}
