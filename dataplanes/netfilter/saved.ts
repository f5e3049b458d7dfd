import { CALI_RULES, FOREIGN_SIGNATURE, RULE_OWNERS, type RuleOwner, ruleTag, signature } from './rules.ts';

/** One rule as iptables-save prints it. */
export interface SavedRule {
  /** Everything after `-A chain `. */
  readonly text: string;
  /** The tag in the comment, when the rule is ours. */
  readonly tag?: string;
  /** It is another of our owners'. */
  readonly isSiblings?: true;
}

/** One chain as iptables-save prints it. */
export interface SavedChain {
  /** `ACCEPT` or `DROP` for the kernel's own chains, `-` for others. */
  readonly policy: string;
  readonly rules: readonly SavedRule[];
}

/** One table, as far as it concerns us: of our own chains only what tells whether they are right. */
export interface SavedTable {
  /** The names of all chains. */
  readonly names: ReadonlySet<string>;
  /** Chains of ours, by name: their signatures. */
  readonly ours: ReadonlyMap<string, string>;
  /** The kernel's own chains, and others' that hold rules of ours. */
  readonly others: ReadonlyMap<string, SavedChain>;
  /** How many rules there are, ours by their comments, whichever of our owners'. */
  readonly ruleCounts: { readonly ours: number; readonly others: number };
  /** The tool can't show what is in it (rules of nft's that iptables doesn't have). */
  readonly isUnreadable: boolean;
}

/** A table in which nothing is. */
export const EMPTY_TABLE: SavedTable = {
  names: new Set(),
  ours: new Map(),
  others: new Map(),
  ruleCounts: { ours: 0, others: 0 },
  isUnreadable: false,
};

const TAGGED_COMMENT = /--comment "?([a-z]+:)([A-Za-z0-9_-]{16})"?(?: |$)/;
const commentPrefixes = RULE_OWNERS.map(({ commentPrefix }) => commentPrefix);
const UNREADABLE = /^# Table `(\S+)' is incompatible/;

/** Reads what iptables-save printed: the tables by name. Lines it doesn't know (comments, COMMIT) say nothing about rules. */
export function parseSave(text: string, owner: RuleOwner = CALI_RULES): ReadonlyMap<string, SavedTable> {
  const readers = new Map<string, TableReader>();
  const unreadable = new Map<string, SavedTable>();
  let table = new TableReader(owner);
  for (const line of text.split('\n')) {
    if (line.startsWith('-A ')) {
      table.addRule(line);
    } else if (line.startsWith(':')) {
      const [name = '', policy = '-'] = line.slice(1).split(' ', 2);
      table.addChain(name, policy);
    } else if (line.startsWith('*')) {
      table = new TableReader(owner);
      readers.set(line.slice(1).trim(), table);
    } else if (line.startsWith('#')) {
      const name = UNREADABLE.exec(line)?.[1];
      if (name !== undefined) unreadable.set(name, { ...EMPTY_TABLE, isUnreadable: true });
    }
  }
  return new Map([...unreadable, ...[...readers].map(([name, reader]) => [name, reader.finish()] as const)]);
}

/** A chain of ours while it is read: so far its rules are those of one list, or not. */
interface OwnChain {
  hash: string | undefined;
  length: number;
  isForeign: boolean;
}

/** Takes a table's lines one by one. */
class TableReader {
  readonly #owner: RuleOwner;
  readonly #names = new Set<string>();
  readonly #ruleCounts = { ours: 0, others: 0 };
  readonly #own = new Map<string, OwnChain>();
  readonly #other = new Map<string, { policy: string; rules: SavedRule[]; hasOurs: boolean }>();

  constructor(owner: RuleOwner) {
    this.#owner = owner;
  }

  finish(): SavedTable {
    const ours = new Map<string, string>();
    for (const [name, { hash, length, isForeign }] of this.#own)
      ours.set(name, isForeign ? FOREIGN_SIGNATURE : signature(hash ?? '', length));
    const others = new Map<string, SavedChain>();
    for (const [name, { policy, rules, hasOurs }] of this.#other)
      if (policy !== '-' || hasOurs) others.set(name, { policy, rules });
    return { names: this.#names, ours, others, ruleCounts: this.#ruleCounts, isUnreadable: false };
  }

  addChain(name: string, policy: string): void {
    this.#names.add(name);
    if (name.startsWith(this.#owner.chainPrefix)) this.#own.set(name, { hash: undefined, length: 0, isForeign: false });
    else this.#other.set(name, { policy, rules: [], hasOurs: false });
  }

  /** `-A chain rest`. */
  addRule(line: string): void {
    const end = line.indexOf(' ', 3);
    const name = line.slice(3, end < 0 ? undefined : end);
    const { prefix, tag: anyTag } = tagIn(line);
    const tag = prefix === this.#owner.commentPrefix ? anyTag : undefined;
    this.#ruleCounts[prefix === undefined ? 'others' : 'ours'] += 1;
    const own = this.#own.get(name);
    if (own !== undefined) {
      own.hash ??= tag?.slice(0, -3);
      own.isForeign ||= own.hash === undefined || tag !== ruleTag(own.hash, own.length);
      own.length += 1;
      return;
    }
    const other = this.#other.get(name);
    if (other === undefined) return;
    const text = end < 0 ? '' : line.slice(end + 1).trimEnd();
    other.hasOurs ||= tag !== undefined;
    // Of others' chains without rules of ours nobody asks what is in them.
    if (other.policy !== '-' || tag !== undefined || other.hasOurs)
      other.rules.push({
        text,
        ...(tag === undefined ? {} : { tag }),
        ...(tag === undefined && prefix !== undefined ? { isSiblings: true as const } : {}),
      });
  }
}

/** The tag in a rule's comment, and whose it is; undefined where it is none of our owners'. */
function tagIn(line: string): { readonly prefix: string | undefined; readonly tag: string | undefined } {
  const none = { prefix: undefined, tag: undefined };
  if (!commentPrefixes.some((prefix) => line.includes(prefix))) return none;
  const [, prefix = '', tag] = TAGGED_COMMENT.exec(line) ?? [];
  return commentPrefixes.includes(prefix) ? { prefix, tag } : none;
}

/** A rule of ours with what it has counted. */
export interface SavedCounter {
  readonly table: string;
  readonly chain: string;
  readonly tag: string;
  readonly packets: number;
  readonly bytes: number;
}

const COUNTED_RULE = /^\[(\d+):(\d+)\] -A (\S+) (.*)$/;

/** Reads what `iptables-save -c` printed: the counters of our rules in our chains. */
export function* parseCounters(text: string, owner: RuleOwner = CALI_RULES): Generator<SavedCounter> {
  let table = '';
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1).trim();
    if (!line.startsWith('[') || !line.includes(` -A ${owner.chainPrefix}`)) continue;
    const [, packets, bytes, chain = '', rest = ''] = COUNTED_RULE.exec(line) ?? [];
    const { prefix, tag } = tagIn(rest);
    if (tag !== undefined && prefix === owner.commentPrefix)
      yield { table, chain, tag, packets: Number(packets), bytes: Number(bytes) };
  }
}
