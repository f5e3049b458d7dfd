import { RuleAction } from '../bpf-types.gen.ts';
import type { PolicyId, PolicyInfo, ProfileId, ProfileInfo, RuleInfo } from '../../policy.ts';
import { CHUNK_RULES } from './classifier-maps.ts';
import type { UnitLists } from './unit-lists.ts';

/** What was announced of policies and profiles. */
export interface KnownRules {
  readonly policies: ReadonlyMap<PolicyId, PolicyInfo>;
  readonly profiles: ReadonlyMap<ProfileId, ProfileInfo>;
}

/** A rule in its place: bit `position % 512` of chunk `position / 512`. */
export interface FlatRule {
  readonly position: number;
  /** What stands in the rule's word. */
  readonly word: number;
  /** A rule's id, or which end this is. */
  readonly id: string;
  /** What it asks; undefined: nothing, every packet matches. */
  readonly rule?: RuleInfo;
}

/** A unit's rules, each in its place. */
export interface FlatRules {
  readonly rules: readonly FlatRule[];
  readonly chunks: number;
}

const actions = {
  allow: RuleAction.allow,
  deny: RuleAction.deny,
  pass: RuleAction.pass,
  log: RuleAction.log,
} as const;

/**
 * Lays the rules of a unit out. What a pass goes on with begins a chunk, and a log rule ends one, so that the lookup has no more to do
 * than to choose the next chunk. A staged policy's rules are there and count: what they would decide goes on behind the policy. A policy or
 * profile that was never announced denies in its place.
 * `canMatch`: leaves out rules that no packet of the family can match.
 */
export function flatRules(
  lists: UnitLists,
  { policies, profiles }: KnownRules,
  canMatch: (rule: RuleInfo) => boolean,
): FlatRules {
  const layout = new Layout();
  const { direction, kind } = lists;
  const addRules = (rules: readonly RuleInfo[]) => {
    for (const rule of rules) if (canMatch(rule)) layout.add(actions[rule.action], rule.id, rule);
  };
  for (const { name, defaultAction, policies: ids } of lists.tiers) {
    const missing = ids.find((id) => !policies.has(id));
    if (missing !== undefined) {
      // The order of messages is broken; nothing may get through by that.
      layout.add(RuleAction.deny, `tier ${name}: ${missing}, which was never announced`);
      return layout.finish();
    }
    const known = ids.flatMap((id) => policies.get(id) ?? []);
    for (const policy of known) {
      if (policy.staged) layout.addStaged(policy[direction].filter((rule) => canMatch(rule)));
      else addRules(policy[direction]);
    }
    if (known.every(({ staged }) => staged)) continue;
    const end = kind === 'early' || defaultAction === 'pass' ? RuleAction.pass : RuleAction.deny;
    layout.add(end, `the end of tier ${name}`);
    // Nothing behind it is ever reached.
    if (!layout.isPassed) return layout.finish();
    layout.passHere();
  }
  if (kind !== 'endpoint') {
    layout.add(RuleAction.undecided, 'passed by all tiers');
    return layout.finish();
  }
  for (const id of lists.profiles) {
    const profile = profiles.get(id);
    if (profile === undefined) {
      layout.add(RuleAction.deny, `profile ${id}, which was never announced`);
      return layout.finish();
    }
    addRules(profile[direction]);
    // There is no tier to pass to: it is left to the next profile.
    if (layout.isPassed) layout.passHere();
  }
  layout.add(RuleAction.deny, 'the end of the profiles');
  return layout.finish();
}

type Entry = { position: number; word: number; id: string; rule?: RuleInfo };

class Layout {
  readonly #rules: Entry[] = [];
  #open: Entry[] = [];
  #next = 0;

  add(action: number, id: string, rule?: RuleInfo): void {
    const entry = this.#push(action, id, rule);
    if (action === RuleAction.pass) this.#open.push(entry);
    if (action === RuleAction.log) this.#beginChunk();
  }

  /** The first of these that matches counts, and a log rule before it; then it goes on behind them all. */
  addStaged(rules: readonly RuleInfo[]): void {
    if (rules.length === 0) return;
    const decided: Entry[] = [];
    for (const rule of rules) {
      const entry = this.#push(RuleAction.pass, rule.id, rule);
      if (rule.action === 'log') {
        this.#beginChunk();
        this.#passTo([entry]);
      } else decided.push(entry);
    }
    this.#beginChunk();
    this.#passTo(decided);
  }

  /** True if some rule passes to what comes. */
  get isPassed(): boolean {
    return this.#open.length > 0;
  }

  passHere(): void {
    this.#beginChunk();
    this.#passTo(this.#open);
    this.#open = [];
  }

  finish(): FlatRules {
    return { rules: this.#rules, chunks: Math.ceil(this.#next / CHUNK_RULES) };
  }

  #push(word: number, id: string, rule: RuleInfo | undefined): Entry {
    const entry = { position: this.#next++, word, id, ...(rule === undefined ? {} : { rule }) };
    this.#rules.push(entry);
    return entry;
  }

  /** The chunk that begins here is where these go on. */
  #passTo(entries: readonly Entry[]): void {
    for (const entry of entries) entry.word = RuleAction.pass | ((this.#next / CHUNK_RULES) << 8);
  }

  #beginChunk(): void {
    this.#next = Math.ceil(this.#next / CHUNK_RULES) * CHUNK_RULES;
  }
}
