import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { must } from '#test/lab/exec.ts';

const source = fileURLToPath(new URL('../set-watch.c', import.meta.url));
const program = fileURLToPath(new URL('../../build/bench/set-watch', import.meta.url));

/** What was seen of one change. */
export interface Seen {
  /** Of the first answer that was as wanted, by CLOCK_MONOTONIC (as `process.hrtime`). */
  readonly ns: number;
  /** Since the look before: how exact `ns` is. */
  readonly gapNs: number;
}

/** A small process in a network namespace that looks at ipsets while something is awaited there, about every 0.08 ms. */
export class SetWatch implements Disposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcessByStdio<Writable, Readable, null>) {
    this.#child = child;
    this.#lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  }

  static async start(netnsPath: string): Promise<SetWatch> {
    mkdirSync(join(program, '..'), { recursive: true });
    await must('gcc', '-O2', '-o', program, source);
    return new SetWatch(spawn('nsenter', [`--net=${netnsPath}`, program], { stdio: ['pipe', 'pipe', 'inherit'] }));
  }

  /**
   * Resolves when it watches whether the set has (or no longer has) the address; `seen` then resolves when that is so, and rejects when it
   * isn't after 10 s. Rejects when it was so before.
   */
  async watch(set: string, address: string, wanted: 'present' | 'absent'): Promise<{ readonly seen: Promise<Seen> }> {
    this.#child.stdin.write(`${set} ${address} ${wanted}\n`);
    const first = await this.#line();
    if (first !== 'watching') throw new Error(`${address} is ${wanted} in ${set} already (${first})`);
    const seen = this.#line().then((line) => {
      const [ns, gapNs] = line.split(' ').map(Number);
      if (ns === undefined || gapNs === undefined) throw new Error(`${address} is not ${wanted} in ${set}: ${line}`);
      return { ns, gapNs };
    });
    // Whoever fails before it awaits this says why.
    seen.catch(() => {});
    return { seen };
  }

  async #line(): Promise<string> {
    const { value } = (await this.#lines.next()) as { readonly value: string | undefined };
    return value ?? 'set-watch has ended';
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL');
  }
}
