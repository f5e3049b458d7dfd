import { addressOf, eventually, families } from '../lab/agent-lab.ts';
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

  /** Resolves when each TCP connection is answered again: after it has met nothing but silence, it may take as long as that until it tries again. */
  async tcpGoesOn(timeoutMs: number): Promise<void> {
    const streams = [...this.#streams].filter(([name]) => name.includes(' tcp '));
    const answered = () =>
      Promise.all(
        streams.map(async ([name, stream]) => {
          const { answered: count, failure } = await stream.progress();
          if (failure !== null) throw new Error(`${name}: ${failure}`);
          return count;
        }),
      );
    const before = await answered();
    let now = before;
    await eventually(
      async () => {
        now = await answered();
        return now.every((count, index) => count > before[index]!);
      },
      () => `connections stand still: ${streams.map(([name], index) => `${name}: ${now[index]} answered`).join(', ')}`,
      timeoutMs,
    );
  }

  /**
   * What went wrong, in words by connection: it ended, or more messages than these have no answer. By default every one must have: TCP's by the protocol,
   * UDP's because nobody may drop a packet.
   */
  async stop(lostDatagrams = 0): Promise<readonly string[]> {
    const reports = await Promise.all([...this.#streams].map(async ([name, s]) => [name, await s.stop()] as const));
    return reports
      .filter(([name, { sent, answered, failure }]) => {
        const excused = name.includes(' udp ') ? lostDatagrams : 0;
        return failure !== null || sent === 0 || sent - answered > excused;
      })
      .map(([name, { sent, answered, failure }]) => `${name}: ${answered} of ${sent} answered; ${failure ?? 'alive'}`);
  }
}
