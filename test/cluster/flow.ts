import { families, addressOf } from '../lab/agent-lab.ts';
import type { RunningStream } from '../lab/peer-client.ts';
import type { TestPod } from './test-pod.ts';

/** Between two messages, in ms. */
const paceMs = 20;

/** Connections from one pod to another that run while something happens: TCP and UDP, in both families. */
export class Flow {
  readonly #streams: ReadonlyMap<string, RunningStream>;

  private constructor(streams: ReadonlyMap<string, RunningStream>) {
    this.#streams = streams;
  }

  static async start(from: TestPod, to: TestPod): Promise<Flow> {
    await to.peer();
    const peer = await from.peer();
    const streams = new Map<string, RunningStream>();
    for (const family of families) {
      for (const protocol of ['tcp', 'udp'] as const) {
        const name = `${from.name} > ${to.name} ${protocol} ${family.family}`;
        streams.set(name, await peer.stream(addressOf(to, family), paceMs, { protocol }));
      }
    }
    return new Flow(streams);
  }

  /** What each connection lost, in words; empty when every message was answered. */
  async stop(): Promise<readonly string[]> {
    const reports = await Promise.all([...this.#streams].map(async ([name, s]) => [name, await s.stop()] as const));
    return reports
      .filter(([, { sent, answered, failure }]) => failure !== null || answered < sent || sent === 0)
      .map(([name, { sent, answered, failure }]) => `${name}: ${answered} of ${sent} answered; ${failure ?? 'alive'}`);
  }
}
