/**
 * A netfilter in miniature: walks rendered chains with one packet, as the kernel would, over exactly the matches and targets that the
 * renderer uses. A word that it doesn't know is an error, so that nothing is passed over.
 */
import { containsIp, familyOf, parseCidr, parseIp } from '#api/cidr.ts';
import type { RuleId } from '../../policy.ts';
import type { Chain, ChainRule } from './types.ts';

export interface Packet {
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly sourcePort?: number;
  readonly port?: number;
  readonly icmp?: { readonly type: number; readonly code: number };
  readonly inDevice?: string;
  readonly outDevice?: string;
  readonly state?: readonly string[];
  readonly mark?: number;
}

/** Members by kernel name: networks, `address,protocol:port`, or `address,device`. */
export type Sets = ReadonlyMap<string, ReadonlySet<string>>;

/** What became of the packet: `undefined`: the chain ended and its caller goes on. */
export interface Walk {
  readonly verdict: 'ACCEPT' | 'DROP' | 'REJECT' | undefined;
  readonly mark: number;
  readonly isTracked: boolean;
  /** How often each counted rule has matched. */
  readonly counts: ReadonlyMap<RuleId, number>;
  readonly logged: readonly string[];
}

/** Runs the packet through the chain, from its first rule to a verdict or its end. */
export function walk(start: string, chains: readonly Chain[], packet: Packet, sets: Sets, limitHolds = true): Walk {
  const byName = new Map(chains.map((chain) => [chain.name, chain]));
  const counts = new Map<RuleId, number>();
  const logged: string[] = [];
  let mark = packet.mark ?? 0;
  let isTracked = true;

  const verdict = run(start);
  return { verdict, mark, isTracked, counts, logged };

  function run(name: string): Walk['verdict'] {
    const chain = byName.get(name);
    if (chain === undefined) throw new Error(`no chain ${name}`);
    for (const rule of chain.rules) {
      const words = read(rule);
      if (!matches(words)) continue;
      if (rule.rule !== undefined) counts.set(rule.rule, (counts.get(rule.rule) ?? 0) + 1);
      const [how, target = '', ...options] = words.slice(targetAt(words));
      if (how === undefined) continue;
      if (how === '-g') return run(target); // What it ends with is what this chain ends with.
      if (target === 'RETURN') return undefined;
      if (target === 'ACCEPT' || target === 'DROP' || target === 'REJECT') return target;
      if (target === 'MARK') {
        const [value = 0, mask = 0] = (options[1] ?? '').split('/').map(Number);
        mark = ((mark & ~mask) ^ value) >>> 0;
      } else if (target === 'LOG') logged.push(options[1] ?? '');
      else if (target === 'CT' && options[0] === '--notrack') isTracked = false;
      else {
        const verdict = run(target);
        if (verdict !== undefined) return verdict;
      }
    }
    return undefined;
  }

  function matches(words: readonly string[]): boolean {
    const end = targetAt(words);
    let not = false;
    let holds = true;
    for (let at = 0; at < end; at += 1) {
      const word = words[at] ?? '';
      if (word === '!') {
        not = true;
        continue;
      }
      if (word === '-m') {
        const module = words[(at += 1)] ?? '';
        // A negation stands before the option, behind the module's name.
        if (!MODULES.has(module)) throw new Error(`unknown match ${module}`);
        continue;
      }
      const [taken, result] = option(word, words[at + 1] ?? '', words[at + 2] ?? '');
      at += taken;
      if (result === not) holds = false;
      not = false;
    }
    return holds;
  }

  /** How many words the option takes, and whether it holds. */
  function option(word: string, value: string, second: string): [number, boolean] {
    const inNet = (address: string): boolean =>
      familyOf(address) === familyOf(value) && containsIp(parseCidr(value), parseIp(address));
    const bits = (): boolean => {
      const [wanted = 0, mask = 0] = value.split('/').map(Number);
      return (mark & mask) >>> 0 === wanted;
    };
    const device = (name: string | undefined): boolean =>
      value.endsWith('+') ? name?.startsWith(value.slice(0, -1)) === true : name === value;
    switch (word) {
      case '-p':
        return [1, packet.protocol === Number(value)];
      case '-s':
        return [1, inNet(packet.source)];
      case '-d':
        return [1, inNet(packet.destination)];
      case '-i':
        return [1, device(packet.inDevice)];
      case '-o':
        return [1, device(packet.outDevice)];
      case '--sports':
        return [1, inRanges(value, packet.sourcePort)];
      case '--dports':
        return [1, inRanges(value, packet.port)];
      case '--icmp-type':
      case '--icmpv6-type': {
        const [type, code] = value.split('/').map(Number);
        return [1, packet.icmp?.type === type && (code === undefined || packet.icmp?.code === code)];
      }
      case '--mark':
        return [1, bits()];
      case '--ctstate':
        return [1, value.split(',').some((state) => packet.state?.includes(state) === true)];
      case '--match-set':
        return [2, inSet(value, second)];
      case '--comment':
        return [1, true];
      case '--limit':
        return [1, limitHolds];
      case '--limit-burst':
        return [1, true];
      default:
        throw new Error(`unknown option ${word}`);
    }
  }

  function inSet(name: string, dimensions: string): boolean {
    const members = sets.get(name);
    if (members === undefined) throw new Error(`no set ${name}`);
    const isSource = dimensions.startsWith('src');
    const address = isSource ? packet.source : packet.destination;
    if (!dimensions.includes(',')) {
      return [...members].some(
        (net) => familyOf(net) === familyOf(address) && containsIp(parseCidr(net), parseIp(address)),
      );
    }
    const port = isSource ? packet.sourcePort : packet.port;
    const device = isSource ? packet.inDevice : packet.outDevice;
    return members.has(`${address},${packet.protocol}:${port}`) || members.has(`${address},${device}`);
  }
}

const MODULES = new Set(['comment', 'conntrack', 'icmp', 'icmp6', 'limit', 'mark', 'multiport', 'set']);

const inRanges = (list: string, port: number | undefined): boolean =>
  port !== undefined &&
  list.split(',').some((range) => {
    const [min = 0, max = min] = range.split(':').map(Number);
    return port >= min && port <= max;
  });

/** The rule's words; a quoted text is one. Throws where the tools would refuse them. */
function read({ text }: ChainRule): string[] {
  const words = [...text.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, word]) => quoted ?? word ?? '');
  const refuse = (reason: string): never => {
    throw new Error(`${reason}: ${text}`);
  };
  for (const once of ['-p', '-s', '-d', '-i', '-o']) {
    if (words.filter((word) => word === once).length > 1) refuse(`two ${once}`);
  }
  words.forEach((word, index) => {
    const value = words[index + 1] ?? '';
    if (/^--[sd]ports$/.test(word) && value.split(/[,:]/).length > 15) refuse('too many ports');
    if (/^--[sd]ports$/.test(word) && !words.includes('-p')) refuse('ports without a protocol');
    if (word.startsWith('--icmp') && !words.includes('-p')) refuse('an ICMP type without the protocol');
    if (word === '--comment' && value.length > 255) refuse('comment too long');
    if (word === '--log-prefix' && value.length > 29) refuse('prefix too long');
    if ((word === '-j' || word === '-g') && value.length > 28) refuse('name of a chain too long');
  });
  return words;
}

/** Where matches end and the target begins. */
function targetAt(words: readonly string[]): number {
  const at = words.findIndex((word) => word === '-j' || word === '-g');
  return at < 0 ? words.length : at;
}
