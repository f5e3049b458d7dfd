import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { scheduler } from 'node:timers/promises';
import { type Clock, systemClock } from '#api/clock.ts';
import type { ApplyReport, DeviceCounters } from '#dataplanes/contract.ts';
import { EbpfDataplane } from '#dataplanes/ebpf/ebpf.ts';
import type { DataplaneConfig, DataplaneUpdate, MapSizeSettings, WorkloadEndpointInfo } from '#dataplanes/messages.ts';
import type { Logger } from '#dataplanes/logger.ts';
import { silentLogger } from '#dataplanes/silent-logger.ts';
import { ALLOW_ALL, TEST_CONFIG } from '#dataplanes/shared/test-config.ts';
import { VariantChoice } from '#dataplanes/netfilter/variant-choice.ts';
import { loadObject, type LoadedObject } from '#native/bpf.ts';
import { type CommandRunner, systemCommandRunner } from '#native/command-runner.ts';
import { type Conntrack, openConntrack } from '#native/conntrack.ts';
import { openMonitor } from '#native/monitor.ts';
import { openNetlink } from '#native/netlink.ts';
import type { Netlink, NetlinkOp } from '#native/types.ts';
import { createNetns, type TestNetns, uniqueName } from '#test/lab/netns.ts';

export const ebpfObjects = new URL('../../dist/bpf', import.meta.url).pathname;
const injectElf = new URL('../../build/bpf/inject.bpf.o', import.meta.url).pathname;

/** A pod of the bed: a namespace behind the host device `cali<n>`. */
export interface BedPod {
  readonly n: number;
  readonly id: string;
  readonly device: string;
  readonly ipv4: string;
  readonly ipv6: string;
  readonly netns: TestNetns;
  readonly endpoint: WorkloadEndpointInfo;
}

/** What an instance has otherwise than the agent's. */
interface IdleOptions {
  readonly hasTcx?: boolean;
  /** Where the programs are. */
  readonly objects?: string;
  readonly clock?: Clock;
  readonly log?: Logger;
}

/** Nothing new is allowed any more: only a flow that is known goes on. */
export const denyAll: DataplaneUpdate = {
  type: 'profileUpdate',
  id: 'kns.default',
  profile: { ingress: [], egress: [] },
};

/**
 * A node's namespace with pods, and eBPF dataplanes on them: as many instances one after the other as a test wants, over one directory
 * of pins. Each is driven like the agent does: an apply follows what disturbed it.
 *
 *     pod 1 eth0 --- cali1 [programs] node (routes) [programs] cali2 --- eth0 pod 2
 */
export class EbpfBed implements AsyncDisposable {
  readonly node: TestNetns;
  readonly host: Netlink;
  readonly #conntrack: Conntrack;
  readonly bpffs: string;
  /** What all its dataplanes are told. */
  readonly config: DataplaneConfig = { ...TEST_CONFIG, routeRefreshIntervalMs: 0 };
  readonly profiles: readonly DataplaneUpdate[] = [ALLOW_ALL];
  /** Why connections can't be deleted; undefined: they can. */
  conntrackFailure: Error | undefined;
  readonly #dir: string;
  readonly #pods: BedPod[] = [];
  readonly #dataplanes: EbpfDataplane[] = [];
  #injector: LoadedObject | undefined;

  private constructor(node: TestNetns, dir: string) {
    this.node = node;
    this.host = openNetlink({ path: node.path });
    this.#conntrack = openConntrack({ path: node.path });
    this.#dir = dir;
    this.bpffs = join(dir, 'bpf', 'tortie');
  }

  /** Runs programs in the node's namespace. */
  get #commands(): CommandRunner {
    return {
      run: (file, args, options) =>
        systemCommandRunner.run('ip', ['netns', 'exec', this.node.name, file, ...args], options),
    };
  }

  static async create(): Promise<EbpfBed> {
    const dir = mkdtempSync(join(tmpdir(), `${uniqueName()}-ebpf-`));
    const node = await createNetns();
    await node.ip('link', 'set', 'lo', 'up');
    // Proxy ARP answers for what is reached through another device; any node has a default route.
    await node.ip('route', 'add', 'default', 'dev', 'lo');
    await node.exec('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
    return new EbpfBed(node, dir);
  }

  /** An instance that knows its configuration and the pods given, all said (`inSync`), and has applied that. Not active. */
  async dataplane(
    pods: readonly BedPod[] = [],
    more: {
      sizes?: Partial<MapSizeSettings>;
      config?: Partial<DataplaneConfig>;
      inSync?: boolean;
    } & IdleOptions = {},
  ): Promise<EbpfDataplane> {
    const dataplane = this.idle(more);
    const mapSizes = { ...this.config.mapSizes, ...more.sizes };
    dataplane.onUpdate({ type: 'configUpdate', config: { ...this.config, mapSizes, ...more.config } });
    for (const update of this.profiles) dataplane.onUpdate(update);
    for (const { id, endpoint } of pods) dataplane.onUpdate({ type: 'workloadEndpointUpdate', id, endpoint });
    if (more.inSync !== false) dataplane.onUpdate({ type: 'inSync' });
    await dataplane.apply();
    return dataplane;
  }

  /** Tells it of maps of other sizes, and applies that. */
  resize(dataplane: EbpfDataplane, sizes: Partial<MapSizeSettings>): Promise<ApplyReport> {
    const mapSizes = { ...this.config.mapSizes, ...sizes };
    dataplane.onUpdate({ type: 'configUpdate', config: { ...this.config, mapSizes } });
    return dataplane.apply();
  }

  /** The kernel gives this device no other filters (`no memory for it`) until what is returned is called. */
  refuseFilters(device: string): () => void {
    const ifindex = this.host.link(device)?.index;
    const batch = this.host.batch.bind(this.host);
    Object.assign(this.host, {
      batch: (ops: readonly NetlinkOp[]) =>
        ops.some((each) => each.op === 'filter.replace' && each.link === ifindex)
          ? Promise.reject(Object.assign(new Error('no memory for it'), { code: 'ENOMEM' }))
          : batch(ops),
    });
    return () => void Object.assign(this.host, { batch });
  }

  /** An instance that was told nothing. */
  idle({ hasTcx, objects = ebpfObjects, clock = systemClock, log = silentLogger }: IdleOptions = {}): EbpfDataplane {
    const { path } = this.node;
    const dataplane = new EbpfDataplane({
      host: this.host,
      conntrack: {
        deleteOf: async (addresses) => {
          if (this.conntrackFailure !== undefined) throw this.conntrackFailure;
          return await this.#conntrack.deleteOf(addresses);
        },
      },
      openMonitor: (groups) => openMonitor(groups, { path }),
      place: {
        dir: this.bpffs,
        objects,
        netns: { path },
      },
      nodeName: 'node',
      commands: this.#commands,
      variants: new VariantChoice(this.#commands, silentLogger),
      hasIpv6: () => true,
      readSysctl: () => undefined,
      ...(hasTcx === undefined ? {} : { hasTcx }),
      clock,
      log,
    });
    this.#dataplanes.push(dataplane);
    return dataplane;
  }

  /** Wires pod `n` as the CNI plugin does: one batch with what the dataplane wants on the device before it is up. */
  async pod(n: number, dataplane?: EbpfDataplane, device = `cali${n}`): Promise<BedPod> {
    const netns = await createNetns();
    const ipv4 = `10.65.0.${n}`;
    const ipv6 = `fd65::${n.toString(16)}`;
    const mac = `0a:58:0a:41:00:${n.toString(16).padStart(2, '0')}`;
    const endpoint = {
      ifaceName: device,
      mac,
      ipv4Nets: [`${ipv4}/32`],
      ipv6Nets: [`${ipv6}/128`],
      allowedSourcePrefixes: [],
      tiers: [],
      profiles: ['kns.default'],
    };
    const pod = { n, id: `k8s/default/pod${n}/eth0`, device, ipv4, ipv6, netns, endpoint };
    this.#pods.push(pod);
    await this.wire(pod, dataplane);
    return pod;
  }

  async wire({ device, netns, endpoint, ipv4, ipv6 }: BedPod, dataplane?: EbpfDataplane): Promise<void> {
    await this.host.run([
      {
        op: 'veth.add',
        name: device,
        mac: 'ee:ee:ee:ee:ee:ee',
        peer: { name: 'eth0', mac: endpoint.mac, netns: { path: netns.path } },
      },
      ...(dataplane?.podDeviceOps(device) ?? []),
      { op: 'link.set', link: device, up: true },
      { op: 'route.add', dst: `${ipv4}/32`, link: device, scope: 'link' },
      { op: 'route.add', dst: `${ipv6}/128`, link: device },
    ]);
    await this.node.exec(
      'sysctl',
      '-qw',
      `net.ipv4.conf.${device}.proxy_arp=1`,
      `net.ipv4.neigh.${device}.proxy_delay=0`,
    );
    await this.host.run([{ op: 'addr.add', link: device, address: 'fe80::1/64', noDad: true }]);
    using inside = openNetlink({ path: netns.path });
    await inside.run([
      { op: 'link.set', link: 'lo', up: true },
      { op: 'link.set', link: 'eth0', up: true },
      { op: 'addr.add', link: 'eth0', address: `${ipv4}/32` },
      { op: 'addr.add', link: 'eth0', address: `${ipv6}/128`, noDad: true },
      { op: 'route.add', dst: '169.254.1.1/32', link: 'eth0', scope: 'link' },
      { op: 'route.add', dst: 'default', family: 4, via: '169.254.1.1', link: 'eth0' },
      { op: 'route.add', dst: 'default', family: 6, via: 'fe80::1', link: 'eth0' },
    ]);
    // The kernel tells of the carrier in its own time; an event that comes while an apply opens the device makes the next one look again.
    while (this.host.link(device)?.running === false) await scheduler.wait(5);
    // The state is there before the event, which is read while this waits, unless the kernel takes longer to send it.
    await scheduler.wait(10);
  }

  /** Sends a frame out of a pod's eth0 as it is; `vlan` tags it. */
  async inject(pod: BedPod, frame: Uint8Array, vlan = 0): Promise<void> {
    this.#injector ??= await loadObject({ name: 'inject', elf: injectElf });
    const [{ ifindex } = { ifindex: 0 }] = await pod.netns.ip<{ ifindex: number }[]>('link', 'show', 'eth0');
    const carrier = frame.slice();
    carrier.set([0x88, 0xb5], 12); // IEEE 802 local experimental
    const context = new Uint8Array(192); // struct __sk_buff
    const cb = new DataView(context.buffer, 48); // offsetof(cb)
    cb.setUint32(0, ifindex, true);
    cb.setUint32(4, ((frame[12] ?? 0) << 8) | (frame[13] ?? 0), true);
    cb.setUint32(8, vlan, true);
    const { returned } = this.#injector
      .program('inject')
      .testRun({ data: carrier, context, netns: { path: pod.netns.path } });
    if (returned !== 0) throw new Error(`the frame could not be sent: ${returned}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await using stack = new AsyncDisposableStack();
    stack.defer(() => rmSync(this.#dir, { recursive: true }));
    stack.use(this.node);
    stack.defer(() => this.host[Symbol.dispose]());
    stack.defer(() => this.#conntrack[Symbol.dispose]());
    for (const { netns } of this.#pods) stack.use(netns);
    stack.defer(() => this.#injector?.[Symbol.dispose]());
    // By an instance that knows nothing, as after a crash.
    stack.defer(() => this.idle().cleanup());
    for (const dataplane of this.#dataplanes) stack.use(dataplane);
  }
}

/** One device's verdicts in one direction, packets only. */
export async function packetsOf(
  dataplane: EbpfDataplane,
  device: string,
  direction: DeviceCounters['direction'],
): Promise<Record<string, number>> {
  const report = (await dataplane.deviceCounters()).find(
    (counters) => counters.ifaceName === device && counters.direction === direction,
  );
  return Object.fromEntries(Object.entries(report?.verdicts ?? {}).map(([verdict, { packets }]) => [verdict, packets]));
}

/** Applies whenever the dataplane asks, as the driver does; `next` resolves with the first report that repaired or failed something. */
export function drive(dataplane: EbpfDataplane): {
  next(): Promise<{ repaired: readonly string[]; failed: readonly string[] }>;
  idle(): Promise<void>;
} {
  let wake: ((report: { repaired: readonly string[]; failed: readonly string[] }) => void) | undefined;
  let pending: Promise<unknown> = Promise.resolve();
  dataplane.onDisturbed(() => {
    pending = pending
      .then(() => dataplane.apply())
      .then((report) => {
        if (report.repaired.length + report.failed.length > 0)
          wake?.({ repaired: report.repaired, failed: report.failed.map(({ reason }) => reason) });
      });
  });
  return {
    next: () => new Promise((resolve) => (wake = resolve)),
    idle: async () => {
      await pending;
    },
  };
}
