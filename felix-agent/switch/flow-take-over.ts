import type { DataplaneFlows, FlowImportReport } from '#dataplanes/flows.ts';
import type { Log } from '../log.ts';

/**
 * Carries the flows of this node's pods from the dataplane in the path to the one that is about to enter it. Those that are there are carried
 * before it enters, so that none is judged anew; what changes is carried until both are in the path, and then all once more, which has what changed
 * unsaid. That ends before the other one leaves: while flows are taken over packets of unknown ones may pass unjudged, because it judges them. What
 * can't be carried is logged: its connections may end, and that is no reason to stay.
 */
export class FlowTakeOver implements AsyncDisposable {
  readonly #from: DataplaneFlows | undefined;
  readonly #to: DataplaneFlows | undefined;
  readonly #pods: () => ReadonlySet<string>;
  readonly #log: Log;
  #stop = new AbortController();
  #running: Promise<void> | undefined;

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
  begin(): Promise<void> {
    return this.#take(false);
  }

  /** All once more, and what is told last; nothing is taken over any longer when this resolves. Never rejects. */
  async beforeRelease(): Promise<void> {
    await this.#end();
    await this.#take(true);
    await this.#end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end();
  }

  async #take(isLeaving: boolean): Promise<void> {
    const [from, to] = [this.#from, this.#to];
    if (from === undefined || to === undefined) return;
    const whole = Promise.withResolvers<void>();
    const scope = { local: this.#pods(), isLeaving };
    const { signal } = (this.#stop = new AbortController());
    this.#running = (async () => {
      try {
        const report = await to.importFlows(from.exportFlows(scope, signal), scope, () => whole.resolve());
        this.#tell(report);
      } catch (error) {
        this.#log.warn({ err: error }, 'the flows of the other dataplane could not all be taken over');
      } finally {
        whole.resolve();
      }
    })();
    await whole.promise;
  }

  async #end(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  #tell({ imported, present, skipped, failed }: FlowImportReport): void {
    this.#log.info({ imported, present, skipped, failed: failed.count }, 'took over the flows of the other dataplane');
    if (failed.count > 0) this.#log.warn({ examples: failed.examples }, 'some flows could not be taken over');
  }
}
