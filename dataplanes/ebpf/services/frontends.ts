import type { Family, IpText } from '#api/cidr.ts';
import type { BpfMap } from '#native/bpf.ts';
import type { BackendInfo, ServiceId, ServiceInfo } from '../../services.ts';
import type { Retirement } from '../classifier/retirement.ts';
import { BackendRuns, type Run } from './backend-runs.ts';
import {
  type BackendAddress,
  backendBytes,
  frontendKey,
  frontendValue,
  readFrontendValue,
  type RunReference,
  type ServiceAddress,
} from './service-codec.ts';
import { usableBackends } from './usable-backends.ts';

/** What is used of an open map. */
export type ServiceMap = Pick<BpfMap, 'shape' | 'get' | 'set' | 'delete' | 'mmap'>;

/** What one service says of an address and port. */
export interface Claim {
  readonly backends: readonly BackendInfo[];
  readonly policy: ServiceInfo['internalTrafficPolicy'];
}

/** Why a frontend isn't in the kernel as it should be. */
export interface Trouble {
  readonly service: ServiceId;
  readonly reason: string;
}

interface TroubleState extends Trouble {
  /** Set when there was no room: how much is needed, and what had become free by then. */
  readonly lacks?: { readonly backends: number; readonly freed: number };
}

/** One address, port and protocol, and what the kernel has of it. */
interface Frontend {
  readonly at: ServiceAddress;
  /** In the order in which they came: the last one counts. */
  readonly claims: Map<ServiceId, Claim>;
  /** The last whose claim counted. */
  service: ServiceId;
  /** What the kernel's element says; undefined: there is none. `run`: what holds the place that it refers to. */
  written: (RunReference & { readonly run: Run | undefined }) | undefined;
  trouble: TroubleState | undefined;
}

/** What the kernel says when another try may succeed: no memory in reach of a CPU (it is brought by an interrupt), a bucket's lock is taken. */
const passing: ReadonlySet<unknown> = new Set(['ENOMEM', 'EBUSY', 'EAGAIN']);
/** How long frontends are written before others get a turn of the event loop, in ms. */
const TURN_MS = 5;
const UDP = 17;
const protocolNames: Readonly<Record<number, string>> = { 6: 'TCP', 17: 'UDP', 132: 'SCTP' };

/** The frontends of one address family and their backends, in the kernel and as they should be there. */
export class Frontends implements Disposable {
  readonly #family: Family;
  readonly #map: ServiceMap;
  readonly #settingOf: (name: string) => string;
  readonly #runs: BackendRuns;
  readonly #frontends = new Map<string, Frontend>();
  readonly #dirty = new Set<Frontend>();
  readonly #troubled = new Set<Frontend>();
  /** Those of the troubled that the flush under way may try again at once. */
  readonly #passing = new Set<Frontend>();
  /** Addresses at which a datagram's flow may lead to somebody who serves no more, or to nobody. */
  readonly #left = new Set<IpText>();
  /** Elements in the kernel's map. */
  #count = 0;
  #deleted = 0;

  constructor(
    family: Family,
    mapOf: (name: string) => ServiceMap,
    settingOf: (name: string) => string,
    retirement: Retirement,
  ) {
    this.#family = family;
    this.#map = mapOf(`tortie_front${family}`);
    this.#settingOf = settingOf;
    this.#runs = new BackendRuns(family, mapOf(`tortie_back${family}`).mmap(), retirement);
  }

  /** The service is reached there. What counts is who says so last; a claim that is only changed keeps its place. */
  claim(at: ServiceAddress, service: ServiceId, claim: Claim): void {
    const name = nameOf(at);
    let frontend = this.#frontends.get(name);
    if (frontend === undefined) {
      frontend = { at, claims: new Map(), service, written: undefined, trouble: undefined };
      this.#frontends.set(name, frontend);
    }
    const before = frontend.claims.get(service);
    if (before?.backends === claim.backends && before.policy === claim.policy) return;
    if (at.protocol === UDP && !areAllServing(before?.backends, claim.backends)) this.#left.add(at.address);
    frontend.claims.set(service, claim);
    this.#dirty.add(frontend);
  }

  /** The service isn't reached there any more. */
  unclaim(at: ServiceAddress, service: ServiceId): void {
    const frontend = this.#frontends.get(nameOf(at));
    if (frontend?.claims.delete(service) !== true) return;
    this.#dirty.add(frontend);
    if (at.protocol === UDP) this.#left.add(at.address);
  }

  /** All must be looked at again: the node has another name. */
  markAll(): void {
    for (const frontend of this.#frontends.values()) this.#dirty.add(frontend);
  }

  /** True if a write was refused since `endFlush` in a way that another try may not meet. */
  get hasPassingTrouble(): boolean {
    return this.#passing.size > 0;
  }

  /** What was refused until now waits for another flush. */
  endFlush(): void {
    this.#passing.clear();
  }

  /** What isn't as it should be, by frontend. */
  get troubles(): readonly Trouble[] {
    return [...this.#troubled].flatMap(({ trouble }) => trouble ?? []);
  }

  /** Writes what has changed, what had no room if some has become free since, and those of the refused that `retry` says. Removals come first. */
  async write(nodeName: string, retry: 'none' | 'passing' | 'all'): Promise<void> {
    const refused = retry === 'all' ? this.#troubled : retry === 'passing' ? this.#passing : [];
    for (const frontend of refused) if (frontend.trouble?.lacks === undefined) this.#dirty.add(frontend);
    let freed: number;
    do {
      freed = this.#freed;
      for (const frontend of this.#troubled) if (this.#hasRoomNow(frontend)) this.#dirty.add(frontend);
      for (const ending of [true, false]) await this.#writeDirty(nodeName, ending);
    } while (this.#freed !== freed && this.#troubled.size > 0);
  }

  /** Addresses at which a UDP port has come or gone since this was asked last, or one of its backends has gone. */
  takeLeft(): readonly IpText[] {
    const left = [...this.#left];
    this.#left.clear();
    return left;
  }

  /** These are to be told by `takeLeft` again. */
  putBackLeft(addresses: readonly IpText[]): void {
    for (const address of addresses) this.#left.add(address);
  }

  /**
   * False: what is asked for there must not go to this address and port; undefined: nobody has said that it is a service's. Who still serves while it
   * ends keeps what it has.
   */
  mayServe(at: ServiceAddress, address: IpText, port: number | undefined): boolean | undefined {
    const claim = [...(this.#frontends.get(nameOf(at))?.claims.values() ?? [])].at(-1);
    return claim?.backends.some((backend) => backend.address === address && backend.port === port && serves(backend));
  }

  /** Who answers there as the kernel's maps say, and for which service; undefined: there is no such frontend. */
  find(
    at: ServiceAddress,
  ): { readonly service: ServiceId | undefined; readonly backends: readonly BackendAddress[] } | undefined {
    const value = this.#map.get(frontendKey(at));
    if (value === undefined) return undefined;
    return { service: this.#frontends.get(nameOf(at))?.service, backends: this.#runs.read(readFrontendValue(value)) };
  }

  /** Elements of the two maps that are taken. */
  get used(): { readonly frontends: number; readonly backends: number } {
    return { frontends: this.#count, backends: this.#runs.used };
  }

  /** Elements that they have room for. */
  get sizes(): { readonly frontends: number; readonly backends: number } {
    return { frontends: this.#map.shape.maxEntries, backends: this.#runs.used + this.#runs.free };
  }

  [Symbol.dispose](): void {
    this.#runs[Symbol.dispose]();
  }

  /** Those that end, or the others. */
  async #writeDirty(nodeName: string, ending: boolean): Promise<void> {
    let until = performance.now() + TURN_MS;
    for (const frontend of [...this.#dirty]) {
      if (performance.now() > until) {
        await new Promise<void>((resolve) => setImmediate(resolve));
        until = performance.now() + TURN_MS;
      }
      // While others had their turn it may have been written, or claimed again.
      if ((frontend.claims.size === 0) !== ending || !this.#dirty.delete(frontend)) continue;
      this.#try(frontend, nodeName);
    }
  }

  #hasRoomNow({ written, trouble }: Frontend): boolean {
    const lacks = trouble?.lacks;
    if (lacks === undefined || lacks.freed === this.#freed) return false;
    return this.#runs.free >= lacks.backends && (written !== undefined || this.#count < this.#map.shape.maxEntries);
  }

  get #freed(): number {
    return this.#runs.freed + this.#deleted;
  }

  #try(frontend: Frontend, nodeName: string): void {
    this.#passing.delete(frontend);
    try {
      const { claims } = frontend;
      const [service, claim] = [...claims].at(-1) ?? [];
      if (service === undefined || claim === undefined) {
        this.#remove(frontend);
        return this.#setTrouble(frontend, undefined);
      }
      frontend.service = service;
      this.#setTrouble(frontend, this.#update(frontend, usableBackends(claim.backends, claim.policy, nodeName)));
    } catch (error) {
      const { code, message } = error as { readonly code?: unknown; readonly message?: string };
      const isFull = code === 'E2BIG' || code === 'ENOSPC';
      this.#setTrouble(frontend, {
        service: frontend.service,
        reason: isFull ? this.#noFrontend(frontend) : `${textOf(frontend.at)}: ${message ?? String(error)}`,
      });
      if (passing.has(code)) this.#passing.add(frontend);
    }
    return undefined;
  }

  #setTrouble(frontend: Frontend, trouble: TroubleState | undefined): void {
    // Only now does nothing lead to who has gone.
    if (frontend.trouble !== undefined && frontend.at.protocol === UDP) this.#left.add(frontend.at.address);
    frontend.trouble = trouble;
    if (trouble === undefined) this.#troubled.delete(frontend);
    else this.#troubled.add(frontend);
  }

  /** The element first, then what it referred to. */
  #remove(frontend: Frontend): void {
    const { at, written } = frontend;
    if (written !== undefined) {
      this.#map.delete(frontendKey(at));
      written.run?.users.release();
      frontend.written = undefined;
      this.#count--;
      this.#deleted++;
    }
    this.#frontends.delete(nameOf(at));
  }

  /** The run first, then the element that refers to it. What is returned says why it could not be all. */
  #update(frontend: Frontend, backends: readonly BackendInfo[]): TroubleState | undefined {
    const { service, written } = frontend;
    const lacks = { backends: backends.length, freed: this.#freed };
    if (written === undefined && this.#count >= this.#map.shape.maxEntries) {
      return { service, reason: this.#noFrontend(frontend), lacks };
    }
    if (backends.length === 0) {
      this.#set(frontend, undefined, { first: 0, count: 0 });
      return undefined;
    }
    const bytes = backendBytes(this.#family, backends, this.#runs.stride);
    const run = this.#runs.acquire(bytes);
    if (run !== undefined) {
      this.#set(frontend, run, run);
      return undefined;
    }
    // Never to a backend that has gone: what is left of the run before serves as long as there is no room, or nothing does.
    const before = written?.run;
    const piece = before === undefined ? { first: 0, count: 0 } : this.#runs.longestPiece(before, bytes);
    const holder = piece.count > 0 ? before : undefined;
    holder?.users.acquire();
    this.#set(frontend, holder, piece);
    return { service, reason: this.#noBackends(frontend, backends.length), lacks };
  }

  /** Makes the element refer to this part of a run, which was acquired for it. */
  #set(frontend: Frontend, run: Run | undefined, { first, count }: RunReference): void {
    const { at, written } = frontend;
    if (written?.first === first && written.count === count) {
      run?.users.release();
      return;
    }
    try {
      this.#map.set(frontendKey(at), frontendValue({ first, count }));
    } catch (error) {
      run?.users.release();
      throw error;
    }
    if (written === undefined) this.#count++;
    written?.run?.users.release();
    frontend.written = { first, count, run };
  }

  #noFrontend({ at }: Frontend): string {
    return `${textOf(at)} is not translated: ${this.#sizeOf('tortie_front', this.#map.shape.maxEntries)} has no free entry`;
  }

  #noBackends({ at, written }: Frontend, needed: number): string {
    const now = written?.count ?? 0;
    const what = now === 0 ? 'is refused' : `goes to ${now} of its ${needed} backends`;
    const size = this.#runs.used + this.#runs.free;
    return `${textOf(at)} ${what}: ${this.#sizeOf('tortie_back', size)} has no ${needed} free entries in one run`;
  }

  #sizeOf(map: string, entries: number): string {
    const name = `${map}${this.#family}`;
    return `${name} (${entries} entries; setting ${this.#settingOf(name)})`;
  }
}

const serves = ({ ready, serving }: BackendInfo): boolean => ready || serving;

/** Whether all who served before still do; never, if there was nobody to say so. */
function areAllServing(before: readonly BackendInfo[] | undefined, now: readonly BackendInfo[]): boolean {
  if (before === undefined) return false;
  const names = new Set(now.filter(serves).map(({ address, port }) => `${address} ${port}`));
  return before.every((backend) => !serves(backend) || names.has(`${backend.address} ${backend.port}`));
}

function nameOf({ address, port, protocol }: ServiceAddress): string {
  return `${address} ${port} ${protocol}`;
}

function textOf({
  address,
  port,
  protocol,
}: {
  readonly address: IpText;
  readonly port: number;
  readonly protocol: number;
}): string {
  return `${address.includes(':') ? `[${address}]` : address}:${port}/${protocolNames[protocol] ?? protocol}`;
}
