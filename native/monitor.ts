import { loadAddon } from './addon.ts';
import { Turns } from './turns.ts';
import type { MonitorGroup, NetlinkEvent, NetnsRef } from './types.ts';

/**
 * Events of one namespace, in the kernel's order, for `for await`. The kernel keeps some thousands while nobody asks for them; after that
 * it drops some, which is an `overrun` event, after which nothing is missed again: whoever compares everything then is up to date. Each
 * turn of the event loop takes a bounded number. It keeps the process alive only while someone waits for the next event.
 *
 * Leaving the loop (`return()`) or disposing closes the socket; whoever waits is told that there is no more.
 */
export interface Monitor extends AsyncIterable<NetlinkEvent>, Disposable {
  next(): Promise<IteratorResult<NetlinkEvent, undefined>>;
  return(): Promise<IteratorResult<NetlinkEvent, undefined>>;
  [Symbol.asyncIterator](): Monitor;
}

interface MonitorSocket {
  wait(callback: () => void): void;
  read(): readonly NetlinkEvent[];
  close(): void;
}

interface MonitorAddon {
  readonly MonitorSocket: new (groups: readonly MonitorGroup[], ns?: NetnsRef) => MonitorSocket;
}

/** Listens to the groups in the namespace (absent: where the process is) from now on. Throws as `openNetlink` does. */
export function openMonitor(groups: readonly MonitorGroup[], ns?: NetnsRef): Monitor {
  return new NetlinkMonitor(new (loadAddon<MonitorAddon>().MonitorSocket)(groups, ns));
}

const noMore = { done: true, value: undefined } as const;

class NetlinkMonitor implements Monitor {
  readonly #socket: MonitorSocket;
  readonly #turns = new Turns();
  /** What was read and not yet taken, and the place of the next one. */
  #events: readonly NetlinkEvent[] = [];
  #position = 0;
  #closed = false;
  #wake: () => void = () => {};

  constructor(socket: MonitorSocket) {
    this.#socket = socket;
  }

  next(): Promise<IteratorResult<NetlinkEvent, undefined>> {
    return this.#turns.run(async () => {
      for (;;) {
        if (this.#closed) return noMore;
        const value = this.#events[this.#position];
        if (value !== undefined) {
          this.#position += 1;
          return { done: false, value };
        }
        // Never read twice without a turn of the event loop between: a flood of events must not keep everything else waiting.
        await this.#readable();
        this.#events = this.#closed ? [] : this.#socket.read();
        this.#position = 0;
      }
    });
  }

  async return(): Promise<IteratorResult<NetlinkEvent, undefined>> {
    this[Symbol.dispose]();
    return noMore;
  }

  [Symbol.asyncIterator](): Monitor {
    return this;
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#events = [];
    this.#socket.close();
    this.#wake();
  }

  #readable(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    this.#socket.wait(resolve);
    return promise;
  }
}
