/** The programs of test/bpf/rewrite.bpf.c: a frame and what is wanted of it go in, a frame and a verdict come out. */
import { u32Key } from '#dataplanes/ebpf/keys.ts';
import { loadObject, type BpfMap, type BpfProgram, type LoadedObject } from '#native/bpf.ts';
import { bytes, ipv4Bytes, ipv6Bytes } from '#test/lab/packets.ts';
import type { Version } from './classifier-bed.ts';
import type { WantedTuple } from './slow-rewrite.ts';

const elf = new URL('../../build/bpf/rewrite.bpf.o', import.meta.url).pathname;
/** Offsets in `struct __sk_buff`. */
const skb = { size: 192, cb: 48, gsoSegments: 164, gsoSize: 176 } as const;

export const addressOf = (version: Version, text: string): number[] =>
  version === 4 ? ipv4Bytes(text) : ipv6Bytes(text);
/** As the machine keeps it, which is little-endian. */
export const nativeWord = (value: number): number[] => [value & 255, value >> 8];

/** What came of a frame. */
export interface Outcome {
  /** What the program returned: a verdict, or another answer. */
  readonly returned: number;
  readonly frame: Uint8Array;
}
/** What the kernel says of a frame: cb[0], cb[1], and whether it is many packets of this size in one. */
export interface Circumstances {
  readonly cb?: readonly [number, number?];
  readonly gsoSize?: number;
}

/** Handles of the programs; disposing closes them. */
export class RewriteBed implements Disposable {
  readonly #object: LoadedObject;

  private constructor(object: LoadedObject) {
    this.#object = object;
  }

  static async load(): Promise<RewriteBed> {
    return new RewriteBed(await loadObject({ name: 'rewrite', elf }));
  }

  map(name: string): BpfMap {
    return this.#object.map(name);
  }

  program(name: string): BpfProgram {
    return this.#object.program(name);
  }

  /** Runs a program on a frame. */
  run(name: string, frame: Uint8Array, { cb = [0], gsoSize = 0 }: Circumstances = {}): Outcome {
    const context = new Uint8Array(skb.size);
    const view = new DataView(context.buffer);
    view.setUint32(skb.cb, cb[0], true);
    view.setUint32(skb.cb + 4, cb[1] ?? 0, true);
    view.setUint32(skb.gsoSize, gsoSize, true);
    if (gsoSize !== 0) view.setUint32(skb.gsoSegments, Math.ceil(frame.length / gsoSize), true);
    const { returned, data } = this.#object.program(name).testRun({ data: frame, context });
    return { returned, frame: data };
  }

  /** Says what programs take for the tuple wanted. */
  want(version: Version, protocol: number, to: WantedTuple): void {
    const value = bytes(to.source, to.destination, nativeWord(to.sourcePort), nativeWord(to.destinationPort), [
      protocol,
      0,
      0,
      0,
    ]);
    this.map(`wanted${version}`).set(u32Key(0), value);
  }

  /** Gives the frame (of an ICMP error: the packet in it, which has this protocol) a tuple. */
  translate(version: Version, frame: Uint8Array, protocol: number, to: WantedTuple): Outcome {
    this.want(version, protocol, to);
    return this.run(`translate${version}`, frame);
  }

  [Symbol.dispose](): void {
    this.#object[Symbol.dispose]();
  }
}
