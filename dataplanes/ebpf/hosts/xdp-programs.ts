import { existsSync, mkdirSync, readdirSync, rmSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { attachedPrograms, type AttachedProgram, type BpfProgram, openPinnedProgram } from '#native/bpf.ts';
import type { Netlink, NetnsRef, XdpOp } from '#native/types.ts';

/**
 * How a device's untracked policy meets frames before the stack; `off`: traffic control alone decides. `reason`: why not in the driver, or why not
 * at all; absent where an earlier agent has found out.
 */
export type XdpState =
  | { readonly mode: 'native' }
  | { readonly mode: 'generic'; readonly reason?: string }
  | { readonly mode: 'off'; readonly reason: string };

export interface XdpDeps {
  readonly host: Pick<Netlink, 'batch' | 'links'>;
  /** Where our programs are pinned; ours alone. */
  readonly dir: string;
  /** Where the devices are, if that is not the process's namespace. */
  readonly netns?: NetnsRef;
}

/**
 * Our XDP program on devices. A device has room for one, so it comes only where none is, and never as a link: who comes later may replace it.
 * Ours are known by their ids: each is pinned, by its id, before it is attached anywhere, and until none of them is any more.
 */
export class XdpPrograms implements Disposable {
  readonly #deps: XdpDeps;
  #current: BpfProgram | undefined;
  /** Of earlier agents, or of this one's former configurations: handles of pins. */
  readonly #former = new Map<number, BpfProgram>();
  /** Why ours is not in the driver, by ifindex. */
  readonly #notNative = new Map<number, string>();

  constructor(deps: XdpDeps) {
    this.#deps = deps;
  }

  /** The program that devices get from now on; those that have a former one get it by `put`. True if it is another one than before. */
  use(program: BpfProgram): boolean {
    if (this.#current?.id === program.id) return false;
    const { dir } = this.#deps;
    mkdirSync(dir, { recursive: true });
    this.#current = undefined;
    this.#openFormer();
    program.pin(join(dir, String(program.id)));
    this.#current = program;
    return true;
  }

  /** Sees to it that the device has it, where that is possible. Throws `ENODEV` when it is gone, else what the kernel says. */
  async put(ifindex: number, { allowGeneric }: { readonly allowGeneric: boolean }): Promise<XdpState> {
    const program = this.#current;
    if (program === undefined) throw new TypeError('there is no XDP program');
    for (const there of await this.#attached(ifindex)) {
      const { programId, mode } = there;
      const former = programId === program.id ? program : this.#former.get(programId);
      if (former === undefined || mode === undefined || mode === 'offload') return taken(there);
      if (mode === 'generic' && !allowGeneric) {
        await this.#set({ op: 'xdp.set', link: ifindex, mode, expected: former.fd });
        continue;
      }
      if (former === program) return this.#stateOf(ifindex, mode);
      await this.#set({ op: 'xdp.set', link: ifindex, mode, fd: program.fd, expected: former.fd });
      return this.#stateOf(ifindex, mode);
    }
    const native = await this.#try(ifindex, 'native', program);
    if (native === undefined) return { mode: 'native' };
    if (isTaken(native)) return taken((await this.#attached(ifindex))[0]);
    const reason = `the driver runs none: ${native.message}`;
    if (!allowGeneric) return { mode: 'off', reason: `${reason}; genericXDPEnabled is false` };
    const generic = await this.#try(ifindex, 'generic', program);
    if (generic === undefined) {
      this.#notNative.set(ifindex, reason);
      return { mode: 'generic', reason };
    }
    if (isTaken(generic)) return taken((await this.#attached(ifindex))[0]);
    return { mode: 'off', reason: `${reason}; nor does the stack: ${generic.message}` };
  }

  /** Takes ours off the device, whichever it is. Others stay. A device that is gone is done. */
  async remove(ifindex: number): Promise<boolean> {
    this.#notNative.delete(ifindex);
    return await this.#remove(ifindex, (programId) =>
      programId === this.#current?.id ? this.#current : this.#former.get(programId),
    );
  }

  /** Takes former ones off the device: what they drop by is what nobody says any more. A device that is gone is done. */
  async removeFormer(ifindex: number): Promise<void> {
    this.#openFormer();
    await this.#remove(ifindex, (programId) => this.#former.get(programId));
  }

  /** No device has a former one any more: their pins go. */
  dropFormer(): void {
    for (const [id, program] of this.#former) {
      unlinkSync(join(this.#deps.dir, String(id)));
      program[Symbol.dispose]();
      this.#former.delete(id);
    }
  }

  /** True if one of ours may be on a device. */
  get mayBeAttached(): boolean {
    const { dir } = this.#deps;
    return existsSync(dir) && readdirSync(dir).length > 0;
  }

  /** Takes ours off all devices, whoever of us attached them. */
  async removeAll(): Promise<void> {
    if (!this.mayBeAttached) return;
    this.#openFormer();
    for (const { index } of await this.#deps.host.links()) await this.remove(index);
    rmSync(this.#deps.dir, { recursive: true, force: true });
    this[Symbol.dispose]();
  }

  /** Closes handles only. */
  [Symbol.dispose](): void {
    for (const program of this.#former.values()) program[Symbol.dispose]();
    this.#former.clear();
    this.#current = undefined;
  }

  #stateOf(ifindex: number, mode: 'native' | 'generic'): XdpState {
    const reason = this.#notNative.get(ifindex);
    return mode === 'native' || reason === undefined ? { mode } : { mode, reason };
  }

  async #remove(ifindex: number, ours: (programId: number) => BpfProgram | undefined): Promise<boolean> {
    try {
      for (const { programId, mode } of await this.#attached(ifindex)) {
        const program = ours(programId);
        if (program === undefined || mode === undefined || mode === 'offload') continue;
        await this.#set({ op: 'xdp.set', link: ifindex, mode, expected: program.fd });
        return true;
      }
    } catch (error) {
      // Somebody has replaced it meanwhile, or the device is gone.
      if (!isTaken(error) && !isGone(error)) throw error;
    }
    return false;
  }

  /** Whatever is pinned, but the program in use. */
  #openFormer(): void {
    const { dir } = this.#deps;
    if (!existsSync(dir)) return;
    for (const name of readdirSync(dir)) {
      const id = Number(name);
      if (this.#former.has(id) || id === this.#current?.id) continue;
      const program = openPinnedProgram(join(dir, name));
      if (program !== undefined) this.#former.set(program.id, program);
    }
  }

  async #attached(ifindex: number): Promise<readonly AttachedProgram[]> {
    const { netns } = this.#deps;
    return await attachedPrograms({ hook: 'xdp', ifindex, ...(netns && { netns }) });
  }

  /** The error; undefined: it is there now. Throws `ENODEV`. */
  async #try(ifindex: number, mode: 'native' | 'generic', { fd }: BpfProgram): Promise<Error | undefined> {
    try {
      await this.#set({ op: 'xdp.set', link: ifindex, mode, fd });
      return undefined;
    } catch (error) {
      if (isGone(error)) throw error;
      return error as Error;
    }
  }

  async #set(op: XdpOp): Promise<void> {
    const [result] = await this.#deps.host.batch([op]);
    if (result?.ok === false) throw result.error;
  }
}

const taken = (there: AttachedProgram | undefined): XdpState => ({
  mode: 'off',
  reason: `another program is there${there === undefined ? '' : `: ${there.name || 'without a name'} (#${there.programId})`}`,
});

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';
const isTaken = (error: unknown): boolean => ['EBUSY', 'EEXIST'].includes(codeOf(error));
const isGone = (error: unknown): boolean => codeOf(error) === 'ENODEV';
