import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { createInterface } from 'node:readline';
import type { PeerRequest, ProbeAnswer, StreamReport } from './peer.ts';

/** A peer process in a network namespace, seen from outside. */
export class Peer implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (answer: unknown) => void>();
  #nextId = 1;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** Starts one in the namespace; resolves when it serves. */
  static async start(netnsPath: string): Promise<Peer> {
    const program = fileURLToPath(new URL('peer.ts', import.meta.url));
    const child = spawn('nsenter', [`--net=${netnsPath}`, process.execPath, '--disable-warning=ExperimentalWarning', program, 'serve', netnsPath], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const peer = new Peer(child);
    const ready = Promise.withResolvers<void>();
    child.once('exit', (code) => ready.reject(new Error(`the peer in ${netnsPath} ended with status ${code}`)));
    createInterface({ input: child.stdout }).on('line', (line) => {
      const { ready: isReady, id, answer } = JSON.parse(line) as { ready?: boolean; id?: number; answer?: unknown };
      if (isReady === true) ready.resolve();
      if (id !== undefined) {
        peer.#waiting.get(id)?.(answer);
        peer.#waiting.delete(id);
      }
    });
    await ready.promise;
    return peer;
  }

  connect(host: string, timeoutMs = 1_000): Promise<ProbeAnswer> {
    return this.#ask({ do: 'connect', host, timeoutMs }).answer as Promise<ProbeAnswer>;
  }

  datagram(host: string, timeoutMs = 1_000): Promise<ProbeAnswer> {
    return this.#ask({ do: 'datagram', host, timeoutMs }).answer as Promise<ProbeAnswer>;
  }

  /** Opens a running connection; `stop` on the result ends it and says what it saw. */
  async stream(host: string, everyMs: number): Promise<{ stop(): Promise<StreamReport> }> {
    const { id, answer } = this.#ask({ do: 'stream', host, everyMs });
    await answer;
    return { stop: () => this.#ask({ do: 'stop', stream: id }).answer as Promise<StreamReport> };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => {
      this.#child.once('exit', resolve);
    });
    this.#child.kill('SIGKILL');
    await ended;
  }

  #ask(request: PeerRequest): { readonly id: number; readonly answer: Promise<unknown> } {
    const id = this.#nextId++;
    const answer = new Promise<unknown>((resolve) => {
      this.#waiting.set(id, resolve);
    });
    this.#child.stdin?.write(`${JSON.stringify({ id, ...request })}\n`);
    return { id, answer };
  }
}
