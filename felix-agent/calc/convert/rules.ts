/** A list of rules of one direction, whatever kind they are of. */
import type { RuleAction, RuleId } from '#dataplanes/policy.ts';
import type { CalcRule } from '../model.ts';
import { ConversionError } from './problem.ts';
import { calcRule, type RuleParts } from './rule-parts.ts';

export type Direction = 'ingress' | 'egress';

/** What converts the rules of one object; problems are added to its list. */
export interface RulesContext {
  /** What rule ids begin with: the policy's id, or `Profile <name>`. */
  readonly owner: string;
  readonly problems: string[];
}

/** The parts that one rule of the object is made of, in order. Throws `ConversionError`. */
export type PartsOf<T> = (rule: T, direction: Direction) => readonly RuleParts[];

/**
 * Converts the rules of one direction. The index in an id counts the object's own rules, those left out included; where one rule becomes
 * several, `.0`, `.1` and so on follow. A rule that can't be converted must not let through more than its author wanted: one that allows or
 * logs is left out, one that denies or passes becomes a denial of everything (Pass included, for what it would keep from the rules after it).
 */
export function convertRules<T>(
  { owner, problems }: RulesContext,
  direction: Direction,
  rules: readonly T[],
  actionOf: (rule: T) => RuleAction,
  partsOf: PartsOf<T>,
): readonly CalcRule[] {
  return rules.flatMap((rule, index) => {
    const id: RuleId = `${owner} ${direction} ${index}`;
    try {
      const parts = partsOf(rule, direction);
      const alone = parts.length === 1;
      return parts.map((part, k) => calcRule(alone ? id : `${id}.${k}`, part));
    } catch (error) {
      if (!(error instanceof ConversionError)) {
        throw error;
      }
      const action = actionOf(rule);
      const closed = action === 'deny' || action === 'pass';
      problems.push(
        `${direction} rule ${index} (${action}) can't be converted and is ${closed ? 'replaced by a denial of everything' : 'left out'}: ${error.message}`,
      );
      return closed ? [calcRule(id, { action: 'deny' })] : [];
    }
  });
}
