import { median, type Table } from '../lib/report.ts';
import type { Conditions } from './conditions.ts';

/** One figure of a part. */
export interface Figure {
  readonly key: string;
  /** With its unit. */
  readonly title: string;
  readonly digits: number;
}

/** A side's figures in one case, as they are written to JSON. */
export interface Cell {
  readonly case: string;
  readonly side: string;
  /** Medians over the rounds. */
  readonly figures: Readonly<Record<string, number>>;
  /** By title: this cell's figure to another cell's of the same round, median over the rounds. */
  readonly ratios: Readonly<Record<string, number>>;
  /** What the medians are of, round by round. */
  readonly rounds: readonly Readonly<Record<string, number>>[];
}

/** What one part of the benchmark found. */
export interface PartResult {
  readonly name: string;
  readonly title: string;
  /** What was done, for people. */
  readonly method: string;
  readonly figures: readonly Figure[];
  /** Titles of the ratios. */
  readonly ratios: readonly string[];
  readonly cells: readonly Cell[];
  /** Sides that were not measured, and why. */
  readonly absent: readonly { readonly side: string; readonly reason: string }[];
}

/** build/bench/policy.json. */
export interface PolicyResults {
  readonly conditions: Conditions;
  /** Nobody else used the machine, so that the figures may be published. */
  readonly quiet: boolean;
  readonly rounds: number;
  readonly parts: readonly PartResult[];
}

/** A ratio of a figure to the same one in another cell. */
export interface Ratio {
  readonly title: string;
  readonly figure: string;
  /** Which cell it is divided by; undefined: no ratio here. */
  readonly to: (cell: { readonly case: string; readonly side: string }) => { case: string; side: string } | undefined;
}

/** Collects a part's figures round by round; cells appear in the order in which they are first measured. */
export class Collected {
  readonly #cells = new Map<string, { case: string; side: string; rounds: Map<number, Record<string, number>> }>();

  /** A part whose sides take turns within a round counts these turns. What is found once goes into any of them. */
  add(round: number, cell: { readonly case: string; readonly side: string }, figures: Record<string, number>): void {
    const key = keyOf(cell);
    const entry = this.#cells.get(key) ?? { case: cell.case, side: cell.side, rounds: new Map() };
    entry.rounds.set(round, { ...entry.rounds.get(round), ...figures });
    this.#cells.set(key, entry);
  }

  /** Every cell with its medians and ratios. A ratio counts the rounds in which both cells were measured. */
  cells(ratios: readonly Ratio[]): readonly Cell[] {
    return [...this.#cells.values()].map((entry) => {
      const rounds = [...entry.rounds.values()];
      const keys = [...new Set(rounds.flatMap((round) => Object.keys(round)))];
      const figures = keys.map((key) => [key, median(rounds.flatMap((round) => round[key] ?? []))] as const);
      const quotients = ratios.flatMap(({ title, figure, to }) => {
        const other = to(entry);
        const base = other === undefined ? undefined : this.#cells.get(keyOf(other))?.rounds;
        if (base === undefined) return [];
        const each = [...entry.rounds].flatMap(([round, values]) => {
          const [own, theirs] = [values[figure], base.get(round)?.[figure]];
          return own === undefined || theirs === undefined ? [] : own / theirs;
        });
        return each.length === 0 ? [] : [[title, median(each)] as const];
      });
      return {
        case: entry.case,
        side: entry.side,
        figures: Object.fromEntries(figures),
        ratios: Object.fromEntries(quotients),
        rounds,
      };
    });
  }
}

/** Rows by case and side, for people. */
export function tableOf({ figures, ratios, cells }: PartResult): Table {
  const number = (value: number | undefined, digits: number) => (value === undefined ? '' : value.toFixed(digits));
  return [
    ['', 'side', ...figures.map(({ title }) => title), ...ratios],
    ...cells.map((cell) => [
      cell.case,
      cell.side,
      ...figures.map(({ key, digits }) => number(cell.figures[key], digits)),
      ...ratios.map((title) => number(cell.ratios[title], 2)),
    ]),
  ];
}

/** Who was not measured, or not in everything: a line each. */
export function absentOf({ absent }: PartResult): readonly string[] {
  return absent.map(({ side, reason }) => `${side}: ${reason}`);
}

function keyOf(cell: { readonly case: string; readonly side: string }): string {
  return `${cell.case}\n${cell.side}`;
}
