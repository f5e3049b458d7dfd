import { familyOf } from '#api/cidr.ts';
import type { FailsafePort } from '../../policy.ts';
import { comment, words } from './text.ts';
import type { Chain, ChainRule, RenderContext, TableName } from './types.ts';

export const FAILSAFE_IN = 'cali-failsafe-in';
export const FAILSAFE_OUT = 'cali-failsafe-out';

const PROTOCOLS = { tcp: 6, udp: 17, sctp: 132 } as const;

/**
 * ICMPv6 without which there is no IPv6 on a link: multicast listener queries, reports and done messages (RFC 2710, 3810), router and
 * neighbour solicitations and advertisements (RFC 4861). None of them is forwarded.
 */
export const LINK_ICMP6_TYPES = [130, 131, 132, 133, 134, 135, 136, 143];

/**
 * What policy on host endpoints can't take away. IPv4's ARP never sees these tables; its IPv6 counterpart does, so it is let through here
 * whatever the lists say. In raw, before connection tracking, answers are let through by the port that they come from: if an untracked
 * policy took half of such a connection out of tracking, the other half would find none.
 */
export function failsafeChains(table: TableName, ctx: RenderContext): readonly [inbound: Chain, outbound: Chain] {
  const { failsafeInbound, failsafeOutbound } = ctx.config;
  const rules = (ports: readonly FailsafePort[], other: readonly FailsafePort[], inbound: boolean): ChainRule[] => [
    ...(ctx.family === 6
      ? LINK_ICMP6_TYPES.map((type) => ({ text: `-p 58 -m icmp6 --icmpv6-type ${type} -j ACCEPT` }))
      : []),
    ...ports.flatMap((port) => failsafeRule(port, '--dports', inbound, 'failsafe', ctx)),
    ...(table === 'raw'
      ? other.flatMap((port) => failsafeRule(port, '--sports', inbound, 'answer of a failsafe', ctx))
      : []),
  ];
  return [
    { name: FAILSAFE_IN, rules: rules(failsafeInbound, failsafeOutbound, true) },
    { name: FAILSAFE_OUT, rules: rules(failsafeOutbound, failsafeInbound, false) },
  ];
}

/** `net` is the other end's: the source of what comes in. */
function failsafeRule(
  { protocol, port, net }: FailsafePort,
  ports: '--sports' | '--dports',
  inbound: boolean,
  about: string,
  { family }: RenderContext,
): ChainRule[] {
  if (net !== undefined && familyOf(net) !== family) return [];
  const address = net === undefined || net.endsWith('/0') ? '' : words(inbound ? '-s' : '-d', net);
  return [
    { text: words(`-p ${PROTOCOLS[protocol]}`, address, `-m multiport ${ports} ${port}`, comment(about), '-j ACCEPT') },
  ];
}
