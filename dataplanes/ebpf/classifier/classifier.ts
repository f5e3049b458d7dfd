import type { CidrText, DataplaneUpdate } from '../../messages.ts';
import { classifierConstants } from '../bpf-types.gen.ts';
import type { ClassEntry } from './class-space.ts';
import type { ClassifierMaps } from './classifier-maps.ts';
import type { Element } from './element.ts';
import { flatRules } from './flat-rules.ts';
import { ClassifierFull } from './full-error.ts';
import { Membership, type Space } from './membership.ts';
import { countOf, groupMoves, type MoveGroup, TraitUsers } from './moves.ts';
import { type CompiledUnit, Records, type UnitRows } from './records.ts';
import { Retirement } from './retirement.ts';
import { RowStore } from './row-store.ts';
import { canMatch } from './rule-conditions.ts';
import { UnknownSet } from './sets.ts';
import { unitForm } from './unit-form.ts';
import type { UnitLists } from './unit-lists.ts';
import { type Unit, Units } from './units.ts';
import { WriteQueue } from './write-queue.ts';

/** The messages that policy consists of. */
export type ClassifierUpdate = Extract<
  DataplaneUpdate,
  {
    type:
      | 'ipSetUpdate'
      | 'ipSetDelta'
      | 'ipSetRemove'
      | 'policyUpdate'
      | 'policyRemove'
      | 'profileUpdate'
      | 'profileRemove';
  }
>;

/** How full everything is. */
export interface ClassifierFigures {
  readonly units: number;
  readonly failedUnits: number;
  readonly sets: number;
  readonly traits: number;
  readonly addresses: number;
  readonly namedPorts: number;
  readonly portRuns: number;
  readonly addressClasses: number;
  readonly serviceClasses: number;
  readonly records: number;
  readonly rows: number;
  readonly rowEntries: number;
  readonly chunks: number;
  readonly ruleWords: number;
  /** Since the start. */
  readonly writes: number;
}

/** Second classes of a signature, and who went there. */
interface Transition {
  readonly space: Space;
  readonly entry: ClassEntry;
  readonly elements: readonly Element[];
}

/**
 * Keeps the classifier's maps as the announced policy says (docs/design/ebpf-policy.md). Messages and units are taken in at once; `flush`
 * brings them into force, so that each unit changes at one moment; `settle` waits for lookups that still follow what was before, and frees it.
 */
export class Classifier {
  readonly #maps: ClassifierMaps;
  readonly #queue: WriteQueue;
  readonly #retirement = new Retirement();
  readonly #rows: RowStore;
  readonly #records: Records;
  readonly #membership: Membership;
  readonly #units: Units;
  readonly #users = new TraitUsers();
  /** Entries in each map. */
  readonly #entries = new Map<string, number>();
  #transitions: Transition[] = [];
  readonly #stale = new Set<ClassEntry>();
  readonly #leaving = new Set<Element>();
  #settling: Promise<void> | undefined;

  constructor(maps: ClassifierMaps) {
    const { sizes } = maps;
    this.#maps = maps;
    this.#queue = new WriteQueue(maps);
    this.#rows = new RowStore(sizes, this.#queue, this.#retirement);
    this.#records = new Records(sizes, this.#queue, this.#retirement, this.#rows);
    this.#membership = new Membership(sizes, this.#retirement, (space, entry) => this.#onClassFree(space, entry));
    this.#units = new Units(sizes.tortie_units.entries);
  }

  /** Takes in what was announced. It has no effect before the next flush. */
  onUpdate(message: ClassifierUpdate): void {
    switch (message.type) {
      case 'ipSetUpdate':
      case 'ipSetDelta':
      case 'ipSetRemove':
        return this.#membership.sets.onUpdate(message);
      default:
        return this.#units.onUpdate(message);
    }
  }

  /** The unit of these lists, with one user more. It denies everything until the next flush has made it. */
  acquire(lists: UnitLists): Unit {
    const unit = this.#units.acquire(lists);
    if (unit.number === 0) {
      this.#units.setFailure(unit, new ClassifierFull('tortie_units', this.#maps.sizes).message);
    }
    return unit;
  }

  /** One user less. What the kernel looks up must not name the unit any more by the next flush, if this was the last. */
  release(unit: Unit): void {
    this.#units.release(unit);
  }

  /** Packets to this address or network go by this next hop; 0: by none of their own. In force with the next flush. */
  setHop(net: CidrText, hop: number): void {
    this.#membership.addresses.setHop(net, hop);
  }

  /** Brings everything into force. Throws what the maps say; the next call goes on where this one failed. */
  async flush(): Promise<void> {
    this.#plan(true);
    await this.#queue.drain();
  }

  /** Waits for lookups that may follow what was, frees it, and tidies up: as long as there is something. Calls don't overlap. */
  async settle(): Promise<void> {
    while (this.#settling !== undefined) await this.#settling.catch(() => undefined);
    this.#settling = this.#settleAll();
    try {
      await this.#settling;
    } finally {
      this.#settling = undefined;
    }
  }

  /** Units that deny everything because they could not be made; each says why in `failure`. */
  get failed(): readonly Unit[] {
    return this.#units.failed;
  }

  get figures(): ClassifierFigures {
    const { addresses, named, ports, sets, traits, addressSpace, serviceSpace } = this.#membership;
    const { records, rows, words } = this.#records.used;
    return {
      units: this.#units.size,
      failedUnits: this.#units.failed.length,
      sets: sets.size,
      traits: traits.size,
      addresses: addresses.size,
      namedPorts: named.size,
      portRuns: ports.size,
      addressClasses: addressSpace.classes.size,
      serviceClasses: serviceSpace.classes.size,
      records,
      rows,
      rowEntries: this.#rows.entriesUsed,
      chunks: this.#rows.chunksUsed,
      ruleWords: words,
      writes: this.#queue.made,
    };
  }

  async #settleAll(): Promise<void> {
    await this.#tidy();
    if (this.#units.failed.length === 0) return;
    // What was freed may be what they lacked.
    this.#plan(true);
    await this.#tidy();
  }

  async #tidy(): Promise<void> {
    const { traits, ports } = this.#membership;
    let left = -1;
    for (;;) {
      // A flush may come between; what it retired counts from when its writes are made.
      do await this.#queue.drain();
      while (!this.#queue.isEmpty);
      const [done, transitions] = [this.#retirement.take(), this.#transitions];
      this.#transitions = [];
      // What leaves may have to wait for room around it, and then nothing but the next flush helps.
      const isStuck = this.#leaving.size === left;
      if (done.length + transitions.length === 0 && !traits.hasUnused && (isStuck || this.#leaving.size === 0)) return;
      left = this.#leaving.size;
      if (done.length + transitions.length > 0) {
        try {
          await this.#maps.grace();
        } catch (error) {
          // Not over: nothing may be freed yet.
          for (const free of done) this.#retirement.add(free);
          this.#transitions.push(...transitions);
          throw error;
        }
      }
      for (const free of done) free();
      for (const transition of transitions) this.#endTransition(transition);
      traits.endUnused();
      this.#plan(false);
      for (const element of this.#leaving) this.#removeIfPossible(element);
      ports.join();
    }
  }

  /** Everything that has changed, as writes in the order of the note. */
  #plan(withFailed: boolean): void {
    const compiled = new Map<Unit, CompiledUnit>();
    for (const unit of this.#units.takeDirty(withFailed)) {
      if (unit.number === 0) continue;
      try {
        compiled.set(unit, this.#compile(unit.lists));
      } catch (error) {
        this.#fail(unit, compiled, error);
      }
    }
    this.#move(compiled);
    for (const [unit, form] of compiled) {
      try {
        this.#publish(unit, this.#makeRows(form));
      } catch (error) {
        this.#fail(unit, compiled, error);
      }
    }
    for (const unit of this.#units.takeUnused()) {
      this.#unpublish(unit);
      this.#retirement.add(() => this.#units.giveBack(unit));
    }
  }

  #compile(lists: UnitLists): CompiledUnit {
    const { family } = lists;
    const rules = flatRules(lists, this.#units, (rule) => canMatch(rule, family));
    if (rules.chunks > classifierConstants.unitChunks) {
      throw new UnitTooLarge(
        `it takes ${rules.chunks} chunks of 512 rules, and ${classifierConstants.unitChunks} is what a lookup follows`,
      );
    }
    const acquired: number[] = [];
    const free = () => {
      for (const trait of acquired) this.#membership.traits.release(trait);
    };
    try {
      const form = unitForm(rules, family, (name) => {
        const trait = this.#membership.acquire(name);
        acquired.push(trait);
        return trait;
      });
      return this.#records.compile(form, free);
    } catch (error) {
      free();
      throw error;
    }
  }

  /** Gives everything its new class. Units that would notice more than one write of it go into `compiled`, to change at one moment. */
  #move(compiled: Map<Unit, CompiledUnit>): void {
    const membership = this.#membership;
    const isStale = (entry: ClassEntry) => this.#stale.has(entry);
    const { elements, refused } = this.#withRoom(membership.takeDirty());
    const groups = groupMoves(elements, membership, this.#users, isStale);
    for (const element of refused) this.#failUsers(element, compiled);
    this.#addNoticing(groups, compiled);
    for (const group of groups) this.#findTarget(group, compiled);
    const targets = new Map(groups.flatMap((group) => group.elements.map((element) => [element, group] as const)));
    for (const element of elements) {
      const group = targets.get(element);
      const { written } = element;
      if (group === undefined) {
        if (element.isLeaving && !this.#removeIfPossible(element)) this.#leaving.add(element);
      } else if (group.target === undefined) refused.push(element);
      else {
        const stays = group.from.key === group.to.key && written !== undefined && !isStale(written);
        this.#moveOne(element, stays ? written : group.target);
      }
    }
    // Until here the group itself was one that needs the class.
    for (const { target } of groups) target?.users.release();
    this.#stale.clear();
    for (const element of refused) membership.mark(element);
  }

  /** Those that are written already or that there is room for. */
  #withRoom(dirty: readonly Element[]): { readonly elements: Element[]; readonly refused: Element[] } {
    const room = new Map<string, number>();
    const elements: Element[] = [];
    const refused: Element[] = [];
    for (const element of dirty) {
      const { map } = element;
      if (map !== undefined && element.written === undefined && !element.isLeaving) {
        const left = room.get(map) ?? this.#maps.sizes[map].entries - (this.#entries.get(map) ?? 0);
        if (left === 0) {
          refused.push(element);
          continue;
        }
        room.set(map, left - 1);
      }
      elements.push(element);
    }
    return { elements, refused };
  }

  /** What could not be written is in sets, and who asks for these would get wrong answers. */
  #failUsers(element: Element, compiled: Map<Unit, CompiledUnit>): void {
    const { map } = element;
    const error = new ClassifierFull(map ?? 'tortie_ports', this.#maps.sizes);
    const traits = element.wanted().traits;
    for (const unit of this.#users.of(traits)) this.#fail(unit, compiled, error);
    for (const [unit, { form }] of compiled) {
      if (form.traits.some((trait) => traits.has(trait))) this.#fail(unit, compiled, error);
    }
  }

  #addNoticing(groups: readonly MoveGroup[], compiled: Map<Unit, CompiledUnit>): void {
    const counts = new Map<Unit, number>();
    for (const group of groups) {
      for (const unit of group.affected) {
        counts.set(unit, (counts.get(unit) ?? 0) + countOf(group, unit.lists.family));
      }
    }
    for (const [unit, count] of counts) {
      if (count < 2 || compiled.has(unit) || unit.published === undefined) continue;
      unit.published.compiled.users.acquire();
      compiled.set(unit, unit.published.compiled);
    }
  }

  /**
   * The class that the group goes to. For units that are made anew, and that tell the two signatures apart, what is in force must go on
   * to say the old: then it is a class of its own for the while.
   */
  #findTarget(group: MoveGroup, compiled: Map<Unit, CompiledUnit>): void {
    const { space, from, to, isNamed, affected, elements } = group;
    const kept = new Set(affected.filter((unit) => compiled.has(unit)));
    group.target = kept.size === 0 ? space.classes.primary(to, isNamed) : undefined;
    if (group.target !== undefined) return group.target.users.acquire();
    const entry = space.classes.create(to, isNamed);
    if (entry === undefined) {
      for (const element of elements) this.#failUsers(element, compiled);
      return undefined;
    }
    group.target = entry;
    entry.users.acquire();
    if (kept.size === 0) space.classes.promote(entry);
    else this.#transitions.push({ space, entry, elements });
    for (const unit of new Set([...this.#users.of(to.traits), ...kept])) {
      const { published } = unit;
      if (published === undefined) continue;
      try {
        this.#addRows(published, space, entry, kept.has(unit) ? from : to);
      } catch (error) {
        this.#fail(unit, compiled, error);
      }
    }
    return undefined;
  }

  /** The class's rows in a unit, where they differ from the default. */
  #addRows(rows: UnitRows, space: Space, entry: ClassEntry, as = entry.signature): void {
    const { form } = rows.compiled;
    for (const dimension of space.dimensions) {
      if (entry.isNamed && !form.isNamed(dimension)) continue;
      this.#records.addRow(rows, dimension, entry.id, as);
    }
  }

  #makeRows(compiled: CompiledUnit): UnitRows {
    const rows = this.#records.open(compiled);
    const { addressSpace, serviceSpace } = this.#membership;
    try {
      for (const space of [addressSpace, serviceSpace]) {
        const classes = new Set<ClassEntry>();
        for (const dimension of space.dimensions) {
          for (const trait of compiled.form.dimensions[dimension]?.traits ?? []) {
            for (const entry of space.classes.withTrait(trait)) classes.add(entry);
          }
        }
        for (const entry of classes) this.#addRows(rows, space, entry);
      }
      return rows;
    } catch (error) {
      this.#records.retire(rows);
      throw error;
    }
  }

  /** The unit's number points to these rows from now on. The user of the compiled unit that got us here has done its work. */
  #publish(unit: Unit, rows: UnitRows): void {
    const before = unit.published;
    this.#queue.push({ map: 'units', index: unit.number, record: rows.number });
    unit.published = rows;
    this.#users.add(unit, rows.compiled.form);
    if (before !== undefined) {
      if (before.compiled !== rows.compiled) {
        this.#users.remove(unit, before.compiled.form);
        this.#users.add(unit, rows.compiled.form);
      }
      this.#records.retire(before);
    }
    rows.compiled.users.release();
    this.#units.setFailure(unit, undefined);
  }

  /** The unit denies everything from now on. */
  #unpublish(unit: Unit): void {
    const { published } = unit;
    if (published === undefined) return;
    unit.published = undefined;
    this.#queue.push({ map: 'units', index: unit.number, record: 0 });
    this.#users.remove(unit, published.compiled.form);
    this.#records.retire(published);
  }

  #fail(unit: Unit, compiled: Map<Unit, CompiledUnit>, error: unknown): void {
    if (!(error instanceof ClassifierFull || error instanceof UnknownSet || error instanceof UnitTooLarge)) throw error;
    compiled.get(unit)?.users.release();
    compiled.delete(unit);
    this.#unpublish(unit);
    this.#units.setFailure(unit, error instanceof ClassifierFull ? `unit too large: ${error.message}` : error.message);
  }

  #moveOne(element: Element, target: ClassEntry): void {
    const before = element.written;
    if (element.isLeaving) {
      // A class that stands in for the old one is there for lookups that must not see the change yet.
      if (this.#membership.spaceOf(element).classes.isPrimary(target) && this.#removeIfPossible(element)) return;
      this.#leaving.add(element);
    } else this.#leaving.delete(element);
    target.users.acquire();
    this.#queue.push(element.write(target));
    if (before === undefined) this.#countEntry(element, 1);
    else before.users.release();
  }

  #removeIfPossible(element: Element): boolean {
    const { written } = element;
    const isFinal = (entry: ClassEntry) =>
      this.#membership.spaceOf(element).classes.isPrimary(entry) && !this.#stale.has(entry);
    if (!element.canGo(isFinal)) {
      if (!element.isLeaving) this.#leaving.delete(element);
      return false;
    }
    const write = element.remove();
    this.#leaving.delete(element);
    if (write !== undefined) this.#queue.push(write);
    if (written !== undefined) {
      this.#countEntry(element, -1);
      written.users.release();
    }
    return true;
  }

  #countEntry({ map }: Element, by: 1 | -1): void {
    if (map !== undefined) this.#entries.set(map, (this.#entries.get(map) ?? 0) + by);
  }

  /** Nothing follows the records that needed the second class: it becomes the first, or who is there goes to that. */
  #endTransition({ space, entry, elements }: Transition): void {
    // Everybody has left it by other ways, and its number may be free already.
    if (entry.users.users === 0) return;
    space.classes.promote(entry);
    if (space.classes.isPrimary(entry)) return;
    this.#stale.add(entry);
    for (const element of elements) if (element.written === entry) this.#membership.mark(element);
  }

  #onClassFree(space: Space, entry: ClassEntry): void {
    for (const unit of this.#users.of(entry.signature.traits)) {
      const { published } = unit;
      if (published === undefined) continue;
      for (const dimension of space.dimensions) this.#records.removeRow(published, dimension, entry.id);
    }
  }
}

/** More rules than a lookup follows. */
class UnitTooLarge extends Error {
  override readonly name = 'UnitTooLarge';
  readonly code = 'UNIT_TOO_LARGE';
}
