/** What the playground prints, and whether all was as it should be. */
export class Report {
  readonly #started = performance.now();
  readonly #problems: string[] = [];

  get ok(): boolean {
    return this.#problems.length === 0;
  }

  line(text = ''): void {
    console.log(text);
  }

  /** Says what is being done, does it, and says how long it took. */
  async step<T>(what: string, action: () => Promise<T>): Promise<T> {
    const started = performance.now();
    process.stdout.write(`* ${what} ... `);
    try {
      const result = await action();
      console.log(`${((performance.now() - started) / 1000).toFixed(2)} s`);
      return result;
    } catch (error) {
      console.log('failed');
      throw error;
    }
  }

  check(ok: boolean, what: string, otherwise: string): void {
    console.log(`  ${ok ? 'ok ' : 'NOT'} ${what}${ok ? '' : `: ${otherwise}`}`);
    if (!ok) this.#problems.push(`${what}: ${otherwise}`);
  }

  failed(error: unknown): void {
    const text =
      error instanceof AggregateError ? `${error.message}: ${error.errors.map(String).join('; ')}` : String(error);
    this.#problems.push(text);
    console.error(`  NOT done: ${text}`);
  }

  /** Prints the end and returns the exit status. */
  finish(): number {
    const seconds = ((performance.now() - this.#started) / 1000).toFixed(0);
    console.log(
      this.ok ? `\nAll as expected, in ${seconds} s.` : `\n${this.#problems.length} thing(s) not as expected:`,
    );
    for (const problem of this.#problems) console.log(`  - ${problem}`);
    return this.ok ? 0 : 1;
  }
}
