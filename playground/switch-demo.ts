import type { Lab } from '../test/lab/lab.ts';
import type { LabPod } from '../test/lab/lab-pod.ts';
import { allowedAtLast, endPolicies, policyAgain } from './policy-demo.ts';
import type { Report } from './report.ts';
import { serviceDemo } from './service-demo.ts';

/** A message that often, in ms, over the connection that is open while the dataplane changes. */
const messageEveryMs = 10;
/** A connection that policy denies is tried again so long after the last try had no answer, in ms. */
const tryEveryMs = 20;

/**
 * Switches iptables -> ebpf -> iptables on every node while policies stand: under a running TCP connection, and past one that is denied all the
 * time. Says what both saw.
 */
export async function switchUnderConnection(report: Report, lab: Lab, pods: readonly LabPod[]): Promise<void> {
  const pairs = pods
    .flatMap((from) => pods.map((to) => ({ from, to })))
    .filter(({ from, to }) => from.node !== to.node);
  const open = pairs.find(({ from, to }) => allowedAtLast(from, to));
  const closed = pairs.find(({ from, to }) => !allowedAtLast(from, to));
  if (open === undefined || closed === undefined) throw new Error('the policies allow everything, or nothing');
  const stream = await (await open.from.peer()).stream(open.to.ipv4, messageEveryMs);
  report.line(
    `\n  a connection from ${open.from.name} to ${open.to.name} is open, a message each ${messageEveryMs} ms`,
  );
  report.line(`  ${closed.from.name} tries to reach ${closed.to.name} all the time, which policy denies`);
  const denied = await watch(closed.from, closed.to);
  for (const [enabled, kind] of [
    [true, 'ebpf'],
    [false, 'iptables'],
  ] as const) {
    await report.step(`bpfEnabled: ${enabled} (every node to ${kind})`, async () => {
      lab.setBpfEnabled(enabled);
      await Promise.all(
        lab.nodes.map((node) => node.waitFor((status) => status.ready && status.dataplane.active === kind)),
      );
    });
    await policyAgain(report, lab, pods, kind);
    if (kind === 'ebpf') await serviceDemo(report, lab, pods);
  }
  const { sent, answered, longestStallMs, failure } = await stream.stop();
  report.check(
    failure === null && answered === sent,
    `the connection saw both switches: ${sent} messages, ${sent - answered} lost, longest stall ${longestStallMs} ms`,
    failure ?? `${sent - answered} messages were lost`,
  );
  const { tries, reached } = await denied.stop();
  report.check(
    reached === 0,
    `what is denied stayed so: ${tries} tries, none got through`,
    `${reached} of ${tries} did`,
  );
  await endPolicies(lab, pods);
}

/** Tries to connect until it is told to stop. */
async function watch(from: LabPod, to: LabPod): Promise<{ stop(): Promise<{ tries: number; reached: number }> }> {
  const peer = await from.peer();
  let isOver = false;
  let tries = 0;
  let reached = 0;
  const work = (async () => {
    while (!isOver) {
      tries += 1;
      if ((await peer.connect(to.ipv4, tryEveryMs)).ok) reached += 1;
    }
  })();
  return {
    stop: async () => {
      isOver = true;
      await work;
      return { tries, reached };
    },
  };
}
