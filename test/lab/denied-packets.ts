/** Packets that policy denies, sent all the time, and a count of those that got through. */
import { spawn, type ChildProcess } from 'node:child_process';
import { must } from './exec.ts';
import { peerPort } from './peer.ts';
import { icmpMessage, protocolNumbers, tcpFlags, tcpSegment, udpDatagram } from './raw-payloads.ts';
import { buildRawProgram, rawProgram } from './raw-program.ts';

/** Who sends or receives: a namespace and its addresses. */
export interface Party {
  readonly name: string;
  readonly netns: string;
  readonly ipv4: string;
  readonly ipv6: string;
}

/** Nothing of what `from` sends to any of `to` may arrive. */
export interface Denial {
  readonly from: Party;
  readonly to: readonly Party[];
}

const kinds = ['syn', 'ack', 'udp', 'icmp'] as const;
/** SYNs that open a connection; segments of connections that never were; datagrams; echo requests. */
export type DeniedKind = (typeof kinds)[number];
export type DeniedCounts = Readonly<Record<DeniedKind, number>>;

/** How long a sender waits between two packets, in microseconds; there is one for each family. */
const pauseUs = 1_500;
/** Nobody's connection has it. */
const sourcePort = 999;
const versions = [4, 6] as const;
/** Some of the kinds are nft's own words. */
const prefix = 'denied_';

interface Sender {
  readonly child: ChildProcess;
  /** What it has written, when it has ended. */
  readonly output: Promise<string>;
  /** The kind of each packet, in the order of its line of output. */
  readonly kinds: readonly DeniedKind[];
}

/**
 * Each sender has raw sockets, so that what it sends depends on no state of its own. Receivers count by netfilter in their own namespace, before
 * anything else there sees the packet: whether somebody listens doesn't matter.
 */
export class DeniedPackets implements AsyncDisposable {
  readonly #receivers: readonly Party[];
  readonly #senders: readonly Sender[];

  private constructor(receivers: readonly Party[], senders: readonly Sender[]) {
    this.#receivers = receivers;
    this.#senders = senders;
  }

  static async start(denials: readonly Denial[]): Promise<DeniedPackets> {
    await buildRawProgram();
    const receivers = [...new Set(denials.flatMap(({ to }) => to))];
    for (const receiver of receivers) {
      const from = denials.filter(({ to }) => to.includes(receiver)).map((denial) => denial.from);
      await must('nsenter', `--net=/run/netns/${receiver.netns}`, 'nft', rulesOf(from));
    }
    const senders = denials.flatMap(({ from, to }) => versions.map((version) => startSender(version, from, to)));
    return new DeniedPackets(receivers, senders);
  }

  /** What has got through so far, by receiver; empty when nothing has. */
  async heard(): Promise<Readonly<Record<string, DeniedCounts>>> {
    const all = await Promise.all(this.#receivers.map(async (one) => [one.name, await countsOf(one)] as const));
    return Object.fromEntries(all.filter(([, counts]) => kinds.some((kind) => counts[kind] > 0)));
  }

  /** Ends the senders; says what they have sent. */
  async stop(): Promise<DeniedCounts> {
    const total = noCounts();
    await Promise.all(
      this.#senders.map(async ({ child, output, kinds: sent }) => {
        child.stdin?.end();
        const lines = (await output).trim().split('\n');
        for (const [i, kind] of sent.entries()) total[kind] += Number(lines[i] ?? 0);
      }),
    );
    return total;
  }

  /** The counters go with the receivers' namespaces. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

const noCounts = (): Record<DeniedKind, number> => ({ syn: 0, ack: 0, udp: 0, icmp: 0 });

function startSender(version: 4 | 6, from: Party, to: readonly Party[]): Sender {
  const addressOf = (party: Party) => (version === 4 ? party.ipv4 : party.ipv6);
  const packets = to.flatMap((receiver) => {
    const parties = { from: addressOf(from), to: addressOf(receiver), token: 'denied' };
    const { tcp, udp, icmp, icmpv6 } = protocolNumbers;
    const echo = version === 4 ? 8 : 128;
    const all: readonly { readonly kind: DeniedKind; readonly protocol: number; readonly hex: string }[] = [
      { kind: 'syn', protocol: tcp, hex: tcpSegment(parties, sourcePort, peerPort, tcpFlags.syn) },
      { kind: 'ack', protocol: tcp, hex: tcpSegment(parties, sourcePort + 1, peerPort, tcpFlags.ack) },
      { kind: 'udp', protocol: udp, hex: udpDatagram(parties, sourcePort, peerPort) },
      { kind: 'icmp', protocol: version === 4 ? icmp : icmpv6, hex: icmpMessage(version, echo, 999, 'denied') },
    ];
    return all.map((packet) => ({ ...packet, to: parties.to }));
  });
  const words = packets.flatMap((packet) => [String(packet.protocol), packet.to, packet.hex]);
  const netns = `--net=/run/netns/${from.netns}`;
  const child = spawn('nsenter', [netns, rawProgram, 'flood', String(version), String(pauseUs), ...words], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const output = new Promise<string>((resolve, reject) => {
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
    child.once('error', reject).once('close', () => resolve(text));
  });
  return { child, output, kinds: packets.map(({ kind }) => kind) };
}

/** In a table of its own, first of all. */
function rulesOf(from: readonly Party[]): string {
  const rules = versions.flatMap((version) => {
    const sources = from.map((party) => (version === 4 ? party.ipv4 : party.ipv6)).join(', ');
    const match = `${version === 4 ? 'ip' : 'ip6'} saddr { ${sources} }`;
    return [
      `${match} tcp flags & (syn | ack) == syn counter name ${prefix}syn`,
      `${match} tcp flags & (syn | ack) == ack counter name ${prefix}ack`,
      `${match} meta l4proto udp counter name ${prefix}udp`,
      `${match} meta l4proto ${version === 4 ? 'icmp' : 'ipv6-icmp'} counter name ${prefix}icmp`,
    ];
  });
  const counters = kinds.map((kind) => `counter ${prefix}${kind} { }`);
  const chain = ['chain heard {', 'type filter hook prerouting priority -400;', ...rules, '}'];
  return ['table inet denied {', ...counters, ...chain, '}'].join('\n');
}

async function countsOf({ netns }: Party): Promise<DeniedCounts> {
  const text = await must('nsenter', `--net=/run/netns/${netns}`, 'nft', '-j', 'list', 'counters');
  const { nftables } = JSON.parse(text) as { nftables: { counter?: { name: string; packets: number } }[] };
  const counts = noCounts();
  for (const kind of kinds)
    counts[kind] = nftables.find(({ counter }) => counter?.name === `${prefix}${kind}`)?.counter?.packets ?? 0;
  return counts;
}
