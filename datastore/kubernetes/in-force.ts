import { objectText, type KindMap, type KindName } from '#api/kinds.ts';
import { keyText, type ObjectKey } from '#api/meta.ts';
import type { Directions } from '#api/policy/types-of.ts';
import type { DatastoreProblem, ProblemEffect, WatchEvent } from '../datastore.ts';
import { meanwhileText } from '../meanwhile.ts';
import { objectPath } from './path.ts';
import type { Reading } from './reading.ts';
import type { RawEvent } from './watch.ts';

/** Why an object can't be used, and what holds meanwhile. */
interface Unusable {
  readonly key: ObjectKey;
  readonly wrong: string;
  readonly effect: ProblemEffect;
  readonly denies: Directions | undefined;
}

const eventTypes = { ADDED: 'added', MODIFIED: 'modified', DELETED: 'deleted' } as const;

/**
 * Which version of each object of one kind is in force: the one that the API server has if it can be used, else the last valid one that this
 * process has seen, else, of a policy, a replacement that denies, else none. It remembers the last valid versions while somebody watches the
 * kind; they are the objects that the watcher has anyway.
 */
export class InForce<K extends KindName> {
  readonly #kind: K;
  #valid = new Map<string, KindMap[K]>();
  readonly #unusable = new Map<string, Unusable>();

  constructor(kind: K) {
    this.#kind = kind;
  }

  /** Takes a listing of the whole kind; returns what is in force. */
  list(readings: readonly Reading<K>[]): KindMap[K][] {
    const before = this.#valid;
    this.#valid = new Map();
    this.#unusable.clear();
    return readings.flatMap((reading) => this.#take(reading, before) ?? []);
  }

  /** What is in force of these; remembers nothing. */
  look(readings: readonly Reading<K>[]): KindMap[K][] {
    return readings.flatMap(({ key, content }) => {
      if (content.object !== undefined) return [content.object];
      return this.#valid.get(keyText(key)) ?? content.replacement?.object ?? [];
    });
  }

  /** Takes an event of a watch; returns what it means for who knows only what is in force. */
  event(type: Exclude<RawEvent['type'], 'BOOKMARK'>, reading: Reading<K>, resourceVersion: string): WatchEvent<K> {
    const text = keyText(reading.key);
    const wasIgnored = this.#unusable.get(text)?.effect === 'ignored';
    const known = this.#valid.get(text);
    if (type === 'DELETED') {
      this.#unusable.delete(text);
      this.#valid.delete(text);
      const object = reading.content.object ?? known ?? reading.content.replacement?.object;
      return wasIgnored || object === undefined
        ? { type: 'bookmark', resourceVersion }
        : { type: 'deleted', object, resourceVersion };
    }
    const object = this.#take(reading, this.#valid);
    return object === undefined || (object === known && reading.content.object === undefined)
      ? { type: 'bookmark', resourceVersion }
      : { type: wasIgnored ? 'added' : eventTypes[type], object, resourceVersion };
  }

  /** Nobody watches the kind any more. */
  forget(): void {
    this.#valid = new Map();
    this.#unusable.clear();
  }

  problems(): DatastoreProblem[] {
    return [...this.#unusable.values()].map(({ key, wrong, effect, denies }) => ({
      source: objectPath(this.#kind, key),
      objects: [objectText(this.#kind, key)],
      message: `${wrong}; ${meanwhileText(this.#kind, effect, denies)}`,
      effect,
    }));
  }

  get hasProblems(): boolean {
    return this.#unusable.size > 0;
  }

  /** What is in force of an object now. `before`: what was valid until now. */
  #take({ key, content }: Reading<K>, before: ReadonlyMap<string, KindMap[K]>): KindMap[K] | undefined {
    const text = keyText(key);
    if (content.object !== undefined) {
      this.#unusable.delete(text);
      this.#valid.set(text, content.object);
      return content.object;
    }
    const { wrong, replacement } = content;
    const known = before.get(text);
    if (known !== undefined) {
      this.#valid.set(text, known);
      this.#unusable.set(text, { key, wrong, effect: 'last-valid', denies: undefined });
      return known;
    }
    const effect = replacement === undefined ? 'ignored' : 'denies';
    this.#unusable.set(text, { key, wrong, effect, denies: replacement?.denies });
    return replacement?.object;
  }
}
