import { families, type FamilyRow } from './agent-lab.ts';
import { must } from './exec.ts';
import type { LabPod } from './lab-pod.ts';
import type { RunningStream } from './peer-client.ts';
import type { StreamReport } from './peer-streams.ts';

/** A message on each connection, and a forged packet, every so often, in ms. */
const pace = { messageMs: 10, forgedMs: 3 };

/** What the connections saw, and what got through although it must not. */
export interface TrafficReport {
  /** By connection: `a1 > b1 tcp IPv4`. */
  readonly streams: Readonly<Record<string, StreamReport>>;
  /** Forged packets sent, and those that a receiver heard. */
  readonly forged: { readonly sent: number; readonly heard: number };
  readonly longestStallMs: number;
}

/**
 * Connections that run while something happens to the node: from one pod to others, TCP and UDP in both families; beside them the pod
 * sends datagrams from an address that isn't its own, which nobody may ever hear.
 */
export class Traffic {
  readonly #from: LabPod;
  readonly #to: readonly LabPod[];
  readonly #streams = new Map<string, RunningStream>();
  readonly #forgeries: RunningStream[] = [];

  private constructor(from: LabPod, to: readonly LabPod[]) {
    this.#from = from;
    this.#to = to;
  }

  static async start(from: LabPod, to: readonly LabPod[]): Promise<Traffic> {
    const traffic = new Traffic(from, to);
    const peer = await from.peer();
    for (const family of families) await traffic.#forge(family);
    for (const target of to) {
      await target.peer();
      for (const { family, version } of families) {
        for (const protocol of ['tcp', 'udp'] as const) {
          const host = version === 4 ? target.ipv4 : target.ipv6;
          traffic.#streams.set(
            `${from.name} > ${target.name} ${protocol} ${family}`,
            await peer.stream(host, pace.messageMs, { protocol }),
          );
        }
      }
    }
    return traffic;
  }

  async stop(): Promise<TrafficReport> {
    const reports = await Promise.all(
      [...this.#streams].map(async ([name, stream]) => [name, await stream.stop()] as const),
    );
    const forgeries = await Promise.all(this.#forgeries.map((stream) => stream.stop()));
    const hearings = await Promise.all(this.#to.map(async (target) => (await target.peer()).heard()));
    for (const { stranger, version } of families) {
      await must('ip', '-n', this.#from.netns, 'addr', 'del', `${stranger}/${version === 4 ? 32 : 128}`, 'dev', 'eth0');
    }
    return {
      streams: Object.fromEntries(reports),
      forged: {
        sent: forgeries.reduce((sum, { sent }) => sum + sent, 0),
        heard: hearings.reduce(
          (sum, heard) => sum + families.reduce((all, { stranger }) => all + (heard[stranger] ?? 0), 0),
          0,
        ),
      },
      longestStallMs: Math.max(...reports.map(([, { longestStallMs }]) => longestStallMs)),
    };
  }

  async #forge({ stranger, version }: FamilyRow): Promise<void> {
    const net = version === 4 ? [`${stranger}/32`] : [`${stranger}/128`, 'nodad'];
    await must('ip', '-n', this.#from.netns, 'addr', 'add', ...net, 'dev', 'eth0');
    const peer = await this.#from.peer();
    for (const target of this.#to) {
      const host = version === 4 ? target.ipv4 : target.ipv6;
      this.#forgeries.push(await peer.stream(host, pace.forgedMs, { protocol: 'udp', from: stranger }));
    }
  }
}

/** Messages without an answer, and connections that ended, by connection; empty when all went well. */
export function losses({ streams }: TrafficReport): Readonly<Record<string, string>> {
  const bad = Object.entries(streams).filter(
    ([, { sent, answered, failure }]) => failure !== null || answered < sent || sent === 0,
  );
  return Object.fromEntries(
    bad.map(([name, { sent, answered, failure }]) => [name, `${answered} of ${sent} answered; ${failure ?? 'alive'}`]),
  );
}
