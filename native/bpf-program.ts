import { bpfAddon, type RawProgram } from './bpf-addon.ts';
import type { NetnsRef } from './types.ts';

/** A run of a program without waiting for an event (BPF_PROG_TEST_RUN). */
export interface TestRun {
  /** A packet from the Ethernet header on. Programs of type `syscall` have none. */
  readonly data?: Uint8Array;
  /** `struct __sk_buff` or `struct xdp_md` as it should be; for type `syscall` the program's own argument. */
  readonly context?: Uint8Array;
  /** How many runs; default 1. Not for type `syscall`. */
  readonly repeat?: number;
  /** Where it pretends to be; its device is `lo` (ifindex 1) unless the context says another. */
  readonly netns?: NetnsRef;
  /**
   * XDP alone: frames are really sent on, dropped or given to the stack, as the program says (BPF_F_TEST_XDP_LIVE_FRAMES), on the device
   * that the context names. `repeat` is the number of frames. The result then has neither data nor context.
   */
  readonly liveFrames?: boolean;
}

/** What a run left. */
export interface TestResult {
  /** What the program returned, signed. */
  readonly returned: number;
  /** The packet after the (last) run. */
  readonly data: Uint8Array;
  /** The context after the run, as long as it was given. */
  readonly context: Uint8Array;
  /** Average of one run; 0 for type `syscall`. */
  readonly nanoseconds: number;
}

/** A loaded program. It owns its descriptor, as a BpfMap does. */
export class BpfProgram implements Disposable {
  readonly #raw: RawProgram;
  readonly id: number;
  readonly name: string;
  /** The kernel's hash of the instructions. */
  readonly tag: string;
  readonly type: number;
  /** The maps it uses; read-only data is one of them. */
  readonly mapIds: readonly number[];
  /** How many instructions the verifier went through (linux/bpf.h: bpf_prog_info.verified_insns); it gives up at a million. */
  readonly verifiedInstructions: number;

  private constructor(raw: RawProgram) {
    this.#raw = raw;
    const info = raw.info();
    this.id = info.id;
    this.name = info.name;
    this.tag = info.tag;
    this.type = info.type;
    this.mapIds = info.mapIds;
    this.verifiedInstructions = info.verifiedInstructions;
  }

  /** @internal */
  static own(raw: object): BpfProgram {
    return new BpfProgram(raw as RawProgram);
  }

  /** The descriptor's number while the program is open; `EBADF` after. */
  get fd(): number {
    return this.#raw.info().fd;
  }

  /** Runs it now, on the calling thread: for packets, which take a microsecond. */
  testRun(request: TestRun): TestResult {
    return this.#raw.testRun(request);
  }

  /** Runs it on a worker: for sweeps of tables, many repetitions, live frames. */
  async run(request: TestRun): Promise<TestResult> {
    return await this.#raw.run(request);
  }

  /** Gives it a path on a bpf file system; it lives until that is removed. `EEXIST` when something is there. */
  pin(path: string): void {
    bpfAddon().bpfPin(this.fd, path);
  }

  [Symbol.dispose](): void {
    this.#raw.close();
  }
}

/** The program pinned at a path, or undefined when nothing is. */
export function openPinnedProgram(path: string): BpfProgram | undefined {
  const raw = bpfAddon().bpfOpenPinned(path, 'program');
  return raw === undefined ? undefined : BpfProgram.own(raw);
}
