import type { MapShape, SetMode } from '#native/bpf.ts';
import type { ElementMap } from './full-map.ts';

/** A map in memory with the kernel's manners, for tests: it has a size, and says E2BIG when that is used up. */
export class FakeMap implements ElementMap {
  readonly shape: MapShape;
  readonly cpus = 1;
  readonly valueStride: number;
  readonly #elements = new Map<string, Uint8Array>();

  constructor(shape: MapShape, maxEntries = shape.maxEntries) {
    this.shape = { ...shape, maxEntries };
    this.valueStride = shape.valueSize;
  }

  get(key: Uint8Array): Uint8Array | undefined {
    return this.#elements.get(Buffer.from(key).toString('hex'));
  }

  set(key: Uint8Array, value: Uint8Array, mode: SetMode = 'any'): void {
    const text = Buffer.from(key).toString('hex');
    const isThere = this.#elements.has(text);
    if (isThere && mode === 'create') throw Object.assign(new Error('it is there'), { code: 'EEXIST' });
    if (!isThere && this.#elements.size >= this.shape.maxEntries)
      throw Object.assign(new Error('full'), { code: 'E2BIG' });
    this.#elements.set(text, value);
  }

  delete(key: Uint8Array): boolean {
    return this.#elements.delete(Buffer.from(key).toString('hex'));
  }

  entries(): Promise<{ readonly key: Uint8Array; readonly value: Uint8Array }[]> {
    return Promise.resolve(
      [...this.#elements].map(([text, value]) => ({ key: new Uint8Array(Buffer.from(text, 'hex')), value })),
    );
  }

  get size(): number {
    return this.#elements.size;
  }
}

/** The memory of an array map, for tests. */
export class FakeArray {
  readonly length: number;
  readonly #valueSize: number;
  readonly #bytes: Uint8Array;

  constructor({ valueSize }: Pick<MapShape, 'valueSize'>, length: number) {
    this.length = length;
    this.#valueSize = valueSize;
    this.#bytes = new Uint8Array(length * valueSize);
  }

  value(index: number): Uint8Array {
    if (index < 0 || index >= this.length) throw Object.assign(new Error('no such element'), { code: 'ERANGE' });
    return this.#bytes.subarray(index * this.#valueSize, (index + 1) * this.#valueSize);
  }

  store32(index: number, offset: number, value: number): void {
    new DataView(this.value(index).buffer, index * this.#valueSize).setUint32(offset, value, true);
  }
}
