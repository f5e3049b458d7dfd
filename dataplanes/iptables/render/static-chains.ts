import { familyOf } from '#api/cidr.ts';
import type { CidrText } from '../../messages.ts';
import type { Hook } from '../../netfilter/table.ts';
import { wlSourceSet } from '../wl-source.ts';
import { LINK_ICMP6_TYPES } from './failsafe-chains.ts';
import { FROM_HOST_DISPATCH, FROM_HOST_FORWARD, TO_HOST_DISPATCH, TO_HOST_FORWARD } from './host-chains.ts';
import { allMarks, markedWith, markedWithAny, notMarkedWith, setMark } from './marks.ts';
import { comment, words } from './text.ts';
import type { Chain, ChainRule, HostNeeds, RenderContext, TableName, TableRules } from './types.ts';
import { FROM_WORKLOAD_DISPATCH, TO_WORKLOAD_DISPATCH } from './unit-chains.ts';
import { allowTarget, ESTABLISHED, verdictChains } from './verdicts.ts';

const WORKLOAD_TO_HOST = 'cali-wl-to-host';
const SERVICE_LOOPS = 'cali-cidr-block';
const LINK_LOCAL = 'cali-wl-link-local';

/**
 * Link-layer ICMPv6 that a pod may send from its link-local address, before its sources are checked: neighbour solicitation and
 * advertisement, multicast listener reports and done messages (a report is what makes the kernel's own solicited-node groups known). They
 * never leave the link: routers don't forward link-local sources (RFC 4291 2.5.6).
 */
const FROM_LINK_LOCAL = [135, 136, 131, 132, 143];

/**
 * What doesn't depend on any pod or policy: our chains in the packets' way and the hooks that lead into them. They jump to the chains of
 * `dispatchChains` and, as `needs` says, of `hostChains`. `serviceRanges` may be of both families.
 */
export function staticRules(
  needs: HostNeeds,
  serviceRanges: readonly CidrText[],
  ctx: RenderContext,
): Readonly<Record<TableName, TableRules>> {
  const verdicts = verdictChains(ctx.marks);
  const loops = serviceLoopRules(serviceRanges, ctx);
  const raw = [
    kernelChain('PREROUTING', rawPrerouting(needs, ctx)),
    ...(needs.untracked ? [kernelChain('OUTPUT', rawOutput(ctx))] : []),
  ];
  const mangle = [
    ...(needs.preDnat ? [kernelChain('PREROUTING', manglePrerouting(needs, ctx))] : []),
    ...(needs.normal ? [kernelChain('POSTROUTING', manglePostrouting(ctx))] : []),
  ];
  const filter = [
    kernelChain('INPUT', input(needs, ctx)),
    kernelChain('FORWARD', forward(needs, ctx), [
      ...(loops.length > 0 ? [`-j ${SERVICE_LOOPS}`] : []),
      acceptForwarded(ctx),
    ]),
    ...(needs.normal ? [kernelChain('OUTPUT', output(needs, ctx))] : []),
  ];
  return {
    raw: tableRules(raw, [...(ctx.family === 6 ? [linkLocalChain] : []), ...(needs.untracked ? verdicts : [])]),
    mangle: tableRules(mangle, mangle.length > 0 ? verdicts : []),
    filter: tableRules(filter, [
      ...verdicts,
      { name: WORKLOAD_TO_HOST, rules: workloadToHost(ctx) },
      ...(loops.length > 0 ? [{ name: SERVICE_LOOPS, rules: loops }] : []),
    ]),
  };
}

/** One of the kernel's chains: ours that it jumps to first, and rules of ours at its end. */
interface KernelChain {
  readonly of: string;
  readonly chain: Chain;
  readonly last: readonly string[];
}

const kernelChain = (of: string, rules: readonly ChainRule[], last: readonly string[] = []): KernelChain => ({
  of,
  chain: { name: `cali-${of}`, rules },
  last,
});

function tableRules(kernelChains: readonly KernelChain[], others: readonly Chain[]): TableRules {
  return {
    chains: [...others, ...kernelChains.map(({ chain }) => chain)],
    hooks: new Map(
      kernelChains.map(({ of, chain, last }): [string, Hook] => [of, { first: [`-j ${chain.name}`], last }]),
    ),
  };
}

const rule = (...parts: readonly string[]): ChainRule => ({ text: words(...parts) });

/** One rule for each prefix of pod devices: `-i cali+` before what follows. */
const pods = ({ config }: RenderContext, flag: '-i' | '-o', ...rest: readonly string[]): ChainRule[] =>
  config.interfacePrefixes.map((prefix) => rule(flag, `${prefix}+`, ...rest));

const linkLocalChain: Chain = {
  name: LINK_LOCAL,
  rules: [...FROM_LINK_LOCAL.map((type) => rule(`-p 58 -m icmp6 --icmpv6-type ${type} -j RETURN`)), rule('-j DROP')],
};

/**
 * Nobody brings marks of ours along; what comes in is marked as such where host endpoints need to tell it from what the host sends. What comes from a pod device must be a {source, device} pair of the set, so an unannounced device or
 * a forged source gets nothing through, and makes no connection tracking entry.
 */
function rawPrerouting(needs: HostNeeds, ctx: RenderContext): ChainRule[] {
  const { family, marks } = ctx;
  const others = allMarks(marks) - marks.received;
  return [
    // Here, and not in FORWARD: others' rules may accept a packet there before it comes to ours.
    rule(needs.normal ? setMark(marks.received, others) : setMark(0, allMarks(marks))),
    ...(family === 6 ? pods(ctx, '-i', `-s fe80::/64 -g ${LINK_LOCAL}`) : []),
    ...pods(ctx, '-i', `-m set ! --match-set ${wlSourceSet(family)} src,src -j DROP`),
    ...(needs.untracked ? [...pods(ctx, '-i', '-j RETURN'), ...untracked(FROM_HOST_DISPATCH, ctx)] : []),
  ];
}

function rawOutput(ctx: RenderContext): ChainRule[] {
  return [rule(setMark(0, allMarks(ctx.marks))), ...pods(ctx, '-o', '-j RETURN'), ...untracked(TO_HOST_DISPATCH, ctx)];
}

/** What an untracked policy accepts is not tracked, and (by the accept mark) not judged again as the host's traffic. */
const untracked = (dispatch: string, { marks }: RenderContext): ChainRule[] => [
  rule(`-j ${dispatch}`),
  rule(markedWith(marks.accept), '-j CT --notrack'),
];

/** preDNAT policy sees new connections only, with the address that the client used. */
function manglePrerouting(needs: HostNeeds, { marks, config }: RenderContext): ChainRule[] {
  return [
    rule(ESTABLISHED, '-j RETURN'),
    ...(needs.untracked ? [rule(markedWith(marks.accept), '-j RETURN')] : []),
    rule(`-j ${FROM_HOST_DISPATCH}`),
    rule(markedWith(marks.accept), comment('accepted by preDNAT policy'), allowTarget('mangle', config)),
  ];
}

/**
 * What the host sends to a service leaves by another device than filter OUTPUT was told, because it was translated there: it is judged
 * here, where the device is known. What was received, or judged already, is marked.
 */
function manglePostrouting(ctx: RenderContext): ChainRule[] {
  const { marks } = ctx;
  return [
    rule(markedWithAny(marks.accept + marks.received), '-j RETURN'),
    ...pods(ctx, '-o', '-j RETURN'),
    rule(`-m conntrack --ctstate DNAT -j ${TO_HOST_DISPATCH}`),
  ];
}

function input(needs: HostNeeds, ctx: RenderContext): ChainRule[] {
  const { marks, config } = ctx;
  const accepted = rule(markedWith(marks.accept), comment('accepted by policy'), allowTarget('filter', config));
  return [
    ...pods(ctx, '-i', `-g ${WORKLOAD_TO_HOST}`),
    // The accept mark is from raw (untracked policy) or mangle (preDNAT policy): these have the last word.
    ...(needs.untracked || needs.preDnat ? [accepted] : []),
    ...(needs.normal ? [rule(`-j ${FROM_HOST_DISPATCH}`), accepted] : []),
  ];
}

/** From a pod to its own host: the pod's egress policy first, then endpointToHostAction. */
function workloadToHost({ family, config }: RenderContext): ChainRule[] {
  const action = { drop: '-j DROP', return: '-j RETURN', accept: '-j ACCEPT' }[config.endpointToHostAction];
  return [
    ...(family === 6
      ? LINK_ICMP6_TYPES.filter((type) => type !== 134).map((type) =>
          rule(`-p 58 -m icmp6 --icmpv6-type ${type} -j ACCEPT`),
        )
      : []),
    // Answers of pods to their host, a kubelet's probes among them.
    rule(ESTABLISHED, allowTarget('filter', config)),
    rule(`-j ${FROM_WORKLOAD_DISPATCH}`),
    rule(comment('endpointToHostAction'), action),
  ];
}

/**
 * Packets that policy accepts are marked and go on to others' rules; the end of FORWARD accepts them. A packet between two pods is judged
 * by the policy of both.
 */
function forward(needs: HostNeeds, ctx: RenderContext): ChainRule[] {
  const { marks } = ctx;
  return [
    // The accept mark is from raw or mangle and spares the packet the policy of the host endpoint that it came in by.
    ...(needs.forward ? [rule(notMarkedWith(marks.accept), `-j ${FROM_HOST_FORWARD}`)] : []),
    ...pods(ctx, '-i', `-j ${FROM_WORKLOAD_DISPATCH}`),
    ...pods(ctx, '-o', `-j ${TO_WORKLOAD_DISPATCH}`),
    ...(needs.forward ? [rule(`-j ${TO_HOST_FORWARD}`)] : []),
  ];
}

/** Others' rules in FORWARD come first; only the chain's policy (Docker sets DROP) is overruled. */
const acceptForwarded = ({ marks, config }: RenderContext): string =>
  words(markedWith(marks.accept), comment('accepted by policy'), allowTarget('filter', config));

/** The host to its own pods is never judged: a kubelet's probes must work. */
function output(needs: HostNeeds, ctx: RenderContext): ChainRule[] {
  const { marks, config } = ctx;
  const accepted = rule(markedWith(marks.accept), comment('accepted by policy'), allowTarget('filter', config));
  return [
    ...(needs.untracked ? [accepted] : []),
    ...pods(ctx, '-o', '-j RETURN'),
    // A program may set any mark on its packets, and a tunnel passes on the inner packet's.
    rule(setMark(0, allMarks(marks))),
    rule(`-m conntrack ! --ctstate DNAT -j ${TO_HOST_DISPATCH}`),
    accepted,
  ];
}

/**
 * A service's address that nobody has translated would go out to the router, which sends it back: what reaches the end of FORWARD with
 * such an address is dropped or rejected. At the end, so that kube-proxy can refuse connections to a service without endpoints before.
 */
function serviceLoopRules(ranges: readonly CidrText[], { family, config }: RenderContext): ChainRule[] {
  const { serviceLoopPrevention } = config;
  if (serviceLoopPrevention === 'disabled') return [];
  const target = serviceLoopPrevention === 'reject' ? '-j REJECT' : '-j DROP';
  return [...new Set(ranges.filter((range) => familyOf(range) === family))]
    .sort()
    .map((range) => rule(range.endsWith('/0') ? '' : `-d ${range}`, target));
}
