import { setTimeout } from 'node:timers/promises';
import { type Family, familyOf, type IpText } from '#api/cidr.ts';
import { bpfGrace } from '#native/bpf.ts';
import type { ApplyFailure } from '../../contract.ts';
import type { Flow } from '../../flows.ts';
import type { DataplaneUpdate } from '../../messages.ts';
import type { ServiceView, TableFill } from '../../observe.ts';
import type { ServiceId, ServiceInfo } from '../../services.ts';
import { Retirement } from '../classifier/retirement.ts';
import { type Claim, Frontends, type ServiceMap } from './frontends.ts';
import type { BackendAddress, ServiceAddress } from './service-codec.ts';
import { serviceLimits } from './service-limits.ts';

/** The messages that Services consist of. */
export type ServiceUpdate = Extract<DataplaneUpdate, { type: 'serviceUpdate' | 'serviceRemove' }>;

/** What of a Service this dataplane does otherwise than kube-proxy, although it is programmed. */
export interface ServiceLimit {
  /** `service <namespace>/<name>`. */
  readonly object: string;
  readonly reason: string;
}

/** Who answers at an address and port, as the kernel's maps say. */
export interface ServiceBackends {
  readonly service: ServiceId | undefined;
  /** Each is as likely as the others. Empty: connections are refused at once. */
  readonly backends: readonly BackendAddress[];
}

/** How full the maps of one family are. */
export interface ServiceFigures {
  readonly frontends: number;
  /** Those included that wait for a grace period. */
  readonly backends: number;
}

/** How it waits. */
export interface ServiceTableManner {
  /** Until no lookup that began before is under way. */
  readonly grace?: () => Promise<void>;
  /** In ms. */
  readonly pause?: (milliseconds: number) => Promise<unknown>;
}

/** Pauses before what the kernel had no memory for is tried again within a flush, in ms. */
const PAUSES = [1, 4, 16];
const UDP = 17;
const families = [4, 6] as const;
const unsaid: ServiceInfo = { clusterIps: {}, ports: [], internalTrafficPolicy: 'cluster' };

/**
 * Keeps tortie_front* and tortie_back* as the announced Services say (docs/design/ebpf-flows.md, "Services"): an address, port and protocol refers to a
 * run of backends, which doesn't change as long as anybody may read it. Messages are taken in at once, `flush` writes what they change,
 * `settle` frees what nobody can read any more. It expects empty maps, owns its views of the arrays and not the maps.
 */
export class ServiceTable implements Disposable {
  readonly #grace: () => Promise<void>;
  readonly #pause: (milliseconds: number) => Promise<unknown>;
  readonly #retirement = new Retirement();
  readonly #frontends: Readonly<Record<Family, Frontends>>;
  /** Not yet looked at; undefined: removed. */
  readonly #pending = new Map<ServiceId, ServiceInfo | undefined>();
  readonly #services = new Map<ServiceId, ServiceInfo>();
  readonly #limits = new Map<ServiceId, readonly string[]>();
  #nodeName: string | undefined;
  #isFlushing = false;
  #settling: Promise<void> | undefined;

  /** `mapOf`: the open map of a name. `settingOf`: which setting says how large it is. */
  constructor(
    mapOf: (name: string) => ServiceMap,
    settingOf: (name: string) => string,
    { grace = bpfGrace, pause = setTimeout }: ServiceTableManner = {},
  ) {
    this.#grace = grace;
    this.#pause = pause;
    const of = (family: Family) => new Frontends(family, mapOf, settingOf, this.#retirement);
    this.#frontends = { 4: of(4), 6: of(6) };
  }

  /** Takes in what was announced. It has no effect before the next flush. */
  onUpdate(message: ServiceUpdate): void {
    this.#pending.set(message.id, message.type === 'serviceUpdate' ? message.service : undefined);
  }

  /** All Services that it was told of, to be told to another. */
  *said(): Generator<ServiceUpdate, void, undefined> {
    for (const [id, service] of new Map<ServiceId, ServiceInfo | undefined>([...this.#services, ...this.#pending]))
      if (service !== undefined) yield { type: 'serviceUpdate', id, service };
  }

  /**
   * Writes what has changed; with `retry`, what the kernel refused before, too. What had no room is tried whenever some has become free. Never
   * throws for one service: see `failed`. `nodeName`: this node's, for internalTrafficPolicy `local`. Calls must not overlap.
   */
  async flush(nodeName: string, { retry = true }: { readonly retry?: boolean } = {}): Promise<void> {
    if (nodeName !== this.#nodeName) for (const family of families) this.#frontends[family].markAll();
    this.#nodeName = nodeName;
    for (const [id, service] of this.#pending) this.#take(id, service);
    this.#pending.clear();
    this.#isFlushing = true;
    try {
      await this.#writeAll(nodeName, retry);
    } finally {
      this.#isFlushing = false;
    }
  }

  async #writeAll(nodeName: string, retry: boolean): Promise<void> {
    await this.#write(nodeName, retry ? 'all' : 'none');
    for (const pause of PAUSES) {
      if (!families.some((family) => this.#frontends[family].hasPassingTrouble)) break;
      await this.#pause(pause);
      await this.#write(nodeName, 'passing');
    }
    for (const family of families) this.#frontends[family].endFlush();
  }

  /**
   * Waits until nobody can read what flushes have replaced, frees it, and gives the room to services that had none: as long as there is
   * something to free. To be called after flushes, without waiting for it before the next one; calls that overlap are one.
   */
  async settle(): Promise<void> {
    if (this.#retirement.isEmpty && this.#settling === undefined) return;
    this.#settling ??= this.#settleAll();
    await this.#settling;
  }

  /**
   * Addresses at which flows of datagrams may be stale (see `isStale`) by what flushes have done since this was asked last: a UDP port has come or
   * gone, or one of its backends has gone. What a lookup has read that began before may make such a flow until a grace period is over. None while a
   * flush is under way: what it has not written yet still leads packets to who has gone.
   */
  takeLeft(): readonly IpText[] {
    return this.#isFlushing ? [] : families.flatMap((family) => this.#frontends[family].takeLeft());
  }

  /** They are to be told once more. */
  putBackLeft(addresses: readonly IpText[]): void {
    for (const address of addresses) this.#frontends[familyOf(address)].putBackLeft([address]);
  }

  /**
   * Whether the flow is of datagrams to a service's address and leads to nobody who serves there, as kube-proxy has it. Who sends on would never be
   * heard: nothing says to a sender of datagrams that it must begin anew. (Connections of TCP and SCTP end by themselves.)
   */
  isStale({ family, protocol, asked, delivered, state }: Flow): boolean {
    if (protocol !== UDP) return false;
    // Not translated here, and answered: netfilter translates it, who had it when the dataplane was changed.
    if (delivered.destination === asked.destination && state !== 'new') return false;
    const at = { address: asked.destination, port: asked.destinationPort ?? 0, protocol };
    const isTranslated =
      delivered.destination !== asked.destination || delivered.destinationPort !== asked.destinationPort;
    const mayServe = this.#frontends[family].mayServe(at, delivered.destination, delivered.destinationPort);
    // Of a service that is gone translated flows are left.
    return mayServe === undefined ? isTranslated : !mayServe;
  }

  /** Services that the kernel doesn't have as they were said, one entry for each, by name. */
  get failed(): readonly ApplyFailure[] {
    const reasons = new Map<ServiceId, string[]>();
    for (const { service, reason } of families.flatMap((family) => this.#frontends[family].troubles)) {
      const found = reasons.get(service);
      if (found === undefined) reasons.set(service, [reason]);
      else found.push(reason);
    }
    return [...reasons]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([id, [first = '', ...others]]) => ({
        object: `service ${id}`,
        reason: others.length === 0 ? first : `${first} (and ${others.length} more of its addresses and ports)`,
      }));
  }

  /** What of which Services is done otherwise than by kube-proxy; constant while the Services are, so that each is logged once. */
  get unsupported(): readonly ServiceLimit[] {
    return [...this.#limits].flatMap(([id, reasons]) => reasons.map((reason) => ({ object: `service ${id}`, reason })));
  }

  /** Who gets connections to a service's address, read from the kernel's maps; undefined: it is no service's. Throws `AddressError`. */
  backendsOf(address: IpText, port: number, protocol: number): ServiceBackends | undefined {
    const at: ServiceAddress = { address, port, protocol };
    return this.#frontends[familyOf(address)].find(at);
  }

  /** All Services by name, as the kernel's maps have them. */
  list(): readonly ServiceView[] {
    const troubles = families.flatMap((family) => this.#frontends[family].troubles);
    return [...this.#services]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([service, info]) => ({
        service,
        frontends: [...frontendsOf(info).values()].map(({ family, at }) => {
          const found = this.#frontends[family].find(at);
          return found?.service === service ? { ...at, backends: found.backends } : at;
        }),
        limits: this.#limits.get(service) ?? [],
        failures: troubles.filter((trouble) => trouble.service === service).map(({ reason }) => reason),
      }));
  }

  /** Services that there are, and those that are done otherwise than they say, or not wholly. */
  get count(): { readonly services: number; readonly limited: number } {
    const troubled = families.flatMap((family) => this.#frontends[family].troubles.map(({ service }) => service));
    return { services: this.#services.size, limited: new Set([...troubled, ...this.#limits.keys()]).size };
  }

  /** Per family. */
  get figures(): Readonly<Record<Family, ServiceFigures>> {
    return { 4: this.#frontends[4].used, 6: this.#frontends[6].used };
  }

  /** How full the maps are. */
  get fill(): readonly TableFill[] {
    return families.flatMap((family) => {
      const { used, sizes } = this.#frontends[family];
      return [
        { table: `tortie_front${family}`, used: used.frontends, size: sizes.frontends },
        { table: `tortie_back${family}`, used: used.backends, size: sizes.backends },
      ];
    });
  }

  [Symbol.dispose](): void {
    for (const family of families) this.#frontends[family][Symbol.dispose]();
  }

  /** Tells the frontends what the service says now and what it doesn't say any more. */
  #take(id: ServiceId, service: ServiceInfo | undefined): void {
    const before = frontendsOf(this.#services.get(id) ?? unsaid);
    const now = frontendsOf(service ?? unsaid);
    for (const [name, { family, at, claim }] of now) {
      before.delete(name);
      this.#frontends[family].claim(at, id, claim);
    }
    for (const { family, at } of before.values()) this.#frontends[family].unclaim(at, id);
    const limits = service === undefined ? [] : serviceLimits(service);
    if (limits.length === 0) this.#limits.delete(id);
    else this.#limits.set(id, limits);
    if (service === undefined) this.#services.delete(id);
    else this.#services.set(id, service);
  }

  async #write(nodeName: string, retry: Parameters<Frontends['write']>[1]): Promise<void> {
    for (const family of families) await this.#frontends[family].write(nodeName, retry);
  }

  async #settleAll(): Promise<void> {
    try {
      while (!this.#retirement.isEmpty) {
        const waiting = this.#retirement.take();
        try {
          await this.#grace();
        } catch (error) {
          // Not over: nothing may be freed yet.
          for (const free of waiting) this.#retirement.add(free);
          throw error;
        }
        for (const free of waiting) free();
        if (this.#nodeName !== undefined) await this.#write(this.#nodeName, 'none');
      }
    } finally {
      this.#settling = undefined;
    }
  }
}

type Place = {
  readonly family: Family;
  readonly at: ServiceAddress;
  readonly claim: Claim;
};

/** Where a service is reached, by a name of the place. */
function frontendsOf({ clusterIps, ports, internalTrafficPolicy: policy }: ServiceInfo): Map<string, Place> {
  const places = new Map<string, Place>();
  for (const family of families) {
    const address = clusterIps[`ipv${family}`];
    if (address === undefined) continue;
    for (const { protocol, port, [`ipv${family}Backends` as const]: backends } of ports) {
      places.set(`${address} ${port} ${protocol}`, {
        family,
        at: { address, port, protocol },
        claim: { backends, policy },
      });
    }
  }
  return places;
}
