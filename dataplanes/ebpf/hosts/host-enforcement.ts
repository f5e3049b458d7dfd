import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf } from '#api/errors.ts';
import type { Netlink, NetnsRef } from '#native/types.ts';
import type { ApplyFailure, HostDeviceState } from '../../contract.ts';
import type { XdpSettings } from '../../messages.ts';
import type { LoadedDataplane } from '../loaded-dataplane.ts';
import { HostAttachments } from './host-attachments.ts';
import type { HostDevice } from './host-devices.ts';
import { type HostPart, hostParts } from './host-programs.ts';
import { XdpPrograms, type XdpState } from './xdp-programs.ts';

export interface EnforcementDeps {
  readonly host: Netlink;
  /** Where links and XDP programs are pinned; ours alone. */
  readonly dir: string;
  readonly netns?: NetnsRef;
  /** Whether the kernel has tcx; absent: it is tried. */
  readonly hasTcx?: boolean;
}

/** A device that is to have our programs. */
export interface EnforcedDevice extends HostDevice {
  /** There is untracked ingress policy, which XDP can refuse by. */
  readonly isUntracked: boolean;
}

/** Of an uplink. */
const othersWords = "others' programs are at its ingress: pods' packets go by the stack";

const isGone = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENODEV';

/** What came of looking at the devices. */
export interface EnforcementReport {
  /** What host endpoints don't have; and what else could not be put on devices or taken off. */
  readonly failed: readonly ApplyFailure[];
  /** What uplinks don't have: their packets go by the stack. */
  readonly failedUplinks: readonly ApplyFailure[];
  readonly repaired: readonly string[];
  /** All devices have what they should, so there is nothing to do before one is suspect, or they are others. */
  readonly isSettled: boolean;
}

/** Our programs on uplinks and the devices that host endpoints stand for: they come, are looked at when there is reason to, and go. */
export class HostEnforcement implements AsyncDisposable {
  readonly #deps: EnforcementDeps;
  readonly #attachments: HostAttachments;
  readonly #xdp: XdpPrograms;
  readonly #states = new Map<number, HostDeviceState>();
  readonly #suspects = new Set<number>();
  /** Devices with the programs of both directions, as far as anybody has told. */
  readonly #attached = new Set<number>();
  readonly #shared = new Set<number>();
  /** Parts of which programs may be in force, whoever's. */
  readonly #entered = new Set<HostPart>(hostParts);
  /** Earlier agents' programs may be where none are wanted. */
  #mayHaveLeftovers = true;

  constructor(deps: EnforcementDeps) {
    this.#deps = deps;
    const { host, dir, netns, hasTcx } = deps;
    const more = netns === undefined ? {} : { netns };
    const tcx = hasTcx === undefined ? {} : { hasTcx };
    this.#attachments = new HostAttachments({ host, dir: join(dir, 'links'), ...more, ...tcx });
    this.#xdp = new XdpPrograms({ host, dir: join(dir, 'xdp'), ...more });
  }

  /** The device is looked at by the next `keep`; false: it has nothing of ours. */
  suspect(ifindex: number): boolean {
    if (!this.#states.has(ifindex)) return false;
    this.#suspects.add(ifindex);
    return true;
  }

  /** Devices are to be looked at. */
  get hasSuspects(): boolean {
    return this.#suspects.size > 0;
  }

  /** Programs of ours may be on devices, whoever of us attached them. */
  get mayBeAttached(): boolean {
    return this.#states.size > 0 || this.#attachments.linked.length > 0 || this.#mayHaveFilters;
  }

  suspectAll(): void {
    for (const ifindex of this.#states.keys()) this.#suspects.add(ifindex);
  }

  /** By ifindex. */
  get states(): readonly HostDeviceState[] {
    return [...this.#states].sort(([a], [b]) => a - b).map(([, state]) => state);
  }

  /** Uplinks by which packets may go past the stack: both programs are there, and what they jump to. */
  get direct(): readonly number[] {
    return this.#entered.has('net') ? [...this.#attached] : [];
  }

  /** Uplinks with programs or filters of others at their ingress: what goes past the stack would pass by those. */
  get shared(): ReadonlySet<number> {
    return this.#shared;
  }

  /** Looks which of these have the programs already, before `keep` has looked. Throws what the kernel says. */
  async adopt(loaded: LoadedDataplane, devices: readonly EnforcedDevice[]): Promise<void> {
    // Without programs behind them they are no uplinks.
    if (!loaded.hasHosts('net')) return;
    const { filters } = loaded;
    for (const { ifindex, isUplink } of devices) {
      if (!isUplink || !(await this.#attachments.has(ifindex, filters))) continue;
      await this.#lookForOthers(ifindex, filters);
      this.#attached.add(ifindex);
    }
  }

  /** These devices have our programs from now on, and no other. */
  async keep(
    loaded: LoadedDataplane,
    devices: readonly EnforcedDevice[],
    xdp: Pick<XdpSettings, 'enabled' | 'generic'>,
  ): Promise<EnforcementReport> {
    const report = { failed: [] as ApplyFailure[], failedUplinks: [] as ApplyFailure[], repaired: [] as string[] };
    // What never had anything of ours, and needs nothing any more.
    for (const suspect of this.#suspects) {
      if (!this.#states.has(suspect) && !devices.some(({ ifindex }) => ifindex === suspect))
        this.#suspects.delete(suspect);
    }
    if (devices.length === 0 && this.#states.size === 0 && !this.#mayHaveLeftovers)
      return { ...report, isSettled: true };
    await this.#enterNet(loaded, devices, report);
    const judged = devices.filter(({ isJudged }) => isJudged);
    try {
      if (judged.length > 0) await this.#enter(loaded, 'host');
    } catch (error) {
      const reason = messageOf(error);
      for (const device of judged)
        if (device.endpoint !== undefined) report.failed.push({ object: objectOf(device), reason });
      // What else there is stays as it is.
      await this.#putAll(
        loaded,
        devices.filter(({ isJudged }) => !isJudged),
        { ...xdp, refused: undefined },
        report,
      );
      return { ...unique(report), isSettled: false };
    }
    const wantsXdp = xdp.enabled && devices.some(({ isUntracked }) => isUntracked);
    const refused = wantsXdp ? await this.#useXdp(loaded) : undefined;
    let isWhole = await this.#putAll(loaded, devices, { ...xdp, refused }, report);
    isWhole = (await this.#removeOthers(devices, report.failed)) && isWhole;
    if (isWhole && wantsXdp && refused === undefined) this.#xdp.dropFormer(); // All devices have the current one.
    if (!wantsXdp && isWhole && this.#xdp.mayBeAttached) {
      this.#mayHaveLeftovers = true; // Also if this fails.
      await this.#xdp.removeAll();
      this.#mayHaveLeftovers = false;
    }
    if (isWhole && judged.length === 0) this.#leave(loaded, 'host');
    if (devices.length === 0 && isWhole) rmSync(join(this.#deps.dir, 'clsact'), { recursive: true, force: true });
    const isSettled =
      report.failed.length + report.failedUplinks.length === 0 &&
      refused === undefined &&
      devices.every(({ ifindex }) => this.#attached.has(ifindex));
    return { ...unique(report), isSettled };
  }

  /** Takes ours off everything, whoever of us attached it. */
  async removeAll(loaded: LoadedDataplane | undefined): Promise<void> {
    await this.#attachments.removeAll();
    await this.#xdp.removeAll();
    rmSync(this.#deps.dir, { recursive: true, force: true });
    this.#states.clear();
    this.#attached.clear();
    this.#shared.clear();
    this.#suspects.clear();
    if (loaded !== undefined) for (const part of hostParts) this.#leave(loaded, part);
  }

  /** Closes handles only. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#states.clear();
    this.#attached.clear();
    this.#shared.clear();
    this.#suspects.clear();
    for (const part of hostParts) this.#entered.add(part);
    this.#mayHaveLeftovers = true;
    this.#xdp[Symbol.dispose]();
    await this.#attachments[Symbol.asyncDispose]();
  }

  /** Filters outlive their agent without a pin: a directory says that there were some. */
  get #mayHaveFilters(): boolean {
    return existsSync(join(this.#deps.dir, 'clsact'));
  }

  async #enter(loaded: LoadedDataplane, part: HostPart): Promise<void> {
    await loaded.enterHosts(part);
    this.#entered.add(part);
  }

  #leave(loaded: LoadedDataplane, part: HostPart): void {
    if (!this.#entered.delete(part)) return;
    loaded.leaveHosts(part);
  }

  /** What can't be entered is left: what an earlier agent's programs know is nothing that anybody says any more. */
  async #enterNet(
    loaded: LoadedDataplane,
    devices: readonly EnforcedDevice[],
    { failedUplinks }: { readonly failedUplinks: ApplyFailure[] },
  ): Promise<void> {
    try {
      if (devices.some(({ isUplink }) => isUplink)) await this.#enter(loaded, 'net');
      else this.#leave(loaded, 'net');
    } catch (error) {
      this.#leave(loaded, 'net');
      failedUplinks.push({ object: 'BPF programs of uplinks', reason: messageOf(error) });
    }
  }

  /** Why there is no XDP program; undefined: there is. */
  async #useXdp(loaded: LoadedDataplane): Promise<string | undefined> {
    try {
      // Devices have the former one until they are looked at.
      if (this.#xdp.use(await loaded.xdpProgram())) this.suspectAll();
      return undefined;
    } catch (error) {
      return messageOf(error);
    }
  }

  /** False if one of them has not what it should. */
  async #putAll(
    loaded: LoadedDataplane,
    devices: readonly EnforcedDevice[],
    xdp: { readonly enabled: boolean; readonly generic: boolean; readonly refused: string | undefined },
    report: { failed: ApplyFailure[]; failedUplinks: ApplyFailure[]; repaired: string[] },
  ): Promise<boolean> {
    let isWhole = true;
    for (const device of devices) {
      try {
        await this.#put(loaded, device, { ...xdp, enabled: xdp.enabled && device.isUntracked }, report.repaired);
      } catch (error) {
        this.#attached.delete(device.ifindex);
        if (isGone(error)) {
          this.suspect(device.ifindex); // Its end is news of its own, but it may come back under its number.
          continue;
        }
        isWhole = false;
        this.#suspects.add(device.ifindex);
        const failed = device.isJudged ? report.failed : report.failedUplinks;
        failed.push({ object: objectOf(device), reason: `its device ${device.name}: ${messageOf(error)}` });
      }
    }
    return isWhole;
  }

  async #put(
    { filters }: LoadedDataplane,
    { ifindex, name, endpoint, isUplink }: EnforcedDevice,
    xdp: { readonly enabled: boolean; readonly generic: boolean; readonly refused: string | undefined },
    repaired: string[],
  ): Promise<void> {
    const before = this.#states.get(ifindex);
    const xdpBefore = before?.xdp;
    const isXdpAsWanted = xdp.enabled === (xdpBefore !== undefined);
    const isSame =
      before?.device === name && before.hostEndpoint === (endpoint ?? null) && before.isUplink === isUplink;
    if (isSame && isXdpAsWanted && !this.#suspects.has(ifindex)) return;
    this.#suspects.delete(ifindex); // What happens meanwhile makes it one again.
    // Before the filters are there, so that whoever comes after a crash looks for them.
    if ((await this.#attachments.kind()) === 'clsact') mkdirSync(join(this.#deps.dir, 'clsact'), { recursive: true });
    const { kind, outcome } = await this.#attachments.put(ifindex, filters);
    if (isUplink) await this.#lookForOthers(ifindex, filters);
    else this.#shared.delete(ifindex);
    this.#attached.add(ifindex);
    if (before !== undefined && outcome === 'attached') repaired.push(`BPF programs of ${name}`);
    let xdpState: XdpState | undefined;
    if (xdp.enabled && xdp.refused !== undefined) {
      await this.#xdp.removeFormer(ifindex);
      xdpState = { mode: 'off', reason: xdp.refused };
    } else if (xdp.enabled) xdpState = await this.#xdp.put(ifindex, { allowGeneric: xdp.generic });
    else await this.#xdp.remove(ifindex);
    this.#states.set(ifindex, {
      device: name,
      hostEndpoint: endpoint ?? null,
      isUplink,
      attached: kind,
      ...(this.#shared.has(ifindex) ? { viaStack: othersWords } : {}),
      ...(xdpState === undefined ? {} : { xdp: xdpState.mode }),
      ...(xdpState !== undefined && 'reason' in xdpState ? { xdpReason: xdpState.reason } : {}),
    });
  }

  async #lookForOthers(ifindex: number, filters: LoadedDataplane['filters']): Promise<void> {
    if (await this.#attachments.hasOthersAtIngress(ifindex, filters)) this.#shared.add(ifindex);
    else this.#shared.delete(ifindex);
  }

  /** False if something stays that should not. */
  async #removeOthers(devices: readonly EnforcedDevice[], failed: ApplyFailure[]): Promise<boolean> {
    const wanted = new Set(devices.map(({ ifindex }) => ifindex));
    const others = new Set([...this.#states.keys()].filter((ifindex) => !wanted.has(ifindex)));
    if (this.#mayHaveLeftovers) {
      for (const ifindex of this.#attachments.linked) if (!wanted.has(ifindex)) others.add(ifindex);
      if (this.#mayHaveFilters)
        for (const { index } of await this.#deps.host.links()) if (!wanted.has(index)) others.add(index);
    }
    let isWhole = true;
    for (const ifindex of others) {
      try {
        // The pins of the others say that something is there: they go last.
        await this.#xdp.remove(ifindex);
        this.#attached.delete(ifindex);
        this.#shared.delete(ifindex);
        await this.#attachments.remove(ifindex);
        this.#states.delete(ifindex);
        this.#suspects.delete(ifindex);
      } catch (error) {
        isWhole = false;
        const name = this.#states.get(ifindex)?.device ?? `device #${ifindex}`;
        failed.push({ object: `BPF programs of ${name}`, reason: messageOf(error) });
      }
    }
    if (isWhole) this.#mayHaveLeftovers = false;
    return isWhole;
  }
}

const objectOf = ({ endpoint, name }: EnforcedDevice): string =>
  endpoint === undefined ? `BPF programs of ${name}` : `host endpoint ${endpoint}`;

/** One failure for each object is enough. */
const unique = (report: Omit<EnforcementReport, 'isSettled'>): Omit<EnforcementReport, 'isSettled'> => ({
  ...report,
  failed: [...new Map(report.failed.map((failure) => [failure.object, failure])).values()],
});
