import { dimensionCount } from '../bpf-types.gen.ts';
import type { MapSizes } from './classifier-maps.ts';
import { ClassifierFull } from './full-error.ts';
import { IdPool } from './id-pool.ts';
import { RangePool } from './range-pool.ts';
import { type Retirement, Shared } from './retirement.ts';
import type { Row, RowStore } from './row-store.ts';
import type { Signature } from './signature.ts';
import type { UnitForm } from './unit-form.ts';
import type { WriteQueue } from './write-queue.ts';

/** A form whose rule words are stored. Records are its users; the words' counters live as long as it does. */
export interface CompiledUnit {
  readonly form: UnitForm;
  /** Index of the first word. */
  readonly firstRule: number;
  readonly users: Shared;
}

/** A unit's rules with rows for every class. What a unit's number points to is never changed but for rows of new classes. */
export interface UnitRows {
  readonly number: number;
  readonly compiled: CompiledUnit;
  readonly defaults: readonly (Row | undefined)[];
  /** By dimension, by class. */
  readonly rows: readonly Map<number, Row>[];
  /** By dimension, by groups that say something else: thousands of classes have few rows. One that has no user may be gone. */
  readonly known: readonly Map<string, Row>[];
}

/** Records, their rows' keys, and rule words. */
export class Records {
  readonly #sizes: MapSizes;
  readonly #queue: WriteQueue;
  readonly #retirement: Retirement;
  readonly #store: RowStore;
  readonly #numbers: IdPool;
  readonly #words: RangePool;
  #keys = 0;

  constructor(sizes: MapSizes, queue: WriteQueue, retirement: Retirement, store: RowStore) {
    this.#sizes = sizes;
    this.#queue = queue;
    this.#retirement = retirement;
    this.#store = store;
    this.#numbers = new IdPool(1, sizes.tortie_records.entries);
    this.#words = new RangePool(0, sizes.tortie_rules.entries);
  }

  /** Stores a form's words, with one user. `onFree`: no lookup follows it any more. Throws `ClassifierFull`. */
  compile(form: UnitForm, onFree: () => void): CompiledUnit {
    const firstRule = this.#words.take(form.words.length);
    if (firstRule === undefined) throw new ClassifierFull('tortie_rules', this.#sizes);
    this.#queue.push({ map: 'rules', index: firstRule, words: form.words });
    const users = new Shared(this.#retirement, () => {
      this.#words.give(firstRule, form.words.length);
      onFree();
    });
    users.acquire();
    return { form, firstRule, users };
  }

  /** A record that nothing points to yet, and that has default rows only. Throws `ClassifierFull`. */
  open(compiled: CompiledUnit): UnitRows {
    const { form, firstRule } = compiled;
    const number = this.#numbers.take();
    if (number === undefined) throw new ClassifierFull('tortie_records', this.#sizes);
    const defaults: (Row | undefined)[] = [];
    try {
      for (const dimension of form.dimensions) {
        defaults.push(dimension === undefined ? undefined : this.#store.acquire(dimension.defaultBits));
      }
    } catch (error) {
      for (const row of defaults) row?.users.release();
      this.#numbers.give(number);
      throw error;
    }
    compiled.users.acquire();
    const defaultRow = defaults.map((row) => row?.index ?? 0);
    const { chunks, mask } = form;
    this.#queue.push({ map: 'records', index: number, record: { chunks, firstRule, mask, defaultRow } });
    const byDimension = <K>() => Array.from({ length: dimensionCount }, () => new Map<K, Row>());
    return { number, compiled, defaults, rows: byDimension<number>(), known: byDimension<string>() };
  }

  /** The class's row in a dimension, where it isn't the default one. Throws `ClassifierFull`. */
  addRow(record: UnitRows, dimension: number, classId: number, signature: Signature): void {
    const { number, rows, known, compiled } = record;
    const form = compiled.form.dimensions[dimension];
    const groups = form?.otherGroups(signature) ?? [];
    if (form === undefined || groups.length === 0) return;
    if (this.#keys >= this.#sizes.tortie_rows.entries) throw new ClassifierFull('tortie_rows', this.#sizes);
    const key = groups.join(',');
    let row = known[dimension]?.get(key);
    if (row === undefined || row.users.users === 0) {
      row = this.#store.acquire(form.bits(groups));
      known[dimension]?.set(key, row);
    } else row.users.acquire();
    this.#keys++;
    rows[dimension]?.set(classId, row);
    this.#queue.push({ map: 'rows', record: number, dimension, class: classId, row: row.index });
  }

  /** Nothing asks for the class any more. */
  removeRow({ number, rows }: UnitRows, dimension: number, classId: number): void {
    const row = rows[dimension]?.get(classId);
    if (row === undefined) return;
    rows[dimension]?.delete(classId);
    this.#keys--;
    this.#queue.push({ map: 'rows', record: number, dimension, class: classId, row: undefined });
    row.users.release();
  }

  /** Nothing points to it any more; a grace period later it is gone. */
  retire(record: UnitRows): void {
    this.#retirement.add(() => {
      for (const [dimension, rows] of record.rows.entries()) {
        for (const classId of [...rows.keys()]) this.removeRow(record, dimension, classId);
      }
      for (const row of record.defaults) row?.users.release();
      record.compiled.users.release();
      this.#numbers.give(record.number);
    });
  }

  /** Slots in use. */
  get used(): { readonly records: number; readonly rows: number; readonly words: number } {
    return { records: this.#numbers.used, rows: this.#keys, words: this.#words.used };
  }
}
