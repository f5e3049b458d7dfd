/**
 * A program that runs inside a pod's network namespace: serves TCP and UDP echo, and does what its standard input asks, a JSON line
 * each: {id, do: 'connect' | 'datagram' | 'stream' | 'stop', ...}. Answers are JSON lines with the same id.
 */
import { createSocket } from 'node:dgram';
import { createServer, connect } from 'node:net';
import { createInterface } from 'node:readline';

/** Every peer serves TCP and UDP echo here. */
export const peerPort = 7777;

/** What a running connection saw. Times in ms. */
export interface StreamReport {
  readonly sent: number;
  readonly answered: number;
  readonly longestStallMs: number;
  /** The connection's own end, if it ended before it was told to. */
  readonly failure: string | null;
}

export type PeerRequest =
  | { readonly do: 'connect'; readonly host: string; readonly port?: number; readonly timeoutMs: number }
  | { readonly do: 'datagram'; readonly host: string; readonly port?: number; readonly timeoutMs: number }
  | { readonly do: 'stream'; readonly host: string; readonly port?: number; readonly everyMs: number }
  | { readonly do: 'stop'; readonly stream: number };

/** `ok` with the source address that the other side saw, or the reason. */
export interface ProbeAnswer {
  readonly ok: boolean;
  readonly seenAs?: string;
  readonly reason?: string;
}

type Stream = { stop(): Promise<StreamReport> };
const streams = new Map<number, Stream>();

if (process.argv[2] === 'serve') await serve();

async function serve(): Promise<void> {
  const tcp = createServer((socket) => {
    socket.on('error', () => {});
    // Who connects learns as whom it was seen; after that, echo.
    socket.write(`${socket.remoteAddress}\n`);
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => {
    tcp.listen(peerPort, '::', resolve);
  });
  const udp = createSocket({ type: 'udp6', ipv6Only: false });
  udp.on('message', (message, from) => udp.send(`${from.address} ${message.toString()}`, from.port, from.address));
  await new Promise<void>((resolve) => {
    udp.bind(peerPort, '::', resolve);
  });
  process.stdout.write('{"ready":true}\n');
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, ...request } = JSON.parse(line) as PeerRequest & { readonly id: number };
    void handle(id, request).then((answer) => process.stdout.write(`${JSON.stringify({ id, answer })}\n`));
  }
  process.exit(0);
}

async function handle(id: number, request: PeerRequest): Promise<unknown> {
  switch (request.do) {
    case 'connect':
      return probeTcp(request.host, request.port ?? peerPort, request.timeoutMs);
    case 'datagram':
      return probeUdp(request.host, request.port ?? peerPort, request.timeoutMs);
    case 'stream':
      streams.set(id, openStream(request.host, request.port ?? peerPort, request.everyMs));
      return { stream: id };
    case 'stop': {
      const stream = streams.get(request.stream);
      streams.delete(request.stream);
      return stream === undefined ? { failure: 'no such stream' } : stream.stop();
    }
  }
}

function plain(address: string): string {
  return address.replace(/^::ffff:/, '');
}

function probeTcp(host: string, port: number, timeoutMs: number): Promise<ProbeAnswer> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const done = (answer: ProbeAnswer) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(timeoutMs, () => done({ ok: false, reason: 'timeout' }));
    socket.on('error', (error: NodeJS.ErrnoException) => done({ ok: false, reason: error.code ?? error.message }));
    socket.on('data', (data) => done({ ok: true, seenAs: plain(data.toString().trim()) }));
  });
}

function probeUdp(host: string, port: number, timeoutMs: number): Promise<ProbeAnswer> {
  return new Promise((resolve) => {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
    const done = (answer: ProbeAnswer) => {
      clearTimeout(timer);
      socket.close();
      resolve(answer);
    };
    const timer = setTimeout(() => done({ ok: false, reason: 'timeout' }), timeoutMs);
    socket.on('error', (error: NodeJS.ErrnoException) => done({ ok: false, reason: error.code ?? error.message }));
    socket.on('message', (message) => done({ ok: true, seenAs: plain(message.toString().split(' ')[0] ?? '') }));
    socket.send('probe', port, host);
  });
}

/** A TCP connection that sends a numbered line every so often and expects each back. */
function openStream(host: string, port: number, everyMs: number): Stream {
  const socket = connect({ host, port, noDelay: true });
  let sent = 0;
  let answered = -1; // The greeting is the first line.
  let longestStallMs = 0;
  let lastAnswer = performance.now();
  let failure: string | null = null;
  let rest = '';
  socket.on('error', (error: NodeJS.ErrnoException) => (failure ??= error.code ?? error.message));
  socket.on('close', () => (failure ??= 'closed'));
  socket.on('data', (data) => {
    const now = performance.now();
    longestStallMs = Math.max(longestStallMs, now - lastAnswer);
    lastAnswer = now;
    rest += data.toString();
    const lines = rest.split('\n');
    rest = lines.pop() ?? '';
    answered += lines.length;
  });
  const timer = setInterval(() => socket.write(`${sent++}\n`), everyMs);
  return {
    stop: async () => {
      clearInterval(timer);
      const deadline = performance.now() + 2_000;
      while (answered < sent && failure === null && performance.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      const report = { sent, answered: Math.max(answered, 0), longestStallMs: Math.round(longestStallMs), failure };
      socket.removeAllListeners('close').destroy();
      return report;
    },
  };
}
