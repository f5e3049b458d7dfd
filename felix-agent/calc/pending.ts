import type { DataplaneUpdate } from '#dataplanes/messages.ts';
import { sameData } from './same-data.ts';

type Message<T extends DataplaneUpdate['type']> = Extract<DataplaneUpdate, { readonly type: T }>;

/** Changes taken from a `Pending`. */
export interface Changes<T extends DataplaneUpdate['type']> {
  readonly removals: readonly Message<T>[];
  readonly additions: readonly Message<T>[];
}

/**
 * The wanted message per id against the one last sent: `take` gives only real differences, so that a value that was set and set back
 * in between says nothing. For messages of bounded size: each that was set is compared as a whole.
 */
export class Pending<T extends DataplaneUpdate['type']> {
  readonly #sent = new Map<string, Message<T>>();
  readonly #dirty = new Map<string, { readonly update: Message<T> | undefined; readonly removal: Message<T> }>();

  /** `update` is the message for the present state (undefined: gone), `removal` the one that takes it back. */
  set(id: string, update: Message<T> | undefined, removal: Message<T>): void {
    this.#dirty.set(id, { update, removal });
  }

  /** How many have been sent and not taken back. */
  get sentCount(): number {
    return this.#sent.size;
  }

  take(): Changes<T> {
    const removals: Message<T>[] = [];
    const additions: Message<T>[] = [];
    for (const [id, { update, removal }] of this.#dirty) {
      const sent = this.#sent.get(id);
      if (update === undefined) {
        if (this.#sent.delete(id)) removals.push(removal);
      } else if (!sameData(update, sent)) {
        this.#sent.set(id, update);
        additions.push(update);
      }
    }
    this.#dirty.clear();
    return { removals, additions };
  }
}
