import type { CommandRunner } from '#native/command-runner.ts';
import type { Family } from '#native/types.ts';
import { type SetKernel, setName } from '../netfilter/ipsets.ts';
import type { VariantChoice } from '../netfilter/variant-choice.ts';
import { type Variant, Xtables } from '../netfilter/xtables.ts';

/** The set that a probe makes. One that a killed probe left is replaced by the next, and removed like any set of ours. */
export const probeSet = (family: Family): string => setName(family, 'probe');

/** The types of set that we use, with what for. */
const SET_TYPES = [
  ['hash:net,iface', 'source checks and policy units'],
  ['hash:net', 'selectors'],
  ['hash:ip,port', 'named ports and services'],
] as const;

/**
 * What this host lacks to run the iptables dataplane, each with what it is needed for. It tries rather than compares versions: makes
 * sets of each type and has iptables-restore check rules with every match and target that we use, all at once; only when that is refused
 * one by one. Leaves nothing.
 */
export async function probeIptables(
  deps: { readonly commands: CommandRunner; readonly sets: SetKernel; readonly variants: VariantChoice },
  families: readonly Family[],
  wanted: 'auto' | Variant,
): Promise<readonly string[]> {
  let variant: Variant;
  try {
    variant = await deps.variants.choose(families, wanted);
  } catch (error) {
    return [(error as Error).message];
  }
  const trials = await Promise.all(families.map((family) => tryFeatures(deps, variant, family)));
  return trials.flat().flatMap(({ what, refused }) => (refused === undefined ? [] : [`${what}: ${refused.message}`]));
}

/** One feature that was tried. */
export interface FeatureTrial {
  readonly kind: 'set' | 'rule';
  /** With what it is needed for. */
  readonly what: string;
  /** Why it can't be had; absent when it can. */
  readonly refused?: Error;
}

/**
 * Tries each type of set, match and target in one family, where the tools and sets of `deps` are (they may be of a namespace made for it).
 * Without the sets the rules that name them can't be tried, and aren't in the answer.
 */
export async function tryFeatures(
  deps: { readonly commands: CommandRunner; readonly sets: SetKernel },
  variant: Variant,
  family: Family,
): Promise<readonly FeatureTrial[]> {
  const sets = await trySets(deps.sets, family);
  if (sets.some(({ refused }) => refused !== undefined)) return sets;
  return [...sets, ...(await tryRules(deps.sets, new Xtables(deps.commands, variant, family)))];
}

async function trySets(sets: SetKernel, family: Family): Promise<readonly FeatureTrial[]> {
  const name = probeSet(family);
  const trials: FeatureTrial[] = [];
  for (const [type, needed] of SET_TYPES) {
    const what = `ipset of type ${type}, IPv${family} (for ${needed})`;
    try {
      if ((await sets.list()).some((set) => set.name === name)) await sets.destroy(name);
      await sets.create({ name, type, family, maxelem: 64 });
      await sets.destroy(name);
      trials.push({ kind: 'set', what });
    } catch (error) {
      trials.push({ kind: 'set', what, refused: error as Error });
    }
  }
  return trials;
}

async function tryRules(sets: SetKernel, tools: Xtables): Promise<readonly FeatureTrial[]> {
  const { family } = tools;
  const name = probeSet(family);
  await sets.create({ name, type: 'hash:net,iface', family, maxelem: 64 });
  try {
    const rules = rulesToTry(family, name);
    const trial = (what: string, refused?: unknown): FeatureTrial => ({
      kind: 'rule',
      what: `${tools.name}: ${what}`,
      ...(refused === undefined ? {} : { refused: refused as Error }),
    });
    try {
      await tools.check(restoreInput(rules));
      return rules.map(({ what }) => trial(what));
    } catch (error) {
      const trials: FeatureTrial[] = [];
      for (const rule of rules) {
        try {
          await tools.check(restoreInput([rule]));
          trials.push(trial(rule.what));
        } catch (why) {
          trials.push(trial(rule.what, why));
        }
      }
      // Each by itself is taken: then it is the whole that isn't.
      return trials.some(({ refused }) => refused !== undefined) ? trials : [trial('all rules at once', error)];
    }
  } finally {
    await sets.destroy(name);
  }
}

interface RuleToTry {
  readonly what: string;
  readonly table: string;
  readonly rule: string;
}

/** One COMMIT a table: nft takes back what it has tried at each, which the kernel needs 10 ms for. */
function restoreInput(rules: readonly RuleToTry[]): string {
  const lines = [...Map.groupBy(rules, ({ table }) => table)].flatMap(([table, ofTable]) => [
    `*${table}`,
    ...ofTable.map((_, index) => `:cali-probe-${index} - [0:0]`),
    ...ofTable.map(({ rule }, index) => `-A cali-probe-${index} ${rule}`),
    'COMMIT',
  ]);
  return `${lines.join('\n')}\n`;
}

const rulesToTry = (family: Family, set: string): readonly RuleToTry[] => [
  {
    what: 'table raw with the matches set and comment (for source checks)',
    table: 'raw',
    rule: `-m comment --comment "cali:probe" -m set ! --match-set ${set} src,src -j DROP`,
  },
  { what: 'target CT (for doNotTrack policy)', table: 'raw', rule: '-j CT --notrack' },
  {
    what: 'table mangle with the match conntrack (for preDNAT policy)',
    table: 'mangle',
    rule: '-m conntrack --ctstate DNAT -j RETURN',
  },
  {
    what: 'table filter with the match conntrack (for policy)',
    table: 'filter',
    rule: '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
  },
  {
    what: 'match mark and target MARK (for policy)',
    table: 'filter',
    rule: '-m mark --mark 0x1/0x1 -j MARK --set-xmark 0x0/0x1',
  },
  { what: 'match multiport (for ports)', table: 'filter', rule: '-p 6 -m multiport --dports 80,443:444 -j ACCEPT' },
  {
    what: 'match for ICMP types',
    table: 'filter',
    rule: family === 4 ? '-p 1 -m icmp --icmp-type 8/0 -j ACCEPT' : '-p 58 -m icmp6 --icmpv6-type 128/0 -j ACCEPT',
  },
  {
    what: 'match limit and target LOG (for log rules)',
    table: 'filter',
    rule: '-m limit --limit 10/second --limit-burst 5 -j LOG --log-prefix "probe: " --log-level 5',
  },
  { what: 'target REJECT (for filterDenyAction and service loops)', table: 'filter', rule: '-j REJECT' },
  { what: 'target MASQUERADE (for natOutgoing)', table: 'nat', rule: '-j MASQUERADE --random-fully' },
];
