import { join } from 'node:path';
import { type BpfProgram, loadObject } from '#native/bpf.ts';
import { Jump, PodConfig } from '../bpf-types.gen.ts';
import { u32Key } from '../keys.ts';
import { type EndpointPrograms, type Filters, idAt, objectFiles } from '../programs.ts';

interface Loaded extends Disposable {
  /** For whose maps and configuration. */
  readonly of: EndpointPrograms;
  readonly program: (name: string) => BpfProgram;
}

/**
 * What the filters of devices with a host endpoint jump to, and the XDP program: loaded when they are first needed, on the maps of the endpoint
 * programs in force, and anew for others. Nothing is pinned: `tortie_jump` holds what is in force.
 */
export class HostPrograms implements Disposable {
  readonly #objects: string;
  readonly #filters: Filters;
  #host: Loaded | undefined;
  #xdp: Loaded | undefined;

  /** `objects`: the directory with the object files. */
  constructor(objects: string, filters: Filters) {
    this.#objects = objects;
    this.#filters = filters;
  }

  /** Devices with a host endpoint go over to the programs of this configuration. Throws as `loadObject` does. */
  async enter(endpoint: EndpointPrograms, config: PodConfig): Promise<void> {
    if (this.#host?.of !== endpoint) {
      const object = await this.#load(objectFiles.host, endpoint, { pod_config: PodConfig.encode(config) });
      this.#host?.[Symbol.dispose]();
      this.#host = object;
    }
    const { jump } = this.#filters;
    // What goes out first: no packet is let in whose answer would meet what is older.
    for (const [place, name] of places) {
      const program = this.#host.program(name);
      if (idAt(jump, place) !== program.id) jump.set(u32Key(place), u32Key(program.fd));
    }
  }

  /** No device jumps there any more. */
  leave(): void {
    for (const [place] of places) this.#filters.jump.delete(u32Key(place));
    this[Symbol.dispose]();
  }

  /** The XDP program, an object of its own: a kernel or a device may have none of that, and host endpoints do without. Throws as `loadObject` does. */
  async xdp(endpoint: EndpointPrograms): Promise<BpfProgram> {
    if (this.#xdp?.of !== endpoint) {
      const object = await this.#load(objectFiles.xdp, endpoint, {});
      this.#xdp?.[Symbol.dispose]();
      this.#xdp = object;
    }
    return this.#xdp.program('tortie_xdp_in');
  }

  /** Closes handles; what is in force stays. */
  [Symbol.dispose](): void {
    this.#host?.[Symbol.dispose]();
    this.#xdp?.[Symbol.dispose]();
    this.#host = undefined;
    this.#xdp = undefined;
  }

  async #load(file: string, endpoint: EndpointPrograms, config: Readonly<Record<string, Uint8Array>>): Promise<Loaded> {
    const object = await loadObject({
      name: 'tortie',
      elf: join(this.#objects, file),
      maps: mapsOf(endpoint),
      config,
    });
    return {
      of: endpoint,
      program: (name) => object.program(name),
      [Symbol.dispose]: () => object[Symbol.dispose](),
    };
  }
}

const places = [
  [Jump.hostOut, 'tortie_host_out'],
  [Jump.hostIn, 'tortie_host_in'],
] as const;

function mapsOf({ map, mapNames }: EndpointPrograms): Record<string, { use: ReturnType<typeof map>; ifThere: true }> {
  return Object.fromEntries([...mapNames].map((name) => [name, { use: map(name), ifThere: true }]));
}
