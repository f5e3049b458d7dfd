import { randomUUID } from 'node:crypto';
import { systemClock, type Clock } from '#api/clock.ts';
import type { KindMap, KindName } from '#api/kinds.ts';
import { keyText, type ObjectKey } from '#api/meta.ts';
import type { Datastore, DatastoreProblem, Listing, WatchEvent } from '../datastore.ts';
import { History } from '../history.ts';
import {
  checkCreate,
  checkDelete,
  checkKey,
  checkUpdate,
  keyOf,
  replacement,
  validated,
  withMetadata,
} from '../stored-object.ts';

/** An operation that can be made to fail or to wait. */
export type MemoryOperation = 'get' | 'list' | 'watch' | 'create' | 'update' | 'delete';

/** What an operation is about to do; `key` is absent for list and watch. */
export interface OperationCall {
  readonly operation: MemoryOperation;
  readonly kind: KindName;
  readonly key?: ObjectKey;
}

/** Something that is to happen once, with the next call of an operation. */
interface Plan {
  readonly operation: MemoryOperation;
  readonly kind: KindName | undefined;
  readonly before: () => Promise<void> | void;
  readonly after: () => void;
}

/**
 * A datastore in memory with the real semantics, for tests: compare-and-swap, uids, resumable watches, validation. On top of that, faults
 * (`failNext`) and races on demand (`beforeNext`).
 */
export class MemoryDatastore implements Datastore {
  readonly location = 'memory';
  readonly derived: ReadonlySet<KindName> = new Set();
  readonly #clock: Clock;
  readonly #history: History;
  readonly #pause: (call: OperationCall) => Promise<void> | void;
  readonly #objects = new Map<KindName, Map<string, KindMap[KindName]>>();
  readonly #plans: Plan[] = [];
  #revision = 0;

  /** `pause` runs before every operation: a random wait there shuffles the order in which concurrent ones take place. */
  constructor(
    options: {
      readonly clock?: Clock;
      readonly historyLimit?: number;
      readonly pause?: (call: OperationCall) => Promise<void> | void;
    } = {},
  ) {
    this.#clock = options.clock ?? systemClock;
    this.#history = new History(options.historyLimit);
    this.#pause = options.pause ?? (() => {});
  }

  /**
   * Makes the next call of the operation (of that kind, if one is given) fail with this error; repeat it to make more fail.
   * `when: 'after'`: the write takes place, but its answer is lost.
   */
  failNext(
    operation: MemoryOperation,
    error: Error,
    options: { readonly kind?: KindName; readonly when?: 'before' | 'after' } = {},
  ): void {
    const fail = (): void => {
      throw error;
    };
    const [before, after] = options.when === 'after' ? [() => {}, fail] : [fail, () => {}];
    this.#plans.push({ operation, kind: options.kind, before, after });
  }

  /**
   * Runs `hook` once, when the operation (of that kind, if one is given) is called next and before it looks at the stored state: what the
   * hook writes wins the race, as another process' write between the caller's read and write would. A hook that never resolves is a hang.
   */
  beforeNext(
    operation: MemoryOperation,
    hook: () => Promise<void> | void,
    options: { readonly kind?: KindName } = {},
  ): void {
    this.#plans.push({ operation, kind: options.kind, before: hook, after: () => {} });
  }

  /** Forgets all events: watches that resume from before now get `expired`, running ones too if they have not caught up. */
  expireHistory(): void {
    this.#history.forget();
  }

  get<K extends KindName>(kind: K, key: ObjectKey): Promise<KindMap[K] | undefined> {
    return this.#run({ operation: 'get', kind, key }, () => {
      checkKey('get', kind, key);
      return this.#kind(kind).get(keyText(key));
    });
  }

  list<K extends KindName>(kind: K, options: { readonly namespace?: string } = {}): Promise<Listing<K>> {
    return this.#run({ operation: 'list', kind }, () => ({
      items: [...this.#kind(kind).values()].filter(
        (object) => options.namespace === undefined || keyOf(kind, object).namespace === options.namespace,
      ),
      resourceVersion: this.#history.position,
    }));
  }

  async *watch<K extends KindName>(
    kind: K,
    options: { readonly resourceVersion: string; readonly signal?: AbortSignal },
  ): AsyncGenerator<WatchEvent<K>, void, undefined> {
    yield* await this.#run({ operation: 'watch', kind }, () => this.#history.watch(kind, options));
  }

  create<K extends KindName>(kind: K, object: KindMap[K]): Promise<KindMap[K]> {
    return this.#run({ operation: 'create', kind, key: keyOf(kind, object) }, () => {
      const valid = validated('create', kind, object);
      const key = keyText(keyOf(kind, valid));
      checkCreate(kind, this.#kind(kind).get(key), valid);
      const created = withMetadata<KindMap[K]>(valid, {
        uid: randomUUID(),
        resourceVersion: this.#nextRevision(),
        creationTimestamp: new Date(this.#clock.now()).toISOString(),
      });
      this.#kind(kind).set(key, created);
      this.#history.record(kind, 'added', created);
      return created;
    });
  }

  update<K extends KindName>(kind: K, object: KindMap[K]): Promise<KindMap[K]> {
    return this.#run({ operation: 'update', kind, key: keyOf(kind, object) }, () => {
      const valid = validated('update', kind, object);
      const key = keyText(keyOf(kind, valid));
      const stored = this.#kind(kind).get(key);
      checkUpdate<KindMap[K]>(kind, stored, valid);
      const updated = replacement<KindMap[K]>(stored, valid, () => this.#nextRevision());
      if (updated !== stored) {
        this.#kind(kind).set(key, updated);
        this.#history.record(kind, 'modified', updated);
      }
      return updated;
    });
  }

  delete(
    kind: KindName,
    key: ObjectKey,
    only: { readonly resourceVersion?: string | undefined; readonly uid?: string | undefined } = {},
  ): Promise<void> {
    return this.#run({ operation: 'delete', kind, key }, () => {
      checkKey('delete', kind, key);
      const stored = this.#kind(kind).get(keyText(key));
      checkDelete(kind, key, stored, only);
      this.#kind(kind).delete(keyText(key));
      this.#history.record(kind, 'deleted', stored);
    });
  }

  absent(): readonly KindName[] {
    return [];
  }

  problems(): readonly DatastoreProblem[] {
    return [];
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#history.close();
    return Promise.resolve();
  }

  /** `action` is one go: nothing can come between its look at the stored state and its write. */
  async #run<T>(call: OperationCall, action: () => T): Promise<T> {
    await this.#pause(call);
    const index = this.#plans.findIndex(
      ({ operation, kind }) => operation === call.operation && (kind === undefined || kind === call.kind),
    );
    const plan = index < 0 ? undefined : this.#plans.splice(index, 1)[0];
    await plan?.before();
    const result = action();
    plan?.after();
    return result;
  }

  #kind<K extends KindName>(kind: K): Map<string, KindMap[K]> {
    let objects = this.#objects.get(kind);
    if (objects === undefined) {
      objects = new Map();
      this.#objects.set(kind, objects);
    }
    return objects as Map<string, KindMap[K]>;
  }

  #nextRevision(): string {
    return String(++this.#revision);
  }
}
