import type { Lab } from '../test/lab/lab.ts';
import type { LabPod } from '../test/lab/lab-pod.ts';
import { matrix } from './matrix.ts';
import type { Report } from './report.ts';

/** A message that often, in ms, over the connection that is open while the dataplane changes. */
const messageEveryMs = 10;

/** Switches iptables -> ebpf -> iptables on every node under a running TCP connection, and says what that connection saw. */
export async function switchUnderConnection(report: Report, lab: Lab, from: LabPod, to: LabPod): Promise<void> {
  const peer = await from.peer();
  const stream = await peer.stream(to.ipv4, messageEveryMs);
  report.line(`  a connection from ${from.name} to ${to.name} is open, a message each ${messageEveryMs} ms`);
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
    await matrix(
      report,
      kind,
      lab.nodes.flatMap((node) => node.pods),
    );
  }
  const { sent, answered, longestStallMs, failure } = await stream.stop();
  report.check(
    failure === null && answered === sent,
    `the connection saw both switches: ${sent} messages, ${sent - answered} lost, longest stall ${longestStallMs} ms`,
    failure ?? `${sent - answered} messages were lost`,
  );
}
