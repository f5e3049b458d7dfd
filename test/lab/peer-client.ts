import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { ProbeOutcome, ProbeTarget } from './peer-probe.ts';
import type { StreamReport, StreamTarget } from './peer-streams.ts';
import { peerPort, type Heard, type PeerRequest, type ProbeAnswer } from './peer.ts';
import { buildRawProgram, rawProgram } from './raw-program.ts';

/** A connection that runs in a peer until it is told to stop. */
export interface RunningStream {
  /** How it goes so far. */
  progress(): Promise<StreamReport>;
  stop(): Promise<StreamReport>;
}

/** How a running connection differs from the plainest one: TCP to the peers' port from any port. */
export interface StreamOptions extends Partial<Omit<StreamTarget, 'host' | 'everyMs'>> {
  readonly protocol?: 'tcp' | 'udp';
}

/** How long an answer is waited for unless told otherwise, in ms: long enough for a slow machine and for a packet that is repeated. */
const usualPatienceMs = 20_000;

/** How a probe differs from the plainest one: TCP, the peers' port, an answer sooner or later. */
export type ProbeOptions = Partial<Omit<ProbeTarget, 'host'>>;

let asked = 0;

/** A word that no other probe carries. */
export function newToken(): string {
  asked += 1;
  return `token-${process.pid}-${asked}-`;
}

/** A peer process in a network namespace, seen from outside. */
export class Peer implements AsyncDisposable {
  /** What it calls itself in its answers: the path of its namespace. */
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #nextId = 1;

  private constructor(name: string, child: ChildProcess) {
    this.name = name;
    this.#child = child;
  }

  /** Starts one in the namespace; resolves when it serves on these ports. */
  static async start(netnsPath: string, ports: readonly number[] = [peerPort]): Promise<Peer> {
    const program = fileURLToPath(new URL('peer.ts', import.meta.url));
    const command = [process.execPath, '--disable-warning=ExperimentalWarning', program, 'serve', netnsPath];
    const child = spawn('nsenter', [`--net=${netnsPath}`, ...command, ...ports.map(String)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const peer = new Peer(netnsPath, child);
    const ready = Promise.withResolvers<void>();
    child.once('exit', (code) => {
      const error = new Error(`the peer in ${netnsPath} ended with status ${code}`);
      ready.reject(error);
      for (const { reject } of peer.#waiting.values()) reject(error);
      peer.#waiting.clear();
    });
    createInterface({ input: child.stdout }).on('line', (line) => {
      const message = JSON.parse(line) as { ready?: boolean; id?: number; answer?: unknown; error?: string };
      if (message.ready === true) ready.resolve();
      if (message.id === undefined) return;
      const waiting = peer.#waiting.get(message.id);
      peer.#waiting.delete(message.id);
      if (message.error === undefined) waiting?.resolve(message.answer);
      else waiting?.reject(new Error(`in ${netnsPath}: ${message.error}`));
    });
    await ready.promise;
    return peer;
  }

  /** Asks the network once. */
  probe(host: string, options: ProbeOptions = {}): Promise<ProbeOutcome> {
    return this.#ask({
      do: 'probe',
      host,
      protocol: 'tcp',
      port: peerPort,
      token: newToken(),
      timeoutMs: usualPatienceMs,
      ...options,
    }).answer as Promise<ProbeOutcome>;
  }

  async connect(host: string, timeoutMs = usualPatienceMs, from?: string): Promise<ProbeAnswer> {
    return answerOf(await this.probe(host, { timeoutMs, ...(from === undefined ? {} : { from }) }));
  }

  async datagram(host: string, timeoutMs = usualPatienceMs, from?: string): Promise<ProbeAnswer> {
    return answerOf(await this.probe(host, { protocol: 'udp', timeoutMs, ...(from === undefined ? {} : { from }) }));
  }

  /** How many datagrams, connections and raw packets it got so far, by source address. */
  heard(): Promise<Heard> {
    return this.#ask({ do: 'heard' }).answer as Promise<Heard>;
  }

  /** True if a datagram, or a raw packet, with this word has arrived. */
  got(token: string): Promise<boolean> {
    return this.#ask({ do: 'got', token }).answer as Promise<boolean>;
  }

  /** From here on packets of this protocol are heard. */
  async listenRaw(version: 4 | 6, protocol: number): Promise<void> {
    await buildRawProgram();
    await this.#ask({ do: 'raw-listen', program: rawProgram, version, protocol }).answer;
  }

  /** Sends one packet of this protocol; `hex` is what follows the IP header. */
  async sendRaw(version: 4 | 6, protocol: number, host: string, hex: string): Promise<void> {
    await buildRawProgram();
    await this.#ask({ do: 'raw-send', program: rawProgram, version, protocol, host, hex }).answer;
  }

  /** Opens a running connection with a message every so often, in ms. */
  async stream(host: string, everyMs: number, options: StreamOptions = {}): Promise<RunningStream> {
    const { id, answer } = this.#ask({ do: 'stream', protocol: 'tcp', host, port: peerPort, everyMs, ...options });
    await answer;
    return {
      progress: () => this.#ask({ do: 'progress', stream: id }).answer as Promise<StreamReport>,
      stop: () => this.#ask({ do: 'stop', stream: id }).answer as Promise<StreamReport>,
    };
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

function answerOf({ verdict, seenAs }: ProbeOutcome): ProbeAnswer {
  if (verdict === 'reaches') return { ok: true, ...(seenAs === undefined ? {} : { seenAs }) };
  return { ok: false, reason: verdict };
}
