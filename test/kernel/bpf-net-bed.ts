/** A node with two uplinks for the programs of bpf/net.bpf.c, and packets for them by BPF_PROG_TEST_RUN. */
import {
  DeviceCounters,
  Direction,
  FlowFlag,
  flowConstants,
  FlowRecord4,
  FlowRecord6,
  Hop,
  HopKind,
  type Verdict,
  verdictTexts,
} from '#dataplanes/ebpf/bpf-types.gen.ts';
import { macBytes, u32Key } from '#dataplanes/ebpf/keys.ts';
import type { LoadedObject } from '#native/bpf.ts';
import { compareFrames } from './bpf-flow-bed.ts';
import { marks, namesOf, type Pod, podMacOf, pods } from './bpf-flow-names.ts';
import { FlowNode } from './bpf-flow-node.ts';
import { frameOf, wordsOf } from './bpf-flow-words.ts';
import { HostBed, type HostDevice, hostDevices, type HostPolicy, macOf } from './bpf-host-bed.ts';
import { addressBytes, type Version } from './classifier-bed.ts';
import { wrongChecksums } from './slow-checksums.ts';

/** Offsets in `struct __sk_buff`. */
const skb = { size: 192, mark: 8, ingressIfindex: 36, ifindex: 40 } as const;
const actions = { pass: -1, drop: 2, redirect: 7 } as const;
/** Of what programs give to an uplink as if it had come by it. */
const givenMark = Object.values(marks).reduce((sum, mark) => sum | mark, 0);
const OTHERS_MARK = 0x8_0000;

/** One end of a flow, `one:80`. */
type EndText = string;

/**
 * A HostBed whose devices are uplinks: `uplink` is the way to everything, `side` to `router` alone. A `HOST_DIRECT` slot has both after `reset`.
 */
export class NetBed extends HostBed {
  #net: LoadedObject | undefined;

  static override async create(more: Readonly<Record<string, number>> = {}): Promise<NetBed> {
    return await FlowNode.make((netns, object) => new NetBed(netns, object), more);
  }

  get netPrograms(): LoadedObject {
    if (this.#net === undefined) throw new Error('not loaded');
    return this.#net;
  }

  protected override async prepare(): Promise<void> {
    await super.prepare();
    const ip = async (...args: string[]) => await this.netns.exec('ip', ...args);
    for (const device of [...pods, ...pods.map((pod) => `${pod}-in`), ...hostDevices, 'uplink-far', 'side-far'])
      await ip('link', 'set', device, 'up');
    await ip('addr', 'add', '10.1.0.1/24', 'dev', 'uplink');
    await ip('addr', 'add', 'fd01::1/64', 'dev', 'uplink', 'nodad');
    await ip('route', 'add', 'default', 'via', '10.1.0.254', 'dev', 'uplink');
    await ip('-6', 'route', 'add', 'default', 'via', 'fd01::fe', 'dev', 'uplink');
    for (const version of [4, 6] as const) {
      const prefix = version === 4 ? 32 : 128;
      const route = async (name: string, device: string) =>
        await ip(`-${version}`, 'route', 'add', `${namesOf[version][name]}/${prefix}`, 'dev', device);
      await route('router', 'side');
      for (const pod of pods) await route(pod, pod);
      await this.netns.exec('sysctl', '-qw', `net.ipv${version}.conf.all.forwarding=1`);
    }
    this.#net = await this.load('net');
  }

  override async reset(): Promise<void> {
    await super.reset();
    // (The first one comes before there are uplinks.)
    if (this.#net !== undefined) for (const device of hostDevices) this.uplink(device);
  }

  /** The slot of a device: an uplink's, or one of a host endpoint without our programs. */
  uplink(device: HostDevice, policy: HostPolicy = {}, isDirect = true): void {
    this.host(device, policy, isDirect ? flowConstants.hostDirect : 0);
  }

  /** An uplink with programs of others at its ingress. */
  shared(device: HostDevice): void {
    this.host(device, {}, flowConstants.hostDirect | flowConstants.hostShared);
  }

  hop(index: number, hop: Hop): void {
    this.set('tortie_hops', index, Hop.encode(hop));
  }

  /** Whether the pod's device has qdiscs of its own. */
  shaped(pod: Pod, isShaped = true): void {
    const slot = pods.indexOf(pod) + 1;
    const ifindex = this.ifindexOf(pod);
    const flags = flowConstants.hopInPool | (isShaped ? flowConstants.hopShaped : 0);
    this.hop(slot, { kind: HopKind.pod, flags, ifindex, slot });
  }

  /**
   * Writes a translated flow, answered, as a pod's program would have left it: `opener > other` on the wire, which is `before` for the opener.
   * TCP and UDP.
   */
  translated(
    version: Version,
    protocol: number,
    [opener, other]: readonly [EndText, EndText],
    before: { readonly opener?: EndText; readonly other?: EndText },
    flags: number,
  ): void {
    const end = (text: EndText) => {
      const [name = '', port] = text.split(':');
      return { address: addressBytes(namesOf[version][name] ?? ''), port: Number(port) };
    };
    const none: ReturnType<typeof end> = { address: new Uint8Array(version === 4 ? 4 : 16), port: 0 };
    const keyOf = (a: EndText, b: EndText) => {
      const [first, second] = [end(a), end(b)];
      const isFirst = Buffer.compare(first.address, second.address) < 0;
      return { key: { end: isFirst ? [first, second] : [second, first], protocol }, opener1: !isFirst };
    };
    const store = (key: ReturnType<typeof keyOf>, state: number, first: typeof none, second: typeof none): void => {
      const codec = version === 4 ? FlowRecord4 : FlowRecord6;
      const value = codec.encode({
        key: key.key,
        before: first,
        sourceBefore: second,
        created: 1n,
        lastSeen: 1n,
        packets: [0n, 0n],
        bytes: [0n, 0n],
        slot: [0, 0],
        state: (7n << 32n) | BigInt(state | (key.opener1 ? FlowFlag.opener1 : 0)),
      });
      // Which hash a key is in is its hash's business: that of what isn't answered yet is one.
      this.map(`tortie_new${version}`).set(value.slice(0, version === 4 ? 20 : 44), value);
    };
    const key = keyOf(opener, other);
    const translation =
      (before.opener === undefined ? 0 : FlowFlag.source) | (before.other === undefined ? 0 : FlowFlag.destination);
    const at = (text: EndText | undefined) => (text === undefined ? none : end(text));
    store(key, flags | translation, at(before.other), at(before.opener));
    store(keyOf(before.opener ?? opener, before.other ?? other), FlowFlag.pointer, end(other), end(opener));
  }

  /** A pod answers by its own program, whatever becomes of the packet behind it. */
  podSends(version: Version, pod: Pod, packet: string): void {
    const { frame } = frameOf(version, namesOf[version], packet);
    const { ifindex = 0, mac = '' } = this.devices.get(pod) ?? {};
    frame.set(macBytes(mac), 0);
    const context = new Uint8Array(skb.size);
    new DataView(context.buffer).setUint32(skb.ifindex, ifindex, true);
    const netns = { path: this.netns.path };
    const { returned } = this.object.program('tortie_pod_out').testRun({ data: frame, context, netns });
    if (returned === actions.drop) throw new Error(`${packet}: dropped`);
  }

  /** What comes of a packet at `uplink` where programs go on with each other: in by `tortie_host_in`, out by `tortie_net_out`. */
  through(version: Version, way: 'in' | 'out', packet: string): 'passed' | 'dropped' | 'redirected' {
    const { frame } = frameOf(version, namesOf[version], packet);
    frame.set(macBytes(way === 'in' ? macOf('uplink') : farMac), 0);
    const context = new Uint8Array(skb.size);
    const view = new DataView(context.buffer);
    view.setUint32(skb.ifindex, this.ifindexOf('uplink'), true);
    if (way === 'in') view.setUint32(skb.ingressIfindex, this.ifindexOf('uplink'), true);
    else view.setUint32(skb.mark, marks.host, true);
    const program =
      way === 'in' ? this.hostPrograms.program('tortie_host_in') : this.netPrograms.program('tortie_net_out');
    const { returned } = program.testRun({ data: frame, context, netns: { path: this.netns.path } });
    return returned === actions.pass ? 'passed' : returned === actions.redirect ? 'redirected' : 'dropped';
  }

  /**
   * As HostBed.run, and at uplinks (`uplink` unless `at side`):
   *
   *     'net in tcp S away:1 > one:80'                'pod one', 'pod one: tcp ...' (changed), 'stack', 'stack: ...',
   *                                                   'one refuses: policy', 'side: ...' (given to that one as if it had come by it),
   *                                                   'back (hop-limit): ...' (refused, by where it came from)
   *     'net in pre-accepted ...', 'net in untracked ...'     (with marks of a host endpoint's program)
   *     'net in given ...'                            (by a program of ours)
   *     'net out tcp S node:1 > front:80'             'on' (host endpoints' program is next), 'pod two: tcp ...', 'net: tcp ...',
   *                                                   'node: tcp ...' (given to the node, by this uplink), 'back (no-backend): ...', 'dropped: ...'
   *     'net out from one ...'                        (by the stack), 'net out unmarked ...' (the node's, with another's address)
   *
   * Throws where checksums, marks, MACs, hop limits or counters aren't what they should be.
   */
  override run(version: Version, step: string): string {
    const [, way, device = 'uplink', how, from, packet = ''] =
      /^net (in|out)(?: at (uplink|side))?(?: (pre-accepted|untracked|given|unmarked)| from (\w+))? (.*)$/.exec(step) ??
      [];
    if (way === undefined) return super.run(version, step);
    const { frame, isStranger } = frameOf(version, namesOf[version], packet);
    const mac = macBytes(macOf(device as HostDevice));
    frame.set(isStranger ? macBytes('ee:ee:ee:ee:ee:99') : way === 'in' ? mac : macBytes(farMac), 0);
    frame.set(way === 'in' ? macBytes(farMac) : mac, 6);
    const context = new Uint8Array(skb.size);
    const view = new DataView(context.buffer);
    view.setUint32(skb.ifindex, this.ifindexOf(device), true);
    if (way === 'in') {
      const said = how === 'pre-accepted' ? marks.preAccepted : how === 'untracked' ? marks.untracked : 0;
      const brought = how === 'given' ? givenMark : marks.seen | marks.host;
      view.setUint32(skb.mark, OTHERS_MARK | brought | said, true);
      view.setUint32(skb.ingressIfindex, this.ifindexOf(device), true);
    } else {
      // What a pod sends comes by its program.
      const brought = from === undefined ? marks.host : pods.includes(from as Pod) ? marks.seen : 0;
      view.setUint32(skb.mark, OTHERS_MARK | (how === 'unmarked' ? 0 : brought), true);
      if (from !== undefined) view.setUint32(skb.ingressIfindex, this.ifindexOf(from), true);
    }
    const names = [...pods, ...hostDevices];
    for (const name of names) this.map('tortie_counters').delete(u32Key(this.ifindexOf(name)));
    const program = this.netPrograms.program(way === 'in' ? 'tortie_net_in' : 'tortie_net_out');
    const result = program.testRun({ data: frame, context, netns: { path: this.netns.path } });
    const counted = names.flatMap((name) => this.#countedAt(name));
    const mark = new DataView(result.context.buffer, result.context.byteOffset).getUint32(skb.mark, true);
    const outcome = way === 'in' ? this.#cameIn(result, frame, mark, counted) : this.#wentOut(result, mark, counted);
    // What a refusal quotes is cut off.
    const isCut = outcome.startsWith('back');
    const wrong = wrongChecksums(version, result.data).filter((what) => !isCut || !what.startsWith('quoted'));
    if (wrong.length > 0) throw new Error(`${step}: wrong checksums: ${wrong.join(', ')}`);
    const isChanged = compareFrames(version, frame, result.data);
    if (isChanged && (mark & marks.untracked) !== 0 && (mark & givenMark) !== givenMark)
      throw new Error(`${step}: changed, and untracked`);
    if (outcome.startsWith('dropped') || outcome.includes('refuses')) return outcome;
    return isChanged ? `${outcome}: ${wordsOf(version, namesOf[version], result.data)}` : outcome;
  }

  protected override givenTo(mark: number, macs: Uint8Array): string | undefined {
    if ((mark & givenMark) !== givenMark) return undefined;
    const device = hostDevices.find((one) => hasMac(macs, 0, macOf(one)) && hasMac(macs, 6, macOf(one)));
    if (device === undefined) throw new Error(`MACs ${macs.join()}`);
    return device;
  }

  #cameIn(
    { returned, data }: { returned: number; data: Uint8Array },
    frame: Uint8Array,
    mark: number,
    counted: readonly string[],
  ): string {
    const [first = '', ...others] = counted;
    if (others.length > 0) throw new Error(`counted ${counted.join()}`);
    const [name = '', direction, verdict = ''] = first.split(' ');
    if (first !== '' && Number(direction) !== Direction.toPod) throw new Error(`counted ${first}`);
    if (returned === actions.pass) {
      if (first !== '') throw new Error(`the stack's, and counted is ${first}`);
      if ((mark & ~(marks.preAccepted | marks.untracked)) !== OTHERS_MARK) throw new Error(`mark ${mark}`);
      return 'stack';
    }
    if (returned === actions.drop)
      return pods.includes(name as Pod) ? `${name} refuses: ${verdict}` : `dropped: ${verdict}`;
    if (returned !== actions.redirect) throw new Error(`returned ${returned}`);
    if (first === '') {
      if ((mark & givenMark) !== givenMark) throw new Error(`mark ${mark}`);
      const device = hostDevices.find((one) => hasMac(data, 0, macOf(one)) && hasMac(data, 6, macOf(one)));
      if (device === undefined) throw new Error(`MACs ${data.slice(0, 12).join()}`);
      return device;
    }
    if (verdict !== 'passed') {
      if (!hasMac(data, 0, farMac)) throw new Error(`MACs ${data.slice(0, 12).join()}`);
      return `back (${verdict})`;
    }
    this.#checkPodFrame(name, data);
    if (mark !== 0) throw new Error(`mark ${mark}`);
    const hops = data[12] === 8 ? 22 : 21;
    if (data[hops] !== (frame[hops] ?? 0) - 1) throw new Error(`hop limit ${data[hops]}`);
    return `pod ${name}`;
  }

  #wentOut(
    { returned, data }: { returned: number; data: Uint8Array },
    mark: number,
    counted: readonly string[],
  ): string {
    const [first = '', ...others] = counted;
    const [, direction, verdict = ''] = first.split(' ');
    if (others.length > 0 || (first !== '' && (Number(direction) !== Direction.fromPod || verdict === 'passed')))
      throw new Error(`counted ${counted.join()}`);
    if (returned === actions.pass) return 'on';
    if (returned === actions.drop) return `dropped: ${verdict}`;
    if (returned !== actions.redirect) throw new Error(`returned ${returned}`);
    if ((mark & givenMark) === givenMark) {
      if (!hasMac(data, 0, macOf('uplink'))) throw new Error(`MACs ${data.slice(0, 12).join()}`);
      return verdict === '' ? 'node' : `back (${verdict})`;
    }
    const pod = pods.find((one) => hasMac(data, 0, podMacOf(one)));
    if (pod === undefined) return 'net';
    this.#checkPodFrame(pod, data);
    return `pod ${pod}`;
  }

  #checkPodFrame(pod: string, data: Uint8Array): void {
    if (!hasMac(data, 0, podMacOf(pod as Pod)) || !hasMac(data, 6, this.devices.get(pod)?.mac ?? ''))
      throw new Error(`MACs ${data.slice(0, 12).join()}`);
  }

  /** `device direction verdict` of each packet that was counted there. */
  #countedAt(name: string): string[] {
    const map = this.map('tortie_counters');
    const all = map.get(u32Key(this.ifindexOf(name)));
    const found: string[] = [];
    for (let cpu = 0; all !== undefined && cpu < map.cpus; cpu += 1)
      DeviceCounters.read(new DataView(all.buffer, all.byteOffset + cpu * map.valueStride)).by.forEach(
        (verdicts, way) =>
          verdicts.forEach(({ packets }, verdict) => {
            for (let i = 0n; i < packets; i += 1n) found.push(`${name} ${way} ${verdictTexts[verdict as Verdict]}`);
          }),
      );
    return found;
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    this.#net?.[Symbol.dispose]();
    await super[Symbol.asyncDispose]();
  }
}

/** Of who is next behind the uplink. */
const farMac = '0a:58:0a:01:00:fe';
const hasMac = (data: Uint8Array, at: number, mac: string): boolean =>
  data.slice(at, at + 6).join() === [...macBytes(mac)].join();
