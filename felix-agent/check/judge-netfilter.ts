import { betterVariant, lookAt } from '#dataplanes/netfilter/backend.ts';
import type { SavedTable } from '#dataplanes/netfilter/saved.ts';
import type { Variant } from '#dataplanes/netfilter/xtables.ts';
import type { CheckSettings, NodeFacts, SaveFacts } from './facts.ts';
import type { Finding } from './result.ts';

/** Which variant of iptables Tortie writes to on such a node; undefined: neither is installed. */
export function variantOf(saves: readonly SaveFacts[], { iptablesBackend }: CheckSettings): Variant | undefined {
  if (iptablesBackend !== 'auto') return iptablesBackend;
  const [nft, legacy] = (['nft', 'legacy'] as const).map((variant) => {
    const own = saves.filter((save) => save.variant === variant);
    return own.length === 0 ? undefined : lookAt(tablesOf(own));
  });
  return betterVariant(nft, legacy);
}

const tablesOf = (saves: readonly SaveFacts[]): readonly ReadonlyMap<string, SavedTable>[] =>
  saves.flatMap(({ tables }) => (tables.known ? [tables.value] : []));

/** What the rules of the node mean for Tortie. */
export function judgeNetfilter(facts: NodeFacts, settings: CheckSettings): readonly Finding[] {
  const { saves } = facts.netfilter;
  const variant = variantOf(saves, settings);
  return [...tools(saves, variant), variants(saves), ...forwardPolicies(facts, variant), firewalld(facts), ufw(saves)];
}

function tools(saves: readonly SaveFacts[], variant: Variant | undefined): readonly Finding[] {
  if (variant === undefined)
    return [
      {
        id: 'iptables-tools',
        outcome: 'no',
        detail: 'neither iptables-nft-save nor iptables-legacy-save is installed',
      },
    ];
  const chosen = saves.filter((save) => save.variant === variant);
  if (chosen.length === 0)
    return [
      {
        id: 'iptables-tools',
        subject: variant,
        outcome: 'no',
        detail: `iptables-${variant}-save is not installed, and iptablesBackend asks for it`,
      },
    ];
  return chosen.map(({ family, tables }): Finding => {
    const subject = `${variant}, IPv${family}`;
    if (tables.known) return { id: 'iptables-tools', subject, outcome: 'yes', detail: 'works' };
    return {
      id: 'iptables-tools',
      subject,
      outcome: isForbidden(tables.reason) ? 'unknown' : 'no',
      detail: tables.reason,
    };
  });
}

/** The tools' and the kernel's words for a lack of rights, which says nothing about the node. */
export const isForbidden = (words: string): boolean => /permission denied|not permitted|EPERM|EACCES/i.test(words);

function variants(saves: readonly SaveFacts[]): Finding {
  const counts = (['nft', 'legacy'] as const).map((variant) => ({
    variant,
    rules: lookAt(tablesOf(saves.filter((save) => save.variant === variant))).others,
  }));
  return {
    id: 'iptables-variants',
    outcome: counts.every(({ rules }) => rules > 0) ? 'no' : 'yes',
    detail: counts.map(({ variant, rules }) => `${variant}: ${rules} rules of others`).join(', '),
  };
}

/** What firewalld makes is judged as firewalld. */
const FIREWALLD_TABLE = 'firewalld';

/**
 * Chains at the forward hook that drop by default. A rule of ours that accepts ends the way through its own table only: every other
 * table at the hook has to accept the packet, too. Both dataplanes have such a rule.
 */
function forwardPolicies({ netfilter }: NodeFacts, variant: Variant | undefined): readonly Finding[] {
  const droppers: { subject: string; isOurs: boolean }[] = [];
  for (const save of netfilter.saves) {
    // What the nft variant shows is in nf_tables, and is seen there.
    if (save.variant !== 'legacy' || !save.tables.known) continue;
    if (save.tables.value.get('filter')?.others.get('FORWARD')?.policy === 'DROP')
      droppers.push({ subject: `iptables-legacy, IPv${save.family}, FORWARD`, isOurs: variant === 'legacy' });
  }
  for (const chain of netfilter.nft.known ? netfilter.nft.value.baseChains : []) {
    if (chain.hook !== 'forward' || chain.policy !== 'drop' || chain.table === FIREWALLD_TABLE) continue;
    if (!['ip', 'ip6', 'inet'].includes(chain.family)) continue;
    const isIptables = chain.family !== 'inet' && chain.table === 'filter' && chain.name === 'FORWARD';
    droppers.push({
      subject: isIptables
        ? `iptables-nft, IPv${chain.family === 'ip' ? 4 : 6}, FORWARD`
        : `nft table ${chain.family} ${chain.table}, chain ${chain.name}`,
      isOurs: isIptables && variant === 'nft',
    });
  }
  if (droppers.length === 0)
    return netfilter.nft.known
      ? [{ id: 'forward-policy', outcome: 'yes', detail: 'no chain at the forward hook drops by default' }]
      : [{ id: 'forward-policy', outcome: 'unknown', detail: `nf_tables: ${netfilter.nft.reason}` }];
  return droppers.map(({ subject, isOurs }): Finding => {
    const drops = 'its policy is DROP';
    if (!isOurs) return { id: 'forward-policy', subject, outcome: 'no', detail: drops };
    return {
      id: 'forward-policy',
      subject,
      outcome: 'yes',
      detail: `${drops} (docker does that); Tortie's own rule there accepts what its policy has allowed`,
    };
  });
}

function firewalld({ netfilter: { nft, saves }, programs }: NodeFacts): Finding {
  const signs = [
    ...(programs.known && programs.value.has('firewalld') ? ['it is running'] : []),
    ...(nft.known ? nft.value.tables : [])
      .filter(({ name }) => name === FIREWALLD_TABLE)
      .map(({ family }) => `nft table ${family} firewalld`),
    // Its older way, by iptables.
    ...(hasChain(saves, (name) => name === 'FORWARD_direct') ? ['iptables chain FORWARD_direct'] : []),
  ];
  if (signs.length > 0) return { id: 'firewalld', outcome: 'no', detail: signs.join(', ') };
  if (nft.known) return { id: 'firewalld', outcome: 'yes', detail: 'none of its rules are there' };
  return { id: 'firewalld', outcome: 'unknown', detail: `nf_tables: ${nft.reason}` };
}

/** Disabled, ufw leaves empty chains behind: what counts is that packets come to them. */
function ufw(saves: readonly SaveFacts[]): Finding {
  const jumps = saves.flatMap(({ variant, family, tables }) =>
    (tables.known ? [...(tables.value.get('filter')?.others ?? [])] : [])
      .filter(([, chain]) => chain.rules.some(({ text }) => /-j ufw6?-/.test(text)))
      .map(([name]) => `iptables-${variant}, IPv${family}, ${name}`),
  );
  if (jumps.length > 0)
    return { id: 'ufw', outcome: 'no', detail: `its chains are in the way of packets: ${jumps.join('; ')}` };
  const unread = saves.find(({ tables }) => !tables.known);
  if (saves.length === 0) return { id: 'ufw', outcome: 'unknown', detail: 'no iptables tool is installed' };
  return unread === undefined || unread.tables.known
    ? { id: 'ufw', outcome: 'yes', detail: 'none of its rules are in use' }
    : { id: 'ufw', outcome: 'unknown', detail: unread.tables.reason };
}

/** True if a chain like this is in any table. */
export function hasChain(saves: readonly SaveFacts[], isIt: (name: string) => boolean): boolean {
  return tablesOf(saves).some((tables) => [...tables.values()].some(({ names }) => [...names].some(isIt)));
}
