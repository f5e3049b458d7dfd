import { join } from 'node:path';
import { type BpfMap, type BpfProgram, loadObject } from '#native/bpf.ts';
import { Jump, PodConfig } from '../bpf-types.gen.ts';
import { u32Key } from '../keys.ts';
import { type EndpointPrograms, type Filters, idAt, objectFiles } from '../programs.ts';

interface Loaded extends Disposable {
  /** For whose maps and configuration. */
  readonly of: EndpointPrograms;
  readonly program: (name: string) => BpfProgram;
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
 * the endpoint programs in force, and anew for others. Nothing is pinned: `tortie_jump` holds what is in force.
 */
export class HostPrograms implements Disposable {
  readonly #objects: string;
  readonly #filters: Filters;
  readonly #loaded = new Map<HostPart | 'xdp', Loaded>();

  /** `objects`: the directory with the object files. */
  constructor(objects: string, filters: Filters) {
    this.#objects = objects;
    this.#filters = filters;
  }

  /** Devices go over to this part's programs of this configuration. Throws as `loadObject` does; then what was in force is. */
  async enter(part: HostPart, endpoint: EndpointPrograms, config: PodConfig): Promise<void> {
    const object = await this.#use(part, endpoint, config);
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
  async xdp(endpoint: EndpointPrograms, config: PodConfig): Promise<BpfProgram> {
    return (await this.#use('xdp', endpoint, config)).program('tortie_xdp_in');
  }

  /** Closes handles; what is in force stays. */
  [Symbol.dispose](): void {
    for (const part of [...this.#loaded.keys()]) this.#drop(part);
  }

  async #use(part: HostPart | 'xdp', endpoint: EndpointPrograms, config: PodConfig): Promise<Loaded> {
    const has = this.#loaded.get(part);
    if (has?.of === endpoint) return has;
    const object = await loadObject({
      name: 'tortie',
      elf: join(this.#objects, objectFiles[part]),
      maps: mapsOf(endpoint, this.#filters.jump),
      config: { pod_config: PodConfig.encode(config) },
    });
    this.#drop(part);
    const loaded = {
      of: endpoint,
      program: (name: string) => object.program(name),
      [Symbol.dispose]: () => object[Symbol.dispose](),
    };
    this.#loaded.set(part, loaded);
    return loaded;
  }

  #drop(part: HostPart | 'xdp'): void {
    this.#loaded.get(part)?.[Symbol.dispose]();
    this.#loaded.delete(part);
  }
}

/** Programs go on with each other by `tortie_jump`. */
function mapsOf({ map, mapNames }: EndpointPrograms, jump: BpfMap): Record<string, { use: BpfMap; ifThere: true }> {
  const maps = [...mapNames].map((name) => [name, map(name)] as const);
  return Object.fromEntries(
    [...maps, ['tortie_jump', jump] as const].map(([name, use]) => [name, { use, ifThere: true }]),
  );
}
