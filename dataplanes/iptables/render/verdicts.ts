import type { DataplaneConfig } from '../../messages.ts';
import { markedWith, setMark } from './marks.ts';
import type { Chain, ChainRule, Marks, TableName } from './types.ts';

/** Goto targets that set a mark and end: the packet goes on where the chain of the goto was jumped from. */
export const ALLOW_CHAIN = 'cali-allow';
export const PASS_CHAIN = 'cali-pass';

export const verdictChains = (marks: Marks): Chain[] => [
  { name: ALLOW_CHAIN, rules: [{ text: setMark(marks.accept) }] },
  { name: PASS_CHAIN, rules: [{ text: setMark(marks.pass) }] },
];

/** What a policy's denial does. REJECT exists in filter only: elsewhere nothing can be answered. */
export function denyTarget(table: TableName, { filterDenyAction }: DataplaneConfig): string {
  return table === 'filter' && filterDenyAction === 'reject' ? '-j REJECT' : '-j DROP';
}

/** What becomes of what policy has accepted, in one of the kernel's own chains: the end of the table, or on to others' rules. */
export function allowTarget(table: 'filter' | 'mangle', config: DataplaneConfig): string {
  const action = table === 'filter' ? config.filterAllowAction : config.mangleAllowAction;
  return action === 'accept' ? '-j ACCEPT' : '-j RETURN';
}

/** Back to the caller with what is accepted. */
export const returnIfAccepted = (marks: Marks): ChainRule => ({ text: `${markedWith(marks.accept)} -j RETURN` });

/** Packets of connections that policy has let through before, and what belongs to them (ICMP errors). */
export const ESTABLISHED = '-m conntrack --ctstate RELATED,ESTABLISHED';

/**
 * First rules of whatever judges by policy: packets of known connections are accepted, what connection tracking can't place is dropped
 * (a stray segment must not be taken for a new connection), unless `allowInvalid`.
 */
export function conntrackRules({ allowInvalid }: DataplaneConfig): ChainRule[] {
  const established = { text: `${ESTABLISHED} -g ${ALLOW_CHAIN}` };
  return allowInvalid ? [established] : [established, { text: '-m conntrack --ctstate INVALID -j DROP' }];
}
