import { createHash } from 'node:crypto';

/** Each rule of ours carries a comment that begins with this, as Calico's do: it says whose it is and what it should be. */
const COMMENT_PREFIX = 'cali:';

/** Chains of ours begin with this. */
export const CHAIN_PREFIX = 'cali-';

/** A chain's rules as iptables takes them, in order, each with its hash. A rule is matches and target without chain and comment. */
export interface HashedRules {
  readonly rules: readonly string[];
  /** One a rule; equal hashes at one index mean that everything up to there is equal. */
  readonly hashes: readonly string[];
}

/**
 * Hashes rules so that the hash at index i stands for `scope` and for all rules up to i: SHA-224 chained, the first 16 characters of
 * its base64url text. Two lists of hashes are equal exactly when the two lists of rules are (but for a chance of 2^-96).
 */
export function hashRules(scope: string, rules: readonly string[]): HashedRules {
  let state = createHash('sha224').update(scope).digest();
  const hashes = rules.map((rule) => {
    state = createHash('sha224').update(state).update(rule).digest();
    return state.toString('base64url').slice(0, 16);
  });
  return { rules, hashes };
}

/** The rules as lines of an iptables-restore input, each with its hash in a comment. `verb` is `-A chain` or `-I chain`. */
export function renderRules(verb: string, { rules, hashes }: HashedRules): string[] {
  return rules.map((rule, index) => `${verb} -m comment --comment "${COMMENT_PREFIX}${hashes[index] ?? ''}" ${rule}`);
}

/** One rule as iptables-save prints it. */
export interface SavedRule {
  /** Everything after `-A chain `. */
  readonly text: string;
  /** The hash in the comment, when the rule is ours. */
  readonly hash?: string;
}

/** One chain as iptables-save prints it. */
export interface SavedChain {
  /** `ACCEPT` or `DROP` for the kernel's own chains, `-` for others. */
  readonly policy: string;
  readonly rules: readonly SavedRule[];
}

/** One table as iptables-save prints it: chains by name. */
export type SavedTable = ReadonlyMap<string, SavedChain>;

const OUR_COMMENT = /--comment "?cali:([A-Za-z0-9_-]{16})"?(?: |$)/;

/** Reads what iptables-save printed: the tables by name. Lines it doesn't know (comments, COMMIT) say nothing about rules. */
export function parseSave(text: string): ReadonlyMap<string, SavedTable> {
  const tables = new Map<string, SavedTable>();
  let chains = new Map<string, { policy: string; rules: SavedRule[] }>();
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) {
      chains = new Map();
      tables.set(line.slice(1).trim(), chains);
    } else if (line.startsWith(':')) {
      const [name = '', policy = '-'] = line.slice(1).split(' ');
      chains.set(name, { policy, rules: [] });
    } else if (line.startsWith('-A ')) {
      const end = line.indexOf(' ', 3);
      const text = end < 0 ? '' : line.slice(end + 1).trimEnd();
      const hash = OUR_COMMENT.exec(text)?.[1];
      const rule: SavedRule = hash === undefined ? { text } : { text, hash };
      chains.get(line.slice(3, end < 0 ? undefined : end))?.rules.push(rule);
    }
  }
  return tables;
}
