import { dimensionCount } from '../bpf-types.gen.ts';
import { Claim, shareOf } from './claim.ts';
import type { ClassEntry } from './class-space.ts';
import type { MapSizes } from './classifier-maps.ts';
import type { CompiledUnit, CompiledUnits } from './compiled-units.ts';
import type { Answers } from './condition-index.ts';
import { ClassifierFull } from './full-error.ts';
import { IdPool } from './id-pool.ts';
import type { Space } from './membership.ts';
import { each, type Pieces } from './pieces.ts';
import type { Retirement } from './retirement.ts';
import { type Row, type RowStore, type Window, windowOf, wordsIn } from './row-store.ts';
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
  readonly defaultBits: Uint32Array;
  /** Rows that others are told by, by the frequent traits (`Answers.base`); the record is a user of each. */
  readonly bases: Map<string, Row>;
  /** True if the default row isn't that of a class without traits. */
  readonly isInverted: boolean;
  /** By class: those that have a key. */
  readonly rows: Map<number, Row>;
  /** By the frequent traits (`Answers.base`): true if these alone say what the default row says. */
  readonly isDefault: Map<string, boolean>;
  /** By what they say: thousands of classes have few rows. One that has no user may be gone; undefined: it is the default row. */
  readonly known: Map<number | string, Row | undefined>;
}

/** Chunks that a row may have of its own before another way to say it is looked for. */
const BRIEF_CHUNKS = 2;
const NO_CHUNKS: Window = { first: 0, length: 0 };
/** Classes that are looked at between two yields. */
const PIECE = 32;
/** Keys below which nobody asks whether another default row would save some. */
const FEW_KEYS = 32;

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
  *make(compiled: CompiledUnit, spaces: readonly Space[]): Pieces<UnitRows> {
    const claim = new Claim(true);
    try {
      return yield* this.#make(compiled, spaces, claim);
    } catch (error) {
      claim.giveUp();
      throw error;
    }
  }

  /** A new class's row in a record in force, where it isn't the default one. Throws `ClassifierFull`. */
  addRow(record: UnitRows, dimension: number, classId: number, signature: Signature): void {
    const rows = record.dimensions[dimension];
    if (rows === undefined) return;
    const claim = new Claim(false);
    try {
      const row = this.#rowOf(rows, rows.form.answers(signature), claim);
      if (row === undefined) return;
      if (this.#keys >= this.#sizes.tortie_rows.entries) throw new ClassifierFull('tortie_rows', this.#sizes);
      this.#setRow(record, dimension, classId, row, claim);
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
        if (rows !== undefined) this.#removeAll(record, dimension, rows);
        rows?.defaultRow.users.release();
        for (const { users } of rows?.bases.values() ?? []) users.release();
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

  *#make(compiled: CompiledUnit, spaces: readonly Space[], claim: Claim): Pieces<UnitRows> {
    const { form, firstRule } = compiled;
    const number = this.#numbers.take();
    if (number === undefined) throw new ClassifierFull('tortie_records', this.#sizes);
    claim.took(() => this.#numbers.give(number));
    const layouts: (Layout | undefined)[] = [];
    for (const [dimension, ofDimension] of form.dimensions.entries()) {
      const space = spaces.find(({ dimensions }) => dimensions.includes(dimension));
      layouts.push(
        ofDimension === undefined || space === undefined
          ? undefined
          : yield* layoutOf(ofDimension, space, form.isNamed(dimension)),
      );
    }
    const need = layouts.reduce((sum, layout) => sum + (layout?.classes.length ?? 0), 0);
    if (need > this.#freeKeys) throw new ClassifierFull('tortie_rows', this.#sizes, need);
    const dimensions = layouts.map((layout): DimensionRows | undefined => {
      if (layout === undefined) return undefined;
      const { form: ofDimension, defaultBits, isInverted } = layout;
      const defaultRow = this.#store.acquireDefault(defaultBits, claim);
      return {
        form: ofDimension,
        defaultRow,
        defaultBits,
        isInverted,
        bases: new Map(),
        isDefault: new Map(),
        rows: new Map(),
        known: new Map(),
      };
    });
    const record: UnitRows = { number, compiled, dimensions };
    this.#compiled.use(compiled, claim);
    const defaultRow = Array.from({ length: dimensionCount }, (_, index) => dimensions[index]?.defaultRow.index ?? 0);
    const { chunks, mask } = form;
    const queued = this.#queue.push({ map: 'records', index: number, record: { chunks, firstRule, mask, defaultRow } });
    claim.took(() => this.#queue.cancel(queued));
    for (const [dimension, layout] of layouts.entries()) {
      const rows = dimensions[dimension];
      if (layout === undefined || rows === undefined) continue;
      yield* this.#setAll(record, dimension, rows, layout, claim);
    }
    compiled.isSeen = true;
    return record;
  }

  /** Keys of all classes that the layout names. */
  *#setAll(record: UnitRows, dimension: number, rows: DimensionRows, layout: Layout, claim: Claim): Pieces<void> {
    const { rows: ofClass } = rows;
    claim.took(() => {
      this.#keys -= ofClass.size;
      for (const { users } of ofClass.values()) users.undoAcquire();
      ofClass.clear();
    });
    const classes: number[] = [];
    const indexes: number[] = [];
    for (const [place, id] of layout.classes.entries()) {
      if (place % PIECE === 0) yield;
      const answers = layout.answers[place];
      const row = answers === undefined ? undefined : this.#rowOf(rows, answers, claim);
      if (row === undefined) continue;
      row.users.acquire();
      ofClass.set(id, row);
      this.#keys++;
      classes.push(id);
      indexes.push(row.index);
    }
    const queued = this.#queue.pushKeys({ record: record.number, dimension, classes, rows: indexes });
    claim.took(() => this.#queue.cancel(queued));
  }

  /** Deletes the keys of a record that nobody reads. */
  #removeAll({ number }: UnitRows, dimension: number, { rows }: DimensionRows): void {
    this.#queue.pushKeys({ record: number, dimension, classes: [...rows.keys()], rows: undefined });
    this.#keys -= rows.size;
    for (const { users } of rows.values()) users.release();
    rows.clear();
  }

  /** The row; undefined: it is the default one. It has no user more, but for what `claim` gives back. */
  #rowOf(rows: DimensionRows, answers: Answers, claim: Claim): Row | undefined {
    const { known } = rows;
    const { key } = answers;
    let row = known.get(key);
    if (row === undefined && known.has(key)) return undefined;
    if (row !== undefined && row.users.users > 0) return row;
    row = this.#findRow(rows, answers, claim);
    known.set(key, row);
    return row;
  }

  #findRow(rows: DimensionRows, answers: Answers, claim: Claim): Row | undefined {
    const { form, defaultBits } = rows;
    if (this.#isDefaultBase(rows, answers)) {
      const window = form.windowOf(answers);
      return window === undefined
        ? undefined
        : this.#store.row(form.wordsForNow(answers, window), window, undefined, claim);
    }
    const bits = form.bitsForNow(answers);
    const window = windowOf(bits, defaultBits);
    if (window === undefined) return undefined;
    const [own, other] = this.#briefest(rows, answers, window, claim);
    return this.#store.row(wordsIn(bits, own), own, other, claim);
  }

  /** True if the frequent traits alone say what the default row says: then a row differs from that where the others say something else. */
  #isDefaultBase({ form, defaultBits, isDefault }: DimensionRows, { answers, base }: Answers): boolean {
    let known = isDefault.get(base);
    if (known === undefined) {
      known = windowOf(form.bits({ answers, changed: [] }), defaultBits) === undefined;
      isDefault.set(base, known);
    }
    return known;
  }

  /** As difference from the default row, or from what the frequent traits alone say if that is less. */
  #briefest(
    { bases, defaultBits, form }: DimensionRows,
    said: Answers,
    window: Window,
    claim: Claim,
  ): [window: Window, other: Row | undefined] {
    const { answers, base } = said;
    if (base === '' || window.length <= BRIEF_CHUNKS) return [window, undefined];
    let row = bases.get(base);
    if (row === undefined) {
      const ofBase = form.bits({ answers, changed: [] });
      row = windowOf(ofBase, defaultBits) === undefined ? undefined : this.#store.acquireDefault(ofBase, claim);
      if (row === undefined) return [window, undefined];
      bases.set(base, row);
      claim.took(() => bases.delete(base));
    }
    const fromBase = form.windowOf(said);
    return fromBase !== undefined && fromBase.length >= window.length
      ? [window, undefined]
      : [fromBase ?? NO_CHUNKS, row];
  }

  #setRow(record: UnitRows, dimension: number, classId: number, row: Row, claim: Claim): void {
    const rows = record.dimensions[dimension]?.rows;
    row.users.acquire();
    rows?.set(classId, row);
    this.#keys++;
    const queued = this.#queue.push({ map: 'rows', record: record.number, dimension, class: classId, row: row.index });
    claim.took(() => {
      row.users.undoAcquire();
      rows?.delete(classId);
      this.#keys--;
      this.#queue.cancel(queued);
    });
  }
}

/** Which row is the default one, and which classes need a key for another. */
interface Layout {
  readonly form: DimensionForm;
  readonly defaultBits: Uint32Array;
  readonly isInverted: boolean;
  readonly classes: readonly number[];
  /** What the rules say of them, by place. */
  readonly answers: readonly Answers[];
}

/** The commonest row becomes the default: where a rule names a set of everybody, the few that aren't in it have keys. */
function* layoutOf(form: DimensionForm, { classes, mayInvert }: Space, isNamed: boolean): Pieces<Layout> {
  const ids: number[] = [];
  const said: Answers[] = [];
  /** How many classes the rules say the same of, by what that is. */
  const counts = new Map<number | string, number>();
  // A class with several traits is met several times.
  const met = new Set<ClassEntry>();
  let looked = 0;
  for (const trait of form.traits) {
    if (++looked % PIECE === 0) yield;
    for (const entry of classes.withTrait(trait)) {
      if (++looked % PIECE === 0) yield;
      if (met.has(entry) || (entry.isNamed && !isNamed)) continue;
      if (entry.signature.traits.size > 1) met.add(entry);
      const answers = form.answers(entry.signature);
      ids.push(entry.id);
      said.push(answers);
      if (mayInvert) counts.set(answers.key, (counts.get(answers.key) ?? 0) + 1);
    }
  }
  const onNothing = form.answers(classes.zero.signature);
  let best: Answers = onNothing;
  let most = (counts.get(onNothing.key) ?? 0) + classes.all.size - ids.length;
  if (mayInvert) {
    for (const answers of said) {
      const count = counts.get(answers.key) ?? 0;
      if (answers.key !== onNothing.key && count > most) [best, most] = [answers, count];
    }
  }
  const isInverted = best.key !== onNothing.key;
  // With the row of nothing as default, nobody has a key whom no rule names.
  if (isInverted) {
    yield* each(classes.all, ({ id, signature }) => {
      if (form.names(signature)) return;
      ids.push(id);
      said.push(onNothing);
    });
  }
  const { key } = best;
  const isOther = (place: number): boolean => said[place]?.key !== key;
  return {
    form,
    defaultBits: form.bits(best),
    isInverted,
    classes: ids.filter((_, place) => isOther(place)),
    answers: said.filter((answers) => answers.key !== key),
  };
}
