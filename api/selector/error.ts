/** Text that is no selector. */
export class SelectorError extends Error {
  override readonly name = 'SelectorError';
  readonly code = 'bad-selector';
  /** Where in the text, from 0. */
  readonly position: number;

  constructor(position: number, expected: string, found: string) {
    super(`selector: expected ${expected} at position ${position}, found ${found}`);
    this.position = position;
  }
}
