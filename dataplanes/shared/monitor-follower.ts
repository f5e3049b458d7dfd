import type { NetlinkEvent } from '#native/types.ts';

/** Events of the node's namespace: links, addresses, routes, neighbours. */
export type Monitor = AsyncIterable<NetlinkEvent> & Disposable;

/** Reads one monitor after the other; what it is told to forget (`stop`) says nothing any more. */
export class MonitorFollower {
  readonly #open: () => Monitor;
  readonly #onEvent: (event: NetlinkEvent) => void;
  readonly #onLost: (reason: string) => void;
  #monitor: Monitor | undefined;

  /** `onLost` is called when the monitor ended by itself, with the reason; events are missed from then on. */
  constructor(open: () => Monitor, onEvent: (event: NetlinkEvent) => void, onLost: (reason: string) => void) {
    this.#open = open;
    this.#onEvent = onEvent;
    this.#onLost = onLost;
  }

  /** Opens a monitor if none is open: what happens from now on comes as an event. */
  start(): void {
    if (this.#monitor !== undefined) return;
    const monitor = this.#open();
    this.#monitor = monitor;
    void this.#read(monitor);
  }

  stop(): void {
    const monitor = this.#monitor;
    this.#monitor = undefined;
    monitor?.[Symbol.dispose]();
  }

  async #read(monitor: Monitor): Promise<void> {
    let reason = 'it ended';
    try {
      for await (const event of monitor) this.#onEvent(event);
    } catch (error) {
      reason = (error as Error).message;
    }
    if (this.#monitor !== monitor) return;
    this.stop();
    this.#onLost(reason);
  }
}
