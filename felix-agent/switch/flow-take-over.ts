import { setImmediate as nextTurn } from 'node:timers/promises';
import type { DataplaneFlows, FlowImportReport } from '#dataplanes/flows.ts';
import type { Log } from '../log.ts';

/**
 * Carries the flows of this node's pods from the dataplane in the path to the one that is about to enter it. Those that are there are carried
 * before it enters, so that none is judged anew; what changes is carried until the other one has left. One that can't tell changes is asked for
 * all once more, when both are in the path. What can't be carried is logged: its connections may end, and that is no reason to stay.
 */
export class FlowTakeOver implements AsyncDisposable {
  readonly #from: DataplaneFlows | undefined;
  readonly #to: DataplaneFlows | undefined;
  readonly #pods: () => ReadonlySet<string>;
  readonly #log: Log;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #hasEnded = false;

  /** `pods`: addresses of this node's pods now. Nothing is done where one of both has no flows to tell. */
  constructor(
    from: DataplaneFlows | undefined,
    to: DataplaneFlows | undefined,
    pods: () => ReadonlySet<string>,
    log: Log,
  ) {
    this.#from = from;
    this.#to = to;
    this.#pods = pods;
    this.#log = log;
  }

  /** Resolves when all flows that were there are carried, or can't be. Never rejects. */
  async begin(): Promise<void> {
    const [from, to] = [this.#from, this.#to];
    if (from === undefined || to === undefined) return;
    const whole = Promise.withResolvers<void>();
    const scope = { local: this.#pods() };
    this.#hasEnded = false;
    this.#running = (async () => {
      try {
        const report = await to.importFlows(from.exportFlows(scope, this.#stop.signal), scope, () => whole.resolve());
        this.#tell(report);
      } catch (error) {
        this.#log.warn({ err: error }, 'the flows of the other dataplane could not all be taken over');
      } finally {
        this.#hasEnded = true;
        whole.resolve();
      }
    })();
    await whole.promise;
  }

  /** Once more, if what has changed since is not being told. Never rejects. */
  async beforeRelease(): Promise<void> {
    // One that has said everything and doesn't go on ends within this turn.
    await nextTurn();
    if (this.#hasEnded) await this.begin();
  }

  /** The other one has left: nothing of it changes any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  #tell({ imported, present, skipped, failed }: FlowImportReport): void {
    this.#log.info({ imported, present, skipped, failed: failed.count }, 'took over the flows of the other dataplane');
    if (failed.count > 0) this.#log.warn({ examples: failed.examples }, 'some flows could not be taken over');
  }
}
