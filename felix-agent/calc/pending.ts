import type { DataplaneUpdate } from '#dataplanes/messages.ts';

type Message<T extends DataplaneUpdate['type']> = Extract<DataplaneUpdate, { readonly type: T }>;

/** Changes taken from a `Pending`. */
export interface Changes<T extends DataplaneUpdate['type']> {
  readonly removals: readonly Message<T>[];
  readonly additions: readonly Message<T>[];
}

/**
 * The wanted message per id against the one last sent: `take` gives only real differences, so that a value that was set and set back
 * in between says nothing.
 */
export class Pending<T extends DataplaneUpdate['type']> {
  readonly #wanted = new Map<string, Message<T>>();
  readonly #sent = new Map<string, string>();
  readonly #dirty = new Map<string, Message<T>>();

  /** `update` is the message for the present state (undefined: gone), `removal` the one that takes it back. */
  set(id: string, update: Message<T> | undefined, removal: Message<T>): void {
    if (update === undefined) this.#wanted.delete(id);
    else this.#wanted.set(id, update);
    this.#dirty.set(id, removal);
  }

  take(): Changes<T> {
    const removals: Message<T>[] = [];
    const additions: Message<T>[] = [];
    for (const [id, removal] of this.#dirty) {
      const update = this.#wanted.get(id);
      const sent = this.#sent.get(id);
      if (update === undefined) {
        if (sent === undefined) continue;
        this.#sent.delete(id);
        removals.push(removal);
      } else {
        const text = JSON.stringify(update);
        if (text === sent) continue;
        this.#sent.set(id, text);
        additions.push(update);
      }
    }
    this.#dirty.clear();
    return { removals, additions };
  }
}
