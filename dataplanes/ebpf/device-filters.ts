import { setImmediate as nextTurn } from 'node:timers/promises';
import { probeBpf } from '#native/bpf.ts';
import type { Link, Netlink } from '#native/types.ts';
import {
  attach,
  type AttachedState,
  detach,
  type IngressQdiscError,
  type IngressQdiscs,
  ingressQdiscs,
  podFilters,
  readAttached,
} from './filters.ts';
import { OthersPrograms } from './others-programs.ts';
import type { Filters } from './programs.ts';
import { type LinkPrograms, TcxLinks, type TcxLinksDeps } from './tcx-links.ts';

/** Looks at devices in one turn of the event loop: some ms of the kernel's time, as long as nobody else has its lock of devices. */
const slice = 16;

/** What came of attaching to many devices. */
export interface AttachReport {
  /** Devices that had none of our filters, and have them now. */
  readonly entered: readonly Link[];
  /** Some device had filters of ours before. */
  readonly stayed: boolean;
  readonly failures: readonly { readonly link: Link; readonly reason: string }[];
}

/** What came of a look at one device. */
export type FilterCheck =
  | { readonly outcome: 'as they were' | 'replaced' | 'repaired' | 'gone' }
  | { readonly outcome: 'failed'; readonly reason: string };

export interface DeviceFiltersDeps {
  readonly host: Netlink;
  /** Of the devices that can't have clsact. */
  readonly links: TcxLinksDeps;
  /** Whether the kernel has tcx; absent: it is tried when it is needed. */
  readonly hasTcx?: boolean;
}

/** Neither clsact nor tcx: `code` is `NO_TCX`. */
export class NoTcxError extends Error {
  override readonly name = 'NoTcxError';
  readonly code = 'NO_TCX';

  constructor(what: string) {
    super(
      `${what}, and this kernel has no tcx (Linux 6.6) by which programs go beside it: restart the pod without the annotation ` +
        'kubernetes.io/egress-bandwidth (on whose behalf the plugin `bandwidth` makes this qdisc), or take a newer kernel, or the iptables dataplane',
    );
  }
}

type State = Pick<AttachedState, 'attached'> & ({ readonly by: 'tcx' } | ({ readonly by: 'clsact' } & AttachedState));

/**
 * Our programs on pods' devices: filters on clsact; tcx links where another plugin puts the qdisc `ingress` (the two exclude each other). Links only
 * there, since each attach waits for a grace period.
 */
export class DeviceFilters implements AsyncDisposable {
  readonly #host: Netlink;
  readonly #links: TcxLinks;
  readonly #others: OthersPrograms;
  /** Ifindexes of devices whose filters are to be looked at. */
  readonly #suspects = new Set<number>();
  #hasTcx: boolean | undefined;
  #looks = 0;

  constructor({ host, links, hasTcx }: DeviceFiltersDeps) {
    this.#host = host;
    this.#links = new TcxLinks(links);
    this.#others = new OthersPrograms(links.netns);
    this.#hasTcx = hasTcx;
  }

  suspect(ifindex: number): void {
    this.#suspects.add(ifindex);
  }

  /** There is a reason to look at some device: its filters, or what others have there. */
  get mustLook(): boolean {
    return this.#suspects.size > 0 || this.#others.hasNews;
  }

  get suspects(): readonly number[] {
    return [...this.#suspects];
  }

  /** For looks at many devices: asks the kernel for the qdiscs of all of them once, when the first has no filters. */
  qdiscsOnce(): () => Promise<IngressQdiscs> {
    let known: Promise<IngressQdiscs> | undefined;
    return () => (known ??= ingressQdiscs(this.#host));
  }

  /** Looks at a device's filters and puts them right. What fails stays a suspect. */
  async check(ifindex: number, filters: Filters, qdiscs = this.qdiscsOnce()): Promise<FilterCheck> {
    this.#suspects.delete(ifindex); // What happens meanwhile makes it one again.
    try {
      const { attached } = await this.#put(ifindex, filters, qdiscs);
      return { outcome: attached === 'yes' ? 'as they were' : attached === 'no' ? 'repaired' : 'replaced' };
    } catch (error) {
      if (isGone(error)) {
        this.#suspects.delete(ifindex);
        this.#others.forget(ifindex);
        return { outcome: 'gone' };
      }
      this.#suspects.add(ifindex);
      return { outcome: 'failed', reason: (error as Error).message };
    }
  }

  /** Others have programs or filters on the device, by which packets must pass. */
  hasOthers(ifindex: number): boolean {
    return this.#others.has(ifindex);
  }

  /** Devices for which `hasOthers` may answer otherwise since the last call. */
  takeOthersChanged(): readonly number[] {
    return this.#others.takeChanged();
  }

  /** The next `askForOthers` asks for programs on these that no event tells of. */
  suspectOthers(links: readonly Link[]): void {
    for (const { index } of links) this.#others.suspect(index);
  }

  /** Asks for others' programs where there is reason to. Throws what the kernel says. */
  async askForOthers({ fromPod, toPod }: Filters): Promise<void> {
    await this.#others.ask(new Set([fromPod.id, toPod.id]));
  }

  /** Looks what others have on all of these, before packets come by us. Throws what the kernel says. */
  async lookForOthers(links: readonly Link[], filters: Filters): Promise<void> {
    for (const { index } of links) {
      try {
        await this.#read(index, filters);
      } catch (error) {
        if (!isGone(error)) throw error;
      }
    }
    this.suspectOthers(links);
    await this.askForOthers(filters);
  }

  /** Puts them on a new device that somebody will put `ingress` on. Throws NoTcxError, or what the kernel says. */
  async link(ifindex: number, filters: Filters): Promise<void> {
    // A comparison may have been faster.
    await detach(this.#host, ifindex);
    await this.#link(ifindex, filters, 'the qdisc `ingress` is to come, which excludes clsact');
  }

  /** True if one of the devices has filters of ours, of whatever build. */
  async isOnAny(links: readonly Link[], filters: Filters): Promise<boolean> {
    for (const { index } of links) {
      try {
        if ((await this.#read(index, filters)).attached !== 'no') return true;
      } catch (error) {
        if (!isGone(error)) throw error;
      }
    }
    return false;
  }

  /** Puts the filters on all of these, and replaces older ones. */
  async attachAll(links: readonly Link[], filters: Filters): Promise<AttachReport> {
    const entered: Link[] = [];
    const failures: { link: Link; reason: string }[] = [];
    let stayed = false;
    const qdiscs = this.qdiscsOnce();
    for (const link of links) {
      try {
        const { attached } = await this.#put(link.index, filters, qdiscs);
        stayed ||= attached !== 'no';
        if (attached === 'no') entered.push(link);
      } catch (error) {
        if (!isGone(error)) failures.push({ link, reason: (error as Error).message });
      }
    }
    return { entered, stayed, failures };
  }

  /** Takes them off these devices. Throws when they don't go from all. */
  async detachAll(links: readonly Link[]): Promise<void> {
    const failures: string[] = [];
    for (const link of links) {
      try {
        await this.#links.remove(link.index);
        await detach(this.#host, link.index);
      } catch (error) {
        failures.push(`${link.name}: ${(error as Error).message}`);
      }
    }
    if (failures.length > 0) throw new Error(`filters could not be removed: ${failures.join('; ')}`);
  }

  /** A device is gone: of its links nothing stays. What has its number by now keeps its own. */
  async forgetGone(ifindex: number): Promise<void> {
    this.#suspects.delete(ifindex);
    this.#others.forget(ifindex);
    await this.#links.forgetGone(ifindex);
  }

  /** As `forgetGone`, for all devices that have gone, whoever was there to see it. */
  async forgetAllGone(): Promise<void> {
    for (const ifindex of this.#links.ifindexes) await this.#links.forgetGone(ifindex);
  }

  /** Closes handles only. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#links[Symbol.asyncDispose]();
  }

  async #read(ifindex: number, filters: Filters): Promise<State> {
    this.#looks += 1;
    if (this.#looks % slice === 0) await nextTurn();
    if (this.#links.has(ifindex)) {
      const attached = await this.#links.read(ifindex, linkPrograms(filters));
      if (attached !== 'no') return { by: 'tcx', attached };
      // What is left is of a device before it, or was detached. With one direction left it is the device's.
      await this.#links.forgetGone(ifindex);
      if (this.#links.has(ifindex)) return { by: 'tcx', attached };
    }
    const state = readAttached(this.#host, ifindex, podFilters(filters));
    this.#others.noteFilters(ifindex, state.others.length > 0);
    return { by: 'clsact', ...state };
  }

  async #put(ifindex: number, filters: Filters, qdiscs: () => Promise<IngressQdiscs>): Promise<State> {
    const state = await this.#read(ifindex, filters);
    if (state.attached === 'yes') return state;
    if (state.by === 'tcx') await this.#links.put(ifindex, linkPrograms(filters));
    else {
      try {
        await attach(this.#host, ifindex, podFilters(filters), state, qdiscs);
      } catch (error) {
        if ((error as Partial<IngressQdiscError>).code !== 'INGRESS_QDISC') throw error;
        await this.#link(ifindex, filters, (error as Error).message);
      }
    }
    return state;
  }

  async #link(ifindex: number, filters: Filters, why: string): Promise<void> {
    // If that can't be told, attaching will.
    this.#hasTcx ??= (await probeBpf({ tcx: true })).answer !== 'no';
    if (!this.#hasTcx) throw new NoTcxError(why);
    await this.#links.put(ifindex, linkPrograms(filters));
  }
}

const linkPrograms = ({ fromPod, toPod }: Filters): LinkPrograms => ({ ingress: fromPod, egress: toPod });
const isGone = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENODEV';
