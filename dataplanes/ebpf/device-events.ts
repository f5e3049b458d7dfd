import type { Clock } from '#api/clock.ts';
import type { NetlinkEvent } from '#native/types.ts';
import type { Logger } from '../logger.ts';

/** Events of links and of clsact in the node's namespace. */
export type Monitor = AsyncIterable<NetlinkEvent> & Disposable;

/** After the monitor broke, wait this long before it is opened again. */
const retryMs = 1_000;

/**
 * Follows a monitor until it is disposed of, and opens it again when it breaks. Each time after it was opened `onEvent` first gets an
 * `overrun`: nothing is known of what happened before.
 */
export class DeviceEvents implements Disposable {
  readonly #open: () => Monitor;
  readonly #onEvent: (event: NetlinkEvent) => void;
  readonly #clock: Clock;
  readonly #log: Logger;
  #monitor: Monitor | undefined;
  #retry: Disposable | undefined;
  #closed = false;

  constructor(open: () => Monitor, onEvent: (event: NetlinkEvent) => void, clock: Clock, log: Logger) {
    this.#open = open;
    this.#onEvent = onEvent;
    this.#clock = clock;
    this.#log = log;
    this.#start();
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#retry?.[Symbol.dispose]();
    this.#monitor?.[Symbol.dispose]();
  }

  #start(): void {
    void this.#follow().catch((error: unknown) => this.#lost((error as Error).message));
  }

  async #follow(): Promise<void> {
    const monitor = this.#open();
    this.#monitor = monitor;
    this.#onEvent({ type: 'overrun' });
    for await (const event of monitor) this.#onEvent(event);
    this.#lost('it ended');
  }

  #lost(reason: string): void {
    if (this.#closed) return;
    this.#log.warn('lost the monitor of pod devices; opening it again', { reason });
    this.#monitor?.[Symbol.dispose]();
    this.#retry = this.#clock.after(retryMs, () => this.#start());
  }
}
