/**
 * What `npm start` shows: two nodes with real agents, six pods wired by the real CNI executable, who reaches whom in both dataplanes
 * and under policies, why (`tortie explain`), and a running connection while the dataplane is switched under it. Checks its own figures: anything unexpected ends with status 1.
 */
import { Lab } from '../test/lab/lab.ts';
import { MachineState } from './machine-state.ts';
import { matrix } from './matrix.ts';
import { policyDemo, roleOf } from './policy-demo.ts';
import { Report } from './report.ts';
import { handOver } from './shell-help.ts';
import { switchUnderConnection } from './switch-demo.ts';

const podsPerNode = 3;
const report = new Report();

process.exitCode = await main();

async function main(): Promise<number> {
  if (process.getuid?.() !== 0) {
    console.error('playground: must run as root: it makes network namespaces');
    return 1;
  }
  const before = await MachineState.read();
  try {
    await show();
  } catch (error) {
    report.failed(error);
  }
  const left = (await MachineState.read()).beyond(before);
  report.check(left.length === 0, 'the machine is as it was before', left.join('; '));
  return report.finish();
}

async function show(): Promise<void> {
  const interrupted = Promise.withResolvers<never>();
  const onSignal = (signal: NodeJS.Signals) => interrupted.reject(new Error(`ended by ${signal}`));
  interrupted.promise.catch(() => {}); // Only raced against; unheard when nothing interrupts.
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  try {
    await using lab = await report.step('two nodes, joined by a bridge', () => Lab.create({ nodes: 2 }));
    await Promise.race([scenes(lab), interrupted.promise]);
    if (process.stdin.isTTY && process.stdout.isTTY && report.ok) {
      handOver(lab);
      await interrupted.promise.catch(() => {});
    }
    report.line('taking everything down');
  } finally {
    process.removeListener('SIGINT', onSignal).removeListener('SIGTERM', onSignal);
  }
}

async function scenes(lab: Lab): Promise<void> {
  await report.step('an agent on each, dataplane iptables', () =>
    Promise.all(lab.nodes.map((node) => node.startAgent())),
  );
  await report.step(`${podsPerNode} pods a node, by CNI ADD (IPv4 and IPv6)`, async () => {
    for (const node of lab.nodes) {
      for (let index = 1; index <= podsPerNode; index++) {
        const name = `pod-${node.name.at(-1)}${index}`;
        await node.addPod(name, { labels: { role: roleOf({ name }) } });
      }
    }
  });
  const pods = lab.nodes.flatMap((node) => node.pods);
  for (const { name, node, addresses } of pods) report.line(`  ${name} on ${node.name}: ${addresses.join(', ')}`);

  await matrix(report, 'iptables', pods);
  await policyDemo(report, lab, pods);
  await switchUnderConnection(report, lab, pods);

  await report.step('CNI DEL of every pod', async () => {
    for (const pod of pods) {
      await pod.del();
      await pod.destroy();
    }
  });
  for (const node of lab.nodes) {
    report.check((await node.endpoints()).length === 0, `${node.name} has no endpoint left`, 'see the log');
  }
}
