import { shareOf } from './claim.ts';
import type { ClassEntry } from './class-space.ts';
import type { MapSizes, MapWrite, SizedMap } from './classifier-maps.ts';
import type { Element } from './element.ts';
import { ClassifierFull } from './full-error.ts';
import type { Membership, Space } from './membership.ts';
import { groupMoves, type MoveGroup } from './moves.ts';
import { each, type Pieces } from './pieces.ts';
import type { Records } from './records.ts';
import { difference } from './signature.ts';
import type { Pending, UnitsInForce } from './units-in-force.ts';
import type { Unit } from './units.ts';
import type { WriteQueue } from './write-queue.ts';

/** Second classes of a signature, and who went there. */
interface Transition {
  readonly space: Space;
  readonly entry: ClassEntry;
  readonly elements: readonly Element[];
}

/** What moving needs. */
export interface MoverParts {
  readonly sizes: MapSizes;
  readonly queue: WriteQueue;
  readonly membership: Membership;
  readonly records: Records;
  readonly units: UnitsInForce;
}

/** Gives addresses, prefixes, named ports and ports the classes that they have to have. */
export class Mover {
  readonly #parts: MoverParts;
  /** Entries in each map. */
  readonly #entries = new Map<SizedMap, number>();
  readonly #stale = new Set<ClassEntry>();
  readonly #leaving = new Set<Element>();
  #transitions: Transition[] = [];

  constructor(parts: MoverParts) {
    this.#parts = parts;
  }

  /** Gives everything its new class. Units that would notice more than one change go into `pending`, to change at one moment. */
  *move(dirty: readonly Element[], pending: Pending): Pieces<void> {
    const { membership, units } = this.#parts;
    const isStale = (entry: ClassEntry) => this.#stale.has(entry);
    const { elements, refused } = this.#withRoom(dirty, pending);
    const groups = this.#inOrder(yield* groupMoves(elements, membership, units.users, isStale));
    try {
      this.#addNoticing(groups, pending);
      yield* each(groups, (group) => this.#findTarget(group, pending));
      const targets = new Map<Element, MoveGroup>();
      yield* each(groups, (group) => {
        for (const element of group.elements) targets.set(element, group);
      });
      yield* each(elements, (element) => {
        const group = targets.get(element);
        const { written } = element;
        if (group === undefined) {
          if (element.isLeaving && !this.#removeIfPossible(element)) this.#leaving.add(element);
        } else if (group.target === undefined) {
          refused.push(element);
          // Its hop changes all the same: the old one's number may be free after this flush.
          if (written !== undefined && element.hasOtherChange) this.#push(element.write(written), element);
        } else {
          const stays = group.from.key === group.to.key && written !== undefined && !isStale(written);
          this.#moveOne(element, stays ? written : group.target);
        }
      });
    } finally {
      // Until here the group itself was one that needs the class.
      for (const { target } of groups) target?.users.release();
      for (const element of refused) membership.mark(element);
    }
    this.#stale.clear();
  }

  /** What is free in a map of elements. */
  roomIn(map: SizedMap): number {
    return this.#parts.sizes[map].entries - (this.#entries.get(map) ?? 0);
  }

  /** Second classes that may end when lookups of what was before are over. Take them when the writes so far are made. */
  takeTransitions(): readonly Transition[] {
    const transitions = this.#transitions;
    this.#transitions = [];
    return transitions;
  }

  /** They are not over yet. */
  putBack(transitions: readonly Transition[]): void {
    this.#transitions.push(...transitions);
  }

  /** Nothing follows the records that needed the second class: it becomes the first, or who is there goes to that. */
  endTransition({ space, entry, elements }: Transition): void {
    // Everybody has left it by other ways, and its number may be free already.
    if (entry.users.users === 0) return;
    space.classes.promote(entry);
    if (space.classes.isPrimary(entry)) return;
    this.#stale.add(entry);
    for (const element of elements) if (element.written === entry) this.#parts.membership.mark(element);
  }

  /** Takes out what is said no more and stands for nothing. */
  *removeLeaving(): Pieces<void> {
    yield* each(this.#leaving, (element) => this.#removeIfPossible(element));
  }

  /** How many entries wait to be taken out. */
  get leaving(): number {
    return this.#leaving.size;
  }

  /**
   * The kernel has no room for the element's entry, whatever was counted here. Returns the traits of which it says something wrong without
   * one, and what takes out an entry that says something old.
   */
  onRefused(
    element: Element,
    write: MapWrite,
  ): { readonly traits: readonly number[]; readonly after: readonly MapWrite[] } {
    const { written } = element;
    if (written !== undefined) {
      element.written = undefined;
      this.#countEntry(element, -1);
      written.users.release();
      this.#parts.membership.mark(element);
    }
    const traits = difference(element.wanted(), element.now());
    if (write.map === 'addresses') return { traits, after: [{ ...write, value: undefined }] };
    return { traits, after: write.map === 'named' ? [{ ...write, class: undefined }] : [] };
  }

  /**
   * Those that are written already or that there is room for: first what units in force need, then what new units need, the least first. Who
   * asks for what there is no room for, fails; what nobody else asks for isn't written then.
   */
  #withRoom(dirty: readonly Element[], pending: Pending) {
    const { units, membership } = this.#parts;
    const wanting = new Map<SizedMap, Element[]>();
    for (const element of dirty) {
      const { map } = element;
      if (map === undefined || element.written !== undefined || element.isLeaving) continue;
      const others = wanting.get(map);
      if (others === undefined) wanting.set(map, [element]);
      else others.push(element);
    }
    const out = new Set<Element>();
    for (const [map, all] of wanting) {
      let room = this.roomIn(map);
      if (all.length <= room - this.#shareOf(map)) continue;
      const isInForce = (element: Element) =>
        membership.isHop(element) || units.users.of(element.wanted().traits).size > 0;
      for (const element of all) {
        if (!isInForce(element) || room-- > 0) continue;
        room = 0;
        out.add(element);
        this.#failUsers(element, pending);
      }
      const asked = all.filter((element) => !isInForce(element));
      for (const element of this.#leastFirst(map, asked, room - this.#shareOf(map), pending)) out.add(element);
    }
    return { elements: dirty.filter((element) => !out.has(element)), refused: [...out] };
  }

  /** Lets pending units have their elements while there is room; the others fail. Returns the elements that aren't written. */
  #leastFirst(map: SizedMap, asked: readonly Element[], room: number, pending: Pending): Set<Element> {
    const { units, sizes } = this.#parts;
    const left = new Set(asked);
    const needs = [...pending].map(([unit, { form }]) => {
      const traits = new Set(form.traits);
      return {
        unit,
        elements: asked.filter((element) => [...element.wanted().traits].some((each) => traits.has(each))),
      };
    });
    for (const { unit, elements } of needs.sort((one, other) => one.elements.length - other.elements.length)) {
      const missing = elements.filter((element) => left.has(element));
      if (missing.length === 0) continue;
      if (missing.length > room) units.fail(unit, pending, new ClassifierFull(map, sizes, elements.length));
      else {
        room -= missing.length;
        for (const element of missing) left.delete(element);
      }
    }
    return left;
  }

  #shareOf(map: SizedMap): number {
    return shareOf(this.#parts.sizes[map].entries);
  }

  /** What could not be written is in sets, and who asks for these would get wrong answers. */
  #failUsers(element: Element, pending: Pending): void {
    const { units, sizes } = this.#parts;
    const error = new ClassifierFull(element.map ?? 'tortie_ports', sizes);
    const { traits } = element.wanted();
    for (const unit of units.users.of(traits)) units.fail(unit, pending, error);
    for (const [unit, { form }] of pending) {
      if (form.traits.some((trait) => traits.has(trait))) units.fail(unit, pending, error);
    }
  }

  /** Where classes get scarce, those come first that units in force ask for. */
  #inOrder(groups: readonly MoveGroup[]): readonly MoveGroup[] {
    const { membership, units } = this.#parts;
    if (groups.length < membership.serviceSpace.classes.free) return groups;
    const isInForce = ({ to }: MoveGroup) => (units.users.of(to.traits).size > 0 ? 0 : 1);
    return [...groups].sort((one, other) => isInForce(one) - isInForce(other));
  }

  #addNoticing(groups: readonly MoveGroup[], pending: Pending): void {
    const counts = new Map<Unit, number>();
    for (const group of groups) {
      for (const [unit, count] of group.affected) counts.set(unit, (counts.get(unit) ?? 0) + count);
    }
    for (const [unit, count] of counts) if (count > 1) this.#parts.units.renew(unit, pending);
  }

  /**
   * The class that the group goes to. For units that are made anew, and that tell the two signatures apart, what is in force must go on
   * to say the old: then it is a class of its own for the while.
   */
  #findTarget(group: MoveGroup, pending: Pending): void {
    const { units } = this.#parts;
    const { space, from, to, isNamed, affected, elements } = group;
    const kept = new Set([...affected.keys()].filter((unit) => pending.has(unit)));
    group.target = kept.size === 0 ? space.classes.primary(to, isNamed) : undefined;
    if (group.target !== undefined) return group.target.users.acquire();
    const entry = space.classes.create(to, isNamed);
    if (entry === undefined) {
      for (const element of elements) this.#failUsers(element, pending);
      return undefined;
    }
    group.target = entry;
    entry.users.acquire();
    if (kept.size === 0) space.classes.promote(entry);
    else this.#transitions.push({ space, entry, elements });
    return units.addClass(space, entry, kept, from, pending);
  }

  #moveOne(element: Element, target: ClassEntry): void {
    const before = element.written;
    if (element.isLeaving) {
      // A class that stands in for the old one is there for lookups that must not see the change yet.
      if (this.#parts.membership.spaceOf(element).classes.isPrimary(target) && this.#removeIfPossible(element)) return;
      this.#leaving.add(element);
      // It says what is around it, which goes there too: there may be no room for an entry of its own.
      if (before === undefined) return;
    } else this.#leaving.delete(element);
    target.users.acquire();
    this.#push(element.write(target), element);
    if (before === undefined) this.#countEntry(element, 1);
    else before.users.release();
  }

  #removeIfPossible(element: Element): boolean {
    const { written } = element;
    const isFinal = (entry: ClassEntry) =>
      this.#parts.membership.spaceOf(element).classes.isPrimary(entry) && !this.#stale.has(entry);
    if (!element.canGo(isFinal)) {
      if (!element.isLeaving) this.#leaving.delete(element);
      return false;
    }
    const write = element.remove();
    this.#leaving.delete(element);
    if (write !== undefined) this.#push(write, element);
    if (written !== undefined) {
      this.#countEntry(element, -1);
      written.users.release();
    }
    return true;
  }

  /**
   * A lookup that reads a record which was replaced must not meet what moves now: that record gets no rows for new classes, and those of
   * classes that are no more may be other classes' by now.
   */
  #push(write: MapWrite, owner: Element): void {
    const { queue, records } = this.#parts;
    if (records.isReadAfterEnd) {
      queue.pushGrace();
      records.onGrace(records.retired);
    }
    queue.push(write, { owner });
  }

  #countEntry({ map }: Element, by: 1 | -1): void {
    if (map !== undefined) this.#entries.set(map, (this.#entries.get(map) ?? 0) + by);
  }
}
