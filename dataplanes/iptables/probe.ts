import type { CommandRunner } from '#native/command-runner.ts';
import type { Family } from '#native/types.ts';
import { type SetKernel, setName } from '../netfilter/ipsets.ts';
import type { VariantChoice } from '../netfilter/variant-choice.ts';
import { type Variant, Xtables } from '../netfilter/xtables.ts';

/** The set that a probe makes. One that a killed probe left is replaced by the next, and removed like any set of ours. */
export const probeSet = (family: Family): string => setName(family, 'probe');

/**
 * What this host lacks to run the iptables dataplane, each with what it is needed for. It tries rather than compares versions: makes
 * a set of the type and has iptables-restore check rules with every match and target that we use. Leaves nothing.
 */
export async function probeIptables(
  deps: { readonly commands: CommandRunner; readonly sets: SetKernel; readonly variants: VariantChoice },
  families: readonly Family[],
  wanted: 'auto' | Variant,
): Promise<readonly string[]> {
  const reasons: string[] = [];
  let variant: Variant;
  try {
    variant = await deps.variants.choose(families, wanted);
  } catch (error) {
    return [(error as Error).message];
  }
  for (const family of families) {
    const name = probeSet(family);
    try {
      if ((await deps.sets.list()).some((set) => set.name === name)) await deps.sets.destroy(name);
      await deps.sets.create({ name, type: 'hash:net,iface', family, maxelem: 64 });
    } catch (error) {
      reasons.push(`ipset of type hash:net,iface, IPv${family} (for source checks): ${(error as Error).message}`);
      continue;
    }
    try {
      const tools = new Xtables(deps.commands, variant, family);
      for (const [what, table, rule] of probeRules(name)) {
        try {
          await tools.check([`*${table}`, ':cali-probe - [0:0]', `-A cali-probe ${rule}`, 'COMMIT', ''].join('\n'));
        } catch (error) {
          reasons.push(`${what}: ${(error as Error).message}`);
        }
      }
    } finally {
      await deps.sets.destroy(name);
    }
  }
  return reasons;
}

const probeRules = (set: string): readonly (readonly [what: string, table: string, rule: string])[] => [
  [
    'table raw with the matches set and comment (for source checks)',
    'raw',
    `-m comment --comment "cali:probe" -m set ! --match-set ${set} src,src -j DROP`,
  ],
  ['table filter (to accept forwarded traffic of pods)', 'filter', '-j ACCEPT'],
  ['target MASQUERADE (for natOutgoing)', 'nat', '-j MASQUERADE --random-fully'],
];
