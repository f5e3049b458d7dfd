import { describe, expect, test } from '@jest/globals';
import { CALI_RULES } from '#dataplanes/netfilter/rules.ts';
import { madeByUs } from '#dataplanes/netfilter/table.ts';
import { checkTable, type CheckId } from './check-table.ts';
import { evaluate, exitStatusOf, problemsOf } from './evaluate.ts';
import {
  device,
  files,
  goodFacts,
  kubeProxy,
  ruleset,
  save,
  settings,
  sysctls,
  type ForwardChain,
} from './facts-for-tests.ts';
import type { CheckSettings, NodeFacts } from './facts.ts';
import { sysctlPaths } from './judge-sysctls.ts';
import { known, notKnown, type CheckResult, type Finding, type Outcome, type Severity } from './result.ts';

interface Case {
  /** "a node ..." */
  readonly node: string;
  readonly facts?: Partial<NodeFacts>;
  readonly settings?: Partial<CheckSettings>;
  readonly id: CheckId;
  readonly outcome: Outcome;
  readonly severity?: Severity;
  readonly subject?: string;
  /** Words of the detail. */
  readonly says?: string;
}

const running = (...names: readonly string[]): Partial<NodeFacts> => ({ programs: known(new Set(names)) });
const saved = (...saves: NodeFacts['netfilter']['saves']): Partial<NodeFacts> => ({
  netfilter: { nft: known(ruleset()), saves },
});
const filter = (forward: 'ACCEPT' | 'DROP', rules = ''): string =>
  `*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ${forward} [0:0]\n:OUTPUT ACCEPT [0:0]\n${rules}COMMIT\n`;
const forward = (...chains: readonly ForwardChain[]): Partial<NodeFacts> => ({
  netfilter: { nft: known(ruleset(...chains)), saves: [save('nft', 4, filter('ACCEPT'))] },
});
const listener = (port: number, address: string, isOurs = false): Partial<NodeFacts> => ({
  listeners: known([{ port, address, isOurs, program: isOurs ? undefined : 'nginx (process 7)' }]),
});
const lacking: Finding = { id: 'vxlan', outcome: 'no', detail: 'Unknown device type' };
const uplinks = [device('eth0', { isUplink: true }), device('eth1', { isUplink: true, mtu: 9000 })];
const twoUplinks = known(uplinks);
const calico =
  '*filter\n:cali-FORWARD - [0:0]\n-A cali-FORWARD -m comment --comment "cali:vjrMJCRpqwy5oRoX" -j DROP\nCOMMIT\n';

const cases: readonly Case[] = [
  // sysctls
  { node: 'that forwards', id: 'forwarding', outcome: 'yes', subject: 'net.ipv4.ip_forward', says: '1' },
  {
    node: 'that does not forward yet',
    facts: { sysctls: sysctls({ [sysctlPaths.forwarding4]: '0' }, [sysctlPaths.forwarding4]) },
    id: 'forwarding',
    outcome: 'yes',
    says: '0; the agent sets it to 1',
  },
  {
    node: 'that can not be made to forward',
    facts: { sysctls: sysctls({ [sysctlPaths.forwarding4]: '0' }) },
    id: 'forwarding',
    outcome: 'no',
    severity: 'blocks',
    says: "can't be written",
  },
  {
    node: 'that can not be made to forward IPv6',
    facts: { sysctls: sysctls({ [sysctlPaths.forwarding6]: '0' }) },
    id: 'forwarding',
    subject: 'net.ipv6.conf.all.forwarding',
    outcome: 'no',
    severity: 'degrades',
  },
  { node: 'with a loose filter', id: 'rp-filter', subject: 'eth0', outcome: 'yes' },
  {
    node: 'with one uplink and a strict filter',
    facts: { sysctls: sysctls({ [sysctlPaths.rpFilter('eth0')]: '1' }) },
    id: 'rp-filter',
    subject: 'eth0',
    outcome: 'no',
    severity: 'note',
    says: 'net.ipv4.conf.eth0.rp_filter=1',
  },
  {
    node: 'with two uplinks and a filter that is strict for all',
    facts: {
      devices: twoUplinks,
      sysctls: sysctls({ [sysctlPaths.rpFilter('all')]: '1', 'net/ipv4/conf/eth1/rp_filter': '0' }),
    },
    id: 'rp-filter',
    subject: 'eth1',
    outcome: 'no',
    severity: 'degrades',
    says: 'net.ipv4.conf.all.rp_filter=1',
  },
  {
    node: 'whose uplink is loose where all are strict: the higher value is in force',
    facts: { sysctls: sysctls({ [sysctlPaths.rpFilter('all')]: '1', [sysctlPaths.rpFilter('eth0')]: '2' }) },
    id: 'rp-filter',
    outcome: 'yes',
  },
  {
    node: 'whose devices can not be read',
    facts: { devices: notKnown('EPERM') },
    id: 'rp-filter',
    outcome: 'unknown',
    says: 'EPERM',
  },
  {
    node: 'without connection tracking yet',
    facts: { sysctls: sysctls({ [sysctlPaths.conntrackMax]: undefined, [sysctlPaths.conntrackCount]: undefined }) },
    id: 'conntrack-room',
    outcome: 'yes',
  },
  ...(
    [
      ['79', 'yes'],
      ['80', 'no'],
    ] as const
  ).map(([count, outcome]): Case => ({
    node: `with ${count} of 100 connections`,
    facts: { sysctls: sysctls({ [sysctlPaths.conntrackCount]: count, [sysctlPaths.conntrackMax]: '100' }) },
    id: 'conntrack-room',
    outcome,
    severity: 'degrades',
  })),
  {
    node: 'that interprets programs, in iptables mode',
    facts: { sysctls: sysctls({ [sysctlPaths.jit]: '0' }) },
    id: 'bpf-jit',
    outcome: 'no',
    severity: 'note',
  },
  {
    node: 'that interprets programs, in eBPF mode',
    facts: { sysctls: sysctls({ [sysctlPaths.jit]: '0' }) },
    settings: { wanted: 'ebpf' },
    id: 'bpf-jit',
    outcome: 'no',
    severity: 'degrades',
  },
  {
    node: 'whose network namespace does not show it',
    facts: { sysctls: sysctls({ [sysctlPaths.jit]: undefined }) },
    id: 'bpf-jit',
    outcome: 'unknown',
  },
  {
    node: 'on which anybody may load programs',
    facts: { sysctls: sysctls({ [sysctlPaths.unprivilegedBpf]: '0' }) },
    id: 'bpf-unprivileged',
    outcome: 'no',
    severity: 'note',
  },
  // rules
  { node: 'with iptables', id: 'iptables-tools', subject: 'nft, IPv4', outcome: 'yes' },
  { node: 'without iptables', facts: saved(), id: 'iptables-tools', outcome: 'no', severity: 'blocks' },
  {
    node: 'without the variant that is asked for',
    settings: { iptablesBackend: 'legacy' },
    id: 'iptables-tools',
    outcome: 'no',
    says: 'iptables-legacy-save is not installed',
  },
  {
    node: 'on which the tool does not work',
    facts: saved({ variant: 'nft', family: 4, tables: notKnown('RULE_APPEND failed (No such file)') }),
    id: 'iptables-tools',
    outcome: 'no',
    says: 'RULE_APPEND failed',
  },
  {
    node: 'on which we may not use the tool',
    facts: saved({ variant: 'nft', family: 4, tables: notKnown('you must be root: Permission denied') }),
    id: 'iptables-tools',
    outcome: 'unknown',
  },
  {
    node: 'with rules of others in both variants',
    facts: saved(save('nft', 4, kubeProxy), save('legacy', 4, filter('ACCEPT', '-A INPUT -j DROP\n'))),
    id: 'iptables-variants',
    outcome: 'no',
    severity: 'note',
    says: 'nft: 1 rules of others, legacy: 1 rules of others',
  },
  { node: 'with rules in one variant', id: 'iptables-variants', outcome: 'yes' },
  { node: 'that drops nothing by default', id: 'forward-policy', outcome: 'yes' },
  {
    node: "with docker's policy, where we write too",
    facts: forward({ family: 'ip', table: 'filter', name: 'FORWARD' }),
    id: 'forward-policy',
    subject: 'iptables-nft, IPv4, FORWARD',
    outcome: 'yes',
    says: 'docker',
  },
  {
    node: "with docker's policy, in eBPF mode",
    facts: forward({ family: 'ip', table: 'filter', name: 'FORWARD' }),
    settings: { wanted: 'ebpf' },
    id: 'forward-policy',
    outcome: 'yes',
  },
  {
    node: "with docker's policy in nft, where we write to legacy",
    facts: forward({ family: 'ip6', table: 'filter', name: 'FORWARD' }),
    settings: { iptablesBackend: 'legacy' },
    id: 'forward-policy',
    subject: 'iptables-nft, IPv6, FORWARD',
    outcome: 'no',
    severity: 'blocks',
  },
  {
    node: "with docker's policy in legacy, where kubelet uses nft",
    facts: saved(
      save('nft', 4, '*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n'),
      save('legacy', 4, filter('DROP', '-A FORWARD -j DOCKER\n-A FORWARD -j X\n')),
    ),
    id: 'forward-policy',
    subject: 'iptables-legacy, IPv4, FORWARD',
    outcome: 'no',
    severity: 'blocks',
  },
  {
    node: "with docker's policy in legacy, where we write too",
    facts: saved(save('legacy', 4, filter('DROP', '-A FORWARD -j DOCKER\n'))),
    id: 'forward-policy',
    outcome: 'yes',
  },
  {
    node: "with an administrator's own table",
    facts: forward({ family: 'inet', table: 'filter', name: 'forward' }),
    id: 'forward-policy',
    subject: 'nft table inet filter, chain forward',
    outcome: 'no',
    severity: 'blocks',
  },
  {
    node: 'that filters bridged frames only',
    facts: forward({ family: 'bridge', table: 'filter', name: 'FORWARD' }),
    id: 'forward-policy',
    outcome: 'yes',
  },
  {
    node: 'whose tables can not be read',
    facts: { netfilter: { nft: notKnown('EPERM'), saves: [save('nft', 4, '')] } },
    id: 'forward-policy',
    outcome: 'unknown',
  },
  { node: 'with firewalld running', facts: running('firewalld'), id: 'firewalld', outcome: 'no', severity: 'blocks' },
  {
    node: "with firewalld's table",
    facts: forward({ family: 'inet', table: 'firewalld', name: 'filter_FORWARD' }),
    id: 'firewalld',
    outcome: 'no',
    says: 'nft table inet firewalld',
  },
  {
    node: "with firewalld's chains of iptables",
    facts: saved(save('nft', 4, filter('ACCEPT', ':FORWARD_direct - [0:0]\n'))),
    id: 'firewalld',
    outcome: 'no',
  },
  {
    node: 'whose tables can not be read',
    facts: { netfilter: { nft: notKnown('EPERM'), saves: [] } },
    id: 'firewalld',
    outcome: 'unknown',
  },
  {
    node: 'with ufw in use',
    facts: saved(save('nft', 4, filter('DROP', ':ufw-before-input - [0:0]\n-A INPUT -j ufw-before-input\n'))),
    id: 'ufw',
    outcome: 'no',
    severity: 'degrades',
    says: 'INPUT',
  },
  {
    node: 'with ufw disabled, which leaves chains',
    facts: saved(save('nft', 4, filter('ACCEPT', ':ufw-before-input - [0:0]\n'))),
    id: 'ufw',
    outcome: 'yes',
  },
  // other plugins
  {
    node: "with Calico's node agent",
    facts: running('calico-node'),
    id: 'other-plugin',
    outcome: 'no',
    severity: 'blocks',
    says: 'calico-node (Calico)',
  },
  {
    node: "with another Felix's chains",
    facts: saved(save('nft', 4, calico)),
    id: 'other-plugin',
    outcome: 'no',
    says: '1 chains cali-*',
  },
  {
    node: 'with our own chains, one of which somebody has changed',
    facts: saved(save('nft', 4, calico.replace('COMMIT', `:${madeByUs(CALI_RULES)} - [0:0]\nCOMMIT`))),
    id: 'other-plugin',
    outcome: 'yes',
  },
  {
    node: 'whose programs can not be seen',
    facts: { programs: notKnown('no hostPID') },
    id: 'other-plugin',
    outcome: 'unknown',
    says: 'no hostPID',
  },
  {
    node: "with Flannel's device",
    facts: { devices: known([device('flannel.1')]) },
    id: 'leftovers',
    outcome: 'no',
    severity: 'degrades',
    says: 'flannel.1',
  },
  {
    node: "with Cilium's chains",
    facts: saved(save('legacy', 4, filter('ACCEPT', ':CILIUM_FORWARD - [0:0]\n'))),
    id: 'leftovers',
    outcome: 'no',
    says: 'Cilium',
  },
  {
    node: "with our VXLAN device, which has Calico's name",
    facts: { devices: known([device('vxlan.calico')]) },
    id: 'leftovers',
    outcome: 'yes',
  },
  // the node
  { node: 'without NetworkManager', id: 'network-manager', outcome: 'yes' },
  {
    node: 'with NetworkManager',
    facts: running('NetworkManager'),
    id: 'network-manager',
    outcome: 'no',
    severity: 'degrades',
  },
  {
    node: 'with NetworkManager that leaves our devices alone',
    facts: {
      ...running('NetworkManager'),
      files: files({
        networkManager: known({
          files: [
            { path: '/etc/NetworkManager/conf.d/x.conf', text: '[keyfile]\nunmanaged-devices=interface-name:cali*' },
          ],
          udevRules: [],
        }),
      }),
    },
    id: 'network-manager',
    outcome: 'yes',
  },
  {
    node: 'with NetworkManager, in a container that does not see its files',
    facts: { ...running('NetworkManager'), files: files({ networkManager: notKnown('no hostPID') }) },
    id: 'network-manager',
    outcome: 'unknown',
    says: 'no hostPID',
  },
  {
    node: 'with systemd-networkd and a file for every device',
    facts: {
      ...running('systemd-network'),
      files: files({
        networkd: known({
          networks: [{ path: '/etc/systemd/network/all.network', text: '[Match]\nName=*' }],
          main: [],
          dropIns: [],
        }),
      }),
    },
    id: 'networkd',
    outcome: 'no',
    severity: 'degrades',
    says: '/etc/systemd/network/all.network',
  },
  {
    node: 'with systemd-networkd and no file for ours',
    facts: running('systemd-network'),
    id: 'networkd',
    outcome: 'yes',
  },
  {
    node: 'with systemd-networkd as it comes',
    facts: running('systemd-network'),
    id: 'networkd-routes',
    outcome: 'no',
    severity: 'degrades',
  },
  {
    node: 'with systemd-networkd that leaves routes alone',
    facts: {
      ...running('systemd-network'),
      files: files({
        networkd: known({
          networks: [],
          main: [{ path: '/etc/systemd/networkd.conf', text: '[Network]\nManageForeignRoutes=no' }],
          dropIns: [],
        }),
      }),
    },
    id: 'networkd-routes',
    outcome: 'yes',
  },
  { node: 'without systemd-networkd', id: 'networkd-routes', outcome: 'yes' },
  { node: 'without a CNI configuration', id: 'cni-conf', outcome: 'yes' },
  ...['05-cilium.conflist', '10-calico.conflist', '10-flannel.conflist', '00-multus.conf'].map((subject): Case => ({
    node: `with ${subject}`,
    facts: { files: files({ cniConfs: known(['10-tortie.conflist', subject].sort()) }) },
    id: 'cni-conf',
    subject,
    outcome: 'no',
    severity: 'blocks',
  })),
  ...['100-crio-bridge.conf', '87-podman.conflist'].map((name): Case => ({
    node: `with ${name}, which comes after ours`,
    facts: { files: files({ cniConfs: known([name]) }) },
    id: 'cni-conf',
    outcome: 'yes',
    says: name,
  })),
  {
    node: 'whose plugin directory is read-only',
    facts: {
      files: files({ cniDirectories: [{ path: '/opt/cni/bin', refused: known('EROFS: read-only file system') }] }),
    },
    id: 'cni-directories',
    subject: '/opt/cni/bin',
    outcome: 'no',
    severity: 'blocks',
    says: 'EROFS',
  },
  { node: 'with kube-proxy that answers', id: 'kube-proxy', subject: 'iptables', outcome: 'yes', says: 'it says' },
  {
    node: 'with kube-proxy that does not answer',
    facts: { proxyMode: known(undefined) },
    id: 'kube-proxy',
    subject: 'iptables',
    outcome: 'yes',
    says: 'by its rules',
  },
  {
    node: 'without kube-proxy',
    facts: { proxyMode: known(undefined), ...saved(save('nft', 4, '')) },
    id: 'kube-proxy',
    outcome: 'no',
    severity: 'degrades',
  },
  {
    node: 'with kube-proxy in mode nftables, after mode iptables',
    facts: { proxyMode: known('nftables') },
    id: 'kube-proxy',
    subject: 'iptables',
    outcome: 'no',
    severity: 'note',
    says: 'it runs in mode nftables',
  },
  {
    node: "with kube-proxy's table of mode nftables",
    facts: { proxyMode: known(undefined), ...forward({ family: 'ip', table: 'kube-proxy', name: 'filter-forward' }) },
    id: 'kube-proxy',
    subject: 'nftables',
    outcome: 'yes',
  },
  {
    node: 'with kube-proxy in mode ipvs',
    facts: { proxyMode: known(undefined), devices: known([device('kube-ipvs0')]), ...saved(save('nft', 4, '')) },
    id: 'kube-proxy',
    subject: 'ipvs',
    outcome: 'no',
    severity: 'degrades',
  },
  { node: 'with free ports', id: 'ports', subject: 'healthPort 9099', outcome: 'yes' },
  {
    node: 'with our ports',
    facts: listener(9099, '127.0.0.1', true),
    id: 'ports',
    subject: 'healthPort 9099',
    outcome: 'yes',
  },
  ...['127.0.0.1', '127.0.0.53', '0.0.0.0', '::', '::1'].map((address): Case => ({
    node: `on which another program has the health port at ${address}`,
    facts: listener(9099, address),
    id: 'ports',
    subject: 'healthPort 9099',
    outcome: 'no',
    severity: 'degrades',
    says: `nginx (process 7) listens on ${address}`,
  })),
  {
    node: 'on which another program has the health port at another address',
    facts: listener(9099, '192.0.2.1'),
    id: 'ports',
    subject: 'healthPort 9099',
    outcome: 'yes',
  },
  {
    node: 'on which another program has the metrics port at any address',
    facts: listener(9091, '192.0.2.1'),
    id: 'ports',
    subject: 'prometheusMetricsPort 9091',
    outcome: 'no',
  },
  { node: 'without pods', facts: { devices: twoUplinks }, id: 'mtu', outcome: 'yes', says: 'eth1 9000' },
  {
    node: 'with pods of a larger MTU than one of its uplinks',
    facts: { devices: known([...uplinks, device('cali1', { mtu: 9000 })]) },
    id: 'mtu',
    outcome: 'no',
    severity: 'degrades',
    says: 'cali1 9000',
  },
  { node: 'without an uplink', facts: { devices: known([device('lo')]) }, id: 'mtu', outcome: 'unknown' },
  {
    node: 'without modules, that lacks something',
    facts: { features: [lacking], files: files({ missingModules: known('/lib/modules/1') }) },
    id: 'modules',
    outcome: 'no',
    severity: 'note',
  },
  {
    node: 'without modules, that needs none',
    facts: { files: files({ missingModules: known('/lib/modules/1') }) },
    id: 'modules',
    outcome: 'yes',
  },
  {
    node: 'with a lock of its own',
    facts: { files: files({ foreignLock: 'this container has one of its own' }) },
    id: 'xtables-lock',
    outcome: 'no',
    severity: 'degrades',
  },
];

describe('a check', () => {
  test.each(cases)('$id of a node $node: $outcome', ({ facts, settings: changed, id, subject, ...expected }) => {
    const results = evaluate(goodFacts(facts), { ...settings, ...changed });
    const found = results.filter((result) => result.id === id && (subject === undefined || result.subject === subject));
    const { outcome, severity, says } = expected;
    expect(found.map((result) => result.outcome)).toContain(outcome);
    const result = found.find((each) => each.outcome === outcome) as CheckResult;
    if (severity !== undefined) expect(result.severity).toBe(severity);
    if (says !== undefined) expect(result.detail).toContain(says);
  });

  test('of a node where all is well finds nothing', () => {
    const results = evaluate(goodFacts(), settings);
    expect(results.filter(({ outcome }) => outcome !== 'yes')).toEqual([]);
    expect(exitStatusOf(results)).toBe(0);
  });

  test('says what is disabled and what to do, from the table where the case has nothing more exact', () => {
    const [result] = evaluate(goodFacts({ features: [lacking] }), settings);
    const { disables, todo, severity } = checkTable.vxlan;
    expect(result).toEqual({
      id: 'vxlan',
      subject: '',
      outcome: 'no',
      detail: 'Unknown device type',
      disables,
      todo,
      severity,
    });
  });

  test('has results in the order of the table', () => {
    const order = Object.keys(checkTable);
    const places = evaluate(goodFacts({ features: [{ ...lacking, id: 'bpf' }, lacking] }), settings).map(({ id }) =>
      order.indexOf(id),
    );
    expect(places).toEqual(places.toSorted((a, b) => a - b));
  });

  test.each([
    ['iptables', 'ipset', 'blocks'],
    ['iptables', 'bpf', 'note'],
    ['iptables', 'iptables-rules', 'blocks'],
    ['ebpf', 'bpf', 'blocks'],
    ['ebpf', 'iptables-rules', 'note'],
    ['ebpf', 'ipset', 'blocks'],
  ] as const)('where %s is wanted, a node without %s: %s', (wanted, id, severity) => {
    const results = evaluate(goodFacts({ features: [{ id, outcome: 'no', detail: '' }] }), { ...settings, wanted });
    expect(results.find((result) => result.id === id)?.severity).toBe(severity);
    expect(problemsOf(results)).toHaveLength(severity === 'note' ? 0 : 1);
  });

  test.each<[string, readonly (readonly [Outcome, Severity])[], number]>([
    ['nothing is found', [], 0],
    ['all is fine', [['yes', 'blocks']], 0],
    ['something degrades', [['no', 'degrades']], 0],
    ['something that only degrades can not be told', [['unknown', 'degrades']], 0],
    ['something blocks', [['no', 'blocks']], 1],
    ['something that would block can not be told', [['unknown', 'blocks']], 3],
    [
      'one blocks, another can not be told',
      [
        ['unknown', 'blocks'],
        ['no', 'blocks'],
      ],
      1,
    ],
  ])('when %s the exit status follows', (_, outcomes, status) => {
    const results = outcomes.map(([outcome, severity]) => ({ outcome, severity }) as CheckResult);
    expect(exitStatusOf(results)).toBe(status);
  });
});
