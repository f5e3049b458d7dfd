/** The endpoint programs on packets of ours, by BPF_PROG_TEST_RUN. */
import { DeviceCounters, Direction, type Verdict, verdictTexts } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { macBytes, u32Key } from '#dataplanes/ebpf/keys.ts';
import type { BpfProgram } from '#native/bpf.ts';
import { marks, namesOf, type Pod, podMacOf } from './bpf-flow-names.ts';
import { FlowNode } from './bpf-flow-node.ts';
import { frameOf, wordsOf } from './bpf-flow-words.ts';
import type { Version } from './classifier-bed.ts';
import { wrongChecksums } from './slow-checksums.ts';

/** Offsets in `struct __sk_buff`. */
const skb = { size: 192, mark: 8, ingressIfindex: 36, ifindex: 40 } as const;
const actions = { pass: -1, drop: 2, redirect: 7 } as const;

/** A FlowNode whose pods are nothing but words: see `run`. */
export class FlowBed extends FlowNode {
  static override async create(more: Readonly<Record<string, number>> = {}): Promise<FlowBed> {
    return await FlowNode.make((netns, object) => new FlowBed(netns, object), more);
  }

  /**
   * A packet, and what becomes of it:
   *
   *     'one sends tcp S one:40000 > two:80'          'pod two'
   *     'one sends tcp S one:40000 > front:80'        'pod two: tcp S one:40000 > two:8080'      (it is changed)
   *     'one sends tcp S one:40000 > away:80'         'stack'
   *     'one sends tcp S one:40000 > away:80'         'net'           (out by an uplink; `stack` where there is none)
   *     'one sends tcp SA one:80 > node:5'            'uplink: ...'   (given to the node as if it had come by that device)
   *     'one gets tcp S away:1 > one:80'              'passed'        (`one gets from node ...`: with the host's mark; `from up`: by that device)
   *     ...                                           'dropped: policy', 'two refuses: policy', 'back: error front > one about ...'
   *
   * Throws where something else is wrong: checksums, MACs, hop limit, mark, counters.
   */
  run(version: Version, step: string): string {
    const { pod, isOut, frame, context } = this.#question(version, step);
    const names = namesOf[version];
    for (const { ifindex } of this.devices.values()) this.map('tortie_counters').delete(u32Key(ifindex));
    const result = this.#program(isOut).testRun({ data: frame, context, netns: { path: this.netns.path } });
    const counted = this.#counted();
    const own = counted.get(`${pod} ${isOut ? Direction.fromPod : Direction.toPod}`);
    counted.delete(`${pod} ${isOut ? Direction.fromPod : Direction.toPod}`);
    if (own === undefined) throw new Error(`${step}: nothing was counted`);
    const mark = new DataView(result.context.buffer, result.context.byteOffset).getUint32(skb.mark, true);
    const others = [...counted];
    const text = (outcome: string, isChanged = compareFrames(version, frame, result.data)): string => {
      const wrong = wrongChecksums(version, result.data);
      if (wrong.length > 0) throw new Error(`${step}: wrong checksums: ${wrong.join(', ')}`);
      return isChanged ? `${outcome}: ${wordsOf(version, names, result.data)}` : outcome;
    };
    if (result.returned === actions.redirect) {
      if (own !== 'passed') return text(`back (${own})`, true);
      const hops = version === 4 ? 22 : 21;
      if (others.length === 0) {
        const device = this.givenTo(mark, result.data.slice(0, 12));
        if (device !== undefined) return text(device);
        if (result.data[hops] !== (frame[hops] ?? 0) - 1) throw new Error(`${step}: hop limit ${result.data[hops]}`);
        if (mark !== marks.seen) throw new Error(`${step}: mark ${mark}`);
        return text('net');
      }
      const [there] = others;
      const [to = '', direction] = there?.[0].split(' ') ?? [];
      if (others.length !== 1 || there?.[1] !== 'passed' || Number(direction) !== Direction.toPod)
        throw new Error(`${step}: redirected, and counted are ${JSON.stringify(others)}`);
      const expected = [...macBytes(podMacOf(to as Pod)), ...macBytes(this.devices.get(to)?.mac ?? '')];
      if (result.data.slice(0, 12).join() !== expected.join())
        throw new Error(`${step}: MACs ${result.data.slice(0, 12).join()}`);
      if (result.data[hops] !== (frame[hops] ?? 0) - 1) throw new Error(`${step}: hop limit ${result.data[hops]}`);
      if (mark !== 0) throw new Error(`${step}: mark ${mark}`);
      return text(`pod ${to}`);
    }
    if (result.returned === actions.drop) {
      if (own !== 'passed')
        return others.length === 0 ? `dropped: ${own}` : `dropped: ${own}, ${JSON.stringify(others)}`;
      return others.map(([where, verdict]) => `${where.split(' ')[0]} refuses: ${verdict}`).join();
    }
    if (result.returned !== actions.pass || own !== 'passed' || others.length > 0)
      throw new Error(`${step}: returned ${result.returned}, counted ${own}, ${JSON.stringify(others)}`);
    if (isOut && mark !== marks.seen) throw new Error(`${step}: mark ${mark}`);
    return text(isOut ? 'stack' : 'passed');
  }

  /** Handles the packet of a step many times, on a worker. It must be one that isn't changed: each run gets what the last one left. */
  async flood(version: Version, step: string, repeat: number): Promise<void> {
    const { isOut, frame, context } = this.#question(version, step);
    await this.#program(isOut).run({ data: frame, context, repeat, netns: { path: this.netns.path } });
  }

  /** The device that a packet with this mark and these MACs was given to as if it had come by it; undefined: it wasn't. */
  protected givenTo(_mark: number, _macs: Uint8Array): string | undefined {
    return undefined;
  }

  /** Of a device that packets come from. */
  protected ifindexOf(name: string): number {
    throw new Error(`there is no device ${name}`);
  }

  /** What handling the packet of a step costs in nanoseconds, mean of `repeat` runs, the test run itself included. Each run takes one off its hop limit. */
  cost(version: Version, step: string, repeat: number): number {
    const { isOut, frame, context } = this.#question(version, step);
    const netns = { path: this.netns.path };
    return this.#program(isOut).testRun({ data: frame, context, repeat, netns }).nanoseconds;
  }

  #program(isOut: boolean): BpfProgram {
    return this.object.program(isOut ? 'tortie_pod_out' : 'tortie_pod_in');
  }

  /** A step as what a program is given. */
  #question(version: Version, step: string) {
    const [, pod = '', way = '', from, preAccepted, packet = ''] =
      /^(\w+) (sends|gets)(?: from (\w+)( pre-accepted)?)? (.*)$/.exec(step) ?? [];
    const device = this.devices.get(pod);
    if (device === undefined) throw new Error(`not a step: ${step}`);
    const { frame, isStranger } = frameOf(version, namesOf[version], packet);
    const isOut = way === 'sends';
    const hostMac = macBytes(isStranger ? 'ee:ee:ee:ee:ee:99' : device.mac);
    frame.set(isOut ? hostMac : macBytes('0a:58:0a:41:00:09'), 0);
    const context = new Uint8Array(skb.size);
    const view = new DataView(context.buffer);
    view.setUint32(skb.ifindex, device.ifindex, true);
    view.setUint32(skb.mark, from === 'node' ? marks.host : preAccepted === undefined ? 0 : marks.preAccepted, true);
    if (from !== undefined && from !== 'node') view.setUint32(skb.ingressIfindex, this.ifindexOf(from), true);
    return { pod, isOut, frame, context };
  }

  /** `pod direction` -> verdict, of what was counted since. */
  #counted(): Map<string, string> {
    const map = this.map('tortie_counters');
    const found = new Map<string, string>();
    for (const [name, { ifindex }] of this.devices) {
      const all = map.get(u32Key(ifindex));
      for (let cpu = 0; all !== undefined && cpu < map.cpus; cpu += 1)
        DeviceCounters.read(new DataView(all.buffer, all.byteOffset + cpu * map.valueStride)).by.forEach(
          (verdicts, way) =>
            verdicts.forEach(({ packets }, verdict) => {
              if (packets > 0n) found.set(`${name} ${way}`, verdictTexts[verdict as Verdict]);
            }),
        );
    }
    return found;
  }
}

/** Whether IP's content differs, apart from hop limit and checksum. */
export function compareFrames(version: Version, before: Uint8Array, after: Uint8Array): boolean {
  const blank = (frame: Uint8Array): string => {
    const copy = frame.slice(14);
    if (version === 4) copy.set([0], 8);
    if (version === 4) copy.set([0, 0], 10);
    if (version === 6) copy.set([0], 7);
    return copy.join();
  };
  return blank(before) !== blank(after);
}
