import { type BpfProgram, probeBpf, tcxPrograms } from '#native/bpf.ts';
import type { Netlink, NetnsRef } from '#native/types.ts';
import { hasOthersBehind } from '../others-programs.ts';
import { attach, detach, type FilterNames, type FilterPair, readAttached } from '../filters.ts';
import { type LinkOutcome, type LinkPrograms, TcxLinks } from '../tcx-links.ts';

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
  readonly outcome: LinkOutcome;
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
  readonly #links: TcxLinks;
  #hasTcx: boolean | undefined;

  constructor(deps: HostAttachmentDeps) {
    this.#deps = deps;
    this.#links = new TcxLinks(deps);
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
    return (await this.#links.read(ifindex, linksOf(programs))) === 'yes';
  }

  /** Sees to it that the device has these programs. Throws what the kernel says; `ENODEV` when it is gone. */
  async put(ifindex: number, programs: NetPrograms): Promise<HostAttachment> {
    if ((await this.kind()) === 'tcx')
      return { kind: 'tcx', outcome: await this.#links.put(ifindex, linksOf(programs)) };
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
    const had = await this.#links.remove(ifindex);
    const hadFilters = await detach(this.#deps.host, ifindex, netNames);
    return had || hadFilters;
  }

  /** Devices that have links, or had when they went. */
  get linked(): readonly number[] {
    return this.#links.ifindexes;
  }

  /** Takes them off all devices, whoever of us attached them. Throws the first thing that fails. */
  async removeAll(): Promise<void> {
    const present = (await this.#deps.host.links()).map(({ index }) => index);
    for (const ifindex of new Set([...this.linked, ...present])) await this.remove(ifindex);
    await this.#links.removeAll();
  }

  /** Closes handles only. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#links[Symbol.asyncDispose]();
  }
}

const pairOf = ({ fromNet, toNet }: NetPrograms): FilterPair => ({ names: netNames, ingress: fromNet, egress: toNet });
const linksOf = ({ fromNet, toNet }: NetPrograms): LinkPrograms => ({ ingress: fromNet, egress: toNet });
