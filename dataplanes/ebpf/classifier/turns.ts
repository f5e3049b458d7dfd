/** Things that are done one after the other. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  /** Does it when all that came before is over, however that ended. */
  take<T>(act: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(act);
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}
