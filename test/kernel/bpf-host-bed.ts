/** A node with host endpoints for the programs of bpf/host.bpf.c and bpf/xdp.bpf.c, and packets for them by BPF_PROG_TEST_RUN. */
import {
  DeviceCounters,
  Direction,
  FailsafeKey4,
  FailsafeKey6,
  flowConstants,
  HostSlot,
  mapShapes,
  PodConfig,
  RuleAction,
  type Verdict,
  verdictTexts,
} from '#dataplanes/ebpf/bpf-types.gen.ts';
import { macBytes, u32Key, u64Value } from '#dataplanes/ebpf/keys.ts';
import { type BpfMap, loadObject, type LoadedObject } from '#native/bpf.ts';
import { FlowBed } from './bpf-flow-bed.ts';
import { marks, namesOf } from './bpf-flow-names.ts';
import { FlowNode, podConfig } from './bpf-flow-node.ts';
import { frameOf } from './bpf-flow-words.ts';
import { addressBytes, type Version } from './classifier-bed.ts';
import { word } from './classifier-tables.ts';

const elfOf = (name: string): string => new URL(`../../dist/bpf/${name}.bpf.o`, import.meta.url).pathname;
/** Offsets in `struct __sk_buff`. */
const skb = { size: 192, mark: 8, ingressIfindex: 36, ifindex: 40 } as const;
/** `struct xdp_md`. */
const xdp = { size: 24, dataEnd: 4, ifindex: 12 } as const;
const actions = { pass: -1, drop: 2, xdpDrop: 1, xdpPass: 2 } as const;

export const hostDevices = ['uplink', 'side'] as const;
export type HostDevice = (typeof hostDevices)[number];
/** The MAC of a device. */
export const macOf = (device: HostDevice): string => `ee:ee:ee:ee:ff:0${hostDevices.indexOf(device)}`;
/** The slot of the pods' devices. */
const PODS_SLOT = 10;

/** What a host endpoint's unit says: everything, nothing, no word; of TCP and UDP to port 80, and else no word. */
export type HostRule = 'allow' | 'deny' | 'silent' | 'allow 80' | 'deny 80';
const unitOf: Readonly<Record<HostRule, number>> = { allow: 1, deny: 2, silent: 4, 'allow 80': 5, 'deny 80': 6 };
const kinds = {
  in: flowConstants.hostUnitOrdinary,
  out: flowConstants.hostUnitOrdinary + flowConstants.hostUnitOut,
  'forward in': flowConstants.hostUnitForward,
  'forward out': flowConstants.hostUnitForward + flowConstants.hostUnitOut,
  preDnat: flowConstants.hostUnitPreDnat,
  'untracked in': flowConstants.hostUnitUntracked,
  'untracked out': flowConstants.hostUnitUntracked + flowConstants.hostUnitOut,
} as const;
/** A host endpoint: what isn't named isn't asked. */
export type HostPolicy = Partial<Record<keyof typeof kinds, HostRule>>;

export class HostBed extends FlowBed {
  #host: LoadedObject | undefined;
  #xdp: LoadedObject | undefined;
  readonly #ifindexes = new Map<string, number>();

  static override async create(): Promise<HostBed> {
    return await FlowNode.make((netns, object) => new HostBed(netns, object), {});
  }

  get hostPrograms(): LoadedObject {
    if (this.#host === undefined) throw new Error('not loaded');
    return this.#host;
  }

  get xdpProgram() {
    if (this.#xdp === undefined) throw new Error('not loaded');
    return this.#xdp.program('tortie_xdp_in');
  }

  override ifindexOf(name: string): number {
    const found = this.#ifindexes.get(name) ?? this.devices.get(name)?.ifindex;
    if (found === undefined) throw new Error(`there is no device ${name}`);
    return found;
  }

  /** Loads an object on the maps of the endpoint programs; `jump`: it goes on with what is there. */
  async load(name: string, config: Partial<PodConfig> = {}, jump?: BpfMap): Promise<LoadedObject> {
    return await loadObject({
      name: 'tortie',
      elf: elfOf(name),
      maps: Object.fromEntries(
        Object.keys(mapShapes).flatMap((map) => {
          const use = map === 'tortie_jump' ? jump : this.map(map);
          return use === undefined ? [] : [[map, { use, ifThere: true }]];
        }),
      ),
      config: { pod_config: PodConfig.encode({ ...podConfig, ...config }) },
    });
  }

  protected override async prepare(): Promise<void> {
    await super.prepare();
    for (const device of hostDevices) {
      await this.netns.exec(
        'ip',
        'link',
        'add',
        device,
        'address',
        macOf(device),
        'type',
        'veth',
        'peer',
        `${device}-far`,
      );
      const [{ ifindex } = { ifindex: 0 }] = await this.netns.ip<{ ifindex: number }[]>('link', 'show', device);
      this.#ifindexes.set(device, ifindex);
    }
    this.tables.unit(unitOf.silent, { chunks: 1, rules: { 0: word(RuleAction.undecided) } });
    for (const [rule, action] of [
      ['allow 80', RuleAction.allow],
      ['deny 80', RuleAction.deny],
    ] as const)
      this.tables.unit(unitOf[rule], {
        chunks: 1,
        rules: { 0: word(action), 1: word(RuleAction.undecided) },
        rows: { 2: { default: [1], 5: [0, 1] } },
      });
    this.#host = await this.load('host');
    this.#xdp = await this.load('xdp');
  }

  /** The host endpoint of a device; undefined: it has none. */
  host(device: HostDevice, policy: HostPolicy | undefined, flags = 0): void {
    const ifindex = this.ifindexOf(device);
    const slot = hostDevices.indexOf(device) + 1;
    if (policy === undefined) {
      this.map('tortie_hslots').delete(u32Key(ifindex));
      return;
    }
    this.#store(slot, policy, ifindex, macBytes(macOf(device)), flags);
    this.map('tortie_hslots').set(u32Key(ifindex), u64Value(ifindex, slot));
  }

  /** That of the pods' devices; its number goes into the run state. */
  podsHost(policy: HostPolicy | undefined): void {
    if (policy !== undefined) this.#store(PODS_SLOT, policy, 0, new Uint8Array(6), 0);
    this.runState({ podsHost: policy === undefined ? 0 : PODS_SLOT });
  }

  #store(slot: number, policy: HostPolicy, ifindex: number, mac: Uint8Array, flags: number): void {
    const unit = Array.from({ length: flowConstants.hostUnits }, () => 0);
    for (const [kind, rule] of Object.entries(policy) as [keyof typeof kinds, HostRule][])
      for (const family of [0, flowConstants.hostUnitIpv6]) unit[kinds[kind] + family] = unitOf[rule];
    const none = { masquerade4: new Uint8Array(4), masquerade6: new Uint8Array(16) };
    this.set('tortie_hosts', slot, HostSlot.encode({ unit, ifindex, flags, mac, ...none }));
  }

  /** Opens a failsafe port to the whole family, or to the network of a named end's address. */
  failsafe(version: Version, direction: 'in' | 'out', protocol: number, port: number, onlyFor?: string): void {
    const length = version === 4 ? 4 : 16;
    const key = {
      prefixLen: flowConstants.failsafeKeyFixedBits + (onlyFor === undefined ? 0 : 8 * length),
      direction: direction === 'in' ? flowConstants.failsafeIn : flowConstants.failsafeOut,
      protocol,
      port,
      address: onlyFor === undefined ? new Uint8Array(length) : addressBytes(namesOf[version][onlyFor] ?? ''),
    };
    const bytes = version === 4 ? FailsafeKey4.encode(key) : FailsafeKey6.encode(key);
    this.map(`tortie_failsafe${version}`).set(bytes, u32Key(1));
  }

  /** No flows, no host endpoints, no failsafe ports. */
  override async reset(): Promise<void> {
    await super.reset();
    for (const name of ['tortie_hslots', 'tortie_failsafe4', 'tortie_failsafe6'] as const) {
      const map = this.map(name);
      for (const { key } of await map.entries()) map.delete(key);
    }
  }

  /** Packets that rules have matched, all together. */
  hits(): bigint {
    const hits = this.array('tortie_hits');
    let sum = 0n;
    for (let rule = 0; rule < hits.length; rule += 1) {
      const { buffer, byteOffset } = hits.value(rule);
      sum += new DataView(buffer, byteOffset).getBigUint64(0, true);
    }
    return sum;
  }

  /**
   * As FlowBed.run for pods' devices, and at those of host endpoints:
   *
   *     'uplink in tcp S away:1 > node:22'               'local', 'not local', 'pre-accepted', 'untracked', 'dropped: policy', 'pass' (not looked at)
   *     'uplink out tcp S node:1 > away:22'              'passed', 'dropped: policy'     (the node's own)
   *     'uplink out from one ...'                        (forwarded, after that pod's program)
   *     'uplink out from tunnel ...'                 (the node's own, with what a tunnel leaves of the pod's packet in it)
   *     'uplink out from side ...'                       (forwarded from there), 'uplink out from side pre-accepted ...'
   *     'uplink frame ...'                               'passed', 'dropped'             (XDP)
   */
  override run(version: Version, step: string): string {
    const [, device = '', way = '', from, preAccepted, packet = ''] =
      /^(uplink|side) (in|out|frame)(?: from (\w+)( pre-accepted)?)? (.*)$/.exec(step) ?? [];
    if (device === '') return super.run(version, step);
    const { frame, isStranger } = frameOf(version, namesOf[version], packet);
    frame.set(macBytes(isStranger ? 'ee:ee:ee:ee:ee:99' : macOf(device as HostDevice)), 0);
    return this.runFrame(device as HostDevice, way as 'in', frame, {
      ...(from !== undefined && { from }),
      isPreAccepted: preAccepted !== undefined,
    });
  }

  /** The same with a frame of the test's. */
  runFrame(
    device: HostDevice,
    way: 'in' | 'out' | 'frame',
    frame: Uint8Array,
    {
      from,
      isPreAccepted = false,
      programs = this.hostPrograms,
    }: { from?: string; isPreAccepted?: boolean; programs?: LoadedObject } = {},
  ): string {
    const ifindex = this.ifindexOf(device);
    const counters = this.map('tortie_counters');
    counters.delete(u32Key(ifindex));
    if (way === 'frame') return this.#runXdp(ifindex, frame);
    const context = new Uint8Array(skb.size);
    const view = new DataView(context.buffer);
    view.setUint32(skb.ifindex, ifindex, true);
    if (way === 'out') {
      const isPod = from !== undefined && this.devices.has(from);
      const isTunnelled = from === 'tunnel';
      const mark = isTunnelled
        ? marks.host | marks.seen
        : from === undefined
          ? marks.host
          : isPod
            ? marks.seen
            : isPreAccepted
              ? marks.preAccepted
              : 0;
      view.setUint32(skb.mark, mark, true);
      if (from !== undefined) view.setUint32(skb.ingressIfindex, this.ifindexOf(isTunnelled ? 'one' : from), true);
    } else {
      // What others bring along goes, what isn't ours stays.
      view.setUint32(skb.mark, OTHERS_MARK | marks.seen | marks.host | marks.preAccepted, true);
    }
    const program = programs.program(way === 'in' ? 'tortie_host_in' : 'tortie_host_out');
    const result = program.testRun({ data: frame, context, netns: { path: this.netns.path } });
    const counted = this.#counted(ifindex, way === 'in' ? Direction.toPod : Direction.fromPod);
    if (result.data.join() !== frame.join()) throw new Error('the frame was changed');
    if (result.returned === actions.drop) return `dropped: ${counted}`;
    if (result.returned !== actions.pass) throw new Error(`returned ${result.returned}`);
    if (counted === undefined) return 'pass';
    if (counted !== 'passed') throw new Error(`passed, and counted is ${counted}`);
    if (way === 'out') return 'passed';
    const mark = new DataView(result.context.buffer, result.context.byteOffset).getUint32(skb.mark, true);
    if ((mark & OTHERS_MARK) === 0) throw new Error('a mark of others is gone');
    if ((mark & (marks.seen | marks.host)) !== 0) throw new Error(`mark ${mark}`);
    const said = [
      (mark & marks.preAccepted) !== 0 && 'pre-accepted',
      (mark & marks.untracked) !== 0 && 'untracked',
      (mark & marks.notLocal) !== 0 && 'not local',
    ].filter((text) => text !== false);
    return said.length === 0 ? 'local' : said.join(' ');
  }

  #runXdp(ifindex: number, frame: Uint8Array): string {
    const context = new Uint8Array(xdp.size);
    const view = new DataView(context.buffer);
    view.setUint32(xdp.dataEnd, frame.length, true);
    view.setUint32(xdp.ifindex, ifindex, true);
    const { returned } = this.xdpProgram.testRun({ data: frame, context, netns: { path: this.netns.path } });
    const counted = this.#counted(ifindex, Direction.toPod);
    if (returned === actions.xdpDrop && counted === 'policy') return 'dropped';
    if (returned === actions.xdpPass && counted === undefined) return 'passed';
    throw new Error(`returned ${returned}, counted ${counted}`);
  }

  #counted(ifindex: number, direction: Direction): string | undefined {
    const map = this.map('tortie_counters');
    const all = map.get(u32Key(ifindex));
    if (all === undefined) return undefined;
    const found: string[] = [];
    for (let cpu = 0; cpu < map.cpus; cpu += 1)
      DeviceCounters.read(new DataView(all.buffer, all.byteOffset + cpu * map.valueStride)).by.forEach(
        (verdicts, way) =>
          verdicts.forEach(({ packets }, verdict) => {
            if (packets === 0n) return;
            if (packets !== 1n || way !== direction) throw new Error(`${packets} packets of direction ${way}`);
            found.push(verdictTexts[verdict as Verdict]);
          }),
      );
    if (found.length > 1) throw new Error(`counted twice: ${found.join()}`);
    return found[0];
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    this.#host?.[Symbol.dispose]();
    this.#xdp?.[Symbol.dispose]();
    await super[Symbol.asyncDispose]();
  }
}

const OTHERS_MARK = 0x8_0000;
