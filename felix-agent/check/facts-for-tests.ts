import { parseSave } from '#dataplanes/netfilter/saved.ts';
import type { Variant } from '#dataplanes/netfilter/xtables.ts';
import type { NftRuleset } from '#native/nftables.ts';
import type { Family } from '#native/types.ts';
import { sysctlPaths } from './judge-sysctls.ts';
import { known } from './result.ts';
import type { CheckSettings, Device, FileFacts, NodeFacts, SaveFacts } from './facts.ts';

/** A node on which everything is as it should be. */
export function goodFacts(changes: Partial<NodeFacts> = {}): NodeFacts {
  return {
    features: [],
    sysctls: sysctls({}),
    netfilter: { nft: known(ruleset()), saves: [save('nft', 4, kubeProxy), save('nft', 6, kubeProxy)] },
    devices: known([device('lo'), device('eth0', { isUplink: true })]),
    programs: known(new Set<string>()),
    files: files({}),
    listeners: known([]),
    proxyMode: known('iptables'),
    ...changes,
  };
}

export const settings: CheckSettings = {
  wanted: 'iptables',
  ipv6Support: true,
  interfacePrefixes: ['cali'],
  iptablesBackend: 'auto',
  bpffs: '/sys/fs/bpf/tortie',
  ports: [
    { port: 9099, host: 'localhost', setting: 'healthPort' },
    { port: 9091, host: '', setting: 'prometheusMetricsPort' },
  ],
};

/** What kube-proxy writes, as far as it matters. */
export const kubeProxy =
  '*nat\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\nCOMMIT\n';

export const device = (name: string, more: Partial<Device> = {}): Device => ({
  name,
  mtu: 1500,
  up: true,
  isUplink: false,
  ...more,
});

export const save = (variant: Variant, family: Family, text: string): SaveFacts => ({
  variant,
  family,
  tables: known(parseSave(text)),
});

/** A chain at the forward hook that drops by default. */
export interface ForwardChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
}

export const ruleset = (...forwardChains: readonly ForwardChain[]): NftRuleset => ({
  tables: forwardChains.map(({ family, table }) => ({ family, name: table })),
  baseChains: forwardChains.map((chain) => ({
    ...chain,
    type: 'filter',
    hook: 'forward',
    priority: 0,
    policy: 'drop',
  })),
});

/** The usual values, and these. */
export function sysctls(
  values: Readonly<Record<string, string | undefined>>,
  writable: readonly string[] = [],
): NodeFacts['sysctls'] {
  const usual = {
    [sysctlPaths.forwarding4]: '1',
    [sysctlPaths.forwarding6]: '1',
    [sysctlPaths.rpFilter('all')]: '0',
    [sysctlPaths.rpFilter('eth0')]: '2',
    [sysctlPaths.conntrackCount]: '10',
    [sysctlPaths.conntrackMax]: '262144',
    [sysctlPaths.jit]: '1',
    [sysctlPaths.unprivilegedBpf]: '2',
  };
  return { values: new Map(Object.entries({ ...usual, ...values })), writable: new Set(writable) };
}

export const files = (changes: Partial<FileFacts>): FileFacts => ({
  cniConfs: known([]),
  cniDirectories: [],
  networkManager: known({ files: [], udevRules: [] }),
  networkd: known({ networks: [], main: [], dropIns: [] }),
  missingModules: known(undefined),
  foreignLock: undefined,
  ...changes,
});
