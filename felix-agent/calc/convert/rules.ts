/** A list of rules of one direction, whatever kind they are of. */
import { kinds, type KindName } from '#api/kinds.ts';
import { knownFields, unknownFields, type KnownFields } from '#api/schema/known-fields.ts';
import type { RuleAction, RuleId } from '#dataplanes/policy.ts';
import type { CalcRule } from '../model.ts';
import { ConversionError } from './problem.ts';
import { calcRule, type RuleParts } from './rule-parts.ts';

export type Direction = 'ingress' | 'egress';

/** What converts the rules of one object; problems are added to its list. */
export interface RulesContext {
  /** Whose rules they are: it says which fields they may have. */
  readonly kind: KindName;
  /** What rule ids begin with: the policy's id, or `Profile <name>`. */
  readonly owner: string;
  readonly problems: string[];
}

/** The parts that one rule of the object is made of, in order. Throws `ConversionError`. */
export type PartsOf<T> = (rule: T, direction: Direction) => readonly RuleParts[];

const knownOf = new Map<string, KnownFields | undefined>();

/** The fields that rules of this kind and direction have. */
function ruleFields(kind: KindName, direction: Direction): KnownFields | undefined {
  const id = `${kind} ${direction}`;
  if (!knownOf.has(id)) {
    knownOf.set(id, knownFields(kinds[kind].schema)?.fields.get('spec')?.fields.get(direction));
  }
  return knownOf.get(id);
}

/**
 * A field that we don't know (a newer version's, a misspelt one) asks for something, and without it the rule would match more than its
 * author wrote: harmless in a denial, not in a rule that lets through.
 */
function refuseUnknown(kind: KindName, direction: Direction, rule: unknown): void {
  const unknown = unknownFields(rule, ruleFields(kind, direction));
  if (unknown.length > 0) {
    throw new ConversionError(
      `${unknown.join(', ')} is unknown, and without it the rule would match more than it says`,
    );
  }
}

/**
 * Converts the rules of one direction. The index in an id counts the object's own rules, those left out included; where one rule becomes
 * several, `.0`, `.1` and so on follow. A rule that can't be converted must not let through more than its author wanted: one that allows or
 * logs is left out, one that denies or passes becomes a denial of everything (Pass included, for what it would keep from the rules after it).
 */
export function convertRules<T>(
  { kind, owner, problems }: RulesContext,
  direction: Direction,
  rules: readonly T[],
  actionOf: (rule: T) => RuleAction,
  partsOf: PartsOf<T>,
): readonly CalcRule[] {
  return rules.flatMap((rule, index) => {
    const id: RuleId = `${owner} ${direction} ${index}`;
    const action = actionOf(rule);
    try {
      if (action === 'allow' || action === 'pass') {
        refuseUnknown(kind, direction, rule);
      }
      const parts = partsOf(rule, direction);
      const alone = parts.length === 1;
      return parts.map((part, k) => calcRule(alone ? id : `${id}.${k}`, part));
    } catch (error) {
      if (!(error instanceof ConversionError)) {
        throw error;
      }
      const closed = action === 'deny' || action === 'pass';
      problems.push(
        `${direction} rule ${index} (${action}) can't be converted and is ${closed ? 'replaced by a denial of everything' : 'left out'}: ${error.message}`,
      );
      return closed ? [calcRule(id, { action: 'deny' })] : [];
    }
  });
}
