/** The maps of Services in memory, with the kernel's manners, and a watch over what programs could read. */
import ipaddr from 'ipaddr.js';
import { MappedArray, type MapShape } from '#native/bpf.ts';
import type { BackendInfo, ServiceInfo } from '../../services.ts';
import { flowMapShapes, FrontendKey4, FrontendKey6 } from '../bpf-types.gen.ts';
import { FakeMap } from '../fake-map.ts';
import type { ServiceMap } from './frontends.ts';
import { readBackend, readFrontendValue } from './service-codec.ts';

type MapName = Extract<keyof typeof flowMapShapes, `tortie_front${4 | 6}` | `tortie_back${4 | 6}`>;

/** What may still be read of an array: the bytes that were there when an element came to refer to them. */
interface Reference {
  readonly bytes: Uint8Array;
  readonly first: number;
  readonly was: string;
}

/** All four maps. */
export class ServiceMapsTwin {
  readonly #maps: Readonly<Record<MapName, TwinMap>>;
  /** Says by which code a write of an element is refused. */
  refuse: () => string | undefined = () => undefined;
  /** Elements that were set or deleted. */
  writes = 0;
  /** Held: a grace period lasts until then. */
  gate: Promise<void> = Promise.resolve();
  graces = 0;
  readonly #references = new Map<string, Reference>();
  #ended: Reference[] = [];

  constructor(sizes: Partial<Record<MapName, number>> = {}) {
    const make = (name: MapName) =>
      new TwinMap({ ...flowMapShapes[name], maxEntries: sizes[name] ?? flowMapShapes[name].maxEntries }, this);
    this.#maps = {
      tortie_front4: make('tortie_front4'),
      tortie_front6: make('tortie_front6'),
      tortie_back4: make('tortie_back4'),
      tortie_back6: make('tortie_back6'),
    };
  }

  readonly mapOf = (name: string): ServiceMap => this.#maps[name as MapName];
  readonly settingOf = (name: string): string => `${name}Size`;

  /** Resolves when what elements referred to before the call can't be read any more. */
  readonly grace = async (): Promise<void> => {
    this.graces++;
    const ended = this.#ended;
    this.#ended = [];
    await this.gate;
    for (const reference of ended) check(reference);
  };

  /** Frontends by `address:port/protocol`, each with its backends as `address port`, in order. */
  async contents(): Promise<Record<string, readonly string[]>> {
    this.check();
    return contentsOf(
      (family) => this.#maps[`tortie_back${family}`].array,
      async (family) => await this.#maps[`tortie_front${family}`].entries(),
    );
  }

  /** Throws when something that may be read has changed since an element came to refer to it. */
  check(): void {
    for (const reference of [...this.#references.values(), ...this.#ended]) check(reference);
  }

  /** The bytes of both arrays, to be compared. */
  memory(family: 4 | 6): Buffer {
    return Buffer.from(this.#maps[`tortie_back${family}`].array.bytes);
  }

  /** @internal An element of a map of frontends is set, or deleted. */
  onWrite(map: TwinMap, key: Uint8Array, value: Uint8Array | undefined): void {
    const code = this.refuse();
    if (code !== undefined) throw Object.assign(new Error(`${map.shape.name}: ${code}`), { code });
    this.writes++;
    const name = `${map.shape.name} ${Buffer.from(key).toString('hex')}`;
    const before = this.#references.get(name);
    if (before !== undefined) {
      check(before);
      this.#ended.push(before);
    }
    this.#references.delete(name);
    if (value === undefined) return;
    const { array } = this.#maps[map.shape.name.endsWith('4') ? 'tortie_back4' : 'tortie_back6'];
    const { first, count } = readFrontendValue(value);
    const bytes = array.bytes.subarray(first * array.stride, (first + count) * array.stride);
    this.#references.set(name, { bytes, first, was: Buffer.from(bytes).toString('hex') });
  }
}

class TwinMap extends FakeMap {
  readonly array: MappedArray;
  readonly #twin: ServiceMapsTwin;

  constructor(shape: MapShape, twin: ServiceMapsTwin) {
    super(shape);
    this.#twin = twin;
    const isArray = shape.name.startsWith('tortie_back');
    const length = isArray ? shape.maxEntries * Math.ceil(shape.valueSize / 8) * 8 : 0;
    this.array = new MappedArray({ ...shape, maxEntries: isArray ? shape.maxEntries : 0 }, new ArrayBuffer(length));
  }

  override set(key: Uint8Array, value: Uint8Array): void {
    if (this.get(key) === undefined && this.size >= this.shape.maxEntries) {
      throw Object.assign(new Error('full'), { code: 'E2BIG' });
    }
    this.#twin.onWrite(this, key, value);
    super.set(key, value);
  }

  override delete(key: Uint8Array): boolean {
    this.#twin.onWrite(this, key, undefined);
    return super.delete(key);
  }

  mmap(): MappedArray {
    return this.array;
  }
}

/** What the maps say, by `address:port/protocol`. */
export async function contentsOf(
  arrayOf: (family: 4 | 6) => MappedArray,
  entriesOf: (family: 4 | 6) => Promise<readonly { readonly key: Uint8Array; readonly value: Uint8Array }[]>,
): Promise<Record<string, readonly string[]>> {
  const contents: Record<string, readonly string[]> = {};
  for (const family of [4, 6] as const) {
    const array = arrayOf(family);
    for (const { key, value } of await entriesOf(family)) {
      const codec = family === 4 ? FrontendKey4 : FrontendKey6;
      const { address, port, protocol } = codec.read(new DataView(key.buffer, key.byteOffset, key.byteLength));
      const at = ipaddr.fromByteArray([...address]).toString();
      const { first, count } = readFrontendValue(value);
      contents[`${at}:${port}/${protocol}`] = Array.from({ length: count }, (_, index) => {
        const backend = readBackend(family, array.value(first + index));
        return `${backend.address} ${backend.port}`;
      });
    }
  }
  return contents;
}

/** A backend that takes connections, unless it is said otherwise. */
export function backend(address: string, port = 8080, more: Partial<BackendInfo> = {}): BackendInfo {
  return { address, port, ready: true, serving: true, terminating: false, ...more };
}

/** A service of one address and one TCP port; `more` says otherwise. */
export function service(
  address: string,
  backends: readonly BackendInfo[],
  {
    protocol = 6,
    port = 80,
    ...more
  }: Partial<ServiceInfo> & { readonly protocol?: number; readonly port?: number } = {},
): ServiceInfo {
  const is6 = address.includes(':');
  return {
    clusterIps: is6 ? { ipv6: address } : { ipv4: address },
    ports: [{ name: '', protocol, port, ipv4Backends: is6 ? [] : backends, ipv6Backends: is6 ? backends : [] }],
    internalTrafficPolicy: 'cluster',
    ...more,
  };
}

function check({ bytes, first, was }: Reference): void {
  if (Buffer.from(bytes).toString('hex') !== was)
    throw new Error(`backends from ${first} on changed while they were in use`);
}
