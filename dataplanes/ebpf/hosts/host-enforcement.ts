import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Netlink, NetnsRef } from '#native/types.ts';
import type { ApplyFailure, HostDeviceState } from '../../contract.ts';
import type { XdpSettings } from '../../messages.ts';
import type { LoadedDataplane } from '../loaded-dataplane.ts';
import { HostAttachments } from './host-attachments.ts';
import type { HostDevice } from './host-devices.ts';
import { XdpPrograms, type XdpState } from './xdp-programs.ts';

export interface EnforcementDeps {
  readonly host: Netlink;
  /** Where links and XDP programs are pinned; ours alone. */
  readonly dir: string;
  /** The directory with the object files. */
  readonly objects: string;
  readonly netns?: NetnsRef;
}

/** A device that is to have our programs. */
export interface EnforcedDevice extends HostDevice {
  /** There is untracked ingress policy, which XDP can refuse by. */
  readonly isUntracked: boolean;
}

const wordsOf = (error: unknown): string => (error as Error).message;
const isGone = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENODEV';

/** Our programs on the devices that host endpoints stand for: they come, are looked at when there is reason to, and go. */
export class HostEnforcement implements AsyncDisposable {
  readonly #deps: EnforcementDeps;
  readonly #attachments: HostAttachments;
  readonly #xdp: XdpPrograms;
  readonly #states = new Map<number, HostDeviceState>();
  readonly #suspects = new Set<number>();
  /** Earlier agents' programs may be where none are wanted. */
  #mayHaveLeftovers = true;

  constructor(deps: EnforcementDeps) {
    this.#deps = deps;
    const { host, dir, netns } = deps;
    const more = netns === undefined ? {} : { netns };
    this.#attachments = new HostAttachments({ host, dir: join(dir, 'links'), ...more });
    this.#xdp = new XdpPrograms({ host, dir: join(dir, 'xdp'), ...more });
  }

  /** The device is looked at by the next `keep`; false: it has nothing of ours. */
  suspect(ifindex: number): boolean {
    if (!this.#states.has(ifindex)) return false;
    this.#suspects.add(ifindex);
    return true;
  }

  /** Programs of ours may be on devices, whoever of us attached them. */
  get mayBeAttached(): boolean {
    return this.#states.size > 0 || this.#attachments.pinned.length > 0 || this.#mayHaveFilters;
  }

  suspectAll(): void {
    for (const ifindex of this.#states.keys()) this.#suspects.add(ifindex);
  }

  get states(): readonly HostDeviceState[] {
    return [...this.#states.values()];
  }

  /** These devices have our programs from now on, and no other. */
  async keep(
    loaded: LoadedDataplane,
    devices: readonly EnforcedDevice[],
    xdp: Pick<XdpSettings, 'enabled' | 'generic'>,
  ): Promise<{ readonly failed: readonly ApplyFailure[]; readonly repaired: readonly string[] }> {
    const failed: ApplyFailure[] = [];
    const repaired: string[] = [];
    if (devices.length === 0 && this.#states.size === 0 && !this.#mayHaveLeftovers) return { failed, repaired };
    const wantsXdp = xdp.enabled && devices.some(({ isUntracked }) => isUntracked);
    let xdpRefused: string | undefined;
    try {
      if (devices.length > 0) await loaded.enterHosts();
    } catch (error) {
      const reason = wordsOf(error);
      for (const { endpoint } of devices)
        if (endpoint !== undefined) failed.push({ object: `host endpoint ${endpoint}`, reason });
      return { failed: unique(failed), repaired };
    }
    if (wantsXdp) {
      try {
        // Devices have the former one until they are looked at.
        if (this.#xdp.use(await loaded.xdpProgram())) this.suspectAll();
      } catch (error) {
        xdpRefused = wordsOf(error);
      }
    }
    let isWhole = true;
    for (const device of devices) {
      try {
        await this.#put(
          loaded,
          device,
          { ...xdp, enabled: xdp.enabled && device.isUntracked, refused: xdpRefused },
          repaired,
        );
      } catch (error) {
        if (isGone(error)) continue; // Its end is news of its own.
        isWhole = false;
        this.#suspects.add(device.ifindex);
        const { endpoint, name } = device;
        const object = endpoint === undefined ? `BPF programs of ${name}` : `host endpoint ${endpoint}`;
        failed.push({ object, reason: `its device ${name}: ${wordsOf(error)}` });
      }
    }
    isWhole = (await this.#removeOthers(devices, failed)) && isWhole;
    if (isWhole && wantsXdp && xdpRefused === undefined) this.#xdp.dropFormer(); // All devices have the current one.
    if (!wantsXdp && isWhole && this.#xdp.mayBeAttached) {
      this.#mayHaveLeftovers = true; // Also if this fails.
      await this.#xdp.removeAll();
      this.#mayHaveLeftovers = false;
    }
    if (devices.length === 0 && isWhole) {
      loaded.leaveHosts();
      rmSync(join(this.#deps.dir, 'clsact'), { recursive: true, force: true });
    }
    return { failed: unique(failed), repaired };
  }

  /** Takes ours off everything, whoever of us attached it. */
  async removeAll(loaded: LoadedDataplane | undefined): Promise<void> {
    await this.#attachments.removeAll();
    await this.#xdp.removeAll();
    rmSync(this.#deps.dir, { recursive: true, force: true });
    this.#states.clear();
    this.#suspects.clear();
    loaded?.leaveHosts();
  }

  /** Closes handles only. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#states.clear();
    this.#suspects.clear();
    this.#mayHaveLeftovers = true;
    this.#xdp[Symbol.dispose]();
    await this.#attachments[Symbol.asyncDispose]();
  }

  /** Filters outlive their agent without a pin: a directory says that there were some. */
  get #mayHaveFilters(): boolean {
    return existsSync(join(this.#deps.dir, 'clsact'));
  }

  async #put(
    { filters }: LoadedDataplane,
    { ifindex, name, endpoint }: EnforcedDevice,
    xdp: { readonly enabled: boolean; readonly generic: boolean; readonly refused: string | undefined },
    repaired: string[],
  ): Promise<void> {
    const before = this.#states.get(ifindex);
    const xdpBefore = before?.xdp;
    const isXdpAsWanted = xdp.enabled === (xdpBefore !== undefined);
    const isKnown = before?.device === name && before.hostEndpoint === (endpoint ?? null) && isXdpAsWanted;
    if (isKnown && !this.#suspects.has(ifindex)) return;
    const { kind, outcome } = await this.#attachments.put(ifindex, filters);
    if (kind === 'clsact') mkdirSync(join(this.#deps.dir, 'clsact'), { recursive: true });
    if (before !== undefined && outcome === 'attached') repaired.push(`BPF programs of ${name}`);
    let xdpState: XdpState | undefined;
    if (xdp.enabled) {
      xdpState =
        xdp.refused === undefined
          ? await this.#xdp.put(ifindex, { allowGeneric: xdp.generic })
          : { mode: 'off', reason: xdp.refused };
    } else await this.#xdp.remove(ifindex);
    this.#suspects.delete(ifindex);
    this.#states.set(ifindex, {
      device: name,
      hostEndpoint: endpoint ?? null,
      attached: kind,
      ...(xdpState === undefined ? {} : { xdp: xdpState.mode }),
      ...(xdpState?.mode === 'off' ? { xdpReason: xdpState.reason } : {}),
    });
  }

  /** False if something stays that should not. */
  async #removeOthers(devices: readonly EnforcedDevice[], failed: ApplyFailure[]): Promise<boolean> {
    const wanted = new Set(devices.map(({ ifindex }) => ifindex));
    const others = new Set([...this.#states.keys()].filter((ifindex) => !wanted.has(ifindex)));
    if (this.#mayHaveLeftovers) {
      for (const ifindex of this.#attachments.pinned) if (!wanted.has(ifindex)) others.add(ifindex);
      if (this.#mayHaveFilters)
        for (const { index } of await this.#deps.host.links()) if (!wanted.has(index)) others.add(index);
    }
    let isWhole = true;
    for (const ifindex of others) {
      try {
        // The pins of the others say that something is there: they go last.
        await this.#xdp.remove(ifindex);
        await this.#attachments.remove(ifindex);
        this.#states.delete(ifindex);
        this.#suspects.delete(ifindex);
      } catch (error) {
        isWhole = false;
        failed.push({ object: `BPF programs of device #${ifindex}`, reason: wordsOf(error) });
      }
    }
    if (isWhole) this.#mayHaveLeftovers = false;
    return isWhole;
  }
}

/** One failure for each object is enough. */
const unique = (failures: readonly ApplyFailure[]): readonly ApplyFailure[] => [
  ...new Map(failures.map((failure) => [failure.object, failure])).values(),
];
