/**
 * `make bench-policy`: what policy costs. Agent start with many pods and policies; one label change, from the change to the kernel; connect
 * latency with few and many rules and with a big set. Prints tables, and writes build/bench/policy.json.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { Lab } from '#test/lab/lab.ts';
import { machine, printTable } from './lib/report.ts';
import { connects } from './policy/connect.ts';
import { labelChanges } from './policy/label-change.ts';
import { starts } from './policy/start.ts';

const startRounds = Number(process.env['BENCH_START_ROUNDS'] ?? 5);
const changes = Number(process.env['BENCH_CHANGES'] ?? 200);
const connectRounds = Number(process.env['BENCH_CONNECT_ROUNDS'] ?? 5);
const connectCount = Number(process.env['BENCH_CONNECTS'] ?? 2000);

const results: Record<string, unknown> = { machine: machine(), startRounds, changes, connectRounds, connectCount };

console.log(
  '\none label change, in-process: change -> calc -> driver -> ipset in the kernel (1,000 endpoints, 200 policies)',
);
const changed = await labelChanges(changes);
printTable(changed.table);
results['label change'] = changed.data;

await using lab = await Lab.create({ nodes: 1 });
const node = lab.node(0);
await node.startAgent();
for (let index = 0; index < 10; index++)
  await node.addPod(`near-${index}`, { labels: { app: `app-${index}`, role: `role-${index}` } });

console.log(`\nagent start, ten pods here (medians of ${startRounds})`);
const started = await starts(lab, [1000, 10_000], startRounds);
printTable(started.table);
results['start'] = started.data;

console.log(`\nconnect latency, pod to pod on one node (${connectRounds} rounds of ${connectCount}, in turn)`);
const connected = await connects(lab, connectRounds, connectCount);
printTable(connected.table);
results['connect'] = connected.data;

mkdirSync('build/bench', { recursive: true });
writeFileSync('build/bench/policy.json', `${JSON.stringify(results, null, 2)}\n`);
console.log('\nwritten to build/bench/policy.json');
