/**
 * `make bench-kubernetes`: an agent on a real API server. A pod's event until the kernel has it, start and memory, with 1,000 and 10,000 pods;
 * many changes with 5,000 pods on 500 nodes. Prints tables, and writes build/bench/kubernetes.json.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { machine, printTable } from './lib/report.ts';
import { MeasuredAgent } from './kubernetes/agent.ts';
import { BenchCluster } from './kubernetes/cluster.ts';
import { events, eventTable } from './kubernetes/events.ts';
import { load, loadTable } from './kubernetes/load.ts';
import { nodesFor, type Size } from './kubernetes/objects.ts';
import { starts, startTable } from './kubernetes/starts.ts';

const startRounds = Number(process.env['BENCH_START_ROUNDS'] ?? 3);
const eventCount = Number(process.env['BENCH_EVENTS'] ?? 150);
const changesPerSecond = Number(process.env['BENCH_CHANGES_PER_SECOND'] ?? 50);
const loadSeconds = Number(process.env['BENCH_LOAD_SECONDS'] ?? 60);
const shape = process.env['BENCH_PODS'] === 'plain' ? 'plain' : 'full';
/** Nodes that the costs of one agent are multiplied by. */
const agents = 500;

const small: Size = { pods: 1000, policies: 200 };
const scale: Size = { pods: 5000, policies: 1000 };
const large: Size = { pods: 10_000, policies: 200 };

const began = performance.now();
const say = (text: string) => console.log(`\n[${((performance.now() - began) / 1000).toFixed(0)} s] ${text}`);
const named = ({ pods, policies }: Size) => `${pods} pods on ${nodesFor(pods)} nodes, ${policies} policies`;
const load1 = () => loadavg()[0]?.toFixed(1) ?? '';

const results: Record<string, unknown> = { machine: machine(), startRounds, eventCount, shape, load: load1() };

/** Start, and events if wanted, with the cluster of this size. */
async function measure(size: Size, what: { readonly events: boolean }): Promise<void> {
  say(`${named(size)}: making the objects`);
  await cluster.resize(size);
  say(`a pod is ${await cluster.podBytes()} bytes of JSON`);
  say(`start of the agent until it is in sync, ten pods here (medians of ${startRounds}, load ${load1()})`);
  const started = await starts(cluster, startRounds);
  printTable(startTable(started));
  results[`start, ${named(size)}`] = started;
  if (!what.events) return;
  say(
    `event of another node's pod, from the API's answer until the kernel has it (${eventCount} each, load ${load1()})`,
  );
  const happened = await events(cluster, eventCount);
  printTable(eventTable(happened));
  results[`events, ${named(size)}`] = happened;
}

say(`${machine()}, load ${load1()}: control plane and two nodes`);
await using cluster = await BenchCluster.create(shape);
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    say(`${signal}: taking everything down`);
    void cluster[Symbol.asyncDispose]().finally(() => process.exit(1));
  });
}
for (const side of [cluster.kubernetes, cluster.files]) {
  await using _agent = await MeasuredAgent.start(side);
  await cluster.addPods(side);
}

await measure(small, { events: true });
await measure(scale, { events: false });
say(`${changesPerSecond} changes a second, ${loadSeconds} s with an agent and a third of it without (load ${load1()})`);
const loaded = await load(cluster, changesPerSecond, loadSeconds);
printTable(loadTable(loaded, agents));
results[`load, ${named(scale)}`] = loaded;
await measure(large, { events: true });

mkdirSync('build/bench', { recursive: true });
writeFileSync('build/bench/kubernetes.json', `${JSON.stringify(results, null, 2)}\n`);
say('written to build/bench/kubernetes.json');
