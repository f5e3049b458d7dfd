/** One run: how long it may take, what it says meanwhile, and what it has to take down however it ends. */

const second = 1000;

/** Settings are variables: ROUNDS, ONLY, MINUTES. */
export class Run implements AsyncDisposable {
  readonly rounds: number;
  readonly #only: ReadonlySet<string>;
  readonly #began = performance.now();
  readonly #endsAt: number;
  readonly #stack = new AsyncDisposableStack();
  readonly #onSignal: (signal: NodeJS.Signals) => void;
  readonly #print: (line: string) => void;
  #interrupted = false;

  constructor(
    env: Readonly<Record<string, string | undefined>>,
    parts: readonly string[],
    print: (line: string) => void = console.log,
  ) {
    this.#print = print;
    this.rounds = positive('ROUNDS', env['ROUNDS'] ?? '5');
    this.#endsAt = this.#began + positive('MINUTES', env['MINUTES'] ?? '10') * 60 * second;
    const only = (env['ONLY'] ?? '').split(/[\s,]+/).filter((name) => name !== '');
    const unknown = only.filter((name) => !parts.includes(name));
    if (unknown.length > 0) throw new Error(`ONLY=${unknown.join(',')}: there are ${parts.join(', ')}`);
    this.#only = new Set(only.length === 0 ? parts : only);
    this.#onSignal = (signal) => {
      if (this.#interrupted) {
        this.#print(`${signal}: taking everything down at once`);
        void this.#stack.disposeAsync().finally(() => process.exit(1));
      } else {
        this.#print(`${signal}: after this step everything is taken down (again: at once)`);
        this.#interrupted = true;
      }
    };
    process.on('SIGINT', this.#onSignal);
    process.on('SIGTERM', this.#onSignal);
  }

  /** A signal has come: nothing more is to be begun. */
  get interrupted(): boolean {
    return this.#interrupted;
  }

  wants(part: string): boolean {
    return this.#only.has(part);
  }

  /** Says what begins now; throws when a signal has come. */
  say(text: string): void {
    if (this.#interrupted) throw new Error('interrupted');
    this.#print(`[${((performance.now() - this.#began) / second).toFixed(0).padStart(3)} s] ${text}`);
  }

  /**
   * The rounds of a part, from 0, each said. When the time is up no further one begins: the first one of every part always does.
   */
  *turns(part: string): Generator<number> {
    for (let round = 0; round < this.rounds; round++) {
      if (round > 0 && performance.now() > this.#endsAt) {
        this.say(`${part}: the time (MINUTES) is up: ${round} of ${this.rounds} rounds`);
        return;
      }
      this.say(`${part}: round ${round + 1} of ${this.rounds}`);
      yield round;
    }
  }

  /**
   * What `work` makes and gives to the stack is taken down, last first, however it ends.
   */
  async within<Result>(work: (stack: AsyncDisposableStack) => Promise<Result>): Promise<Result> {
    const stack = new AsyncDisposableStack();
    this.#stack.use(stack);
    try {
      return await work(stack);
    } finally {
      await stack.disposeAsync();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    process.removeListener('SIGINT', this.#onSignal);
    process.removeListener('SIGTERM', this.#onSignal);
    await this.#stack.disposeAsync();
  }
}

/** Who goes first changes from round to round. */
export function inTurn<Item>(items: readonly Item[], round: number): readonly Item[] {
  const first = items.length === 0 ? 0 : round % items.length;
  return [...items.slice(first), ...items.slice(0, first)];
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new Error(`${name}=${text}: not a number above 0`);
  return value;
}
