/**
 * Packets as words, and back: `tcp S one:40000 > two:80`.
 *
 *     tcp FLAGS a:port > b:port      FLAGS of S, A, F, R, P
 *     udp a:port > b:port            sctp a:port > b:port
 *     ping ID a > b                  pong ID a > b             (echo request and answer)
 *     icmp TYPE a > b                gre a > b                 ipip a > b
 *     error a > b about <packet>     (destination unreachable)
 *
 * and behind that, in any order: `ttl=N`, `first=ID` (a first fragment), `later=ID` (one behind it), `options`, `size=N` (of the payload), `class=N` (DSCP and ECN),
 * `whole` (IPv4: don't fragment), `stranger` (the frame is addressed to another MAC).
 */
import { FragmentKind, Verdict } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { bytes, ipv4Bytes, ipv6Bytes, u16 } from '#test/lab/packets.ts';
import type { Version } from './classifier-bed.ts';
import { extension, fragment6, icmp, icmpError, ip4, ip6 } from './header-frames.ts';
import { withChecksums } from './slow-checksums.ts';
import { slowParse, type SlowHeaders, type SlowResult } from './slow-parser.ts';

/** The addresses of a family, by the names that words use. */
export type Names = Readonly<Record<string, string>>;

const flagLetters = ['F', 'S', 'R', 'P', 'A'] as const;
const protocols = { tcp: 6, udp: 17, sctp: 132, gre: 47, ipip: 4 } as const;
const zeros = (count: number): number[] => Array<number>(count).fill(0);
const echo = { 4: [8, 0], 6: [128, 129] } as const;
const icmpOf = { 4: 1, 6: 58 } as const;

interface Options {
  readonly ttl: number;
  readonly first: number | undefined;
  readonly later: number | undefined;
  readonly hasOptions: boolean;
  readonly isWhole: boolean;
  readonly size: number;
  readonly trafficClass: number;
  readonly isStranger: boolean;
}

function optionsOf(words: readonly string[]): Options {
  const number = (name: string): number | undefined => {
    const found = words.find((word) => word.startsWith(`${name}=`));
    return found === undefined ? undefined : Number(found.slice(name.length + 1));
  };
  return {
    ttl: number('ttl') ?? 64,
    first: number('first'),
    later: number('later'),
    hasOptions: words.includes('options'),
    isWhole: words.includes('whole'),
    size: number('size') ?? 16,
    trafficClass: number('class') ?? 0,
    isStranger: words.includes('stranger'),
  };
}

const isOption = (word: string): boolean =>
  /^(?:(?:ttl|first|later|size|class)=\d+|options|whole|stranger)$/.test(word);

/** A frame without link addresses that mean anything, all checksums right. */
export function frameOf(version: Version, names: Names, text: string): { frame: Uint8Array; isStranger: boolean } {
  const [said = '', about] = text.split(' about ');
  const words = said.split(' ');
  const options = optionsOf((about ?? said).split(' ').filter(isOption));
  const packet = packetOf(version, names, words, about, options);
  const frame = bytes(zeros(12), u16(version === 4 ? 0x0800 : 0x86dd), packet);
  return { frame: withChecksums(version, frame), isStranger: options.isStranger };
}

function end(names: Names, word: string): { address: string; port: number } {
  const [name = '', port = '0'] = word.split(':');
  const address = names[name];
  if (address === undefined) throw new Error(`who is ${name}?`);
  return { address, port: Number(port) };
}

function packetOf(
  version: Version,
  names: Names,
  words: readonly string[],
  about: string | undefined,
  options: Options,
) {
  const [kind = '', ...rest] = words.filter((word) => !isOption(word) && word !== '>');
  const parameter = ['tcp', 'ping', 'pong', 'icmp'].includes(kind) ? rest.shift() : undefined;
  const [from, to] = rest.map((word) => end(names, word));
  if (from === undefined || to === undefined) throw new Error(`from where to where? ${words.join(' ')}`);
  const body = zeros(options.size);
  const ports = bytes(u16(from.port), u16(to.port));
  const [request, answer] = echo[version];
  const transport = (): readonly [protocol: number, payload: Uint8Array] => {
    switch (kind) {
      case 'tcp': {
        const flags = (parameter ?? '')
          .split('')
          .reduce((sum, letter) => sum | (1 << flagLetters.indexOf(letter as 'S')), 0);
        return [6, bytes(ports, zeros(8), [5 << 4, flags], zeros(6), body)];
      }
      case 'udp':
        return [17, bytes(ports, u16(8 + body.length), u16(0), body)];
      case 'sctp':
        return [132, bytes(ports, zeros(8), body)];
      case 'gre':
      case 'ipip':
        return [protocols[kind], bytes(zeros(4), body)];
      case 'ping':
      case 'pong':
        return [icmpOf[version], icmp(kind === 'ping' ? request : answer, 0, [...u16(Number(parameter)), 0, 1], body)];
      case 'icmp':
        return [icmpOf[version], icmp(Number(parameter), 0, [0, 0, 0, 0], body)];
      case 'error': {
        const quoted = frameOf(version, names, about ?? '').frame.slice(14);
        return [icmpOf[version], icmpError(version === 4 ? 3 : 1, 1, quoted)];
      }
      default:
        throw new Error(`what is ${kind}?`);
    }
  };
  const [protocol, payload] = transport();
  const id = options.first ?? options.later ?? 0;
  const isLater = options.later !== undefined;
  const isFragment = options.first !== undefined || isLater;
  // What is behind 64 bytes of the transport's, whose header the first one has.
  const content = isLater ? bytes(zeros(24)) : isFragment ? bytes(payload, zeros(64 - payload.length)) : payload;
  if (version === 4)
    return ip4(
      {
        protocol,
        from: from.address,
        to: to.address,
        ttl: options.ttl,
        trafficClass: options.trafficClass,
        id,
        more: options.first !== undefined,
        offset: isLater ? 64 : 0,
        options: options.hasOptions ? [1, 1, 1, 1] : [],
        whole: options.isWhole,
      },
      content,
    );
  const addresses = { from: from.address, to: to.address, hopLimit: options.ttl, trafficClass: options.trafficClass };
  if (isFragment) return ip6({ ...addresses, next: 44 }, fragment6(protocol, isLater ? 64 : 0, !isLater, content, id));
  if (options.hasOptions) return ip6({ ...addresses, next: 60 }, extension(60, protocol, 0, content));
  return ip6({ ...addresses, next: protocol }, content);
}

/** What a frame is, in words; the other way round. Port numbers above 49151 are told as `any`: they are random. */
export function wordsOf(version: Version, names: Names, frame: Uint8Array): string {
  return ofResult(version, names, slowParse(version, frame));
}

const kindOf = (protocol: number): string =>
  Object.entries(protocols).find(([, number]) => number === protocol)?.[0] ?? String(protocol);

function nameOf(version: Version, names: Names, address: readonly number[]): string {
  const text = address.join();
  const found = Object.entries(names).find(
    ([, value]) => (version === 4 ? ipv4Bytes(value) : ipv6Bytes(value)).join() === text,
  );
  return found?.[0] ?? text;
}

const portText = (port: number): string => (port >= 0xc000 ? 'any' : String(port));

function ofResult(version: Version, names: Names, result: SlowResult | undefined): string {
  if (result === undefined || result.verdict !== Verdict.passed || !('headers' in result)) return 'no packet';
  const { headers } = result;
  return [
    ...ofHeaders(version, names, headers),
    ...(headers.isError ? ['about', ofResult(version, names, result.quoted)] : []),
  ].join(' ');
}

function ofHeaders(version: Version, names: Names, headers: SlowHeaders): string[] {
  const { protocol, sourcePort, destinationPort, tcpFlags, fragment } = headers;
  const from = nameOf(version, names, headers.source);
  const to = nameOf(version, names, headers.destination);
  if (protocol === icmpOf[version] && fragment !== FragmentKind.later) {
    const type = destinationPort >> 8;
    const [request, answer] = echo[version];
    if (headers.isError) return ['error', from, '>', to];
    if (type === request || type === answer)
      return [type === request ? 'ping' : 'pong', String(sourcePort), from, '>', to];
    return ['icmp', String(type), from, '>', to];
  }
  if (fragment === FragmentKind.later || ![6, 17, 132].includes(protocol)) return [kindOf(protocol), from, '>', to];
  const flags = flagLetters.filter((_, bit) => tcpFlags & (1 << bit)).join('');
  return [
    kindOf(protocol),
    ...(protocol === 6 && flags !== '' ? [flags] : []),
    `${from}:${portText(sourcePort)}`,
    '>',
    `${to}:${portText(destinationPort)}`,
  ];
}
