import type { CommandRunner } from '#native/command-runner.ts';
import type { Family } from '#native/types.ts';
import type { SavedTable } from './saved.ts';
import { type Variant, Xtables, XtablesError } from './xtables.ts';

/** Chains that kubelet makes in the variant that the host uses, so that others can tell (kubernetes-sigs/iptables-wrappers). */
const KUBELET_CHAINS = ['KUBE-IPTABLES-HINT', 'KUBE-KUBELET-CANARY'];

/**
 * Which variant to program. A setting other than `auto` stands. `auto`: where kubelet left its canary chain in the mangle table (nft
 * asked first); else where others have more rules; else where our own are; else nft. Forks each variant's save once per family.
 */
export async function detectVariant(
  commands: CommandRunner,
  families: readonly Family[],
  wanted: 'auto' | Variant,
): Promise<Variant> {
  if (wanted !== 'auto') return wanted;
  const [nft, legacy] = [await inspect(commands, 'nft', families), await inspect(commands, 'legacy', families)];
  if (nft === undefined && legacy === undefined) {
    throw new XtablesError(
      'XTABLES_MISSING',
      'neither iptables-nft-save nor iptables-legacy-save is installed; install the Debian package iptables',
    );
  }
  if (nft === undefined || legacy === undefined) return nft === undefined ? 'legacy' : 'nft';
  if (nft.kubelet || legacy.kubelet) return nft.kubelet ? 'nft' : 'legacy';
  if (nft.others !== legacy.others) return nft.others > legacy.others ? 'nft' : 'legacy';
  return legacy.ours > nft.ours ? 'legacy' : 'nft';
}

interface Findings {
  kubelet: boolean;
  ours: number;
  others: number;
}

/** Undefined when the variant's tools aren't installed. A family that the variant can't read counts as empty. */
async function inspect(
  commands: CommandRunner,
  variant: Variant,
  families: readonly Family[],
): Promise<Findings | undefined> {
  const findings: Findings = { kubelet: false, ours: 0, others: 0 };
  for (const family of families) {
    let tables: ReadonlyMap<string, SavedTable>;
    try {
      tables = await new Xtables(commands, variant, family).save();
    } catch (error) {
      if ((error as XtablesError).code === 'XTABLES_MISSING') return undefined;
      continue;
    }
    findings.kubelet ||= KUBELET_CHAINS.some((chain) => tables.get('mangle')?.names.has(chain) === true);
    for (const { ruleCounts } of tables.values()) {
      findings.ours += ruleCounts.ours;
      findings.others += ruleCounts.others;
    }
  }
  return findings;
}
