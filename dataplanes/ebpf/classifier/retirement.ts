/** Something that others refer to, and that may be gone for good only when nobody has for a grace period. */
export class Shared {
  #users = 0;
  #ended = 0;
  readonly #retirement: Retirement;
  readonly #free: () => void;

  /** `free` is called a grace period after the last user went, unless there are users again by then. */
  constructor(retirement: Retirement, free: () => void) {
    this.#retirement = retirement;
    this.#free = free;
  }

  get users(): number {
    return this.#users;
  }

  acquire(): void {
    this.#users++;
  }

  release(): void {
    this.#users--;
    if (this.#users > 0) return;
    // Used and left once more, it has to wait once more: only the last end counts.
    const end = ++this.#ended;
    this.#retirement.add(() => {
      if (this.#users === 0 && end === this.#ended) this.#free();
    });
  }

  /** Takes the last `acquire` back as though it had not been: what waited for its end goes on to wait. */
  undoAcquire(): void {
    this.#users--;
  }

  /** One user less of something that no lookup can have met: after the last it is freed at once. */
  releaseUnseen(): void {
    this.#users--;
    if (this.#users === 0) this.#free();
  }
}

/** What waits for a grace period. */
export class Retirement {
  #waiting: (() => void)[] = [];

  /** `done` is called a grace period from now. */
  add(done: () => void): void {
    this.#waiting.push(done);
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  /** All that waits now; call them when a grace period is over that began after this. */
  take(): (() => void)[] {
    const waiting = this.#waiting;
    this.#waiting = [];
    return waiting;
  }
}
