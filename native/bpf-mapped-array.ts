/**
 * The memory of an array map, shared with the kernel and all programs that use the map. Its pages stay mapped until the garbage collector
 * has taken the buffer or the view is disposed of, whichever is first. After disposal every method throws, and arrays that were taken from it
 * are empty.
 */
export class MappedArray implements Disposable {
  readonly #name: string;
  readonly #buffer: ArrayBuffer;
  readonly #bytes: Uint8Array;
  readonly #words: Uint32Array;
  /** Elements. */
  readonly length: number;
  /** Bytes of one value. */
  readonly valueSize: number;
  /** Bytes from one value to the next: the value's size rounded up to 8, as the kernel lays arrays out. */
  readonly stride: number;

  /** @internal */
  constructor(
    shape: { readonly name: string; readonly maxEntries: number; readonly valueSize: number },
    buffer: ArrayBuffer,
  ) {
    this.#name = shape.name;
    this.length = shape.maxEntries;
    this.valueSize = shape.valueSize;
    this.stride = Math.ceil(shape.valueSize / 8) * 8;
    this.#buffer = buffer;
    this.#bytes = new Uint8Array(buffer, 0, this.length * this.stride);
    this.#words = new Uint32Array(buffer, 0, (this.length * this.stride) / 4);
  }

  /**
   * All values, `stride` apart. Writes to it are plain stores in no particular order: what a program may see half done must be made
   * visible by `store32` after it. Throws `EBADF` after disposal.
   */
  get bytes(): Uint8Array {
    if (this.#buffer.detached) throw this.#failure('EBADF', 'is closed');
    return this.#bytes;
  }

  /** The bytes of one value, sharing the array's memory. */
  value(index: number): Uint8Array {
    if (!Number.isInteger(index) || index < 0 || index >= this.length)
      throw this.#failure('ERANGE', `has no element ${index}, only ${this.length}`);
    return this.bytes.subarray(index * this.stride, index * this.stride + this.valueSize);
  }

  /**
   * Writes one aligned 32-bit number, whole, after all writes before it (sequentially consistent): how a new state is made visible.
   * `offset` is in bytes within the value; `ERANGE` for one that isn't a multiple of 4 or outside.
   */
  store32(index: number, offset: number, value: number): void {
    Atomics.store(this.#words, this.#place(index, offset), value);
  }

  /** Reads one aligned 32-bit number, before all reads after it. */
  load32(index: number, offset: number): number {
    return Atomics.load(this.#words, this.#place(index, offset));
  }

  [Symbol.dispose](): void {
    // The transferred buffer has no owner and is empty: V8 lets go of the pages, and the addon unmaps them then.
    if (!this.#buffer.detached) this.#buffer.transfer(0);
  }

  #place(index: number, offset: number): number {
    const value = this.value(index);
    if (offset % 4 !== 0 || offset < 0 || offset + 4 > value.byteLength)
      throw this.#failure('ERANGE', `has no 32-bit word at byte ${offset} of a value of ${value.byteLength}`);
    return (index * this.stride + offset) / 4;
  }

  #failure(code: string, words: string): Error {
    return Object.assign(new Error(`map ${this.#name} ${words}`), { code, object: `map ${this.#name}` });
  }
}
