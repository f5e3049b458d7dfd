import { classifierConstants } from '../bpf-types.gen.ts';
import type { SetId } from '../../policy.ts';
import type { ClassEntry } from './class-space.ts';
import type { MapSizes, SizedMap } from './classifier-maps.ts';
import type { CompiledUnit, CompiledUnits } from './compiled-units.ts';
import { flatRules } from './flat-rules.ts';
import { ClassifierFull } from './full-error.ts';
import type { Membership, Space } from './membership.ts';
import { TraitUsers } from './moves.ts';
import type { Pieces } from './pieces.ts';
import type { Records } from './records.ts';
import { canMatch } from './rule-conditions.ts';
import type { Signature } from './signature.ts';
import { TraitClaim } from './trait-claim.ts';
import { unitForm } from './unit-form.ts';
import type { Unit, Units } from './units.ts';
import type { WriteQueue } from './write-queue.ts';

/** What is made anew in a flush. A unit whose rules are the same and that only needs a new record has its compiled form here again. */
export type Pending = Map<Unit, CompiledUnit>;

/** What an attempt to make a unit has asked for; carries the reason of the failure. */
class CompileFailure extends Error {
  override readonly name = 'CompileFailure';
  readonly sets: ReadonlySet<SetId>;

  constructor(sets: ReadonlySet<SetId>, cause: unknown) {
    super('a unit could not be compiled', { cause });
    this.sets = sets;
  }
}

/** More rules than a lookup follows. */
class UnitTooLarge extends Error {
  override readonly name = 'UnitTooLarge';
  readonly code = 'UNIT_TOO_LARGE';
}

/** What units need to be brought into force. */
export interface UnitParts {
  readonly sizes: MapSizes;
  readonly queue: WriteQueue;
  readonly membership: Membership;
  readonly units: Units;
  readonly compiled: CompiledUnits;
  readonly records: Records;
  /** What is free in a map. */
  readonly room: (map: SizedMap) => number;
}

/** Compiles units and lets their numbers point to records, or to none. */
export class UnitsInForce {
  readonly #parts: UnitParts;
  readonly #byRecord = new Map<number, Unit>();
  /** Those that have a key for everybody whom no rule names: they need one for each such new class. */
  readonly #inverted = new Set<Unit>();
  /** Which units in force have rules that name a trait. */
  readonly users = new TraitUsers();

  constructor(parts: UnitParts) {
    this.#parts = parts;
  }

  /** Compiles the unit, or lets it fail. `mayWait`: where its words may have room once others are freed, it stays as it is until then. */
  *compile(unit: Unit, pending: Pending, mayWait: boolean): Pieces<void> {
    const { units, sizes, compiled } = this.#parts;
    try {
      if (!units.hasNumber(unit)) throw new ClassifierFull('tortie_units', sizes);
      pending.set(unit, yield* this.#compile(unit));
    } catch (error) {
      const { cause } = error as Error;
      const isFull = cause instanceof ClassifierFull && cause.map === 'tortie_rules';
      if (mayWait && isFull && compiled.mayHaveRoom(cause.need)) units.postponed.add(unit);
      else this.fail(unit, pending, error);
    }
  }

  /** It needs a new record of the same rules, if it isn't made anew already. */
  renew(unit: Unit, pending: Pending): void {
    if (pending.has(unit) || unit.published === undefined) return;
    unit.published.compiled.users.acquire();
    pending.set(unit, unit.published.compiled);
  }

  /** The unit's number points to a new record, or to none if that could not be made. */
  *publish(unit: Unit, pending: Pending): Pieces<void> {
    const { membership, records, queue, units } = this.#parts;
    const compiled = pending.get(unit);
    if (compiled === undefined) return;
    try {
      const rows = yield* records.make(compiled, [membership.addressSpace, membership.serviceSpace]);
      const before = unit.published;
      queue.push({ map: 'units', index: unit.number, record: rows.number });
      unit.published = rows;
      this.#byRecord.set(rows.number, unit);
      if (before?.compiled !== compiled) {
        if (before !== undefined) this.users.remove(unit, before.compiled.form);
        this.users.add(unit, compiled.form);
      }
      if (before !== undefined) records.retire(before);
      if (rows.dimensions.some((dimension) => dimension?.isInverted === true)) {
        this.#inverted.add(unit);
      } else this.#inverted.delete(unit);
      // The user that brought it here has done its work.
      compiled.users.release();
      pending.delete(unit);
      units.setFailure(unit, undefined);
    } catch (error) {
      this.fail(unit, pending, error);
    }
  }

  /** The unit denies everything from now on. */
  unpublish(unit: Unit): void {
    const { published } = unit;
    this.#inverted.delete(unit);
    if (published === undefined) return;
    unit.published = undefined;
    this.#parts.queue.push({ map: 'units', index: unit.number, record: 0 });
    this.users.remove(unit, published.compiled.form);
    this.#parts.records.retire(published);
  }

  /** The unit denies everything, for this reason, whatever it is: one unit's trouble is no other's. */
  fail(unit: Unit, pending: Pending, error: unknown): void {
    const { compiled, units, room } = this.#parts;
    const own = pending.get(unit);
    const sets = error instanceof CompileFailure ? error.sets : ((own ?? unit.published?.compiled)?.sets ?? NO_SETS);
    const reason = error instanceof CompileFailure ? error.cause : error;
    if (own !== undefined) compiled.release(own);
    pending.delete(unit);
    this.unpublish(unit);
    const text = reason instanceof Error ? reason.message : String(reason);
    units.setFailure(
      unit,
      reason instanceof ClassifierFull
        ? {
            text: `unit too large: ${text}`,
            full: { map: reason.map, room: room(reason.map), need: reason.need },
            sets,
          }
        : { text, full: undefined, sets },
    );
  }

  /** The unit whose record this is; undefined: nobody's any more. */
  ofRecord(record: number): Unit | undefined {
    const unit = this.#byRecord.get(record);
    return unit?.published?.number === record ? unit : undefined;
  }

  /**
   * Rows of a new class in all records in force. `kept`: units that are made anew, for which the class has to mean `from` until then.
   */
  addClass(space: Space, entry: ClassEntry, kept: ReadonlySet<Unit>, from: Signature, pending: Pending): void {
    for (const unit of this.#whoAsksFor(space, entry, kept)) {
      const { published } = unit;
      if (published === undefined) continue;
      try {
        const { form } = published.compiled;
        for (const dimension of space.dimensions) {
          if (entry.isNamed && !form.isNamed(dimension)) continue;
          this.#parts.records.addRow(published, dimension, entry.id, kept.has(unit) ? from : entry.signature);
        }
      } catch (error) {
        this.fail(unit, pending, error);
      }
    }
  }

  /** Nothing asks for the class any more. */
  removeClass(space: Space, entry: ClassEntry): void {
    for (const { published } of this.#whoAsksFor(space, entry, NOBODY)) {
      if (published === undefined) continue;
      for (const dimension of space.dimensions) this.#parts.records.removeRow(published, dimension, entry.id);
    }
  }

  #whoAsksFor(space: Space, { signature }: ClassEntry, kept: ReadonlySet<Unit>): Set<Unit> {
    return new Set([...this.users.of(signature.traits), ...kept, ...(space.mayInvert ? this.#inverted : [])]);
  }

  *#compile(unit: Unit): Pieces<CompiledUnit> {
    const { units, membership, compiled } = this.#parts;
    const { family } = unit.lists;
    const claim = new TraitClaim(membership);
    try {
      const rules = flatRules(unit.lists, units, (rule) => canMatch(rule, family));
      if (rules.chunks > classifierConstants.unitChunks) {
        throw new UnitTooLarge(
          `it takes ${rules.chunks} chunks of 512 rules, and ${classifierConstants.unitChunks} is what a lookup follows`,
        );
      }
      const form = yield* unitForm(rules, family, claim, unit.published?.compiled.form);
      return compiled.add({ unit, form, sets: claim.sets }, () => claim.release());
    } catch (error) {
      claim.release();
      throw new CompileFailure(claim.sets, error);
    }
  }
}

const NO_SETS: ReadonlySet<SetId> = new Set();
const NOBODY: ReadonlySet<Unit> = new Set();
