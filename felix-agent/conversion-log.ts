import type { Log } from './log.ts';

/** Says in the log what of valid policies and profiles can't be enforced as it is written: once when it appears, once when it is gone. */
export class ConversionLog {
  readonly #log: Log;
  /** By object, what has been said. */
  #said: ReadonlyMap<string, readonly string[]> = new Map();

  constructor(log: Log) {
    this.#log = log;
  }

  /** Takes the whole present state: by object, its problems. */
  update(problems: ReadonlyMap<string, readonly string[]>): void {
    for (const [object, messages] of problems)
      for (const message of newIn(messages, this.#said.get(object)))
        this.#log.warn({ object }, `${object}: ${message}`);
    for (const [object, messages] of this.#said)
      for (const message of newIn(messages, problems.get(object)))
        this.#log.info({ object }, `${object}: no longer so: ${message}`);
    this.#said = new Map(problems);
  }
}

function newIn(messages: readonly string[], known: readonly string[] = []): readonly string[] {
  return [...new Set(messages)].filter((message) => !known.includes(message));
}
