import type { Family } from '#api/cidr.ts';
import type { ClassEntry } from './class-space.ts';
import type { Element } from './element.ts';
import type { Membership, Space } from './membership.ts';
import type { Pieces } from './pieces.ts';
import { difference, type Signature } from './signature.ts';
import type { UnitForm } from './unit-form.ts';
import type { Unit } from './units.ts';

/** Elements that all go from one signature to another. */
export interface MoveGroup {
  readonly space: Space;
  readonly from: Signature;
  readonly to: Signature;
  readonly isNamed: boolean;
  readonly elements: Element[];
  /**
   * The units in force whose packets notice, and how many changes it is for them: one for each entry and dimension. A lookup reads the entry of a
   * network that both ends are in twice, and between the two it may be written.
   */
  affected: ReadonlyMap<Unit, number>;
  /** Where they go; undefined: there is no room. */
  target: ClassEntry | undefined;
}

/** Which units have rules that name a trait. */
export class TraitUsers {
  /** Most traits are one unit's. */
  readonly #units = new Map<number, Unit | Set<Unit>>();

  add(unit: Unit, { traits }: UnitForm): void {
    for (const trait of traits) {
      const known = this.#units.get(trait);
      if (known === undefined) this.#units.set(trait, unit);
      else if (known instanceof Set) known.add(unit);
      else if (known !== unit) this.#units.set(trait, new Set([known, unit]));
    }
  }

  remove(unit: Unit, { traits }: UnitForm): void {
    for (const trait of traits) {
      const known = this.#units.get(trait);
      if (known === unit) this.#units.delete(trait);
      else if (known instanceof Set) {
        known.delete(unit);
        if (known.size === 0) this.#units.delete(trait);
      }
    }
  }

  /** The units with rules that name one of these. */
  of(traits: Iterable<number>): Set<Unit> {
    const found = new Set<Unit>();
    for (const trait of traits) {
      const known = this.#units.get(trait);
      if (known instanceof Set) for (const unit of known) found.add(unit);
      else if (known !== undefined) found.add(known);
    }
    return found;
  }
}

/** Groups what has to move. `isStale`: the class is a second one of its signature, and may be left. */
export function* groupMoves(
  elements: readonly Element[],
  membership: Membership,
  users: TraitUsers,
  isStale: (entry: ClassEntry) => boolean,
): Pieces<MoveGroup[]> {
  const groups = new Map<string, MoveGroup>();
  for (const [index, element] of elements.entries()) {
    if (index % 32 === 0) yield;
    const [from, to] = [element.now(), element.wanted()];
    const { written } = element;
    const isSame = from.key === to.key && !element.hasOtherChange;
    // What is said of it has to be there even where it says the same as what stands around: that may change.
    if (isSame && (written === undefined ? element.isLeaving : !isStale(written))) continue;
    const space = membership.spaceOf(element);
    const isNamed = element.map?.startsWith('tortie_named') === true;
    const key = `${space === membership.addressSpace ? 'a' : isNamed ? 'n' : 'p'}${from.key}>${to.key}`;
    const known = groups.get(key);
    if (known !== undefined) known.elements.push(element);
    else groups.set(key, { space, from, to, isNamed, elements: [element], affected: none, target: undefined });
  }
  for (const group of groups.values()) {
    yield;
    const { space, from, to } = group;
    const affected = new Map<Unit, number>();
    for (const unit of users.of(difference(from, to))) {
      const dimensions = unit.published?.compiled.form.tellsApart(space.dimensions, from, to) ?? 0;
      const count = dimensions * elementsOf(group, unit.lists.family);
      if (count > 0) affected.set(unit, count);
    }
    group.affected = affected;
  }
  return [...groups.values()];
}

const none: MoveGroup['affected'] = new Map();

function elementsOf({ elements }: MoveGroup, family: Family): number {
  return elements.reduce((sum, { family: own }) => (own === undefined || own === family ? sum + 1 : sum), 0);
}
