import { loadAddon } from './addon.ts';
import type { NetnsRef } from './types.ts';

/** The bpf half of the addon as C++ has it; native/bpf-*.ts is its face. */

export interface RawMap {
  info(): {
    readonly fd: number;
    readonly id: number;
    readonly cpus: number;
    readonly name: string;
    readonly type: number;
    readonly keySize: number;
    readonly valueSize: number;
    readonly maxEntries: number;
    readonly flags: number;
  };
  get(key: Uint8Array): Uint8Array | undefined;
  set(key: Uint8Array, value: Uint8Array, flags: number, netns?: NetnsRef): void;
  delete(key: Uint8Array): boolean;
  dump(): Promise<RawElements>;
  setMany(keys: Uint8Array, values: Uint8Array, flags: number): Promise<void>;
  deleteMany(keys: Uint8Array): Promise<number>;
  mmap(): ArrayBuffer;
  types(): { readonly key: number; readonly value: number; readonly btf: Uint8Array } | undefined;
  close(): void;
}

export interface RawElements {
  readonly count: number;
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
}

export interface RawProgram {
  info(): {
    readonly fd: number;
    readonly id: number;
    readonly type: number;
    readonly name: string;
    readonly tag: string;
    readonly mapIds: readonly number[];
    readonly verifiedInstructions: number;
  };
  testRun(request: object): RawTestResult;
  run(request: object): Promise<RawTestResult>;
  close(): void;
}

export interface RawTestResult {
  readonly returned: number;
  readonly data: Uint8Array;
  readonly context: Uint8Array;
  readonly nanoseconds: number;
}

/** What the kernel says of a link (linux/bpf.h, bpf_link_info). */
export interface RawLinkInfo {
  readonly id: number;
  readonly type: number;
  readonly programId: number;
  readonly ifindex?: number;
  readonly cgroupId?: bigint;
  readonly attachType?: number;
}

export interface RawLink {
  fd(): number;
  info(): Promise<RawLinkInfo>;
  update(program: number, expected?: number): Promise<void>;
  detach(): Promise<void>;
  close(): Promise<void>;
}

interface RawTarget {
  readonly attachType: number;
  readonly ifindex?: number;
  readonly cgroup?: string;
  readonly netns?: NetnsRef;
}

interface RawAttached {
  readonly programId: number;
  readonly name: string;
  readonly linkId?: number;
  readonly mode?: 'native' | 'generic' | 'offload';
}

interface BpfAddon {
  bpfLoad(request: {
    name: string;
    bytes: Uint8Array;
    maps: readonly { name: string; maxEntries?: number; fd?: number; ifThere?: boolean }[];
    config: readonly { name: string; bytes: Uint8Array }[];
    programs?: readonly { name: string; attachType?: number }[];
  }): Promise<{ maps: Record<string, RawMap>; programs: Record<string, RawProgram> }>;
  bpfPin(fd: number, path: string): void;
  bpfOpenPinned(path: string, kind: 'map'): RawMap | undefined;
  bpfOpenPinned(path: string, kind: 'program'): RawProgram | undefined;
  bpfMount(path: string, source: string): void;
  bpfUnmount(path: string): void;
  bpfProbe(what: object): Promise<{ readonly answer: 'yes' | 'no' | 'unknown'; readonly reason: string }>;
  bpfGrace(): Promise<void>;
  bpfLinkCreate(
    request: RawTarget & { readonly program: number; readonly flags: number; readonly relative: number },
  ): Promise<{ readonly link: RawLink; readonly info: RawLinkInfo }>;
  bpfOpenPinnedLink(path: string): Promise<{ readonly link: RawLink; readonly info: RawLinkInfo } | undefined>;
  bpfAttached(target: RawTarget): Promise<readonly RawAttached[]>;
  bpfTcxPrograms(devices: {
    readonly ifindexes: readonly number[];
    readonly netns?: NetnsRef;
  }): Promise<
    readonly { readonly ifindex: number; readonly ingress: readonly number[]; readonly egress: readonly number[] }[]
  >;
  readonly BpfRing: new (mapFd: number) => {
    wait(callback: () => void): void;
    read(): { readonly bytes: Uint8Array; readonly lengths: Uint32Array };
    close(): void;
  };
}

export const bpfAddon = (): BpfAddon => loadAddon<BpfAddon>();
