import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { createInterface } from 'node:readline';
import type { Heard, PeerRequest, ProbeAnswer, StreamOptions, StreamReport, Target } from './peer.ts';

/** A connection that runs in a peer until it is told to stop. */
export interface RunningStream {
  stop(): Promise<StreamReport>;
}

/** A peer process in a network namespace, seen from outside. */
export class Peer implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #nextId = 1;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** Starts one in the namespace; resolves when it serves. */
  static async start(netnsPath: string): Promise<Peer> {
    const program = fileURLToPath(new URL('peer.ts', import.meta.url));
    const child = spawn(
      'nsenter',
      [`--net=${netnsPath}`, process.execPath, '--disable-warning=ExperimentalWarning', program, 'serve', netnsPath],
      {
        stdio: ['pipe', 'pipe', 'inherit'],
      },
    );
    const peer = new Peer(child);
    const ready = Promise.withResolvers<void>();
    child.once('exit', (code) => {
      const error = new Error(`the peer in ${netnsPath} ended with status ${code}`);
      ready.reject(error);
      for (const { reject } of peer.#waiting.values()) reject(error);
      peer.#waiting.clear();
    });
    createInterface({ input: child.stdout }).on('line', (line) => {
      const { ready: isReady, id, answer } = JSON.parse(line) as { ready?: boolean; id?: number; answer?: unknown };
      if (isReady === true) ready.resolve();
      if (id !== undefined) {
        peer.#waiting.get(id)?.resolve(answer);
        peer.#waiting.delete(id);
      }
    });
    await ready.promise;
    return peer;
  }

  connect(host: string, timeoutMs = 1_000, from?: string): Promise<ProbeAnswer> {
    return this.#ask({ do: 'connect', ...target(host, from), timeoutMs }).answer as Promise<ProbeAnswer>;
  }

  datagram(host: string, timeoutMs = 1_000, from?: string): Promise<ProbeAnswer> {
    return this.#ask({ do: 'datagram', ...target(host, from), timeoutMs }).answer as Promise<ProbeAnswer>;
  }

  /** How many datagrams its server got so far, by source address. */
  heard(): Promise<Heard> {
    return this.#ask({ do: 'heard' }).answer as Promise<Heard>;
  }

  /** Opens a running connection; `stop` on the result ends it and says what it saw. */
  async stream(
    host: string,
    everyMs: number,
    { protocol = 'tcp', from }: Pick<StreamOptions, 'protocol'> & Pick<Target, 'from'> = {},
  ): Promise<RunningStream> {
    const { id, answer } = this.#ask({ do: 'stream', ...target(host, from), everyMs, protocol });
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
    const waiting = Promise.withResolvers<unknown>();
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#waiting.set(id, waiting);
      this.#child.stdin?.write(`${JSON.stringify({ id, ...request })}\n`);
    } else {
      waiting.reject(new Error('the peer is gone'));
    }
    return { id, answer: waiting.promise };
  }
}

function target(host: string, from: string | undefined): Target {
  return from === undefined ? { host } : { host, from };
}
