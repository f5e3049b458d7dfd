import { existsSync, mkdirSync, readdirSync, rmSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { attachTcx, type BpfLink, type BpfProgram, openPinnedLink } from '#native/bpf.ts';
import type { NetnsRef } from '#native/types.ts';

const directions = ['ingress', 'egress'] as const;
type Direction = (typeof directions)[number];

/** A device's programs, by the way that packets go as the device's namespace sees it. */
export type LinkPrograms = Readonly<Record<Direction, BpfProgram>>;

/** What became of a device's links. */
export type LinkOutcome = 'as they were' | 'replaced' | 'attached';
const rank = { 'as they were': 0, replaced: 1, attached: 2 } as const satisfies Record<LinkOutcome, number>;

export interface TcxLinksDeps {
  /** Where links are pinned, as `<ifindex>-<direction>`; on a bpf file system, ours alone. */
  readonly dir: string;
  /** Where the devices are, if that is not the process's namespace. */
  readonly netns?: NetnsRef;
}

/**
 * tcx links (Linux 6.6) with which programs are on devices, before all others there. They are pinned, so that they outlive the agent. A device that
 * goes takes the program along, its pins stay until `forgetGone`.
 */
export class TcxLinks implements AsyncDisposable {
  readonly #deps: TcxLinksDeps;
  /** By pin. Held open: a pin that somebody removes takes nothing off, and is made again. */
  readonly #links = new Map<string, BpfLink>();

  constructor(deps: TcxLinksDeps) {
    this.#deps = deps;
  }

  /** True if the ifindex has links of ours, or a device had under that number whose end was not noticed yet. */
  has(ifindex: number): boolean {
    return directions
      .map((direction) => this.#path(ifindex, direction))
      .some((path) => this.#links.has(path) || existsSync(path));
  }

  /** The device itself, and not one before it under its number, has these programs, or others (`stale`), in both directions. */
  async read(ifindex: number, programs: LinkPrograms): Promise<'yes' | 'stale' | 'no'> {
    let state: 'yes' | 'stale' = 'yes';
    for (const direction of directions) {
      const info = await (await this.#open(this.#path(ifindex, direction)))?.info();
      if (info?.kind !== 'tcx' || info.ifindex !== ifindex) return 'no';
      if (info.programId !== programs[direction].id) state = 'stale';
    }
    return state;
  }

  /** Sees to it that the device has these programs. Throws what the kernel says: `ENODEV` without the device, `EINVAL` without tcx. */
  async put(ifindex: number, programs: LinkPrograms): Promise<LinkOutcome> {
    let outcome: LinkOutcome = 'as they were';
    for (const direction of directions) {
      const each = await this.#put(ifindex, direction, programs[direction]);
      if (rank[each] > rank[outcome]) outcome = each;
    }
    return outcome;
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
    return had;
  }

  /** Removes what is left of links of this number whose device is gone. Those of a device that has the number now stay. */
  async forgetGone(ifindex: number): Promise<void> {
    for (const direction of directions) {
      const path = this.#path(ifindex, direction);
      const link = await this.#open(path);
      if (link !== undefined && (await link.info()).ifindex !== ifindex) await this.#forget(path);
    }
  }

  /** Numbers under which links are, or were when their devices went. */
  get ifindexes(): readonly number[] {
    const { dir } = this.#deps;
    const pins = existsSync(dir) ? readdirSync(dir) : [];
    const held = [...this.#links.keys()].map((path) => path.slice(dir.length + 1));
    return [...new Set([...pins, ...held].map((name) => Number.parseInt(name, 10)))].filter(Number.isSafeInteger);
  }

  /** Takes them off all devices, whoever of us attached them. Throws the first thing that fails. */
  async removeAll(): Promise<void> {
    for (const ifindex of this.ifindexes) await this.remove(ifindex);
    rmSync(this.#deps.dir, { recursive: true, force: true });
  }

  /** Closes handles only. */
  async [Symbol.asyncDispose](): Promise<void> {
    const links = [...this.#links.values()];
    this.#links.clear();
    for (const link of links) await link[Symbol.asyncDispose]();
  }

  async #put(ifindex: number, direction: Direction, program: BpfProgram): Promise<LinkOutcome> {
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
    const held = this.#links.get(path);
    if (held !== undefined) return held;
    const link = await openPinnedLink(path);
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

/** The device is gone, or somebody has detached it already. */
const ignoreGone = (error: unknown): void => {
  if (!['ENOLINK', 'ENODEV', 'ENOENT', 'EINVAL'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
};
