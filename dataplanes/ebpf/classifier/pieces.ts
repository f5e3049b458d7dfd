import { setImmediate } from 'node:timers/promises';

/** Work that lets others have a turn where it yields. What it works on must not be changed by others meanwhile. */
export type Pieces<T> = Generator<undefined, T>;

/** Milliseconds of work between two turns of others. */
const PIECE = 10;
/** Small things that are done between two yields. */
const SMALL = 32;

/** Does it all, with a turn for others now and then. Throws what the work throws. */
export async function inPieces<T>(work: Pieces<T>): Promise<T> {
  let end = performance.now() + PIECE;
  for (;;) {
    const { done, value } = work.next();
    if (done === true) return value;
    if (performance.now() < end) continue;
    await setImmediate();
    end = performance.now() + PIECE;
  }
}

/** Does it all at once. */
export function atOnce<T>(work: Pieces<T>): T {
  for (;;) {
    const { done, value } = work.next();
    if (done === true) return value;
  }
}

/** Each of them, with a yield now and then. */
export function* each<T>(all: Iterable<T>, act: (one: T) => void): Pieces<void> {
  let done = 0;
  for (const one of all) {
    act(one);
    if (++done % SMALL === 0) yield;
  }
}
