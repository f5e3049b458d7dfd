/** What the behaviour table is run on. */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cleanupParts } from '#agent/container.ts';
import { createLog } from '#agent/log.ts';
import type { Dataplane, DataplaneCapabilities } from '#dataplanes/contract.ts';

/** One way of running the agents. */
export interface Combination {
  readonly name: string;
  /** The dataplane's kind, as its factory says it. */
  readonly kind: string;
  /** FelixConfiguration that chooses it. */
  readonly felix: Readonly<Record<string, unknown>>;
  /** Variables of the agents that choose it. */
  readonly env: Readonly<Record<string, string>>;
  /** Another way that a running cluster can be changed to, as variables of a restarted agent; absent: there is none. */
  readonly otherVariant?: Readonly<Record<string, string>>;
  /** FelixConfiguration that chooses another dataplane, where the objects of every bed let a node change to it. */
  readonly otherDataplane?: Readonly<Record<string, unknown>>;
  /** Shell, in a node's namespace, that takes away by hand what keeps packets judged; and how another program's rules get in. */
  readonly sabotage: Readonly<Record<string, string>>;
  /** The program that others write their IPv4 rules with here; IPv6's has a 6 in the fourth place. */
  readonly iptables: string;
}

const nft = { FELIX_IPTABLESBACKEND: 'NFT' } as const;
const legacy = { FELIX_IPTABLESBACKEND: 'Legacy' } as const;

/** What somebody does to the rules and sets of iptables, by variant. */
function sabotageOf(variant: 'nft' | 'legacy'): Record<string, string> {
  const each = (script: string) => `for t in iptables-${variant} ip6tables-${variant}; do ${script}; done`;
  const chains = `$($t-save -t filter | sed -n 's/^:\\(cali-[^ ]*\\).*/\\1/p')`;
  return {
    'all our chains of the filter table are flushed': each(`for c in ${chains}; do $t -F $c; done`),
    'FORWARD is flushed': each('$t -F FORWARD'),
    'FORWARD, INPUT and OUTPUT are flushed': each('for c in FORWARD INPUT OUTPUT; do $t -F $c; done'),
    'the raw table is flushed': each('$t -t raw -F'),
    'all sets are flushed': 'ipset flush',
  };
}

/** A further dataplane is one line here. */
export const combinations: readonly Combination[] = [
  {
    name: 'iptables-nft',
    kind: 'iptables',
    felix: { bpfEnabled: false },
    env: nft,
    otherVariant: legacy,
    sabotage: sabotageOf('nft'),
    iptables: 'iptables-nft',
  },
  {
    name: 'iptables-legacy',
    kind: 'iptables',
    felix: { bpfEnabled: false },
    env: legacy,
    otherVariant: nft,
    sabotage: sabotageOf('legacy'),
    iptables: 'iptables-legacy',
  },
  {
    name: 'ebpf',
    kind: 'ebpf',
    felix: { bpfEnabled: true },
    env: {},
    otherDataplane: { bpfEnabled: false },
    sabotage: {
      'the programs are taken off all pod devices': `for d in $(ip -o link | sed -n 's/^[0-9]*: \\(cali[^@:]*\\).*/\\1/p'); do tc qdisc del dev $d clsact; done`,
    },
    iptables: 'iptables-nft',
  },
];

/** What the dataplane of this kind can do, as it says itself. */
export async function capabilitiesOf({ kind }: Pick<Combination, 'kind'>): Promise<DataplaneCapabilities> {
  const nowhere = join(tmpdir(), `tt${process.pid}-nowhere`);
  await using parts = cleanupParts(
    { nodeName: 'x', runDir: nowhere, stateDir: nowhere, bpffs: nowhere },
    createLog('x'),
  );
  const dataplane = parts.programmers.find((part): part is Dataplane => 'kind' in part && part.kind === kind);
  if (dataplane === undefined) throw new Error(`no dataplane of kind ${kind} is installed`);
  return dataplane.capabilities;
}
