import type { Counter } from '../../contract.ts';
import type { ProfileInfo, RuleId } from '../../policy.ts';

type Rules = Pick<ProfileInfo, 'ingress' | 'egress'>;

/** What rules have counted in units that are no more, for as long as somebody announces the rule. */
export class RuleCounters {
  readonly #announced = new Map<RuleId, number>();
  readonly #kept = new Map<RuleId, Counter>();

  /** A policy or profile is announced, changes, or is removed. */
  onRules(before: Rules | undefined, after: Rules | undefined): void {
    // First the new: a rule that stays keeps what it has.
    for (const id of idsOf(after)) this.#announced.set(id, (this.#announced.get(id) ?? 0) + 1);
    for (const id of idsOf(before)) {
      const left = (this.#announced.get(id) ?? 1) - 1;
      if (left > 0) this.#announced.set(id, left);
      else {
        this.#announced.delete(id);
        this.#kept.delete(id);
      }
    }
  }

  isAnnounced(rule: RuleId): boolean {
    return this.#announced.has(rule);
  }

  /** The words that have counted this are used for something else from now on. */
  keep(rule: RuleId, { packets, bytes }: Counter): void {
    if (packets === 0 || !this.#announced.has(rule)) return;
    const known = this.#kept.get(rule);
    this.#kept.set(rule, { packets: packets + (known?.packets ?? 0), bytes: bytes + (known?.bytes ?? 0) });
  }

  kept(): Map<RuleId, Counter> {
    return new Map(this.#kept);
  }
}

function* idsOf(rules: Rules | undefined): Iterable<RuleId> {
  for (const direction of [rules?.ingress, rules?.egress]) for (const { id } of direction ?? []) yield id;
}
