import { existsSync, mkdirSync, readdirSync, rmSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { attachTcx, type BpfLink, type BpfProgram, openPinnedLink, probeBpf, tcxPrograms } from '#native/bpf.ts';
import type { Netlink, NetnsRef } from '#native/types.ts';
import { hasOthersBehind } from '../others-programs.ts';
import { attach, detach, type FilterNames, type FilterPair, readAttached } from '../filters.ts';

const directions = ['ingress', 'egress'] as const;
type Direction = (typeof directions)[number];

/** By these a device's filters are known again. */
const netNames: FilterNames = { ingress: 'tortie_from_net', egress: 'tortie_to_net' };

/** The programs on uplinks and devices with a host endpoint. */
export interface NetPrograms {
  readonly fromNet: BpfProgram;
  readonly toNet: BpfProgram;
}

/** What came of a look at one device, and how its programs are attached. */
export interface HostAttachment {
  readonly kind: 'tcx' | 'clsact';
  readonly outcome: 'as they were' | 'replaced' | 'attached';
}

export interface HostAttachmentDeps {
  readonly host: Netlink;
  /** Where links are pinned; ours alone. */
  readonly dir: string;
  /** Where the devices are, if that is not the process's namespace. */
  readonly netns?: NetnsRef;
  /** Whether the kernel has tcx; absent: it is tried. */
  readonly hasTcx?: boolean;
}

/**
 * The programs on uplinks and devices with a host endpoint: tcx links where the kernel has them (6.6), before all others, pinned so that they outlive the agent; else
 * filters on clsact. Other people's programs, filters and qdiscs stay as they are.
 */
export class HostAttachments implements AsyncDisposable {
  readonly #deps: HostAttachmentDeps;
  /** By pin. Held open: a pin that somebody removes takes nothing off, and is made again. */
  readonly #links = new Map<string, BpfLink>();
  #hasTcx: boolean | undefined;

  constructor(deps: HostAttachmentDeps) {
    this.#deps = deps;
    this.#hasTcx = deps.hasTcx;
  }

  /** How programs are attached. */
  async kind(): Promise<HostAttachment['kind']> {
    // If that can't be told, attaching will.
    this.#hasTcx ??= (await probeBpf({ tcx: true })).answer !== 'no';
    return this.#hasTcx ? 'tcx' : 'clsact';
  }

  /** Whether the device has these very programs in both directions. Throws what the kernel says. */
  async has(ifindex: number, programs: NetPrograms): Promise<boolean> {
    if ((await this.kind()) === 'clsact')
      return readAttached(this.#deps.host, ifindex, pairOf(programs)).attached === 'yes';
    for (const direction of directions) {
      const info = await (await this.#open(this.#path(ifindex, direction)))?.info();
      const wanted = direction === 'ingress' ? programs.fromNet : programs.toNet;
      if (info?.kind !== 'tcx' || info.ifindex !== ifindex || info.programId !== wanted.id) return false;
    }
    return true;
  }

  /** Sees to it that the device has these programs. Throws what the kernel says; `ENODEV` when it is gone. */
  async put(ifindex: number, programs: NetPrograms): Promise<HostAttachment> {
    if ((await this.kind()) === 'tcx') {
      const ingress = await this.#link(ifindex, 'ingress', programs.fromNet);
      const egress = await this.#link(ifindex, 'egress', programs.toNet);
      return { kind: 'tcx', outcome: worst(ingress, egress) };
    }
    const { host } = this.#deps;
    const pair = pairOf(programs);
    const state = readAttached(host, ifindex, pair);
    if (state.attached !== 'yes') await attach(host, ifindex, pair, state);
    const outcome = state.attached === 'yes' ? 'as they were' : state.attached === 'no' ? 'attached' : 'replaced';
    return { kind: 'clsact', outcome };
  }

  /** Whether others have programs or filters at the device's ingress, behind ours. Throws what the kernel says. */
  async hasOthersAtIngress(ifindex: number, programs: NetPrograms): Promise<boolean> {
    if (readAttached(this.#deps.host, ifindex, pairOf(programs)).others.includes('ingress')) return true;
    if ((await this.kind()) === 'clsact') return false;
    const [found] = await tcxPrograms([ifindex], this.#deps.netns);
    return found !== undefined && hasOthersBehind(found.ingress, new Set([programs.fromNet.id]));
  }

  /** Takes them off; true if there was something. A device that is gone is done. */
  async remove(ifindex: number): Promise<boolean> {
    let had = false;
    for (const direction of directions) {
      const path = this.#path(ifindex, direction);
      const link = await this.#open(path);
      if (link === undefined) continue;
      had = true;
      await link.detach().catch(ignoreGone);
      await this.#forget(path);
    }
    const hadFilters = await detach(this.#deps.host, ifindex, netNames);
    return had || hadFilters;
  }

  /** Devices that have pinned links, or had when they went. */
  get pinned(): readonly number[] {
    const { dir } = this.#deps;
    if (!existsSync(dir)) return [];
    return [...new Set(readdirSync(dir).map((name) => Number.parseInt(name, 10)))].filter(Number.isSafeInteger);
  }

  /** Takes them off all devices, whoever of us attached them. Throws the first thing that fails. */
  async removeAll(): Promise<void> {
    const present = (await this.#deps.host.links()).map(({ index }) => index);
    for (const ifindex of new Set([...this.pinned, ...present])) await this.remove(ifindex);
    rmSync(this.#deps.dir, { recursive: true, force: true });
  }

  /** Closes handles only. */
  async [Symbol.asyncDispose](): Promise<void> {
    const links = [...this.#links.values()];
    this.#links.clear();
    for (const link of links) await link[Symbol.asyncDispose]();
  }

  async #link(ifindex: number, direction: Direction, program: BpfProgram): Promise<HostAttachment['outcome']> {
    const path = this.#path(ifindex, direction);
    const link = await this.#open(path);
    if (link !== undefined) {
      const info = await link.info();
      // Somebody may have detached it, or the device is another one under an old number.
      if (info.kind === 'tcx' && info.ifindex === ifindex) {
        if (!existsSync(path)) this.#pin(link, path);
        if (info.programId === program.id) return 'as they were';
        await link.update(program);
        return 'replaced';
      }
      await this.#forget(path);
    }
    const { netns } = this.#deps;
    const made = await attachTcx(program, direction, { ifindex, ...(netns && { netns }) }, 'first');
    try {
      this.#pin(made, path);
    } catch (error) {
      await made[Symbol.asyncDispose]();
      throw error;
    }
    this.#links.set(path, made);
    return 'attached';
  }

  async #open(path: string): Promise<BpfLink | undefined> {
    const link = this.#links.get(path) ?? (await openPinnedLink(path));
    if (link !== undefined) this.#links.set(path, link);
    return link;
  }

  #pin(link: BpfLink, path: string): void {
    mkdirSync(this.#deps.dir, { recursive: true });
    link.pin(path);
  }

  async #forget(path: string): Promise<void> {
    const link = this.#links.get(path);
    this.#links.delete(path);
    if (existsSync(path)) unlinkSync(path);
    await link?.[Symbol.asyncDispose]();
  }

  #path(ifindex: number, direction: Direction): string {
    return join(this.#deps.dir, `${ifindex}-${direction}`);
  }
}

const pairOf = ({ fromNet, toNet }: NetPrograms): FilterPair => ({ names: netNames, ingress: fromNet, egress: toNet });

const rank = { 'as they were': 0, replaced: 1, attached: 2 } as const;
const worst = (a: HostAttachment['outcome'], b: HostAttachment['outcome']): HostAttachment['outcome'] =>
  rank[a] > rank[b] ? a : b;

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';
/** The device is gone, or somebody has detached it already. */
const ignoreGone = (error: unknown): void => {
  if (!['ENOLINK', 'ENODEV', 'ENOENT', 'EINVAL'].includes(codeOf(error))) throw error;
};
