/** Packets in great number, each of another flow, for the endpoint programs on a FlowBed. */
import { fileURLToPath } from 'node:url';
import { DeviceCounters, Direction, type Verdict, verdictTexts } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { macBytes, u32Key } from '#dataplanes/ebpf/keys.ts';
import { loadObject, type LoadedObject } from '#native/bpf.ts';
import type { FlowBed } from './bpf-flow-bed.ts';
import { namesOf, type Pod } from './bpf-flow-names.ts';
import { frameOf } from './bpf-flow-words.ts';
import type { Version } from './classifier-bed.ts';

const elf = fileURLToPath(new URL('../../build/bpf/flood.bpf.o', import.meta.url));
/** `struct flood` and `struct flood_step` (test/bpf/flood.bpf.c). */
const layout = { steps: 4, first: 8, frame: 12, frameBytes: 128, most: 3 } as const;
const stepBytes = layout.frame + layout.frameBytes;
/** Of `ifindex` in `struct __sk_buff`. */
const skb = { size: 192, ifindex: 40 } as const;

/** A field of 16 bits; of an address its last two bytes. */
export type Field = 'source' | 'destination' | 'source port' | 'destination port';

/** Where it stands in a frame without options. */
const placeOf: Readonly<Record<Version, Readonly<Record<Field, number>>>> = {
  4: { source: 28, destination: 32, 'source port': 34, 'destination port': 36 },
  6: { source: 36, destination: 52, 'source port': 54, 'destination port': 56 },
};

/** What one flow of a flood is made of: a packet, or one and what answers it. */
export interface FloodStep {
  readonly way: 'sends' | 'gets';
  /** As `frameOf` reads it; all of a flood are of one length. */
  readonly packet: string;
  /** Which fields have the lower 16 bits of the flow's number, and the next 16. */
  readonly low: Field;
  readonly high: Field;
}

/** A flood on one pod's device. Its flows have numbers from 0 on, and go on where the last call ended. */
export class Flood implements Disposable {
  readonly #bed: FlowBed;
  readonly #object: LoadedObject;
  /** Each run writes its own frame over it; the kernel takes the Ethernet type of this one. */
  readonly #data: Uint8Array;
  readonly #context: Uint8Array;
  readonly #packetsOfFlow: number;

  private constructor(bed: FlowBed, object: LoadedObject, data: Uint8Array, ifindex: number, packetsOfFlow: number) {
    this.#bed = bed;
    this.#object = object;
    this.#data = data;
    this.#context = new Uint8Array(skb.size);
    new DataView(this.#context.buffer).setUint32(skb.ifindex, ifindex, true);
    this.#packetsOfFlow = packetsOfFlow;
  }

  static async make(bed: FlowBed, version: Version, pod: Pod, steps: readonly FloodStep[]): Promise<Flood> {
    const device = bed.devices.get(pod);
    if (device === undefined || steps.length === 0 || steps.length > layout.most) throw new Error('no such flood');
    const frames = steps.map(({ packet }) => frameOf(version, namesOf[version], packet).frame);
    const length = frames[0]?.length ?? 0;
    if (length > layout.frameBytes || frames.some((frame) => frame.length !== length))
      throw new Error('frames of other lengths');
    const value = new Uint8Array(layout.first + layout.most * stepBytes);
    const view = new DataView(value.buffer);
    view.setUint32(layout.steps, steps.length, true);
    for (const [i, { low, high }] of steps.entries()) {
      const at = layout.first + i * stepBytes;
      frames[i]?.set(macBytes(device.mac), 0);
      view.setUint32(at, length, true);
      view.setUint32(at + 4, placeOf[version][low], true);
      view.setUint32(at + 8, placeOf[version][high], true);
      value.set(frames[i] ?? [], at + layout.frame);
    }
    const object = await loadObject({ name: 'flood', elf });
    try {
      object.map('floods').set(u32Key(0), value);
      for (const [i, { way }] of steps.entries()) {
        const { fd } = bed.object.program(way === 'sends' ? 'tortie_pod_out' : 'tortie_pod_in');
        object.map('handlers').set(u32Key(i), u32Key(fd));
      }
      return new Flood(bed, object, frames[0] ?? new Uint8Array(), device.ifindex, steps.length);
    } catch (error) {
      object[Symbol.dispose]();
      throw error;
    }
  }

  /** All packets of so many flows more, on a worker. */
  async run(flows: number): Promise<void> {
    await this.#object.program('flood').run({
      data: this.#data,
      context: this.#context,
      repeat: flows * this.#packetsOfFlow,
      netns: { path: this.#bed.netns.path },
    });
  }

  [Symbol.dispose](): void {
    this.#object[Symbol.dispose]();
  }
}

/** What became of the packets on a pod's device since this was asked last: `out passed` -> how many. */
export function takeVerdicts(bed: FlowBed, pod: Pod): Readonly<Record<string, number>> {
  const map = bed.map('tortie_counters');
  const key = u32Key(bed.devices.get(pod)?.ifindex ?? 0);
  const all = map.get(key);
  const found: Record<string, number> = {};
  for (let cpu = 0; all !== undefined && cpu < map.cpus; cpu += 1)
    DeviceCounters.read(new DataView(all.buffer, all.byteOffset + cpu * map.valueStride)).by.forEach((verdicts, way) =>
      verdicts.forEach(({ packets }, verdict) => {
        const name = `${way === Direction.fromPod ? 'out' : 'in'} ${verdictTexts[verdict as Verdict]}`;
        if (packets > 0n) found[name] = (found[name] ?? 0) + Number(packets);
      }),
    );
  map.delete(key);
  return found;
}
