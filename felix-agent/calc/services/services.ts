import type { KindMap } from '#api/kinds.ts';
import type { ServiceId } from '#dataplanes/services.ts';
import { Pending, type Changes } from '../pending.ts';
import { sameData } from '../same-data.ts';
import { SliceReader } from './backends.ts';
import { serviceInfo, type ServiceContext } from './service-info.ts';
import type { SliceChange, SlicesByService } from './slices-by-service.ts';

type Service = KindMap['Service'];

/** Keeps what is said of Services equal to what they and their slices say. Whatever changes, only the services that it belongs to are looked at. */
export class Services {
  readonly #context: ServiceContext;
  readonly #slices: SlicesByService;
  readonly #resolve: typeof serviceInfo;
  readonly #services = new Map<ServiceId, Service>();
  readonly #dirty = new Set<ServiceId>();
  readonly #pending = new Pending<'serviceUpdate' | 'serviceRemove'>();
  readonly #problems = new Map<ServiceId, readonly string[]>();
  #haveProblemsChanged = false;

  /** `resolve`: replaced by tests that count. */
  constructor(selfNodeName: string, slices: SlicesByService, resolve = serviceInfo) {
    this.#context = { selfNodeName, reader: new SliceReader() };
    this.#slices = slices;
    this.#resolve = resolve;
  }

  onService(id: ServiceId, service: Service | undefined): void {
    if (service === undefined) this.#services.delete(id);
    else this.#services.set(id, service);
    this.#dirty.add(id);
  }

  /** A slice has changed; that is in `slices` already. One whose service isn't there waits for it. */
  onSlice({ before, now }: SliceChange): void {
    for (const owned of [before, now]) {
      if (owned !== undefined && this.#services.has(owned.service)) this.#dirty.add(owned.service);
    }
  }

  take(): Changes<'serviceUpdate' | 'serviceRemove'> {
    for (const id of this.#dirty) this.#update(id);
    this.#dirty.clear();
    return this.#pending.take();
  }

  /** By `Service <id>`, what of it and its slices is impossible and left out. */
  *problems(): Generator<readonly [string, readonly string[]]> {
    for (const [id, problems] of this.#problems) yield [`Service ${id}`, problems];
  }

  /** Are the problems others than when this was asked last? */
  takeProblemsChanged(): boolean {
    const haveChanged = this.#haveProblemsChanged;
    this.#haveProblemsChanged = false;
    return haveChanged;
  }

  #update(id: ServiceId): void {
    const service = this.#services.get(id);
    const { info, problems } =
      service === undefined
        ? { info: undefined, problems: [] }
        : this.#resolve(service, this.#slices.of(id).values(), this.#context);
    this.#pending.set(id, info && { type: 'serviceUpdate', id, service: info }, { type: 'serviceRemove', id });
    if (sameData(problems, this.#problems.get(id) ?? [])) return;
    this.#haveProblemsChanged = true;
    if (problems.length === 0) this.#problems.delete(id);
    else this.#problems.set(id, problems);
  }
}
