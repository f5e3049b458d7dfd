/**
 * A program that runs inside a network namespace: serves TCP and UDP echo on the ports of its command line, and does what its standard
 * input asks, a JSON line each: {id, do: 'probe' | 'stream' | ..., ...}. Answers are JSON lines with the same id: {id, answer} or {id, error}.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { plainAddress, probe, type ProbeTarget } from './peer-probe.ts';
import { datagramRoom, openDatagrams, openStream, type Stream, type StreamTarget } from './peer-streams.ts';

/** Every peer serves TCP and UDP echo here. */
export const peerPort = 7777;

/** A packet of any protocol, or the wish to hear of those that arrive; `program` is the built raw.c. */
export interface RawTarget {
  readonly program: string;
  readonly version: 4 | 6;
  readonly protocol: number;
}

export type PeerRequest =
  | ({ readonly do: 'probe' } & ProbeTarget)
  | ({ readonly do: 'stream'; readonly protocol: 'tcp' | 'udp' } & StreamTarget)
  | { readonly do: 'progress'; readonly stream: number }
  | { readonly do: 'stop'; readonly stream: number }
  | { readonly do: 'heard' }
  | { readonly do: 'got'; readonly token: string }
  | ({ readonly do: 'raw-send'; readonly host: string; readonly hex: string } & RawTarget)
  | ({ readonly do: 'raw-listen' } & RawTarget);

/** How many datagrams (and TCP connections) this peer's server got, by source address. */
export type Heard = Readonly<Record<string, number>>;

/** `ok` with the source address that the other side saw, or the reason. */
export interface ProbeAnswer {
  readonly ok: boolean;
  readonly seenAs?: string;
  readonly reason?: string;
}

/** Whose answers these are: the namespace's path, which has no blanks. */
const [, , , self = ''] = process.argv;
const streams = new Map<number, Stream>();
const heard = new Map<string, number>();
/** Tokens of probes, and raw packets as hex digits. Tests are short: nothing is ever forgotten. */
const payloads = new Set<string>();
const rawListeners = new Map<string, Promise<ChildProcess>>();

if (process.argv[2] === 'serve') await serve(process.argv.slice(4).map(Number));

async function serve(ports: readonly number[]): Promise<void> {
  for (const port of ports) {
    await serveTcp(port);
    await serveUdp(port);
  }
  process.stdout.write('{"ready":true}\n');
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, ...request } = JSON.parse(line) as PeerRequest & { readonly id: number };
    void handle(id, request).then(
      (answer) => process.stdout.write(`${JSON.stringify({ id, answer })}\n`),
      (error: unknown) => process.stdout.write(`${JSON.stringify({ id, error: (error as Error).message })}\n`),
    );
  }
  process.exit(0);
}

async function serveTcp(port: number): Promise<void> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    hear(plainAddress(socket.remoteAddress ?? ''));
    // Who connects learns as whom it was seen, and who answers; after that, echo.
    socket.write(`${socket.remoteAddress} ${self}\n`);
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => {
    server.listen(port, '::', resolve);
  });
}

async function serveUdp(port: number): Promise<void> {
  const udp = createSocket({ type: 'udp6', ipv6Only: false });
  udp.on('message', (message, from) => {
    const text = message.toString();
    hear(plainAddress(from.address));
    if (text.startsWith('token-')) payloads.add(text.replace(/\..*/s, ''));
    udp.send(`${from.address} ${text} ${self}`, from.port, from.address);
  });
  // A client that is gone answers by ICMP; that is its affair.
  udp.on('error', () => {});
  await new Promise<void>((resolve) => {
    udp.bind(port, '::', resolve);
  });
  udp.setRecvBufferSize(datagramRoom);
}

function hear(source: string): void {
  heard.set(source, (heard.get(source) ?? 0) + 1);
}

async function handle(id: number, request: PeerRequest): Promise<unknown> {
  switch (request.do) {
    case 'probe':
      return probe(request);
    case 'stream':
      streams.set(id, request.protocol === 'udp' ? await openDatagrams(request) : openStream(request));
      return { stream: id };
    case 'progress':
      return stream(request.stream).progress();
    case 'stop': {
      const report = await stream(request.stream).stop();
      streams.delete(request.stream);
      return report;
    }
    case 'heard':
      return Object.fromEntries(heard);
    case 'got':
      return payloads.has(request.token) || [...payloads].some((payload) => payload.includes(request.token));
    case 'raw-send':
      await rawSend(request);
      return {};
    case 'raw-listen': {
      const key = `${request.version} ${request.protocol}`;
      const listener = rawListeners.get(key) ?? rawListen(request);
      rawListeners.set(key, listener);
      await listener;
      return {};
    }
  }
}

function stream(id: number): Stream {
  const found = streams.get(id);
  if (found === undefined) throw new Error(`no stream ${id}`);
  return found;
}

function rawSend(request: Extract<PeerRequest, { do: 'raw-send' }>): Promise<void> {
  const { program, version, protocol, host, hex } = request;
  return new Promise((resolve, reject) => {
    const child = spawn(program, ['send', String(version), String(protocol), host, hex], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let words = '';
    child.stderr.on('data', (chunk: Buffer) => (words += chunk.toString()));
    child.on('error', reject);
    // EPERM is how a firewall's drop on the way out is told.
    child.on('close', (status) => (status === 0 || /not permitted/.test(words) ? resolve() : reject(new Error(words))));
  });
}

/** Resolves when it listens. It ends with this process, whose pipe is its standard input. */
function rawListen({ program, version, protocol }: RawTarget): Promise<ChildProcess> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, ['listen', String(version), String(protocol)], { stdio: ['pipe', 'pipe', 'inherit'] });
    child.on('error', reject);
    child.on('exit', (status) => reject(new Error(`raw listen ${version} ${protocol}: status ${status}`)));
    createInterface({ input: child.stdout }).on('line', (line) => {
      const [source = '', hex] = line.split(' ');
      if (hex === undefined) return resolve(child);
      hear(source);
      return payloads.add(hex);
    });
  });
}
