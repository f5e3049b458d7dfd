import { hash } from 'node:crypto';

/**
 * Who of us keeps rules in a table. Two may have theirs in one table at a time (while one dataplane takes over from the other), and neither
 * touches the other's: to each of them the other is somebody else, who may only not be told to have moved its rules.
 */
export interface RuleOwner {
  /** Its chains begin with this. */
  readonly chainPrefix: string;
  /** Each of its rules carries a comment that begins with this: it says whose it is and what it should be. */
  readonly commentPrefix: string;
}

/** The iptables dataplane and natOutgoing: as Calico names what is its. */
export const CALI_RULES: RuleOwner = { chainPrefix: 'cali-', commentPrefix: 'cali:' };
/** The eBPF dataplane: what netfilter has to do in its mode. */
export const TORTIE_RULES: RuleOwner = { chainPrefix: 'tortie-', commentPrefix: 'tortie:' };
export const RULE_OWNERS: readonly RuleOwner[] = [CALI_RULES, TORTIE_RULES];

/** Characters of a list's hash: 78 bits. */
const HASH_LENGTH = 13;
const INDEX_ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

/** Rules as iptables takes them, in order, and the hash of them all. A rule is matches and target without chain and comment. */
export interface HashedRules {
  readonly rules: readonly string[];
  readonly hash: string;
}

/** Two lists have one hash exactly when scope and rules are equal (but for a chance of 2^-78). */
export function hashRules(scope: string, rules: readonly string[]): HashedRules {
  return { rules, hash: hash('sha224', `${scope}\n${rules.join('\n')}`, 'base64url').slice(0, HASH_LENGTH) };
}

/**
 * What the comment of the list's rule at this index says, 16 characters: the list's hash and the index. Rules whose tags are those of a list,
 * in order and complete, are that list: rules are never compared as text, since iptables prints them otherwise than they were given.
 */
export function ruleTag(listHash: string, index: number): string {
  const digit = (shift: number): string => INDEX_ALPHABET[(index >> shift) & 63] ?? '';
  return `${listHash}${digit(12)}${digit(6)}${digit(0)}`;
}

/** The index in a tag. */
export function tagIndex(tag: string): number {
  return Array.from(tag.slice(HASH_LENGTH)).reduce((sum, digit) => sum * 64 + INDEX_ALPHABET.indexOf(digit), 0);
}

/** One value for a list of rules as it is wanted or as it was found. */
export const signatureOf = ({ rules, hash }: HashedRules): string => signature(hash, rules.length);

/** Signature of what was found: rules that are not exactly one list of ours are never one that is wanted. */
export const FOREIGN_SIGNATURE = 'foreign';
export const signature = (listHash: string, length: number): string => (length === 0 ? '' : `${listHash} ${length}`);

/** The tags of a list's rules, in order. */
export const tagsOf = ({ rules, hash }: HashedRules): string[] => rules.map((_, index) => ruleTag(hash, index));

/** A rule with its comment, which stands last: the kernel asks matches in their order, and this one of packets that match otherwise only. */
export const taggedRule = (rule: string, tag: string, owner: RuleOwner): string =>
  `${rule} -m comment --comment "${owner.commentPrefix}${tag}"`;

/** The rules as lines of an iptables-restore input. `verb` is `-A chain` or `-I chain`. */
export function renderRules(verb: string, { rules, hash }: HashedRules, owner: RuleOwner = CALI_RULES): string[] {
  return rules.map((rule, index) => `${verb} ${taggedRule(rule, ruleTag(hash, index), owner)}`);
}
