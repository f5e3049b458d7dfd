/**
 * `make bench-policy`: what policy costs, in both dataplanes and beside plain ptp, in turn in one run. ROUNDS (5); ONLY (`connect,tcp`: these
 * parts); MINUTES (10): when they are over no further round begins. Prints tables, and writes build/bench/policy.json, of which
 * bench/policy-docs.ts makes the tables and plots of docs/performance.md.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { printTable } from './lib/report.ts';
import { addPart } from './policy/add.ts';
import { ConditionsWatch, describe, isQuiet } from './policy/conditions.ts';
import { connectPart } from './policy/connect.ts';
import { labelPart } from './policy/label-change.ts';
import { absentOf, tableOf, type PartResult, type PolicyResults } from './policy/results.ts';
import { Run } from './policy/run.ts';
import { startPart } from './policy/start.ts';
import { sweepPart } from './policy/sweep.ts';
import { targetTable } from './policy/targets.ts';
import { tcpPart } from './policy/tcp.ts';
import { buildTraffic } from './policy/traffic.ts';

const parts: Readonly<Record<string, (run: Run) => Promise<PartResult>>> = {
  connect: connectPart,
  label: labelPart,
  tcp: tcpPart,
  add: addPart,
  start: startPart,
  sweep: sweepPart,
};

await using run = new Run(process.env, Object.keys(parts));
run.say('looking at the machine');
const watch = await ConditionsWatch.start();
if (!watch.isQuiet) run.say('others use the machine: these figures will not be for publishing');
await buildTraffic();
const found: PartResult[] = [];
for (const [name, measure] of Object.entries(parts)) {
  if (!run.wants(name) || run.interrupted) continue;
  run.say(`${name}: preparing`);
  try {
    const result = await measure(run);
    console.log(`\n${result.title}\n${result.method}`);
    printTable(tableOf(result));
    for (const words of absentOf(result)) console.log(`not measured: ${words}`);
    console.log('');
    found.push(result);
  } catch (error) {
    process.exitCode = 1;
    // What the other parts find is still worth its time.
    if (!run.interrupted) console.error(`${name} failed:`, error);
  }
}
if (run.interrupted) {
  console.error('interrupted: nothing is written');
} else {
  const conditions = await watch.end();
  const results: PolicyResults = { conditions, quiet: isQuiet(conditions), rounds: run.rounds, parts: found };
  mkdirSync('build/bench', { recursive: true });
  writeFileSync('build/bench/policy.json', `${JSON.stringify(results, null, 2)}\n`);
  printTable(targetTable(results));
  console.log(`\n${describe(conditions)}`);
  if (!results.quiet) console.log('others used the machine: these figures are not for publishing');
  console.log('written to build/bench/policy.json');
}
