import type { DataplaneUpdate } from '#dataplanes/messages.ts';
import type { SetId } from '#dataplanes/policy.ts';
import { Pending, type Changes } from '../pending.ts';
import type { SetStore } from '../sets/set-store.ts';
import { setsOf, type Rules } from './rule-info.ts';

/** What is said of policies and profiles. */
export type RuleMessage = 'policyUpdate' | 'policyRemove' | 'profileUpdate' | 'profileRemove';
type Message = Extract<DataplaneUpdate, { readonly type: RuleMessage }>;

/** The policies (or profiles) that are in use, with the sets that they hold on to. */
export class AnnouncedRules {
  readonly #sets: SetStore;
  readonly #pending = new Pending<RuleMessage>();
  readonly #held = new Map<string, readonly SetId[]>();

  constructor(sets: SetStore) {
    this.#sets = sets;
  }

  get count(): number {
    return this.#held.size;
  }

  /** `rules` undefined: it isn't in use any more. New sets are taken before old ones are let go, so that shared ones stay. */
  set(id: string, rules: Rules | undefined, update: Message | undefined, removal: Message): void {
    const before = this.#held.get(id) ?? [];
    if (rules === undefined) {
      this.#held.delete(id);
    } else {
      const specs = setsOf(rules);
      for (const spec of specs.values()) this.#sets.acquire(spec);
      this.#held.set(id, [...specs.keys()]);
    }
    for (const set of before) this.#sets.release(set);
    this.#pending.set(id, update, removal);
  }

  take(): Changes<RuleMessage> {
    return this.#pending.take();
  }
}
