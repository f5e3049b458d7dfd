import type { CommandRunner } from '#native/command-runner.ts';
import type { Family } from '#native/types.ts';
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
  return { variant: better(nft, legacy), clean };
}

function better(nft: Findings | undefined, legacy: Findings | undefined): Variant {
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
  /** There is something of ours, chains included, or a family or table can't be read. */
  mayHoldOurs: boolean;
}

/** Undefined when the variant's tools aren't installed. A family that the variant can't read counts as empty. */
async function inspect(
  commands: CommandRunner,
  variant: Variant,
  families: readonly Family[],
): Promise<Findings | undefined> {
  const findings: Findings = { kubelet: false, ours: 0, others: 0, mayHoldOurs: false };
  const saves = await Promise.allSettled(families.map((family) => new Xtables(commands, variant, family).save()));
  for (const save of saves) {
    if (save.status === 'rejected') {
      if ((save.reason as XtablesError).code === 'XTABLES_MISSING') return undefined;
      findings.mayHoldOurs = true;
      continue;
    }
    findings.kubelet ||= KUBELET_CHAINS.some((chain) => save.value.get('mangle')?.names.has(chain) === true);
    for (const { ruleCounts, ours, isUnreadable } of save.value.values()) {
      findings.ours += ruleCounts.ours;
      findings.others += ruleCounts.others;
      findings.mayHoldOurs ||= ruleCounts.ours > 0 || ours.size > 0 || isUnreadable;
    }
  }
  return findings;
}
