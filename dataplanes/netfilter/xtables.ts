import type { CommandResult, CommandRunner } from '#native/command-runner.ts';
import type { Family } from '#native/types.ts';
import { CALI_RULES, type RuleOwner } from './rules.ts';
import { parseSave, type SavedTable } from './saved.ts';

/** The two implementations of iptables: rules in the kernel's own xtables, or in nf_tables. A host may have rules in both. */
export type Variant = 'legacy' | 'nft';

/** An iptables tool failed or is missing. */
export class XtablesError extends Error {
  /** `XTABLES_MISSING`: the tool isn't installed; `XTABLES_FAILED`: it ran and failed. */
  readonly code: 'XTABLES_MISSING' | 'XTABLES_FAILED';
  constructor(code: XtablesError['code'], message: string, cause?: unknown) {
    super(message, cause === undefined ? {} : { cause });
    this.name = 'XtablesError';
    this.code = code;
  }
}

/** A tool that hangs on the lock (another one holds it for ever) must not stop the dataplane for ever. */
const TOOL_TIME_LIMIT_MS = 60_000;

/** The iptables tools of one variant and family. Each method forks exactly one process. */
export class Xtables {
  readonly variant: Variant;
  readonly family: Family;
  /** Whose rules count as ours in what it reads. */
  readonly owner: RuleOwner;
  readonly #commands: CommandRunner;

  constructor(commands: CommandRunner, variant: Variant, family: Family, owner: RuleOwner = CALI_RULES) {
    this.owner = owner;
    this.#commands = commands;
    this.variant = variant;
    this.family = family;
  }

  /** For messages: `iptables-nft`, `ip6tables-legacy`. */
  get name(): string {
    return `${this.family === 4 ? 'iptables' : 'ip6tables'}-${this.variant}`;
  }

  /** What is there, by table: only tables that exist, and none is created by asking. */
  async save(): Promise<ReadonlyMap<string, SavedTable>> {
    return parseSave((await this.#run(`${this.name}-save`, [])).stdout, this.owner);
  }

  /** As the tool prints it with counters. */
  async saveWithCounters(): Promise<string> {
    return (await this.#run(`${this.name}-save`, ['-c'])).stdout;
  }

  /** Gives the input to iptables-restore; all of it takes effect at once or none. `lockTimeoutS` 0 waits as long as it takes. */
  async restore(input: string, lockTimeoutS: number): Promise<void> {
    const wait = lockTimeoutS > 0 ? ['-w', String(lockTimeoutS)] : ['-w'];
    await this.#run(`${this.name}-restore`, ['--noflush', ...wait], input);
  }

  /** Has iptables-restore check an input; nothing is changed. */
  async check(input: string): Promise<void> {
    await this.#run(`${this.name}-restore`, ['--noflush', '--test', '-w'], input);
  }

  /** Removes the table's chains, the kernel's own too where the variant can (nft), if all are empty; fails if one isn't. */
  async deleteEmptyChains(table: string): Promise<void> {
    await this.#run(this.name, ['-t', table, '-X']);
  }

  async #run(file: string, args: readonly string[], input?: string): Promise<CommandResult> {
    let result: CommandResult;
    try {
      result = await this.#commands.run(file, args, { input, timeoutMs: TOOL_TIME_LIMIT_MS, changes: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
        throw new XtablesError(
          'XTABLES_MISSING',
          `${file} is not installed; install the Debian package iptables`,
          error,
        );
      }
      throw new XtablesError('XTABLES_FAILED', `${file} could not be started: ${(error as Error).message}`, error);
    }
    if (result.status === 0) return result;
    const how =
      result.status === null ? `was ended by ${result.signal ?? 'a signal'}` : `ended with status ${result.status}`;
    const words = result.stderr.trim() || '(it said nothing)';
    throw new XtablesError('XTABLES_FAILED', `${[file, ...args].join(' ')} ${how}: ${words}`);
  }
}
