/**
 * `make bench-kubernetes`: an agent on a real API server. A pod's event until the kernel has it, start and memory, with 1,000 and 10,000 pods;
 * many changes with 5,000 pods on 500 nodes. Prints tables, and writes build/bench/kubernetes.json.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { machine, printTable } from './lib/report.ts';
import { MeasuredAgent } from './kubernetes/agent.ts';
import { BenchCluster } from './kubernetes/cluster.ts';
import { events, eventTable, type EventData } from './kubernetes/events.ts';
import { load, loadTable } from './kubernetes/load.ts';
import { nodesFor, type Size } from './kubernetes/objects.ts';
import { starts, startTable, type StartData } from './kubernetes/starts.ts';

const startRounds = Number(process.env['BENCH_START_ROUNDS'] ?? 5);
const eventCount = Number(process.env['BENCH_EVENTS'] ?? 150);
const changesPerSecond = Number(process.env['BENCH_CHANGES_PER_SECOND'] ?? 50);
const loadSeconds = Number(process.env['BENCH_LOAD_SECONDS'] ?? 60);
/** Nodes that the costs of one agent are multiplied by. */
const agents = 500;

const small: Size = { pods: 1000, policies: 200 };
const scale: Size = { pods: 5000, policies: 1000 };
const large: Size = { pods: 10_000, policies: 200 };

const began = performance.now();
const say = (text: string) => console.log(`\n[${((performance.now() - began) / 1000).toFixed(0)} s] ${text}`);
const named = ({ pods, policies }: Size) => `${pods} pods on ${nodesFor(pods)} nodes, ${policies} policies`;
const load1 = () => loadavg()[0]?.toFixed(1) ?? '';

const startData: Record<string, StartData> = {};
const eventData: Record<string, EventData> = {};

say(`${machine()}, load ${load1()}: control plane and two nodes`);
await using cluster = await BenchCluster.create();
for (const side of [cluster.kubernetes, cluster.files]) {
  await using _agent = await MeasuredAgent.start(side);
  await cluster.addPods(side);
}

say(`objects: ${named(small)}`);
await cluster.resize(small);
say(`starts (${startRounds} of each datastore, in turn) and ${eventCount} events of each kind`);
startData[named(small)] = await starts(cluster, startRounds);
eventData[named(small)] = await events(cluster, eventCount);

say(`objects: ${named(scale)}`);
await cluster.resize(scale);
say('starts');
startData[named(scale)] = await starts(cluster, startRounds);
say(`${changesPerSecond} changes a second for ${loadSeconds} s with an agent, a third of it without`);
const loaded = await load(cluster, changesPerSecond, loadSeconds);

say(`objects: ${named(large)}`);
await cluster.resize(large);
say('starts and events');
startData[named(large)] = await starts(cluster, startRounds);
eventData[named(large)] = await events(cluster, eventCount);

say(`start of the agent until it is in sync, ten pods here (medians of ${startRounds}); load now ${load1()}`);
printTable(startTable(startData));
say("from the API's answer until the kernel has it");
printTable(eventTable(eventData));
say(named(scale));
printTable(loadTable(loaded, agents));

const results = {
  machine: machine(),
  startRounds,
  eventCount,
  start: startData,
  event: eventData,
  load: { [named(scale)]: loaded },
};
mkdirSync('build/bench', { recursive: true });
writeFileSync('build/bench/kubernetes.json', `${JSON.stringify(results, null, 2)}\n`);
say('written to build/bench/kubernetes.json');
