import {
  hashRules,
  type HashedRules,
  renderRules,
  RULE_OWNERS,
  type RuleOwner,
  signatureOf,
  taggedRule,
  tagsOf,
} from './rules.ts';
import { EMPTY_TABLE, type SavedChain, type SavedRule, type SavedTable } from './saved.ts';

/** Our rules in one of the kernel's chains. */
export interface Hook {
  /** Before (or, by `insertMode`, after) everybody else's rules. */
  readonly first?: readonly string[];
  /** After everybody else's rules, whatever the mode. */
  readonly last?: readonly string[];
}

/**
 * In a table of nft's that wasn't there before us: an empty chain that says so, for cleanup, also after a crash. (Of the kernel's chains in a
 * table of others nobody can tell: iptables-nft-save prints those that aren't there, too.) Who comes to a table that another of our owners made
 * says the same of it, so that the last to go removes it.
 */
export const madeByUs = ({ chainPrefix }: RuleOwner): string => `${chainPrefix}table-is-ours`;

/** What a chain is while iptables refuses its rules: nothing passes. */
const CLOSED = ['-j DROP'];

/** One restore's input, and what the table is after it. */
export interface TablePlan {
  readonly input: string;
  /** Our chains that are written, with their signatures afterwards. */
  readonly written: ReadonlyMap<string, string>;
  readonly removed: readonly string[];
  /** The kernel's chains that change. */
  readonly hooked: ReadonlyMap<string, SavedChain>;
}

/**
 * What one table should have of ours, what it has, and the difference as input of iptables-restore. Does no I/O: `Tables` drives it.
 *
 * Ours are the chains named `cali-...` and, in other chains, the rules with a comment `cali:TAG`; nothing else is looked at or written.
 * A chain that differs is written anew as a whole (one transaction; no packet sees half of it); chains that don't are not touched, so they
 * keep their counters. Rules in the kernel's chains are removed by their text, not by number: between reading and writing others may
 * have inserted theirs. A change costs as much as the chains that it changes; a comparison with the kernel looks at all.
 */
export class Table {
  readonly name: string;
  readonly #chains = new Map<string, HashedRules>();
  readonly #hooks = new Map<string, { first: HashedRules; last: HashedRules }>();
  /** Chains that may not be in the kernel as they are wanted. */
  readonly #dirty = new Set<string>();
  /** Chains that the kernel refuses: until they change, or are tried again, they are left as they were, or closed. */
  readonly #held = new Set<string>();
  /** Our chains in the kernel that nobody wants. */
  readonly #stale = new Set<string>();
  /** Signatures of our chains in the kernel, as far as known. */
  #actual = new Map<string, string>();
  #kernelChains = new Map<string, SavedChain>();
  readonly #marksMade: boolean;
  readonly #owner: RuleOwner;
  #wasRead = false;
  #insertMode: 'insert' | 'append';
  /** `keep`: what hooks the kernel has stays, nothing is known yet. */
  #hooked: 'keep' | 'yes' | 'no' = 'keep';
  #hooksDirty = true;
  #isComplete = false;

  /** `marksMade`: note in the table if it wasn't there before us (nft). */
  constructor(
    name: string,
    options: { readonly insertMode: 'insert' | 'append'; readonly marksMade: boolean; readonly owner: RuleOwner },
  ) {
    this.#owner = options.owner;
    this.name = name;
    this.#insertMode = options.insertMode;
    this.#marksMade = options.marksMade;
  }

  setInsertMode(mode: 'insert' | 'append'): void {
    if (mode !== this.#insertMode) this.#hooksDirty = true;
    this.#insertMode = mode;
  }

  /** The chain and all its rules, in order. True if that is something new. */
  setChain(name: string, rules: readonly string[]): boolean {
    const { chainPrefix } = this.#owner;
    if (!name.startsWith(chainPrefix))
      throw new TypeError(`chain ${name} is not one of ours: its name must begin with ${chainPrefix}`);
    const hashed = hashRules(name, rules);
    if (this.#chains.get(name)?.hash === hashed.hash) return false;
    this.#chains.set(name, hashed);
    this.#held.delete(name);
    this.#stale.delete(name);
    this.#dirty.add(name);
    return true;
  }

  /** The chain is not wanted any more; nothing of ours may jump to it after this cycle. */
  removeChain(name: string): void {
    if (!this.#chains.delete(name)) return;
    this.#held.delete(name);
    this.#dirty.delete(name);
    if (this.#actual.has(name)) this.#stale.add(name);
  }

  /** The wanted chains' names. */
  get chainNames(): Iterable<string> {
    return this.#chains.keys();
  }

  /** The hash of a wanted chain. */
  chainHash(name: string): string | undefined {
    return this.#chains.get(name)?.hash;
  }

  /** Our rules in one of the kernel's chains; they go in when `setHooked(true)` was called. Undefined: none. */
  setHook(kernelChain: string, hook: Hook | undefined): void {
    const before = this.#hooks.get(kernelChain);
    const { first = [], last = [] } = hook ?? {};
    const next = {
      first: hashRules(`${kernelChain} first`, first),
      last: hashRules(`${kernelChain} last`, last),
    };
    if (before?.first.hash === next.first.hash && before.last.hash === next.last.hash && hook !== undefined) return;
    if (hook !== undefined) this.#hooks.set(kernelChain, next);
    else if (!this.#hooks.delete(kernelChain)) return;
    this.#hooksDirty = true;
  }

  /** The kernel's chains in which rules are wanted. */
  get hookNames(): Iterable<string> {
    return this.#hooks.keys();
  }

  /** Whether packets come by our chains. Before the first call the hooks stay as they are found. */
  setHooked(hooked: boolean): void {
    const next = hooked ? 'yes' : 'no';
    if (next !== this.#hooked) this.#hooksDirty = true;
    this.#hooked = next;
  }

  /**
   * Everything has been said: from now on chains and hooks that are in the kernel are changed, and chains of ours that nobody set go, once
   * it is said (`setHooked`) what jumps to them. Before, there is only something new: the kernel holds what an earlier agent knew.
   */
  allowRemoval(): void {
    if (!this.#isComplete) this.#hooksDirty = true;
    this.#isComplete = true;
  }

  /** The kernel refused this chain: the others are written without it. False if it is no wanted chain, or held already. */
  hold(name: string): boolean {
    if (!this.#chains.has(name) || this.#held.has(name)) return false;
    this.#held.add(name);
    return true;
  }

  isHeld(name: string): boolean {
    return this.#held.has(name);
  }

  /** Chains that are held are tried again. */
  releaseHeld(): void {
    for (const name of this.#held) this.#dirty.add(name);
    this.#held.clear();
  }

  /** Takes over what was read (undefined: there is no such table); answers what others had changed since the last reading or write, in words. */
  adopt(found: SavedTable | undefined): string[] {
    const saved = found ?? EMPTY_TABLE;
    const isMadeByUs = found === undefined || RULE_OWNERS.some((owner) => found.names.has(madeByUs(owner)));
    if (this.#marksMade && isMadeByUs) this.setChain(madeByUs(this.#owner), []);
    const changes = this.#wasRead ? this.#differences(saved) : [];
    this.#actual = new Map(saved.ours);
    this.#kernelChains = new Map(saved.others);
    this.#wasRead = true;
    this.#hooksDirty = true;
    this.#stale.clear();
    for (const name of this.#actual.keys()) if (!this.#chains.has(name)) this.#stale.add(name);
    for (const [name, wanted] of this.#chains)
      if (this.#actual.get(name) !== signatureOf(wanted)) this.#dirty.add(name);
    return changes;
  }

  /** What is to be written, or undefined. What is set afterwards is the next plan's. */
  plan(): TablePlan | undefined {
    const declare: string[] = [];
    const add: string[] = [];
    const written = new Map<string, string>();
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    for (const name of dirty) {
      const rules = this.#rulesToWrite(name);
      if (rules === undefined || this.#actual.get(name) === signatureOf(rules)) continue;
      if (!this.#isComplete && this.#actual.has(name)) {
        this.#dirty.add(name);
        continue;
      }
      declare.push(`:${name} - [0:0]`);
      add.push(...renderRules(`-A ${name}`, rules, this.#owner));
      written.set(name, signatureOf(rules));
    }
    const { unhook, hook, hooked } = this.#planHooks();
    const removed = this.#isComplete && this.#hooked !== 'keep' ? [...this.#stale] : [];
    for (const name of removed) declare.push(`:${name} - [0:0]`);
    const lines = [...declare, ...unhook, ...add, ...hook, ...removed.map((name) => `-X ${name}`)];
    if (lines.length === 0) return undefined;
    return { input: [`*${this.name}`, ...lines, 'COMMIT', ''].join('\n'), written, removed, hooked };
  }

  /** The plan was carried out. */
  done({ written, removed, hooked }: TablePlan): void {
    for (const [name, signature] of written) {
      this.#actual.set(name, signature);
      if (!this.#chains.has(name)) this.#stale.add(name); // Not wanted any more since.
    }
    for (const name of removed) {
      this.#actual.delete(name);
      this.#stale.delete(name);
      if (this.#chains.has(name)) this.#dirty.add(name); // Wanted again since.
    }
    for (const [name, chain] of hooked) this.#kernelChains.set(name, chain);
  }

  /** A held chain is left as it is in the kernel; one that isn't there is closed, since others may jump to it. */
  #rulesToWrite(name: string): HashedRules | undefined {
    if (!this.#held.has(name)) return this.#chains.get(name);
    return this.#actual.has(name) ? undefined : hashRules(`${name} closed`, CLOSED);
  }

  #planHooks(): { unhook: string[]; hook: string[]; hooked: Map<string, SavedChain> } {
    const unhook: string[] = [];
    const hook: string[] = [];
    const hooked = new Map<string, SavedChain>();
    if (this.#hooked === 'keep' || !this.#hooksDirty) return { unhook, hook, hooked };
    this.#hooksDirty = false;
    for (const name of new Set([...this.#kernelChains.keys(), ...this.#hooks.keys()])) {
      const chain = this.#kernelChains.get(name) ?? { policy: 'ACCEPT', rules: [] };
      if (this.#hookIsRight(name, chain)) continue;
      if (!this.#isComplete && this.#hooked === 'yes' && chain.rules.some(isOurs)) continue;
      unhook.push(...chain.rules.filter(isOurs).map((rule) => `-D ${name} ${rule.text}`));
      const others = chain.rules.filter((rule) => !isOurs(rule));
      const wanted = this.#hooked === 'yes' ? this.#hooks.get(name) : undefined;
      if (wanted === undefined) {
        hooked.set(name, { ...chain, rules: others });
        continue;
      }
      const insert = this.#insertMode === 'insert';
      hook.push(
        ...(insert
          ? renderRules(`-I ${name}`, wanted.first, this.#owner).toReversed()
          : renderRules(`-A ${name}`, wanted.first, this.#owner)),
        ...renderRules(`-A ${name}`, wanted.last, this.#owner),
      );
      const [first, last] = [asSaved(wanted.first, this.#owner), asSaved(wanted.last, this.#owner)];
      hooked.set(name, {
        ...chain,
        rules: insert ? [...first, ...others, ...last] : [...others, ...first, ...last],
      });
    }
    return { unhook, hook, hooked };
  }

  /** True if exactly our rules are in the kernel's chain, in their places; those of another owner of us may stand before and behind. */
  #hookIsRight(name: string, chain: SavedChain | undefined): boolean {
    const rules = (chain?.rules ?? []).filter(({ isSiblings }) => isSiblings !== true);
    const hook = this.#hooked === 'yes' ? this.#hooks.get(name) : undefined;
    if (hook === undefined) return !rules.some(isOurs);
    const wanted = [...tagsOf(hook.first), ...tagsOf(hook.last)];
    if (ourTags(chain).join() !== wanted.join()) return false;
    const atTop = this.#insertMode === 'insert' ? hook.first.rules.length : 0;
    const atEnd = wanted.length - atTop;
    return rules.slice(0, atTop).every(isOurs) && rules.slice(rules.length - atEnd).every(isOurs);
  }

  #differences(saved: SavedTable): string[] {
    const words: string[] = [];
    for (const [name, signature] of this.#actual) {
      if (!saved.ours.has(name)) words.push(`chain ${name} was missing`);
      else if (saved.ours.get(name) !== signature) words.push(`rules of chain ${name} had been changed`);
    }
    for (const name of new Set([...this.#kernelChains.keys(), ...saved.others.keys()])) {
      const [before, now] = [this.#kernelChains.get(name), saved.others.get(name)];
      const isMisplaced = this.#hooked === 'yes' && this.#hooks.has(name) && !this.#hookIsRight(name, now);
      if (ourTags(before).join() !== ourTags(now).join() || isMisplaced)
        words.push(`our rules in chain ${name} had been changed`);
    }
    return words;
  }
}

const isOurs = (rule: { readonly tag?: string }): boolean => rule.tag !== undefined;

/** Rules as a save would show them: `-D` needs them before the kernel is read again. */
const asSaved = (list: HashedRules, owner: RuleOwner): SavedRule[] =>
  tagsOf(list).map((tag, index) => ({ text: taggedRule(list.rules[index] ?? '', tag, owner), tag }));

const ourTags = (chain: SavedChain | undefined): string[] => (chain?.rules ?? []).flatMap((rule) => rule.tag ?? []);
