import { PortTable, portTableCount } from '../bpf-types.gen.ts';
import type { ClassEntry } from './class-space.ts';
import type { MapWrite } from './classifier-maps.ts';
import type { Element } from './element.ts';
import type { Signature, Signatures } from './signature.ts';

const LAST = 65_535;

/** A run of one of the port tables that no rule tells apart. */
export class PortRun implements Element {
  readonly family = undefined;
  readonly map = undefined;
  readonly rank = 0;
  readonly isLeaving = false;
  readonly hasOtherChange = false;
  readonly table: number;
  readonly min: number;
  max: number;
  own: Signature;
  written: ClassEntry;

  constructor(table: number, min: number, max: number, own: Signature, written: ClassEntry) {
    this.table = table;
    this.min = min;
    this.max = max;
    this.own = own;
    this.written = written;
    written.users.acquire();
  }

  now(): Signature {
    return this.written.signature;
  }

  wanted(): Signature {
    return this.own;
  }

  write(to: ClassEntry): MapWrite {
    this.written = to;
    return { map: 'ports', table: this.table, min: this.min, max: this.max, class: to.id };
  }

  canGo(): boolean {
    return false;
  }

  remove(): undefined {
    return undefined;
  }
}

/** The port tables, cut into runs by the ranges that rules name. */
export class Ports {
  readonly #signatures: Signatures;
  /** By their first numbers; each table is covered without gaps. */
  readonly #tables: PortRun[][];
  readonly #dirty = new Set<PortRun>();
  readonly #onChange: (run: PortRun) => void;

  /** `onChange`: the run is cut, or its traits change. */
  constructor(signatures: Signatures, nothing: ClassEntry, onChange: (run: PortRun) => void) {
    this.#signatures = signatures;
    this.#tables = Array.from({ length: portTableCount }, (_, table) => [
      new PortRun(table, 0, LAST, signatures.empty, nothing),
    ]);
    this.#onChange = onChange;
  }

  /** The numbers `min` to `max` of a table get a trait. */
  addTrait(table: number, min: number, max: number, trait: number): void {
    this.#cut(table, min);
    this.#cut(table, max + 1);
    this.#change(table, min, max, (own) => this.#signatures.with(own, trait));
  }

  removeTrait(table: number, min: number, max: number, trait: number): void {
    this.#change(table, min, max, (own) => this.#signatures.without(own, trait));
  }

  /** Joins neighbours that have become the same, written class included. */
  join(): void {
    for (const runs of this.#tables) {
      let kept = 0;
      for (const run of runs) {
        const before = runs[kept - 1];
        if (before !== undefined && before.written === run.written && before.own.key === run.own.key) {
          before.max = run.max;
          this.#dirty.delete(run);
          run.written.users.release();
        } else runs[kept++] = run;
      }
      runs.length = kept;
    }
  }

  at(table: number, number: number): PortRun {
    const runs = this.#tables[table] ?? [];
    const run = runs[this.#indexOf(runs, number)];
    if (run === undefined) throw new RangeError(`port table ${table} has no number ${number}`);
    return run;
  }

  takeDirty(): PortRun[] {
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    return dirty;
  }

  mark(run: PortRun): void {
    this.#dirty.add(run);
  }

  /** How many runs there are; at least one a table. */
  get size(): number {
    return this.#tables.reduce((sum, { length }) => sum + length, 0);
  }

  #cut(table: number, at: number): void {
    const runs = this.#tables[table] ?? [];
    const index = this.#indexOf(runs, at);
    const run = runs[index];
    if (at > LAST || run === undefined || run.min === at) return;
    const second = new PortRun(table, at, run.max, run.own, run.written);
    run.max = at - 1;
    runs.splice(index + 1, 0, second);
    if (this.#dirty.has(run)) this.#dirty.add(second);
  }

  #change(table: number, min: number, max: number, next: (own: Signature) => Signature): void {
    const runs = this.#tables[table] ?? [];
    for (let index = this.#indexOf(runs, min); index < runs.length; index++) {
      const run = runs[index];
      if (run === undefined || run.min > max) return;
      run.own = next(run.own);
      this.#dirty.add(run);
      this.#onChange(run);
    }
  }

  /** The last run that begins at or before the number. */
  #indexOf(runs: readonly PortRun[], number: number): number {
    let [low, high] = [0, runs.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((runs[middle]?.min ?? 0) <= number) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

/** The table of a protocol's destination ports and that of its source ports; undefined: it has no ports here. */
export function portTablesOf(protocol: number): { readonly destination: number; readonly source: number } | undefined {
  switch (protocol) {
    case 6:
      return { destination: PortTable.tcp, source: PortTable.sourceTcp };
    case 17:
      return { destination: PortTable.udp, source: PortTable.sourceUdp };
    case 132:
      return { destination: PortTable.sctp, source: PortTable.sourceSctp };
    default:
      return undefined;
  }
}
