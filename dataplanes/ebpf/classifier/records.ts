import { dimensionCount } from '../bpf-types.gen.ts';
import { Claim, shareOf } from './claim.ts';
import type { ClassEntry } from './class-space.ts';
import type { MapSizes } from './classifier-maps.ts';
import type { CompiledUnit, CompiledUnits } from './compiled-units.ts';
import { ClassifierFull } from './full-error.ts';
import { IdPool } from './id-pool.ts';
import type { Space } from './membership.ts';
import type { Retirement } from './retirement.ts';
import type { Row, RowStore } from './row-store.ts';
import type { Signature } from './signature.ts';
import type { DimensionForm } from './unit-form.ts';
import type { WriteQueue } from './write-queue.ts';

/** A unit's rules with rows for every class. What a unit's number points to is never changed but for rows of new classes. */
export interface UnitRows {
  readonly number: number;
  readonly compiled: CompiledUnit;
  /** By dimension; undefined where no rule asks anything. */
  readonly dimensions: readonly (DimensionRows | undefined)[];
}

/** A record's rows in one dimension. */
interface DimensionRows {
  readonly form: DimensionForm;
  readonly defaultRow: Row;
  /** Which row that is. */
  readonly defaultKey: string;
  /** By class: those that have a key. */
  readonly rows: Map<number, Row>;
  /** By what they say: thousands of classes have few rows. One that has no user may be gone. */
  readonly known: Map<string, Row>;
}

/** Keys below which nobody asks whether another default row would save some. */
const FEW_KEYS = 32;
const keyOf = (groups: readonly number[]): string => groups.join(',');

/** Records and their rows' keys. */
export class Records {
  readonly #sizes: MapSizes;
  readonly #queue: WriteQueue;
  readonly #retirement: Retirement;
  readonly #store: RowStore;
  readonly #compiled: CompiledUnits;
  readonly #numbers: IdPool;
  #keys = 0;
  /** Records that have got many keys since they were made. */
  readonly #grown = new Set<UnitRows>();
  /** Since the start: records that nothing points to any more, and how many of them nobody can be reading. */
  #retired = 0;
  #unread = 0;

  constructor(sizes: MapSizes, queue: WriteQueue, retirement: Retirement, store: RowStore, compiled: CompiledUnits) {
    this.#sizes = sizes;
    this.#queue = queue;
    this.#retirement = retirement;
    this.#store = store;
    this.#compiled = compiled;
    this.#numbers = new IdPool(1, sizes.tortie_records.entries);
  }

  /** A record that nothing points to yet, with rows for all classes. Throws `ClassifierFull`, and then nothing of it is left. */
  make(compiled: CompiledUnit, spaces: readonly Space[]): UnitRows {
    const claim = new Claim(true);
    try {
      return this.#make(compiled, spaces, claim);
    } catch (error) {
      claim.giveUp();
      throw error;
    }
  }

  /** A new class's row in a record in force, where it isn't the default one. Throws `ClassifierFull`. */
  addRow(record: UnitRows, dimension: number, classId: number, signature: Signature): void {
    const rows = record.dimensions[dimension];
    if (rows === undefined) return;
    const groups = rows.form.otherGroups(signature);
    if (keyOf(groups) === rows.defaultKey) return;
    if (this.#keys >= this.#sizes.tortie_rows.entries) throw new ClassifierFull('tortie_rows', this.#sizes);
    const claim = new Claim(false);
    try {
      this.#setRow(record, dimension, classId, groups, claim);
    } catch (error) {
      claim.giveUp();
      throw error;
    }
    const { size } = rows.rows;
    if (size >= FEW_KEYS && (size & (size - 1)) === 0) this.#grown.add(record);
  }

  /** Nothing asks for the class any more. */
  removeRow({ number, dimensions }: UnitRows, dimension: number, classId: number): void {
    const rows = dimensions[dimension]?.rows;
    const row = rows?.get(classId);
    if (row === undefined) return;
    rows?.delete(classId);
    this.#keys--;
    this.#queue.push({ map: 'rows', record: number, dimension, class: classId, row: undefined });
    row.users.release();
  }

  /** Nothing points to it any more; a grace period later it is gone. */
  retire(record: UnitRows): void {
    this.#retired++;
    this.#grown.delete(record);
    this.#retirement.add(() => {
      for (const [dimension, rows] of record.dimensions.entries()) {
        for (const classId of [...(rows?.rows.keys() ?? [])]) this.removeRow(record, dimension, classId);
        rows?.defaultRow.users.release();
      }
      this.#compiled.release(record.compiled);
      this.#numbers.give(record.number);
    });
  }

  /** True if a lookup may be reading a record that gets no rows for new classes any more. */
  get isReadAfterEnd(): boolean {
    return this.#unread < this.#retired;
  }

  /** For `onGrace`: which records a grace period that begins now is for. */
  get retired(): number {
    return this.#retired;
  }

  /** A grace period is over (or stands in the queue before what comes) that began when so many were retired. */
  onGrace(retired: number): void {
    this.#unread = Math.max(this.#unread, retired);
  }

  /** Records that have more than four times the keys that they would have with another default row; each is named once as it doubles. */
  takeWasteful(spaces: readonly Space[]): UnitRows[] {
    const wasteful = [...this.#grown].filter(({ dimensions }) =>
      spaces.some(
        (space) =>
          space.mayInvert &&
          space.dimensions.some((dimension) => {
            const rows = dimensions[dimension]?.rows ?? new Map<number, Row>();
            const counts = new Map<Row, number>();
            for (const row of rows.values()) counts.set(row, (counts.get(row) ?? 0) + 1);
            return 4 * (space.classes.all.size - Math.max(...counts.values())) < rows.size;
          }),
      ),
    );
    this.#grown.clear();
    return wasteful;
  }

  get hasGrown(): boolean {
    return this.#grown.size > 0;
  }

  /** What is free for new records. */
  get free(): { readonly tortie_records: number; readonly tortie_rows: number } {
    return { tortie_records: this.#numbers.free, tortie_rows: this.#freeKeys };
  }

  /** Slots in use. */
  get used(): { readonly records: number; readonly rows: number } {
    return { records: this.#numbers.used, rows: this.#keys };
  }

  get #freeKeys(): number {
    const { entries } = this.#sizes.tortie_rows;
    return entries - shareOf(entries) - this.#keys;
  }

  #make(compiled: CompiledUnit, spaces: readonly Space[], claim: Claim): UnitRows {
    const { form, firstRule } = compiled;
    const number = this.#numbers.take();
    if (number === undefined) throw new ClassifierFull('tortie_records', this.#sizes);
    claim.took(() => this.#numbers.give(number));
    const layouts = form.dimensions.map((ofDimension, dimension) => {
      const space = spaces.find(({ dimensions }) => dimensions.includes(dimension));
      return ofDimension === undefined || space === undefined
        ? undefined
        : { ofDimension, ...layoutOf(ofDimension, space, form.isNamed(dimension)) };
    });
    const need = layouts.reduce((sum, layout) => sum + (layout?.keys.size ?? 0), 0);
    if (need > this.#freeKeys) throw new ClassifierFull('tortie_rows', this.#sizes, need);
    const dimensions = layouts.map((layout): DimensionRows | undefined => {
      if (layout === undefined) return undefined;
      const { ofDimension, defaultGroups } = layout;
      const defaultRow = this.#store.acquire(ofDimension.bits(defaultGroups), claim);
      return { form: ofDimension, defaultRow, defaultKey: keyOf(defaultGroups), rows: new Map(), known: new Map() };
    });
    const record: UnitRows = { number, compiled, dimensions };
    this.#compiled.use(compiled, claim);
    const defaultRow = Array.from({ length: dimensionCount }, (_, index) => dimensions[index]?.defaultRow.index ?? 0);
    const { chunks, mask } = form;
    const queued = this.#queue.push({ map: 'records', index: number, record: { chunks, firstRule, mask, defaultRow } });
    claim.took(() => this.#queue.cancel(queued));
    for (const [dimension, layout] of layouts.entries()) {
      for (const [entry, groups] of layout?.keys ?? []) this.#setRow(record, dimension, entry.id, groups, claim);
    }
    compiled.isSeen = true;
    return record;
  }

  #setRow(record: UnitRows, dimension: number, classId: number, groups: readonly number[], claim: Claim): void {
    const ofDimension = record.dimensions[dimension];
    if (ofDimension === undefined) return;
    const { known, rows, form } = ofDimension;
    const key = keyOf(groups);
    let row = known.get(key);
    if (row === undefined || row.users.users === 0) row = this.#store.acquire(form.bits(groups), claim);
    else {
      const { users } = row;
      users.acquire();
      claim.took(() => users.undoAcquire());
    }
    known.set(key, row);
    rows.set(classId, row);
    this.#keys++;
    const queued = this.#queue.push({ map: 'rows', record: record.number, dimension, class: classId, row: row.index });
    claim.took(() => {
      rows.delete(classId);
      this.#keys--;
      this.#queue.cancel(queued);
    });
  }
}

/** Which row is the default one, and which classes need a key for another. */
interface Layout {
  readonly defaultGroups: readonly number[];
  readonly keys: ReadonlyMap<ClassEntry, readonly number[]>;
}

/** The commonest row becomes the default: where a rule names a set of everybody, the few that aren't in it have keys. */
function layoutOf(form: DimensionForm, { classes, mayInvert }: Space, isNamed: boolean): Layout {
  const concerned = new Map<ClassEntry, readonly number[]>();
  const counts = new Map<string, { groups: readonly number[]; count: number }>();
  for (const trait of form.traits) {
    for (const entry of classes.withTrait(trait)) {
      if (concerned.has(entry) || (entry.isNamed && !isNamed)) continue;
      const groups = form.otherGroups(entry.signature);
      concerned.set(entry, groups);
      const key = keyOf(groups);
      const known = counts.get(key);
      if (known === undefined) counts.set(key, { groups, count: 1 });
      else known.count++;
    }
  }
  const nothing = (counts.get('')?.count ?? 0) + classes.all.size - concerned.size;
  let best: { readonly groups: readonly number[]; readonly count: number } = { groups: [], count: nothing };
  if (mayInvert) for (const each of counts.values()) if (each.groups.length > 0 && each.count > best.count) best = each;
  const defaultKey = keyOf(best.groups);
  // With the row of nothing as default, nobody has a key whom no rule names.
  if (defaultKey !== '') for (const entry of classes.all) if (!concerned.has(entry)) concerned.set(entry, []);
  const keys = [...concerned].filter(([, groups]) => keyOf(groups) !== defaultKey);
  return { defaultGroups: best.groups, keys: new Map(keys) };
}
