/** Where a command writes; tests give their own. */
export interface Output {
  out(text: string): void;
  err(text: string): void;
}

/** One `tortie` command. */
export interface Command {
  readonly name: string;
  /** How it is called, after `tortie`. */
  readonly usage: string;
  readonly summary: string;
  /** Returns the exit status. What it throws is printed as one line and makes 1. */
  run(args: readonly string[], env: NodeJS.ProcessEnv, output: Output): Promise<number>;
}

/** Own flag of every command that prints data. */
export const outputFlag = { output: { type: 'string', short: 'o' } } as const;

/** True for `-o json`; throws for another format. */
export function wantsJson(flags: Readonly<Record<string, unknown>>): boolean {
  const format = flags['output'];
  if (format === undefined) return false;
  if (format === 'json') return true;
  throw new Error(`-o ${JSON.stringify(format)}: the only format besides the default is json`);
}

/** Rows with columns aligned, as kubectl prints them; nothing below the header when there are no rows. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows];
  const widths = header.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)));
  return all
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
