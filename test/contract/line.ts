import type { Line } from './row.ts';

/** Who asks whom for what. */
export interface Question {
  readonly text: string;
  readonly from: string;
  /** Whose address it is sent from, if not `from`'s own. */
  readonly source?: string;
  readonly sourcePort?: number;
  readonly to: string;
  /** Who may answer as well. */
  readonly orElse: readonly string[];
  /** Whose address is asked, if not `to`'s own. */
  readonly destination?: string;
  readonly protocol: QuestionProtocol;
  /** A port, an ICMP type, or an IP protocol number; absent: the default of the protocol. */
  readonly number?: number;
  readonly bytes?: number;
  /** Whose address the other side must see; default: the sender's. */
  readonly seenAs?: string;
}

export type QuestionProtocol = 'tcp' | 'udp' | 'icmp' | 'sctp' | 'udplite' | 'proto';

const shape =
  /^(?<froms>[\w,-]+)(?:@(?<source>\w+))?(?::(?<sourcePort>\d+))? > (?<tos>[\w,|-]+)(?:@(?<destination>\w+))?(?: (?<protocols>[a-z]+(?:,[a-z]+)*)(?: (?<numbers>\d+(?:,\d+)*))?)?(?: of (?<bytes>\d+) bytes)?(?: as (?<seenAs>[\w-]+))?$/;

const protocols: ReadonlySet<string> = new Set<QuestionProtocol>(['tcp', 'udp', 'icmp', 'sctp', 'udplite', 'proto']);

/** All questions that the line asks: every sender to every receiver (not to itself), by every protocol, on every port. Throws if it is none. */
export function questionsOf(line: Line): readonly Question[] {
  const groups = shape.exec(line)?.groups;
  if (groups === undefined) throw new Error(`no line of the table: ${JSON.stringify(line)}`);
  const list = (name: string, missing: string) => (groups[name] ?? missing).split(',');
  const optional = (name: string) => {
    const value = groups[name];
    return value === undefined ? {} : { [name]: /^\d+$/.test(value) ? Number(value) : value };
  };
  return list('froms', '').flatMap((from) =>
    list('tos', '')
      .filter((to) => to !== from || groups['destination'] !== undefined)
      .map((tos) => tos.split('|'))
      .flatMap(([to = '', ...orElse]) =>
        list('protocols', 'tcp').flatMap((protocol) =>
          list('numbers', '').map((number): Question => {
            if (!protocols.has(protocol)) throw new Error(`${line}: no protocol ${protocol}`);
            return {
              text: [
                `${from}${part('@', groups['source'])}${part(':', groups['sourcePort'])}`,
                `> ${[to, ...orElse].join('|')}${part('@', groups['destination'])}`,
                `${protocol}${part(' ', number)}${part(' of bytes ', groups['bytes'])}${part(' as ', groups['seenAs'])}`,
              ].join(' '),
              from,
              to,
              orElse,
              protocol: protocol as QuestionProtocol,
              ...(number === '' ? {} : { number: Number(number) }),
              ...optional('source'),
              ...optional('sourcePort'),
              ...optional('destination'),
              ...optional('bytes'),
              ...optional('seenAs'),
            };
          }),
        ),
      ),
  );
}

function part(before: string, text: string | undefined): string {
  return text === undefined || text === '' ? '' : before + text;
}
