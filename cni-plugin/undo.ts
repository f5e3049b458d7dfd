import { CniError, cniCode, errorText, toCniError } from './errors.ts';

/** What must be taken back if a later step fails. */
export class UndoStack {
  readonly #steps: { readonly what: string; readonly undo: () => Promise<unknown> }[] = [];

  push(what: string, undo: () => Promise<unknown>): void {
    this.#steps.push({ what, undo });
  }

  /**
   * Takes everything back, last first, and returns the error to report: the first cause, with what could not be undone. Stops at a step that
   * fails, since what is below it is still in use: an address may not be given away while a link has it.
   */
  async unwind(cause: unknown): Promise<CniError> {
    const first = toCniError(cause);
    for (;;) {
      const step = this.#steps.pop();
      if (step === undefined) return first;
      try {
        await step.undo();
      } catch (error) {
        const left = [step.what, ...this.#steps.map(({ what }) => what).toReversed()].join(', ');
        return new CniError(
          first.code === cniCode.internal ? cniCode.incomplete : first.code,
          `${first.message}; and it could not be undone: ${errorText(error)} (left: ${left}; a DEL removes it)`,
          { cause, details: first.details },
        );
      }
    }
  }
}
