import { Turns } from './turns.ts';

/**
 * Events of one namespace, in the kernel's order, for `for await`. The kernel keeps them while nobody asks; each turn of the event loop takes
 * a bounded number. It keeps the process alive only while someone waits for the next event.
 *
 * Leaving the loop (`return()`) or disposing closes the socket; whoever waits is told that there is no more.
 */
export interface EventStream<Event> extends AsyncIterable<Event>, Disposable {
  next(): Promise<IteratorResult<Event, undefined>>;
  return(): Promise<IteratorResult<Event, undefined>>;
  [Symbol.asyncIterator](): EventStream<Event>;
}

/** Where events come from: the addon's sockets. */
export interface EventSource<Event> {
  /** Calls back once, when there is something to read. */
  wait(callback: () => void): void;
  /** What is there, some dozens at most. */
  read(): readonly Event[];
  close(): void;
}

const noMore = { done: true, value: undefined } as const;

/** The stream of a source, which is closed with it. */
export class SourceEventStream<Event> implements EventStream<Event> {
  readonly #source: EventSource<Event>;
  readonly #turns = new Turns();
  /** What was read and not yet taken, and the place of the next one. */
  #events: readonly Event[] = [];
  #position = 0;
  #closed = false;
  #wake: () => void = () => {};

  constructor(source: EventSource<Event>) {
    this.#source = source;
  }

  next(): Promise<IteratorResult<Event, undefined>> {
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
        this.#events = this.#closed ? [] : this.#source.read();
        this.#position = 0;
      }
    });
  }

  async return(): Promise<IteratorResult<Event, undefined>> {
    this[Symbol.dispose]();
    return noMore;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#events = [];
    this.#source.close();
    this.#wake();
  }

  #readable(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    this.#source.wait(resolve);
    return promise;
  }
}
