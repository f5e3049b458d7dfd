import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Which dataplane is in the packets' path, on disk: what a restarted agent must take over before it changes anything. */
export class ActiveFile {
  readonly #path: string;

  constructor(stateDir: string) {
    this.#path = join(stateDir, 'dataplane.json');
  }

  /** The kind, or undefined on a node that never had one (or whose state dir is lost). */
  read(): string | undefined {
    try {
      const { active } = JSON.parse(readFileSync(this.#path, 'utf8')) as { active?: unknown };
      return typeof active === 'string' ? active : undefined;
    } catch (error) {
      // Missing or cut short by a crash: then both dataplanes are looked at, and the wanted one takes over.
      if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  write(active: string): void {
    writeFileSync(`${this.#path}.tmp`, `${JSON.stringify({ active })}\n`, { mode: 0o600 });
    renameSync(`${this.#path}.tmp`, this.#path);
  }
}
