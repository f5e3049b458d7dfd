import { objectText, type KindMap, type KindName } from '#api/kinds.ts';
import { keyText, type ObjectKey } from '#api/meta.ts';
import type { DatastoreProblem, ProblemEffect, WatchEvent } from '../datastore.ts';
import { meanwhileText } from '../meanwhile.ts';
import { objectPath } from './path.ts';
import type { Reading, Replacement } from './reading.ts';
import type { RawEvent } from './watch.ts';

/** Why an object can't be used, and what holds meanwhile. */
interface Unusable<K extends KindName> {
  readonly key: ObjectKey;
  readonly wrong: string;
  readonly effect: ProblemEffect;
  readonly replacement: Replacement<K> | undefined;
}

const eventTypes = { ADDED: 'added', MODIFIED: 'modified' } as const;

/**
 * Which version of each object of one kind is in force: the one that the API server has if it can be used, else the last valid one that this
 * process has seen, else, of a policy, a replacement that denies, else none. It remembers the last valid versions while somebody watches the
 * kind; they are the objects that the watcher has anyway.
 */
export class InForce<K extends KindName> {
  readonly #kind: K;
  #valid = new Map<string, KindMap[K]>();
  #unusable = new Map<string, Unusable<K>>();
  /** Of objects that can be used, what can't be. */
  #flaws = new Map<string, { readonly key: ObjectKey; readonly flaw: string }>();

  constructor(kind: K) {
    this.#kind = kind;
  }

  /** Takes a listing of the whole kind; returns what is in force. */
  list(readings: readonly Reading<K>[]): KindMap[K][] {
    const before = this.#valid;
    this.#valid = new Map();
    this.#unusable = new Map();
    this.#flaws = new Map();
    return readings.flatMap((reading) => this.#take(reading, before) ?? []);
  }

  /** What is in force of these; remembers nothing. */
  look(readings: readonly Reading<K>[]): KindMap[K][] {
    return readings.flatMap(
      (reading) => reading.object ?? lastOf(reading, this.#valid) ?? reading.replacement?.object ?? [],
    );
  }

  /**
   * Takes an event of a watch; returns what it means for who knows only what is in force. Of a deleted object of which nothing usable is known
   * (any more) there are only its key and uid: a watcher may still have it from before.
   */
  event(type: Exclude<RawEvent['type'], 'BOOKMARK'>, reading: Reading<K>, resourceVersion: string): WatchEvent<K> {
    const text = keyText(reading.key);
    const unusable = this.#unusable.get(text);
    const before = this.#valid.get(text) ?? unusable?.replacement?.object;
    if (type === 'DELETED') {
      this.#valid.delete(text);
      this.#unusable.delete(text);
      this.#flaws.delete(text);
      return { type: 'deleted', object: reading.object ?? before ?? nameOf(reading), resourceVersion };
    }
    const now = this.#take(reading, this.#valid);
    if (now === before) return { type: 'bookmark', resourceVersion };
    if (now === undefined) return { type: 'deleted', object: before ?? nameOf(reading), resourceVersion };
    return { type: unusable?.effect === 'ignored' ? 'added' : eventTypes[type], object: now, resourceVersion };
  }

  /** Nobody watches the kind any more. What is wrong stays known until the next listing. */
  forget(): void {
    this.#valid = new Map();
  }

  problems(): DatastoreProblem[] {
    const unusable = [...this.#unusable.values()].map(({ key, wrong, effect, replacement }) =>
      this.#problem(key, `${wrong}; ${meanwhileText(this.#kind, effect, replacement?.denies)}`, effect),
    );
    return [...unusable, ...[...this.#flaws.values()].map(({ key, flaw }) => this.#problem(key, flaw, 'ignored'))];
  }

  get hasProblems(): boolean {
    return this.#unusable.size + this.#flaws.size > 0;
  }

  #problem(key: ObjectKey, message: string, effect: ProblemEffect): DatastoreProblem {
    return { source: objectPath(this.#kind, key), objects: [objectText(this.#kind, key)], message, effect };
  }

  /** What is in force of an object now. `before`: what was valid until now. */
  #take(reading: Reading<K>, before: ReadonlyMap<string, KindMap[K]>): KindMap[K] | undefined {
    const { key, object, wrong, flaw, replacement } = reading;
    const text = keyText(key);
    if (flaw === '') this.#flaws.delete(text);
    else this.#flaws.set(text, { key, flaw });
    if (object !== undefined) {
      this.#unusable.delete(text);
      this.#valid.set(text, object);
      return object;
    }
    const last = lastOf(reading, before);
    if (last !== undefined) {
      this.#valid.set(text, last);
      this.#unusable.set(text, { key, wrong, effect: 'last-valid', replacement: undefined });
      return last;
    }
    this.#valid.delete(text);
    this.#unusable.set(text, { key, wrong, effect: replacement === undefined ? 'ignored' : 'denies', replacement });
    return replacement?.object;
  }
}

/** Of an object that could not be used, and is gone, its name is all that counts. */
function nameOf<K extends KindName>({ key, uid }: Reading<K>): KindMap[K] {
  return { metadata: { ...key, uid } } as unknown as KindMap[K];
}

/** The last valid version of the same object: not of another one that had its name. */
function lastOf<K extends KindName>(
  { key, uid }: Reading<K>,
  valid: ReadonlyMap<string, KindMap[K]>,
): KindMap[K] | undefined {
  const last = valid.get(keyText(key));
  return last?.metadata.uid === uid ? last : undefined;
}
