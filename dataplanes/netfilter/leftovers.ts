import type { CommandRunner } from '#native/command-runner.ts';
import type { Family } from '#native/types.ts';
import type { Logger } from '../logger.ts';
import { CALI_RULES, type RuleOwner } from './rules.ts';
import type { SavedTable } from './saved.ts';
import { madeByUs } from './table.ts';
import { type Variant, Xtables, type XtablesError } from './xtables.ts';

/** Where to look for what is ours. */
export interface Places {
  readonly variants: readonly Variant[];
  readonly families: readonly Family[];
  readonly tables: readonly string[];
  readonly lockTimeoutS: number;
  /** Whose; absent: what is named as Calico does. */
  readonly owner?: RuleOwner;
}

/**
 * Removes what is ours from these tables: at clean-up, and from the variant that isn't used (a changed setting, an older agent). A
 * variant that isn't installed can hold nothing of ours. Forks one save for each variant and family, one restore for each table where there is something.
 */
export async function removeLeftovers(commands: CommandRunner, log: Logger, places: Places): Promise<void> {
  const errors: unknown[] = [];
  for (const variant of places.variants) {
    for (const family of places.families) {
      try {
        await removeFrom(new Xtables(commands, variant, family, places.owner ?? CALI_RULES), commands, log, places);
      } catch (error) {
        if ((error as XtablesError).code !== 'XTABLES_MISSING') errors.push(error);
      }
    }
  }
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1)
    throw new AggregateError(
      errors,
      `removing our iptables rules: ${errors.map((error) => (error as Error).message).join('; ')}`,
    );
}

async function removeFrom(tools: Xtables, commands: CommandRunner, log: Logger, places: Places): Promise<void> {
  const saved = await tools.save();
  for (const table of places.tables) {
    const actual = saved.get(table);
    const outcome = actual === undefined ? 'nothing' : await removeOurs(tools, table, actual, places.lockTimeoutS);
    if (outcome !== 'nothing') log.info('removed our iptables rules', { tool: tools.name, table });
    if (outcome === 'markIsLeft') await removeNftTable(tools, commands, log, table, places.lockTimeoutS);
  }
}

/**
 * Deletes a table of nf_tables that iptables-nft made for us, if nothing but our mark is in it: the iptables tools can't. The mark goes with
 * the table, in one step: whoever is killed before that, or reads the table meanwhile, still finds it ours. Without the nft tool the empty
 * table stays; it has no hook and no packet sees it.
 */
async function removeNftTable(
  tools: Xtables,
  commands: CommandRunner,
  log: Logger,
  table: string,
  lockTimeoutS: number,
): Promise<void> {
  const name = [tools.family === 4 ? 'ip' : 'ip6', table];
  const mark = madeByUs(tools.owner);
  try {
    const listed = await commands.run('nft', ['list', 'table', ...name]);
    if (listed.status === 0 && holdsOnly(mark, listed.stdout)) {
      const deleted = await commands.run('nft', ['delete', 'table', ...name], { changes: true });
      if (deleted.status === 0) return;
      log.warn('an empty nftables table stays', { table: name.join(' '), reason: deleted.stderr.trim() });
    }
  } catch (error) {
    log.info('an empty nftables table stays: the nft tool could not be run', {
      table: name.join(' '),
      reason: (error as Error).message,
    });
    await tools.deleteEmptyChains(table);
    return;
  }
  // Somebody else has come to it meanwhile.
  await tools.restore([`*${table}`, `-X ${mark}`, 'COMMIT', ''].join('\n'), lockTimeoutS);
}

/** Whether a table, as nft lists it, has no rule and no chain but the kernel's own, which let everything pass, and this one. */
function holdsOnly(mark: string, listed: string): boolean {
  const rest = listed
    .replaceAll(/^#.*$/gm, '')
    .replaceAll(/chain \S+ \{\s*type [^{}]*policy accept;\s*\}/g, '')
    .replace(new RegExp(`chain ${mark} \\{\\s*\\}`), '');
  return /^\s*table \S+ \S+ \{\s*\}\s*$/.test(rest);
}

/**
 * Removes everything of ours from one table, whoever of us put it there; `actual` is what it holds. Answers `markIsLeft` for a table
 * of nft's that we had made and in which nothing else is any more: nothing needs it.
 */
export async function removeOurs(
  tools: Xtables,
  table: string,
  actual: SavedTable,
  lockTimeoutS: number,
): Promise<'nothing' | 'removed' | 'markIsLeft'> {
  const mark = madeByUs(tools.owner);
  const othersUseIt =
    actual.ruleCounts.others > 0 ||
    [...actual.names].some(
      (name) => !name.startsWith(tools.owner.chainPrefix) && actual.others.get(name)?.policy !== 'ACCEPT',
    );
  const keepsMark = actual.ours.has(mark) && !othersUseIt;
  const ours = [...actual.ours.keys()].filter((name) => !keepsMark || name !== mark);
  const unhook = [...actual.others].flatMap(([name, chain]) =>
    chain.rules.flatMap(({ tag, text }) => (tag === undefined ? [] : [`-D ${name} ${text}`])),
  );
  if (ours.length > 0 || unhook.length > 0) {
    const lines = [...ours.map((name) => `:${name} - [0:0]`), ...unhook, ...ours.map((name) => `-X ${name}`)];
    await tools.restore([`*${table}`, ...lines, 'COMMIT', ''].join('\n'), lockTimeoutS);
  } else if (!keepsMark) {
    return 'nothing';
  }
  return keepsMark ? 'markIsLeft' : 'removed';
}
