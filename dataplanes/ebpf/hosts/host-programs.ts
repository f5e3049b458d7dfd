import { join } from 'node:path';
import { type BpfMap, type BpfProgram, type LoadedObject, loadObject } from '#native/bpf.ts';
import { Jump, PodConfig } from '../bpf-types.gen.ts';
import { u32Key } from '../keys.ts';
import { type EndpointMaps, type Filters, idAt, objectFiles } from '../programs.ts';
import { Underway } from '../underway.ts';

/** For which configuration: the maps are the same for all. */
interface Loaded<Object> {
  readonly of: PodConfig;
  readonly object: Object;
}

/** What goes in by what place in `tortie_jump`. What goes out is first: no packet is let in whose answer would meet what is older. */
const places = {
  net: [
    [Jump.netOut, 'tortie_net_out'],
    [Jump.netIn, 'tortie_net_in'],
  ],
  host: [
    [Jump.hostOut, 'tortie_host_out'],
    [Jump.hostIn, 'tortie_host_in'],
  ],
} as const;

/** `net`: what every uplink has; `host`: what host endpoints ask for. */
export type HostPart = keyof typeof places;
export const hostParts = ['net', 'host'] as const satisfies readonly HostPart[];

/**
 * What the filters of uplinks and of devices with a host endpoint jump to, and the XDP program: loaded when they are first needed, on the maps of
 * the endpoint programs, and anew for another configuration. Nothing is pinned: `tortie_jump` holds what is in force.
 */
export class HostPrograms implements Disposable {
  readonly #objects: string;
  readonly #filters: Filters;
  readonly #loaded = new Map<HostPart | 'xdp', Loaded<LoadedObject>>();
  /** What will be entered, as far as somebody knew. */
  readonly #underway = new Map<HostPart | 'xdp', Loaded<Underway<LoadedObject>>>();

  /** `objects`: the directory with the object files. */
  constructor(objects: string, filters: Filters) {
    this.#objects = objects;
    this.#filters = filters;
  }

  /** What of this is loaded. */
  get parts(): readonly HostPart[] {
    return hostParts.filter((part) => this.#loaded.has(part));
  }

  /** Begins to load what is going to be entered, while other things are loaded. What comes of it, `enter` says. */
  prepare(part: HostPart, maps: EndpointMaps, config: PodConfig): void {
    this.#underway.get(part)?.object[Symbol.dispose]();
    this.#underway.set(part, { of: config, object: new Underway(this.#load(part, maps, config)) });
  }

  /** Devices go over to this part's programs of this configuration. Throws as `loadObject` does; then what was in force is. */
  async enter(part: HostPart, maps: EndpointMaps, config: PodConfig): Promise<void> {
    const object = await this.#use(part, maps, config);
    const { jump } = this.#filters;
    for (const [place, name] of places[part]) {
      const program = object.program(name);
      if (idAt(jump, place) !== program.id) jump.set(u32Key(place), u32Key(program.fd));
    }
  }

  /** Whether somebody's programs are in this part's places. */
  has(part: HostPart): boolean {
    return places[part].every(([place]) => idAt(this.#filters.jump, place) !== undefined);
  }

  /** No device jumps there any more, whichever agent's programs are in force. */
  leave(part: HostPart): void {
    for (const [place] of places[part].toReversed()) this.#filters.jump.delete(u32Key(place));
    this.#drop(part);
  }

  /** The XDP program, an object of its own: a kernel or a device may have none of that, and host endpoints do without. Throws as `loadObject` does. */
  async xdp(maps: EndpointMaps, config: PodConfig): Promise<BpfProgram> {
    return (await this.#use('xdp', maps, config)).program('tortie_xdp_in');
  }

  /** Closes handles; what is in force stays. */
  [Symbol.dispose](): void {
    for (const part of [...hostParts, 'xdp' as const]) this.#drop(part);
  }

  async #use(part: HostPart | 'xdp', maps: EndpointMaps, config: PodConfig): Promise<LoadedObject> {
    const has = this.#loaded.get(part);
    if (has?.of === config) return has.object;
    const underway = this.#underway.get(part);
    const object = await (underway?.of === config ? underway.object.take() : this.#load(part, maps, config)).finally(
      () => this.#forget(part),
    );
    this.#drop(part);
    this.#loaded.set(part, { of: config, object });
    return object;
  }

  #load(part: HostPart | 'xdp', maps: EndpointMaps, config: PodConfig): Promise<LoadedObject> {
    return loadObject({
      name: 'tortie',
      elf: join(this.#objects, objectFiles[part]),
      maps: mapsOf(maps, this.#filters.jump),
      config: { pod_config: PodConfig.encode(config) },
    });
  }

  #drop(part: HostPart | 'xdp'): void {
    this.#forget(part);
    this.#loaded.get(part)?.object[Symbol.dispose]();
    this.#loaded.delete(part);
  }

  #forget(part: HostPart | 'xdp'): void {
    this.#underway.get(part)?.object[Symbol.dispose]();
    this.#underway.delete(part);
  }
}

/** Programs go on with each other by `tortie_jump`. */
function mapsOf({ map, mapNames }: EndpointMaps, jump: BpfMap): Record<string, { use: BpfMap; ifThere: true }> {
  const maps = [...mapNames].map((name) => [name, map(name)] as const);
  return Object.fromEntries(
    [...maps, ['tortie_jump', jump] as const].map(([name, use]) => [name, { use, ifThere: true }]),
  );
}
