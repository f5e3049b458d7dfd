import { familyOf } from '#api/cidr.ts';
import type { Family } from '#native/types.ts';
import type { CidrText, DataplaneConfig } from '../messages.ts';
import type { Hook } from '../netfilter/table.ts';
import { type PacketMarks, packetMarks } from './marks.ts';

/** The tables in which there are rules of ours. */
export const STACK_TABLES = ['mangle', 'filter'] as const;
/** And where a host endpoint has untracked policy. */
export const UNTRACKED_TABLE = 'raw';
export type StackTable = (typeof STACK_TABLES)[number] | typeof UNTRACKED_TABLE;

/** What host endpoints need of netfilter. */
export interface HostNeeds {
  /** There is one: what its policy refuses may be forwarded, but not come in. */
  readonly notLocal: boolean;
  /** One has untracked policy. */
  readonly untracked: boolean;
}

/** One table's part: our chains, and what the kernel's chains have of ours. */
export interface StackTableRules {
  readonly chains: ReadonlyMap<string, readonly string[]>;
  readonly hooks: ReadonlyMap<string, Hook>;
}

const ESTABLISHED = '-m conntrack --ctstate RELATED,ESTABLISHED';
/** ICMPv6 by which neighbours find each other: nothing works without it, so nothing judges it. Not router advertisements: pods are no routers. */
const LINK_ICMP6_TYPES = [130, 131, 132, 133, 135, 136, 143];

/**
 * What netfilter has to do while programs judge pods' packets: see to it that nothing of a pod is forwarded that no program has seen, say
 * what pods may have of the node itself, keep others' chain policies (Docker sets DROP) from cutting off what was judged, and tell
 * the programs what the node itself sends. The rules don't depend on any pod. Throws as `packetMarks` does.
 */
export function stackRules(
  family: Family,
  config: DataplaneConfig,
  serviceRanges: readonly CidrText[],
  hosts: HostNeeds = { notLocal: false, untracked: false },
): Readonly<Record<StackTable, StackTableRules>> {
  const marks = packetMarks(config);
  const loops = serviceLoops(family, config, serviceRanges);
  // The mark goes with that: what is inside of a tunnel's packet keeps its marks, and is no untracked packet.
  const notrack = hosts.untracked
    ? [`${marked(marks.untracked)} -j CT --notrack`, `${marked(marks.untracked)} ${clearMark(marks.untracked)}`]
    : [];
  return {
    raw: {
      chains: new Map(notrack.length === 0 ? [] : [['tortie-PREROUTING', notrack]]),
      hooks: new Map([['PREROUTING', notrack.length === 0 ? {} : { first: ['-j tortie-PREROUTING'] }]]),
    },
    mangle: {
      // IPVS sends by OUTPUT what it forwards for others: that has their address.
      chains: new Map([['tortie-OUTPUT', [`-m addrtype --src-type LOCAL ${setMark(marks.host)}`]]]),
      hooks: new Map([['OUTPUT', { first: ['-j tortie-OUTPUT'] }]]),
    },
    filter: {
      chains: new Map([
        [
          'tortie-INPUT',
          [
            ...(hosts.notLocal ? [`${marked(marks.notLocal)} -j DROP`] : []),
            ...pods(config, '-i', '-g tortie-to-host'),
          ],
        ],
        ['tortie-to-host', toHost(family, config)],
        ['tortie-FORWARD', pods(config, '-i', `${without(marks.seen)} -j DROP`)],
        ...(loops.length > 0 ? ([['tortie-loops', loops]] as const) : []),
      ]),
      hooks: new Map([
        ['INPUT', { first: ['-j tortie-INPUT'] }],
        [
          'FORWARD',
          {
            first: ['-j tortie-FORWARD'],
            // At the end: others' rules come first, as they do in the other dataplane's mode.
            last: [...(loops.length > 0 ? ['-j tortie-loops'] : []), ...forwarded(config, marks)],
          },
        ],
      ]),
    },
  };
}

/** From a pod to its own node, after the pod's egress policy. */
function toHost(family: Family, config: DataplaneConfig): string[] {
  const neighbours = LINK_ICMP6_TYPES.map((type) => `-p 58 -m icmp6 --icmpv6-type ${type} -j ACCEPT`);
  const action = { drop: 'DROP', return: 'RETURN', accept: 'ACCEPT' }[config.endpointToHostAction];
  return [
    ...(family === 6 ? neighbours : []),
    // Answers of pods to their node, a kubelet's probes among them.
    `${ESTABLISHED} ${allowTarget(config)}`,
    `-j ${action}`,
  ];
}

/** What pods send and get has been judged, or is judged behind this. */
function forwarded(config: DataplaneConfig, { seen }: PacketMarks): string[] {
  const target = allowTarget(config);
  return [...pods(config, '-i', `${marked(seen)} ${target}`), ...pods(config, '-o', target)];
}

/** A service's address that nobody has translated would go out to the router, which sends it back. */
function serviceLoops(family: Family, config: DataplaneConfig, ranges: readonly CidrText[]): string[] {
  const { serviceLoopPrevention } = config;
  if (serviceLoopPrevention === 'disabled') return [];
  const target = serviceLoopPrevention === 'reject' ? '-j REJECT' : '-j DROP';
  return [...new Set(ranges.filter((range) => familyOf(range) === family))]
    .sort()
    .map((range) => (range.endsWith('/0') ? target : `-d ${range} ${target}`));
}

/** One rule for each prefix of pod devices: `-i cali+` before what follows. */
const pods = ({ interfacePrefixes }: DataplaneConfig, flag: '-i' | '-o', rest: string): string[] =>
  interfacePrefixes.map((prefix) => `${flag} ${prefix}+ ${rest}`);

const allowTarget = ({ filterAllowAction }: DataplaneConfig): string =>
  filterAllowAction === 'accept' ? '-j ACCEPT' : '-j RETURN';

const hex = (bit: number): string => `0x${bit.toString(16)}`;
const marked = (bit: number): string => `-m mark --mark ${hex(bit)}/${hex(bit)}`;
const without = (bit: number): string => `-m mark --mark 0x0/${hex(bit)}`;
/** Sets the bit, leaves the others, which may be other programs'. */
const setMark = (bit: number): string => `-j MARK --set-xmark ${hex(bit)}/${hex(bit)}`;
const clearMark = (bit: number): string => `-j MARK --set-xmark 0x0/${hex(bit)}`;
