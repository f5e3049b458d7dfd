/**
 * A program that runs inside a pod's network namespace: serves TCP and UDP echo, and does what its standard input asks, a JSON line
 * each: {id, do: 'connect' | 'datagram' | 'stream' | 'stop' | 'heard', ...}. Answers are JSON lines with the same id.
 */
import { createSocket, type Socket } from 'node:dgram';
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

/** Where to, and as whom: `from` binds to one of the namespace's addresses, whoever it belongs to. */
export interface Target {
  readonly host: string;
  readonly port?: number;
  readonly from?: string;
}

/** How a running connection differs from the plainest one. */
export interface StreamOptions {
  readonly everyMs: number;
  /** Default tcp. Datagrams have no order: each is counted once when its echo comes. */
  readonly protocol?: 'tcp' | 'udp';
}

export type PeerRequest =
  | ({ readonly do: 'connect'; readonly timeoutMs: number } & Target)
  | ({ readonly do: 'datagram'; readonly timeoutMs: number } & Target)
  | ({ readonly do: 'stream' } & Target & StreamOptions)
  | { readonly do: 'stop'; readonly stream: number }
  | { readonly do: 'heard' };

/** How many datagrams this peer's server got, by source address. */
export type Heard = Readonly<Record<string, number>>;

/** `ok` with the source address that the other side saw, or the reason. */
export interface ProbeAnswer {
  readonly ok: boolean;
  readonly seenAs?: string;
  readonly reason?: string;
}

type Stream = { stop(): Promise<StreamReport> };
const streams = new Map<number, Stream>();
const heard = new Map<string, number>();

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
  udp.on('message', (message, from) => {
    const source = plain(from.address);
    heard.set(source, (heard.get(source) ?? 0) + 1);
    udp.send(`${from.address} ${message.toString()}`, from.port, from.address);
  });
  // A client that is gone answers by ICMP; that is its affair.
  udp.on('error', () => {});
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
      return probeTcp(request, request.timeoutMs);
    case 'datagram':
      return probeUdp(request, request.timeoutMs);
    case 'stream':
      streams.set(
        id,
        request.protocol === 'udp'
          ? await openDatagrams(request, request.everyMs)
          : openStream(request, request.everyMs),
      );
      return { stream: id };
    case 'heard':
      return Object.fromEntries(heard);
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

function endpointOf({ host, port = peerPort, from }: Target): { host: string; port: number; localAddress?: string } {
  return { host, port, ...(from === undefined ? {} : { localAddress: from }) };
}

function probeTcp(target: Target, timeoutMs: number): Promise<ProbeAnswer> {
  return new Promise((resolve) => {
    const socket = connect(endpointOf(target));
    const done = (answer: ProbeAnswer) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(timeoutMs, () => done({ ok: false, reason: 'timeout' }));
    socket.on('error', (error: NodeJS.ErrnoException) => done({ ok: false, reason: error.code ?? error.message }));
    socket.on('data', (data) => done({ ok: true, seenAs: plain(data.toString().trim()) }));
  });
}

/** A bound socket: `from` is an address of this namespace. */
async function openUdp({ host, from }: Target): Promise<Socket> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.bind({ port: 0, ...(from === undefined ? {} : { address: from }) }, resolve);
  });
  return socket;
}

async function probeUdp(target: Target, timeoutMs: number): Promise<ProbeAnswer> {
  const { host, port = peerPort } = target;
  const socket = await openUdp(target);
  return new Promise((resolve) => {
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
function openStream(target: Target, everyMs: number): Stream {
  const socket = connect({ ...endpointOf(target), noDelay: true });
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

/** Numbered datagrams, one every so often, each of which should come back. */
async function openDatagrams(target: Target, everyMs: number): Promise<Stream> {
  const { host, port = peerPort } = target;
  const socket = await openUdp(target);
  const answered = new Set<number>();
  let sent = 0;
  let longestStallMs = 0;
  let lastAnswer = performance.now();
  let failure: string | null = null;
  socket.on('error', (error: NodeJS.ErrnoException) => (failure ??= error.code ?? error.message));
  socket.on('message', (message) => {
    const now = performance.now();
    longestStallMs = Math.max(longestStallMs, now - lastAnswer);
    lastAnswer = now;
    answered.add(Number(message.toString().split(' ')[1]));
  });
  const timer = setInterval(() => socket.send(String(sent++), port, host), everyMs);
  return {
    stop: async () => {
      clearInterval(timer);
      const deadline = performance.now() + 500;
      while (answered.size < sent && performance.now() < deadline)
        await new Promise((resolve) => setTimeout(resolve, 5));
      socket.close();
      return { sent, answered: answered.size, longestStallMs: Math.round(longestStallMs), failure };
    },
  };
}
