import type { DatastoreProblem } from '../datastore.ts';

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
    const before = new Set(this.problems.map(({ message }) => message));
    const now = new Set(problems.map(({ message }) => message));
    for (const message of now.difference(before)) {
      this.#log('warn', message);
    }
    for (const message of before.difference(now)) {
      this.#log('info', `no longer so: ${message}`);
    }
    for (const message of new Set(remarks).difference(new Set(this.remarks))) {
      this.#log('info', `passed over: ${message}`);
    }
    this.problems = problems;
    this.remarks = remarks;
  }
}
