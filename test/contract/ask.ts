import { newToken, type Peer } from '#test/lab/peer-client.ts';
import { icmpMessage, protocolNumbers, sctpInit, tokenHex, udplite } from '#test/lab/raw-payloads.ts';
import type { Bed } from './bed.ts';
import type { Question } from './line.ts';
import type { Family } from './row.ts';

/**
 * What became of a question. `half`: it arrived (at a process that could tell), and the answer didn't; `reaches as ADDRESS`: seen with
 * another address than it should have been; `reaches NAMESPACE`: somebody else has answered.
 */
export type Outcome = 'reaches' | 'refused' | 'nothing' | 'unreachable' | 'half' | `reaches ${string}`;

/** Asks the network once; an answer is waited for `timeoutMs`. */
export async function ask(bed: Bed, question: Question, family: Family, timeoutMs: number): Promise<Outcome> {
  const book = bed.addresses(family);
  const address = (name: string): string => {
    const found = book[name];
    if (found === undefined || found === '') throw new Error(`${question.text}: ${name} has no ${family} address`);
    return found;
  };
  const host = address(question.destination ?? question.to);
  const { protocol } = question;
  if (protocol === 'tcp' || protocol === 'udp' || (protocol === 'icmp' && question.number === undefined)) {
    const token = newToken();
    const [from, ...receivers] = await Promise.all(
      [question.from, question.to, ...question.orElse].map((name) => bed.peer(name)),
    );
    if (from === undefined) throw new Error(`${question.text}: nobody asks`);
    const { verdict, seenAs, answeredBy } = await from.probe(host, {
      protocol,
      token,
      timeoutMs,
      ...(question.number === undefined ? {} : { port: question.number }),
      ...senderOf(question, address),
      ...(question.bytes === undefined ? {} : { bytes: question.bytes }),
    });
    if (verdict === 'nothing' && protocol === 'udp' && (await anyGot(receivers, token))) return 'half';
    // Who is asked by its own address may have another answer for it: a port that somebody translates.
    const isOther = question.destination !== undefined && receivers.every(({ name }) => name !== answeredBy);
    if (answeredBy !== undefined && isOther) return `reaches ${answeredBy}`;
    const expected = address(question.seenAs ?? question.source ?? question.from);
    return verdict === 'reaches' && seenAs !== undefined && seenAs !== expected ? `reaches as ${seenAs}` : verdict;
  }
  return askOneWay(bed, question, family, { from: address(question.from), to: host }, timeoutMs);
}

/** What the socket is bound to; a port goes with an address, so that one port can be used in both families at the same time. */
export function senderOf(
  { from, source, sourcePort }: Question,
  address: (name: string) => string,
): { readonly from?: string; readonly sourcePort?: number } {
  if (sourcePort !== undefined) return { from: address(source ?? from), sourcePort };
  return source === undefined ? {} : { from: address(source) };
}

/** A packet that nobody answers: did it arrive? */
async function askOneWay(
  bed: Bed,
  { from, to, orElse, protocol, number = 0, text }: Question,
  family: Family,
  addresses: { readonly from: string; readonly to: string },
  timeoutMs: number,
): Promise<Outcome> {
  const version = family === 'IPv4' ? 4 : 6;
  const token = newToken();
  // A port of its own for each packet: no flow is taken for another.
  const sourcePort = 20_000 + Math.floor(Math.random() * 40_000);
  const packet = () => {
    switch (protocol) {
      case 'icmp':
        return {
          number: version === 4 ? protocolNumbers.icmp : protocolNumbers.icmpv6,
          hex: icmpMessage(version, number, sourcePort, token),
        };
      case 'sctp':
        return { number: protocolNumbers.sctp, hex: sctpInit(sourcePort, number, token) };
      case 'udplite':
        return { number: protocolNumbers.udplite, hex: udplite({ ...addresses, token }, sourcePort, number) };
      case 'proto':
        return { number, hex: tokenHex(token) };
      case 'tcp':
      case 'udp':
        throw new Error(`${text} is answered`);
    }
  };
  const { number: ipProtocol, hex } = packet();
  const [sender, ...receivers] = await Promise.all([from, to, ...orElse].map((name) => bed.peer(name)));
  if (sender === undefined) throw new Error(`${text}: nobody asks`);
  await Promise.all(receivers.map((receiver) => receiver.listenRaw(version, ipProtocol)));
  await sender.sendRaw(version, ipProtocol, addresses.to, hex);
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    // Asked at least once more after the time is up.
    const isLate = performance.now() > deadline;
    if (await anyGot(receivers, tokenHex(token))) return 'reaches';
    if (isLate) return 'nothing';
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function anyGot(receivers: readonly Peer[], token: string): Promise<boolean> {
  return (await Promise.all(receivers.map((receiver) => receiver.got(token)))).some(Boolean);
}
