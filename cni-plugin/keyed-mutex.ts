/** Who may work at the same time on one node. */
export interface KeyedLocks {
  /** One at a time per key, in order of arrival, among those who share the node; disposing of the result gives it to the next. */
  acquire(key: string): Promise<Disposable>;
  /** Beside others that share the node, but not while someone has it alone: ADD, DEL, CHECK. */
  shareNode(): Promise<Disposable>;
  /** Alone: GC, which must not take for garbage what an ADD is just making. */
  takeNode(): Promise<Disposable>;
}

interface Waiter {
  readonly isShared: boolean;
  readonly go: () => void;
}

/** One lock: any number of sharers, or one holder alone; in order of arrival, so that nobody waits for ever. */
class SharedLock {
  readonly #waiting: Waiter[] = [];
  #sharers = 0;
  #isTaken = false;

  get isFree(): boolean {
    return this.#sharers === 0 && !this.#isTaken && this.#waiting.length === 0;
  }

  acquire(isShared: boolean, released: () => void): Promise<Disposable> {
    return new Promise((resolve) => {
      let isHeld = true;
      const held: Disposable = {
        [Symbol.dispose]: () => {
          if (!isHeld) return;
          isHeld = false;
          if (isShared) this.#sharers -= 1;
          else this.#isTaken = false;
          this.#advance();
          released();
        },
      };
      this.#waiting.push({ isShared, go: () => resolve(held) });
      this.#advance();
    });
  }

  #advance(): void {
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      if (this.#isTaken || (!next.isShared && this.#sharers > 0)) return;
      this.#waiting.shift();
      if (next.isShared) this.#sharers += 1;
      else this.#isTaken = true;
      next.go();
    }
  }
}

/** Inside one process. */
export class KeyedMutex implements KeyedLocks {
  /** A key that nobody holds or waits for has no entry. */
  readonly #keys = new Map<string, SharedLock>();
  readonly #node = new SharedLock();

  acquire(key: string): Promise<Disposable> {
    const lock = this.#keys.get(key) ?? new SharedLock();
    this.#keys.set(key, lock);
    return lock.acquire(false, () => {
      if (lock.isFree) this.#keys.delete(key);
    });
  }

  shareNode(): Promise<Disposable> {
    return this.#node.acquire(true, () => {});
  }

  takeNode(): Promise<Disposable> {
    return this.#node.acquire(false, () => {});
  }
}
