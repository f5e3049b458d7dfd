import { execFileSync } from 'node:child_process';
import { systemClock } from '#api/clock.ts';
import { IptablesDataplane } from '#dataplanes/iptables/iptables.ts';
import type { Logger } from '#dataplanes/logger.ts';
import type { DataplaneConfig, DataplaneUpdate, WorkloadEndpointInfo } from '#dataplanes/messages.ts';
import { VariantChoice } from '#dataplanes/netfilter/variant-choice.ts';
import type { Variant } from '#dataplanes/netfilter/xtables.ts';
import { FakeSysctlMemory } from '#dataplanes/shared/fake-sysctls.ts';
import { HostNetwork } from '#dataplanes/shared/host-network.ts';
import type { SysctlPort } from '#dataplanes/shared/host-sysctls.ts';
import type { Monitor } from '#dataplanes/shared/monitor-follower.ts';
import { TEST_CONFIG } from '#dataplanes/shared/test-config.ts';
import { type CommandRunner, systemCommandRunner } from '#native/command-runner.ts';
import { openConntrack } from '#native/conntrack.ts';
import { openIpset } from '#native/ipset.ts';
import { openMonitor } from '#native/monitor.ts';
import { openNetlink } from '#native/netlink.ts';
import { writeSysctls } from '#native/netns.ts';
import { carrierIsSeen, createNetns, type TestNetns, uniqueName } from '#test/lab/netns.ts';

const quiet: Logger = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

/** A pod's namespace, wired as the CNI plugin does it: device `cali<n>`, addresses 10.65.0.n and fd00:65::n. */
export interface LabPod {
  readonly netns: TestNetns;
  readonly endpoint: WorkloadEndpointInfo;
}

/**
 * One node (a namespace) between pods and an outside host:
 *
 *     pod1 eth0 -- cali1 \
 *                         node  up0 (192.0.2.1, 2001:db8::1) -- eth0 (192.0.2.2, 2001:db8::2) outside
 *     pod2 eth0 -- cali2 /
 *
 * The outside host has no route to the pods.
 */
export class NodeLab implements AsyncDisposable {
  readonly node: TestNetns;
  readonly outside: TestNetns;
  readonly #pods: TestNetns[] = [];
  readonly #open: (AsyncDisposable | Disposable)[] = [];
  /** What the node's sysctls were, for every host network of this lab. */
  readonly sysctlMemory = new FakeSysctlMemory();
  /** Every process that the dataplane started. */
  readonly runs: string[] = [];

  private constructor(node: TestNetns, outside: TestNetns) {
    this.node = node;
    this.outside = outside;
  }

  static async create(): Promise<NodeLab> {
    const lab = new NodeLab(await createNetns(uniqueName()), await createNetns(uniqueName()));
    const { node, outside } = lab;
    await node.exec('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', outside.name);
    for (const [ns, device, n] of [
      [node, 'up0', 1],
      [outside, 'eth0', 2],
    ] as const) {
      await ns.exec('ip', 'addr', 'add', `192.0.2.${n}/24`, 'dev', device);
      await ns.exec('ip', 'addr', 'add', `2001:db8::${n}/64`, 'dev', device, 'nodad');
      await ns.exec(
        'sh',
        '-ec',
        `echo 0 >/proc/sys/net/ipv6/conf/${device}/accept_dad; ip link set ${device} up; ip link set lo up`,
      );
    }
    await carrierIsSeen((...args) => node.exec(...args), 'up0');
    // Without a default route the kernel's proxy ARP does not answer for the pods' gateway, 169.254.1.1.
    await node.exec('ip', 'route', 'add', 'default', 'via', '192.0.2.2');
    await node.exec('ip', '-6', 'route', 'add', 'default', 'via', '2001:db8::2');
    await node.exec(
      'sh',
      '-c',
      'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding',
    );
    return lab;
  }

  /** Makes pod `n` with everything that the CNI plugin writes, routes on the node included. */
  async addPod(n: number): Promise<LabPod> {
    const netns = await createNetns(uniqueName());
    this.#pods.push(netns);
    const { node } = this;
    const device = `cali${n}`;
    await node.exec(
      'ip',
      'link',
      'add',
      device,
      'address',
      'ee:ee:ee:ee:ee:ee',
      'type',
      'veth',
      'peer',
      'name',
      'eth0',
      'netns',
      netns.name,
    );
    await node.exec(
      'sh',
      '-c',
      `cd /proc/sys/net; for s in ipv4/conf/${device}/proxy_arp=1 ipv4/conf/${device}/forwarding=1 ipv4/neigh/${device}/proxy_delay=0 ` +
        `ipv4/conf/${device}/route_localnet=1 ipv6/conf/${device}/proxy_ndp=1 ipv6/conf/${device}/forwarding=1 ipv6/conf/${device}/accept_ra=0 ` +
        `ipv6/conf/${device}/accept_dad=0; do echo "\${s#*=}" >"\${s%=*}"; done; ip link set ${device} up`,
    );
    const [v4, v6] = [`10.65.0.${n}`, `fd00:65::${n}`];
    await netns.exec(
      'sh',
      '-ec',
      `echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad; ip link set lo up; ip link set eth0 up; ip addr add ${v4}/32 dev eth0; ip addr add ${v6}/128 dev eth0 nodad
       ip route add 169.254.1.1 dev eth0 scope link; ip route add default via 169.254.1.1; ip -6 route add default via fe80::ecee:eeff:feee:eeee dev eth0`,
    );
    const link = await netns.ip<{ address: string }[]>('link', 'show', 'eth0');
    const mac = link[0]?.address ?? '';
    await node.exec('ip', 'route', 'add', `${v4}/32`, 'dev', device, 'scope', 'link', 'proto', '3', 'metric', '1024');
    await node.exec('ip', '-6', 'route', 'add', `${v6}/128`, 'dev', device, 'proto', '3', 'metric', '1024');
    return {
      netns,
      endpoint: {
        ifaceName: device,
        mac,
        ipv4Nets: [`${v4}/32`],
        ipv6Nets: [`${v6}/128`],
        allowedSourcePrefixes: [],
        tiers: [],
        profiles: ['kns.default'],
      },
    };
  }

  /** The dataplane on this node. */
  dataplane(): IptablesDataplane {
    const { commands } = this;
    const ns = { path: this.node.path };
    const [host, sets, conntrack] = [openNetlink(ns), openIpset(ns), openConntrack(ns)];
    const variants = new VariantChoice(commands, quiet);
    const dataplane = new IptablesDataplane({
      commands,
      host,
      sets,
      conntrack,
      openMonitor: () => openMonitor(['link', 'addr4', 'addr6'], ns),
      variants,
      clock: systemClock,
      log: quiet,
      hasIpv6: () => true,
    });
    this.#open.push(dataplane, host, sets, conntrack);
    return dataplane;
  }

  /** The host network of this node; each of the kernel's events reaches it when `gate` resolves. */
  hostNetwork(gate: () => Promise<void> = () => Promise.resolve()): HostNetwork {
    const ns = { path: this.node.path };
    const { commands } = this;
    const [host, sets] = [openNetlink(ns), openIpset(ns)];
    const network = new HostNetwork({
      host,
      sets,
      commands,
      openMonitor: () => gated(openMonitor(['link', 'addr4', 'addr6', 'route4', 'route6', 'neigh'], ns), gate),
      sysctls: this.sysctls,
      sysctlMemory: this.sysctlMemory,
      variants: new VariantChoice(commands, quiet),
      clock: systemClock,
      log: quiet,
    });
    this.#open.push(network, host, sets);
    return network;
  }

  /** Runs programs in the node's namespace and remembers them. */
  get commands(): CommandRunner {
    return {
      run: (file, args, options) => {
        this.runs.push([file, ...args].join(' '));
        return systemCommandRunner.run('ip', ['netns', 'exec', this.node.name, file, ...args], options);
      },
    };
  }

  get restores(): number {
    return this.runs.filter((run) => run.includes('-restore')).length;
  }

  get sysctls(): SysctlPort {
    return {
      write: (sysctls) => writeSysctls(sysctls, { path: this.node.path }),
      read: (path) => {
        try {
          return execFileSync('ip', ['netns', 'exec', this.node.name, 'cat', `/proc/sys/${path}`], {
            stdio: ['ignore', 'pipe', 'ignore'],
          })
            .toString()
            .trim();
        } catch {
          return undefined;
        }
      },
    };
  }

  /**
   * Everything in the node's namespace that a dataplane could leave behind, as text. What the legacy variant can't be rid of is left out: a
   * table that was looked at stays registered, empty. Counters, times and the seeds of sets are left out, too.
   */
  async snapshot(): Promise<string> {
    const parts: string[] = [];
    for (const tool of ['iptables-legacy-save', 'ip6tables-legacy-save'])
      parts.push(withoutEmptyTables(await this.node.exec(tool)));
    parts.push((await this.node.exec('nft', 'list', 'ruleset')).replaceAll(/packets \d+ bytes \d+/g, ''));
    parts.push((await this.node.exec('ipset', 'save')).replaceAll(/ initval \S+/g, ''));
    for (const family of ['-4', '-6']) {
      parts.push((await this.node.exec('ip', family, 'route', 'show', 'table', 'main')).replaceAll(/expires \S+/g, ''));
      parts.push(
        (await this.node.exec('ip', family, 'neigh', 'show', 'nud', 'permanent')).split('\n').sort().join('\n'),
      );
    }
    return parts.join('\n---\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const open of this.#open) {
      if (Symbol.asyncDispose in open) await open[Symbol.asyncDispose]();
      else open[Symbol.dispose]();
    }
    for (const netns of [...this.#pods, this.outside, this.node]) await netns[Symbol.asyncDispose]();
  }
}

function gated(monitor: Monitor, gate: () => Promise<void>): Monitor {
  return {
    async *[Symbol.asyncIterator]() {
      for await (const event of monitor) {
        await gate();
        yield event;
      }
    },
    [Symbol.dispose]: () => monitor[Symbol.dispose](),
  };
}

function withoutEmptyTables(save: string): string {
  return save
    .split(/(?=^\*)/m)
    .filter((table) => /^-A |^:\S+ (?:-|DROP)/m.test(table))
    .join('')
    .replaceAll(/^#.*\n|\[\d+:\d+\]/gm, '');
}

/** Pings from the namespace until one is answered, for at most 30 s; `source` is the source address. Rejects when none is. */
export async function reaches(from: TestNetns, to: string, source?: string): Promise<void> {
  await from.exec('ping', '-c', '1', '-w', '30', ...(source === undefined ? [] : ['-I', source]), to);
}

/** Rejects if one of three pings is answered. Only worth something where `reaches` succeeds before or after. */
export async function isCutOff(from: TestNetns, to: string, source?: string): Promise<void> {
  const answered = await from
    .exec('ping', '-c', '3', '-i', '0.1', '-W', '0.5', ...(source === undefined ? [] : ['-I', source]), to)
    .then(
      () => true,
      () => false,
    );
  if (answered) throw new Error(`${from.name} reaches ${to} from ${source ?? 'its own address'}`);
}

/** The configuration for one variant, with intervals that never end during a test; pods reach their host. */
export const labConfig = (iptablesBackend: Variant | 'auto', more: Partial<DataplaneConfig> = {}): DataplaneUpdate => ({
  type: 'configUpdate',
  config: {
    ...TEST_CONFIG,
    iptablesBackend,
    iptablesPostWriteCheckIntervalMs: 0,
    endpointToHostAction: 'accept',
    ...more,
  },
});

export const announce = (
  n: number,
  { endpoint }: LabPod,
  more: Partial<WorkloadEndpointInfo> = {},
): DataplaneUpdate => ({
  type: 'workloadEndpointUpdate',
  id: `k8s/default/pod-${n}/eth0`,
  endpoint: { ...endpoint, ...more },
});
