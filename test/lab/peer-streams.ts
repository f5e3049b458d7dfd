/** Connections that run inside a namespace until they are told to stop. */
import { createSocket, type Socket } from 'node:dgram';
import { connect } from 'node:net';

/** What waits for a process that doesn't run just now is not lost, in bytes; the kernel gives what it may (net.core.rmem_max). */
export const datagramRoom = 4 << 20;

/** What a running connection saw. Times in ms. */
export interface StreamReport {
  readonly sent: number;
  readonly answered: number;
  readonly longestStallMs: number;
  /** The connection's own end, if it ended before it was told to. */
  readonly failure: string | null;
}

/** One that runs. */
export interface Stream {
  /** How it goes so far. */
  progress(): StreamReport;
  stop(): Promise<StreamReport>;
}

/** Where to, and as whom: `from` binds to one of the namespace's addresses, whoever it belongs to. */
export interface StreamTarget {
  readonly host: string;
  readonly port: number;
  readonly from?: string;
  /** Default: any free one. */
  readonly sourcePort?: number;
  /** Between two messages. */
  readonly everyMs: number;
  /** Messages each time; default 1. More are for floods. */
  readonly burst?: number;
}

/** A TCP connection that sends a numbered line every so often and expects each back. */
export function openStream({ host, port, from, sourcePort, everyMs, burst = 1 }: StreamTarget): Stream {
  const socket = connect({
    host,
    port,
    noDelay: true,
    ...(from === undefined ? {} : { localAddress: from }),
    ...(sourcePort === undefined ? {} : { localPort: sourcePort }),
  });
  const tally = new Tally();
  let greeted = false; // The greeting is the first line.
  let rest = '';
  socket.on('error', (error: NodeJS.ErrnoException) => tally.fail(error.code ?? error.message));
  socket.on('close', () => tally.fail('closed'));
  socket.on('data', (data) => {
    rest += data.toString();
    const lines = rest.split('\n');
    rest = lines.pop() ?? '';
    tally.answers(lines.length - (greeted || lines.length === 0 ? 0 : 1));
    greeted ||= lines.length > 0;
  });
  const timer = setInterval(() => {
    for (let i = 0; i < burst; i++) socket.write(`${tally.sends()}\n`);
  }, everyMs);
  return {
    progress: () => tally.report(),
    stop: async () => {
      clearInterval(timer);
      await tally.allAnswered(10_000);
      const report = tally.report();
      socket.removeAllListeners('close').destroy();
      return report;
    },
  };
}

/** Numbered datagrams, one every so often, each of which should come back; they have no order, and each is counted once. */
export async function openDatagrams({
  host,
  port,
  from,
  sourcePort,
  everyMs,
  burst = 1,
}: StreamTarget): Promise<Stream> {
  const socket = await boundSocket(host, from, sourcePort);
  const tally = new Tally();
  const answered = new Set<number>();
  socket.on('error', (error: NodeJS.ErrnoException) => tally.fail(error.code ?? error.message));
  socket.on('message', (message) => {
    const number = Number(message.toString().split(' ')[1]);
    tally.answers(answered.has(number) ? 0 : 1);
    answered.add(number);
  });
  const timer = setInterval(() => {
    // What the kernel refuses to send (no route yet, no neighbour) is no end of the stream.
    for (let i = 0; i < burst; i++) socket.send(String(tally.sends()), port, host, () => {});
  }, everyMs);
  return {
    progress: () => tally.report(),
    stop: async () => {
      clearInterval(timer);
      // Nobody waits long for answers to what is denied.
      await tally.allAnswered(answered.size === 0 ? 500 : 3_000);
      socket.close();
      return tally.report();
    },
  };
}

async function boundSocket(host: string, from: string | undefined, sourcePort = 0): Promise<Socket> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.bind({ port: sourcePort, ...(from === undefined ? {} : { address: from }) }, resolve);
  });
  socket.setRecvBufferSize(datagramRoom);
  return socket.removeAllListeners('error');
}

/** What a stream counts. */
class Tally {
  #sent = 0;
  #answered = 0;
  #longestStallMs = 0;
  #lastAnswer = performance.now();
  #failure: string | null = null;

  /** The next message's number. */
  sends(): number {
    return this.#sent++;
  }

  answers(count: number): void {
    const now = performance.now();
    this.#longestStallMs = Math.max(this.#longestStallMs, now - this.#lastAnswer);
    this.#lastAnswer = now;
    this.#answered += count;
  }

  fail(reason: string): void {
    this.#failure ??= reason;
  }

  report(): StreamReport {
    const { round } = Math;
    return {
      sent: this.#sent,
      answered: this.#answered,
      longestStallMs: round(this.#longestStallMs),
      failure: this.#failure,
    };
  }

  /** Resolves also when no further answer has come for so long. */
  async allAnswered(quietMs: number): Promise<void> {
    const began = performance.now();
    const isQuiet = () => performance.now() - Math.max(began, this.#lastAnswer) >= quietMs;
    while (this.#answered < this.#sent && this.#failure === null && !isQuiet()) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}
