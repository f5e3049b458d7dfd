/** One question to the network, asked from inside a namespace: does this come through? */
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';

/** What is asked. `token` is carried by datagrams, so that the other side can say whether it got one. */
export interface ProbeTarget {
  readonly protocol: 'tcp' | 'udp' | 'icmp';
  readonly host: string;
  /** Not for icmp. */
  readonly port: number;
  /** One of the namespace's addresses, whoever it belongs to. */
  readonly from?: string;
  /** Default: any free one. Not for icmp. */
  readonly sourcePort?: number;
  readonly token: string;
  /** Of a datagram's payload; default: the token's own length. */
  readonly bytes?: number;
  /** How long an answer is waited for, in ms. */
  readonly timeoutMs: number;
}

/**
 * `reaches`: an answer came, and who answered saw this source. `refused`: the other end says that nobody listens (so it was asked).
 * `nothing`: no word. `unreachable`: someone on the way says so.
 */
export type ProbeVerdict = 'reaches' | 'refused' | 'nothing' | 'unreachable';

export interface ProbeOutcome {
  readonly verdict: ProbeVerdict;
  readonly seenAs?: string;
  /** The path of the namespace whose peer has answered. */
  readonly answeredBy?: string;
}

/** Longest wait for the first byte on a connection that the kernels have agreed on, in ms: how busy the server is proves nothing. */
const greetingMs = 20_000;

/** IPv4 addresses as such, also when an IPv6 socket has seen them. */
export function plainAddress(address: string): string {
  return address.replace(/^::ffff:/, '');
}

/** Asks once. Rejects when the question could not be asked (no such address here, port in use). */
export function probe(target: ProbeTarget): Promise<ProbeOutcome> {
  switch (target.protocol) {
    case 'tcp':
      return probeTcp(target);
    case 'udp':
      return probeUdp(target);
    case 'icmp':
      return ping(target);
  }
}

/** What an error of a socket says; undefined when it is about this side. */
function verdictOf({ code }: NodeJS.ErrnoException): ProbeVerdict | undefined {
  if (code === 'ECONNREFUSED' || code === 'ECONNRESET') return 'refused';
  return code === 'EHOSTUNREACH' || code === 'ENETUNREACH' || code === 'EACCES' ? 'unreachable' : undefined;
}

/** Timers come first in a turn of the event loop: what has arrived meanwhile is told before `late` is called. */
function afterWhatArrived(late: () => void): void {
  setImmediate(() => setImmediate(late));
}

/** What an answer says: first as whom the sender was seen, last who answers. */
function reached(answer: string | Buffer): ProbeOutcome {
  const words = answer.toString().trim().split(' ');
  return { verdict: 'reaches', seenAs: plainAddress(words[0] ?? ''), answeredBy: words.at(-1) ?? '' };
}

function probeTcp({ host, port, from, sourcePort, timeoutMs }: ProbeTarget): Promise<ProbeOutcome> {
  return new Promise((resolve, reject) => {
    let connected = false;
    const socket = connect({
      host,
      port,
      ...(from === undefined ? {} : { localAddress: from }),
      ...(sourcePort === undefined ? {} : { localPort: sourcePort }),
    });
    const done = (outcome: ProbeOutcome) => {
      clearTimeout(timer);
      // A reset, so that neither side keeps the ports in TIME_WAIT.
      if (connected) socket.resetAndDestroy();
      else socket.destroy();
      resolve(outcome);
    };
    let timer = setTimeout(() => {
      afterWhatArrived(() => {
        if (!connected) done({ verdict: 'nothing' });
      });
    }, timeoutMs);
    socket.on('connect', () => {
      connected = true;
      clearTimeout(timer);
      timer = setTimeout(() => done({ verdict: 'nothing' }), greetingMs);
    });
    socket.on('data', (data) => done(reached(data)));
    socket.on('error', (error) => {
      const verdict = verdictOf(error);
      if (verdict === undefined) reject(error);
      else done({ verdict });
    });
  });
}

/**
 * A source port that this process has not used for 20,000 datagrams, below those that the kernel chooses. A port chosen by the kernel may be that of an allowed
 * probe half a minute ago: conntrack still knows that one, and a denied datagram would rightly pass as part of it.
 */
function freshPort(): number {
  lastPort = lastPort >= 30_000 ? 10_000 : lastPort + 1;
  return lastPort;
}
let lastPort = 10_000 + Math.trunc(Math.random() * 20_000);

function probeUdp(target: ProbeTarget): Promise<ProbeOutcome> {
  const { host, port, from, sourcePort, token, bytes = 0, timeoutMs } = target;
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  return new Promise((resolve, reject) => {
    let isOver = false;
    const done = (outcome: ProbeOutcome) => {
      clearTimeout(timer);
      if (!isOver) socket.close();
      isOver = true;
      resolve(outcome);
    };
    let timer: NodeJS.Timeout | undefined;
    socket.on('error', (error) => {
      const verdict = verdictOf(error);
      if (verdict !== undefined) return done({ verdict });
      // Someone on the way has said that the datagram is too big; the kernel makes fragments of the next one.
      if ((error as NodeJS.ErrnoException).code === 'EMSGSIZE') return socket.send(token.padEnd(bytes, '.'));
      clearTimeout(timer);
      isOver = true;
      socket.close();
      const isTaken = sourcePort === undefined && (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
      return isTaken ? resolve(probeUdp(target)) : reject(error);
    });
    socket.on('message', (message) => done(reached(message)));
    // Connected, so that "port unreachable" is heard of.
    socket.bind({ port: sourcePort ?? freshPort(), ...(from === undefined ? {} : { address: from }) }, () =>
      socket.connect(port, host, () => {
        socket.send(token.padEnd(bytes, '.'));
        timer = setTimeout(() => {
          afterWhatArrived(() => {
            if (!isOver) done({ verdict: 'nothing' });
          });
        }, timeoutMs);
      }),
    );
  });
}

function ping({ host, from, timeoutMs }: ProbeTarget): Promise<ProbeOutcome> {
  return new Promise((resolve, reject) => {
    const source = from === undefined ? [] : ['-I', from];
    const child = spawn('ping', ['-n', '-q', '-c', '1', '-W', String(timeoutMs / 1000), ...source, host], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let words = '';
    child.stdout.on('data', (chunk: Buffer) => (words += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (words += chunk.toString()));
    child.on('error', reject);
    child.on('close', (status) => {
      // 1: no answer; 2: it could not be asked (iputils).
      if (status === 0) resolve({ verdict: 'reaches' });
      else if (status === 1) resolve({ verdict: /errors/.test(words) ? 'unreachable' : 'nothing' });
      else reject(new Error(`ping ${host}: ${words.trim()}`));
    });
  });
}
