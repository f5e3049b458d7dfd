import type { LabPod } from '../test/lab/lab-pod.ts';
import type { ProbeAnswer } from '../test/lab/peer.ts';
import type { Report } from './report.ts';

/** How long an answer is waited for before the question is put again, in ms. */
const answerMs = 1_000;

/** Tries TCP and UDP, IPv4 and IPv6, from every pod to every pod, prints who reaches whom, and checks that all do, seen as themselves. */
export async function matrix(report: Report, title: string, pods: readonly LabPod[]): Promise<void> {
  const peers = await Promise.all(pods.map((pod) => pod.peer()));
  const failures: string[] = [];
  const width = Math.max(...pods.map(({ name }) => name.length));
  report.line(`\n  who reaches whom (${title}; TCP and UDP, IPv4 and IPv6): + all four, - not all`);
  report.line(`  ${' '.repeat(width)}  ${pods.map(({ name }) => name).join('  ')}`);
  for (const [index, pod] of pods.entries()) {
    const peer = peers[index];
    if (peer === undefined) continue;
    const cells = await Promise.all(
      pods.map(async (target) => {
        const tries = [pod.ipv4, pod.ipv6].flatMap((own) => {
          const host = own.includes(':') ? target.ipv6 : target.ipv4;
          return [
            patiently(() => peer.connect(host, answerMs)).then((answer) => ({ what: `TCP to ${host}`, own, answer })),
            patiently(() => peer.datagram(host, answerMs)).then((answer) => ({ what: `UDP to ${host}`, own, answer })),
          ];
        });
        const wrong = (await Promise.all(tries)).filter(({ own, answer }) => !answer.ok || answer.seenAs !== own);
        for (const { what, answer } of wrong) {
          failures.push(
            `${pod.name} ${what} (${target.name}): ${answer.ok ? `seen as ${answer.seenAs}` : answer.reason}`,
          );
        }
        return wrong.length === 0 ? '+' : '-';
      }),
    );
    report.line(`  ${pod.name.padEnd(width)}  ${cells.map((cell) => cell.padEnd(width)).join('  ')}`);
  }
  report.line();
  report.check(
    failures.length === 0,
    'every pod reaches every pod, and its address is seen unchanged',
    failures.join('; '),
  );
}

/** A datagram may be lost, and a busy machine may be late: what fails is tried twice more. */
async function patiently(probe: () => Promise<ProbeAnswer>): Promise<ProbeAnswer> {
  const first = await probe();
  if (first.ok) return first;
  const second = await probe();
  return second.ok ? second : probe();
}
