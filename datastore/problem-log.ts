import type { DatastoreProblem } from './datastore.ts';

/** What can't be used or was passed over, at present; each is logged when it appears, and problems when they are gone. */
export class ProblemLog {
  readonly #log: (level: 'info' | 'warn', message: string) => void;
  problems: readonly DatastoreProblem[] = [];
  remarks: readonly string[] = [];

  constructor(log: (level: 'info' | 'warn', message: string) => void) {
    this.#log = log;
  }

  /** Takes the whole present state. */
  update(problems: readonly DatastoreProblem[], remarks: readonly string[]): void {
    const before = this.problems.map(({ message }) => message);
    const now = problems.map(({ message }) => message);
    for (const message of newIn(now, before)) {
      this.#log('warn', message);
    }
    for (const message of newIn(before, now)) {
      this.#log('info', `no longer so: ${message}`);
    }
    for (const message of newIn(remarks, this.remarks)) {
      this.#log('info', `passed over: ${message}`);
    }
    this.problems = problems;
    this.remarks = remarks;
  }
}

function newIn(texts: readonly string[], known: readonly string[]): string[] {
  const old = new Set(known);
  return [...new Set(texts)].filter((text) => !old.has(text));
}
