/**
 * `make bench-cni`: Tortie's ADD and DEL beside Debian's ptp + host-local, interleaved in one run; CPU per call including the agent's;
 * then churn. Prints a table, and writes build/bench/cni.json.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { Lab } from '#test/lab/lab.ts';
import { churn } from './cni/churn.ts';
import { parallelRound, sequentialRounds } from './cni/rounds.ts';
import { machine, printTable } from './lib/report.ts';

const rounds = Number(process.env['BENCH_ROUNDS'] ?? 100);
const parallelRounds = Number(process.env['BENCH_PARALLEL_ROUNDS'] ?? 5);
const churnSeconds = Number(process.env['BENCH_CHURN_SECONDS'] ?? 300);

await using lab = await Lab.create({ nodes: 1, ipv6: false });
const node = lab.node(0);
const results: Record<string, unknown> = { machine: machine(), cpus: cpus().length, memory: totalmem(), rounds };

for (const dataplane of ['iptables', 'ebpf'] as const) {
  lab.setBpfEnabled(dataplane === 'ebpf');
  if (node.agentPid === undefined) await node.startAgent();
  await node.waitFor((status) => status.ready && status.dataplane.active === dataplane);
  console.log(`\n${dataplane}: ${rounds} ADD and DEL, one at a time, interleaved with ptp + host-local`);
  const sequential = await sequentialRounds(lab, rounds);
  printTable(sequential.table);
  console.log(`\n${dataplane}: 50 ADDs and DELs, 10 at a time (${parallelRounds} rounds)`);
  const parallel = await parallelRound(lab, 50, 10, parallelRounds);
  printTable(parallel.table);
  results[dataplane] = { sequential: sequential.data, parallel: parallel.data };
}
if (churnSeconds > 0) {
  for (const dataplane of ['iptables', 'ebpf'] as const) {
    console.log(
      `\nchurn, ${dataplane}: ADD and DEL for ${churnSeconds / 2} s under a fresh agent, 100 pods standing by`,
    );
    await node.stopAgent();
    lab.setBpfEnabled(dataplane === 'ebpf');
    await node.startAgent();
    await node.waitFor((status) => status.ready && status.dataplane.active === dataplane);
    const { table, data } = await churn(lab, { seconds: churnSeconds / 2, standing: 100 });
    printTable(table);
    results[`churn ${dataplane}`] = data;
  }
}
mkdirSync('build/bench', { recursive: true });
writeFileSync('build/bench/cni.json', `${JSON.stringify(results, null, 2)}\n`);
console.log('\nwritten to build/bench/cni.json');
