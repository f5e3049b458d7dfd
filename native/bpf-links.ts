import { bpfAddon, type RawLink, type RawLinkInfo } from './bpf-addon.ts';
import type { BpfProgram } from './bpf-program.ts';
import type { NetlinkFailure, NetnsRef } from './types.ts';

/** A device by its ifindex in a namespace (absent: where the process is). */
export interface DeviceTarget {
  readonly ifindex: number;
  readonly netns?: NetnsRef;
}

/** Which way packets go, seen from the device's namespace. */
export type Direction = 'ingress' | 'egress';

/** Where a socket's system calls meet a program. */
export type CgroupHook = `${'connect' | 'sendmsg' | 'recvmsg' | 'getpeername'}${4 | 6}` | `post_bind${4 | 6}`;

/** Another program of the same place, by its own id or by its link's. */
export type Neighbour = { readonly programId: number } | { readonly linkId: number };

/** Where among the others of its place a program runs. */
export type Position = 'first' | 'last' | { readonly before: Neighbour } | { readonly after: Neighbour };

/** What a link holds. */
export interface LinkInfo {
  readonly id: number;
  readonly kind: 'tcx' | 'xdp' | 'cgroup' | 'other';
  readonly programId: number;
  /** Of a device's link, in the namespace where the device is now; absent when the device is gone or the link was detached. */
  readonly ifindex?: number;
  /** The control group's inode number, of a cgroup link. */
  readonly cgroupId?: bigint;
  /** enum bpf_attach_type of linux/bpf.h; absent for other kinds. */
  readonly attachType?: number;
}

/** A program that is attached somewhere. */
export interface AttachedProgram {
  readonly programId: number;
  /** Empty when it went away while we asked. */
  readonly name: string;
  /** Of a tcx program that a link holds (others were attached without one). */
  readonly linkId?: number;
  /** Of an XDP program. */
  readonly mode?: 'native' | 'generic' | 'offload';
}

/** enum bpf_attach_type. */
const attachTypes = {
  ingress: 46,
  egress: 47,
  xdp: 37,
  connect4: 10,
  connect6: 11,
  post_bind4: 12,
  post_bind6: 13,
  sendmsg4: 14,
  sendmsg6: 15,
  recvmsg4: 19,
  recvmsg6: 20,
  getpeername4: 29,
  getpeername6: 30,
} as const satisfies Record<Direction | CgroupHook | 'xdp', number>;

/** enum bpf_link_type. */
const kinds: Readonly<Record<number, LinkInfo['kind']>> = { 3: 'cgroup', 6: 'xdp', 11: 'tcx' };

const BPF_F_BEFORE = 1 << 3;
const BPF_F_AFTER = 1 << 4;
const BPF_F_ID = 1 << 5;
const BPF_F_LINK = 1 << 13;
const XDP_FLAGS = { generic: 1 << 1, native: 1 << 2 } as const;

/**
 * An attached program. The program stays attached as long as a descriptor or a pin of the link is there; what attaches and detaches waits for
 * RCU (5-20 ms), always on a worker.
 */
export class BpfLink implements Disposable, AsyncDisposable {
  readonly #raw: RawLink;
  readonly id: number;
  readonly kind: LinkInfo['kind'];

  private constructor(raw: RawLink, info: RawLinkInfo) {
    this.#raw = raw;
    this.id = info.id;
    this.kind = kinds[info.type] ?? 'other';
  }

  /** @internal */
  static own({ link, info }: { readonly link: RawLink; readonly info: RawLinkInfo }): BpfLink {
    return new BpfLink(link, info);
  }

  /** As it is now. */
  async info(): Promise<LinkInfo> {
    const { type: _, ...info } = await this.#raw.info();
    return { ...info, kind: this.kind };
  }

  /**
   * Puts another program in the place of this one, between two packets. With `expected`, only if that is the program now (`EPERM` else).
   * `ENOLINK` when the device is gone.
   */
  async update(program: BpfProgram, expected?: BpfProgram): Promise<void> {
    await this.#raw.update(program.fd, expected?.fd);
  }

  /** Takes the program off, whoever else holds or has pinned the link: it stays, with nothing attached. */
  async detach(): Promise<void> {
    await this.#raw.detach();
  }

  /** Gives it a path on a bpf file system, which keeps the program attached until that is removed. `EEXIST` when something is there. */
  pin(path: string): void {
    bpfAddon().bpfPin(this.#raw.fd(), path);
  }

  /** Closes the descriptor in the background: without a pin the program is off some milliseconds later. */
  [Symbol.dispose](): void {
    // A descriptor can't fail to close.
    void this.#raw.close();
  }

  /** Closes the descriptor; without a pin the program is off afterwards. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#raw.close();
  }
}

/** The link pinned at a path, or undefined when nothing is. `EINVAL` when it is no link. */
export async function openPinnedLink(path: string): Promise<BpfLink | undefined> {
  const opened = await bpfAddon().bpfOpenPinnedLink(path);
  return opened === undefined ? undefined : BpfLink.own(opened);
}

/**
 * Attaches a traffic control program to a device by tcx (Linux 6.6). tcx programs run before the filters of clsact. `ENOENT` when the neighbour
 * of `position` isn't there, `EEXIST` when this very program is attached there already, `EINVAL` where there is no tcx, `ENODEV` without
 * the device.
 */
export async function attachTcx(
  program: BpfProgram,
  direction: Direction,
  { ifindex, netns }: DeviceTarget,
  position: Position = 'last',
): Promise<BpfLink> {
  return BpfLink.own(
    await bpfAddon().bpfLinkCreate({
      program: program.fd,
      attachType: attachTypes[direction],
      ifindex,
      ...(netns && { netns }),
      ...placed(position),
    }),
  );
}

function placed(position: Position): { readonly flags: number; readonly relative: number } {
  if (position === 'first') return { flags: BPF_F_BEFORE, relative: 0 };
  if (position === 'last') return { flags: BPF_F_AFTER, relative: 0 };
  const side = 'before' in position ? BPF_F_BEFORE : BPF_F_AFTER;
  const neighbour = 'before' in position ? position.before : position.after;
  return 'linkId' in neighbour
    ? { flags: side | BPF_F_ID | BPF_F_LINK, relative: neighbour.linkId }
    : { flags: side | BPF_F_ID, relative: neighbour.programId };
}

/**
 * Attaches a program to a control group (version 2, by its directory): it sees the system calls of the sockets of all processes in the
 * group and below, beside programs of others. The program must have been loaded for this hook (see `ObjectSpec.programs`).
 */
export async function attachCgroup(program: BpfProgram, hook: CgroupHook, cgroup: string): Promise<BpfLink> {
  return BpfLink.own(
    await bpfAddon().bpfLinkCreate({
      program: program.fd,
      attachType: attachTypes[hook],
      cgroup,
      flags: 0,
      relative: 0,
    }),
  );
}

/** An XDP program on a device, and where it runs. */
export interface AttachedXdp {
  readonly link: BpfLink;
  readonly mode: 'native' | 'generic';
  /** Why it doesn't run in the driver. */
  readonly nativeRefused?: string;
}

/** The device is taken, isn't there or isn't ours: the other mode would fare no better. */
const notTheDriversWords: ReadonlySet<string> = new Set(['EBUSY', 'EEXIST', 'EPERM', 'EACCES', 'ENODEV', 'EBADF']);

/**
 * Attaches an XDP program to a device. `auto`: in the driver (native), or, when the driver won't, in the stack (generic: correct, but
 * it costs more than it saves). `EBUSY` or `EEXIST` when another program is there: a device takes one. `offload` is refused
 * (`EOPNOTSUPP`): such a program lives in the network card, has to be loaded anew for each card, and shares no map with the host's programs.
 */
export async function attachXdp(
  program: BpfProgram,
  target: DeviceTarget,
  mode: 'auto' | 'native' | 'generic' | 'offload' = 'auto',
): Promise<AttachedXdp> {
  if (mode === 'offload') throw offloadRefused(target);
  if (mode !== 'auto') return { link: await xdpLink(program, target, mode), mode };
  try {
    return { link: await xdpLink(program, target, 'native'), mode: 'native' };
  } catch (error) {
    const { code, message } = error as Error & NetlinkFailure;
    if (notTheDriversWords.has(code)) throw error;
    return { link: await xdpLink(program, target, 'generic'), mode: 'generic', nativeRefused: message };
  }
}

async function xdpLink(
  program: BpfProgram,
  { ifindex, netns }: DeviceTarget,
  mode: 'native' | 'generic',
): Promise<BpfLink> {
  const request = { program: program.fd, attachType: attachTypes.xdp, ifindex, ...(netns && { netns }) };
  return BpfLink.own(await bpfAddon().bpfLinkCreate({ ...request, flags: XDP_FLAGS[mode], relative: 0 }));
}

function offloadRefused({ ifindex }: DeviceTarget): Error {
  const object = `attach to device ${ifindex}`;
  return Object.assign(
    new Error(
      `${object}: EOPNOTSUPP: XDP programs aren't offloaded to network cards: one would have to be loaded for each card, ` +
        `and would share no map with the host's programs. Use native or generic`,
    ),
    { code: 'EOPNOTSUPP', errno: 95, syscall: 'bpf', object },
  );
}

/** A place where programs are attached. tcx and XDP: of a device; else: of a control group, without those that it inherits. */
export type AttachPlace =
  | (DeviceTarget & { readonly hook: Direction | 'xdp' })
  | { readonly cgroup: string; readonly hook: CgroupHook };

/**
 * Who is attached to a place (BPF_PROG_QUERY; for XDP, rtnetlink), in the order in which they run, on a worker. Whose they are: their names,
 * ids and links. Filters of clsact are listed by `Netlink.filters`.
 */
export async function attachedPrograms(place: AttachPlace): Promise<readonly AttachedProgram[]> {
  const { hook, ...target } = place;
  return await bpfAddon().bpfAttached({ ...target, attachType: attachTypes[hook] });
}

/** A device's tcx programs, by id, in the order in which they run. */
export interface TcxPrograms {
  readonly ifindex: number;
  readonly ingress: readonly number[];
  readonly egress: readonly number[];
}

/**
 * Which of these devices have tcx programs, whoever's, on a worker: two system calls for each. A device that is gone has none; before Linux 6.6 none
 * has.
 */
export async function tcxPrograms(ifindexes: readonly number[], netns?: NetnsRef): Promise<readonly TcxPrograms[]> {
  return await bpfAddon().bpfTcxPrograms({ ifindexes, ...(netns && { netns }) });
}
