import type { CommandRunner } from '#native/command-runner.ts';
import type { Family } from '#native/types.ts';
import type { SavedTable } from './saved.ts';
import { type Variant, Xtables, XtablesError } from './xtables.ts';

/** Chains that kubelet makes in the variant that the host uses, so that others can tell (kubernetes-sigs/iptables-wrappers). */
const KUBELET_CHAINS = ['KUBE-IPTABLES-HINT', 'KUBE-KUBELET-CANARY'];

/** What a look at the host came to. */
export interface Detection {
  readonly variant: Variant;
  /** Variants in which nothing of ours stands, in any of the families. */
  readonly clean: ReadonlySet<Variant>;
}

/**
 * Which variant to program where the setting is `auto`: where kubelet left its canary chain in the mangle table (nft preferred); else
 * where others have more rules; else where our own are; else nft. Forks each variant's save once per family, all at once.
 */
export async function detectVariant(commands: CommandRunner, families: readonly Family[]): Promise<Detection> {
  const [nft, legacy] = await Promise.all([inspect(commands, 'nft', families), inspect(commands, 'legacy', families)]);
  const clean = new Set<Variant>();
  if (nft?.mayHoldOurs !== true) clean.add('nft');
  if (legacy?.mayHoldOurs !== true) clean.add('legacy');
  const variant = betterVariant(nft, legacy);
  if (variant === undefined) {
    throw new XtablesError(
      'XTABLES_MISSING',
      'neither iptables-nft-save nor iptables-legacy-save is installed; install the Debian package iptables',
    );
  }
  return { variant, clean };
}

/** The rule of `detectVariant`; undefined when neither is installed. */
export function betterVariant(nft: Findings | undefined, legacy: Findings | undefined): Variant | undefined {
  if (nft === undefined || legacy === undefined) return nft === undefined ? legacy && 'legacy' : 'nft';
  if (nft.kubelet || legacy.kubelet) return nft.kubelet ? 'nft' : 'legacy';
  if (nft.others !== legacy.others) return nft.others > legacy.others ? 'nft' : 'legacy';
  return legacy.ours > nft.ours ? 'legacy' : 'nft';
}

/** What the tables of one variant hold, all families together. */
export interface Findings {
  /** Kubelet's canary chain. */
  readonly kubelet: boolean;
  /** Rules. */
  readonly ours: number;
  readonly others: number;
  /** There is something of ours, chains included, or a family or table can't be read. */
  readonly mayHoldOurs: boolean;
}

/** `saves`: each family's tables by name. */
export function lookAt(saves: readonly ReadonlyMap<string, SavedTable>[]): Findings {
  const tables = saves.flatMap((save) => [...save.values()]);
  const sum = (whose: 'ours' | 'others'): number => tables.reduce((count, table) => count + table.ruleCounts[whose], 0);
  return {
    kubelet: saves.some((save) => KUBELET_CHAINS.some((chain) => save.get('mangle')?.names.has(chain) === true)),
    ours: sum('ours'),
    others: sum('others'),
    mayHoldOurs: tables.some(
      ({ ruleCounts, ours, isUnreadable }) => ruleCounts.ours > 0 || ours.size > 0 || isUnreadable,
    ),
  };
}

/** Undefined when the variant's tools aren't installed. A family that the variant can't read counts as empty. */
async function inspect(
  commands: CommandRunner,
  variant: Variant,
  families: readonly Family[],
): Promise<Findings | undefined> {
  const saves = await Promise.allSettled(families.map((family) => new Xtables(commands, variant, family).save()));
  const failures = saves.flatMap((save) => (save.status === 'rejected' ? [save.reason as XtablesError] : []));
  if (failures.some(({ code }) => code === 'XTABLES_MISSING')) return undefined;
  const findings = lookAt(saves.flatMap((save) => (save.status === 'fulfilled' ? [save.value] : [])));
  return failures.length === 0 ? findings : { ...findings, mayHoldOurs: true };
}
