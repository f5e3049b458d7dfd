/** Something that is loaded while other things are: for who takes it; closed when it comes if nobody has. */
export class Underway<T extends Disposable> implements Disposable {
  #loading: Promise<T> | undefined;

  constructor(loading: Promise<T>) {
    this.#loading = loading;
    loading.catch(() => {}); // Who takes it hears of it.
  }

  /** Once; rejects as the load does. */
  take(): Promise<T> {
    const loading = this.#loading;
    if (loading === undefined) throw new Error('it was taken before, or is closed');
    this.#loading = undefined;
    return loading;
  }

  [Symbol.dispose](): void {
    void this.#loading?.then(
      (loaded) => loaded[Symbol.dispose](),
      () => {},
    );
    this.#loading = undefined;
  }
}
