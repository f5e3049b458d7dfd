import { cpus, release } from 'node:os';

/** Rows of cells; the first row is the header. */
export type Table = readonly (readonly string[])[];

/** Kernel and CPU, so that figures aren't compared across machines by mistake. */
export function machine(): string {
  return `Linux ${release()}, ${cpus().length} x ${cpus()[0]?.model ?? 'unknown CPU'}`;
}

/** The value below which `part` (0 to 1) of the values lie; nearest rank. NaN for no values. */
export function quantile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

export function printTable(table: Table): void {
  const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map((row) => (row[column] ?? '').length)));
  for (const row of table)
    console.log(
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join('  '),
    );
}
