/** A number or a row of bytes within a key or a value. */
export interface TypeField {
  /** From the outside in, with the C names: `key.end[0].port`. */
  readonly path: string;
  /** Bytes from the beginning. */
  readonly offset: number;
  /** In bytes. */
  readonly size: number;
  /** `bytes`: an array of single bytes, whose order means something. Numbers are in the machine's order. */
  readonly kind: 'number' | 'bytes';
}

/** BTF_KIND_* of linux/btf.h, those that are looked at. */
const kinds = { int: 1, array: 3, struct: 4, enum: 6, typedef: 8, volatile: 9, const: 10, restrict: 11, typeTag: 18 };
/** Bytes behind the 12 of every type: so many, and so many for each of its members. */
const extra: Readonly<Record<number, readonly [once: number, each: number]>> = {
  1: [4, 0],
  2: [0, 0],
  3: [12, 0],
  4: [0, 12],
  5: [0, 12],
  6: [0, 8],
  7: [0, 0],
  8: [0, 0],
  9: [0, 0],
  10: [0, 0],
  11: [0, 0],
  12: [0, 0],
  13: [0, 8],
  14: [4, 0],
  15: [0, 12],
  16: [0, 0],
  17: [4, 0],
  18: [0, 0],
  19: [0, 12],
};
const MAGIC = 0xeb9f;
const HEAD = 12;

interface Type {
  readonly kind: number;
  readonly name: string;
  readonly members: number;
  /** Size in bytes, or the number of another type. */
  readonly word: number;
  /** Where its members are. */
  readonly at: number;
}

/**
 * The types of a map's keys and values (BTF, Documentation/bpf/btf.rst): what is where in records that a program of another build has written. Bit fields,
 * unions and pointers aren't among what maps of ours hold: `BAD_BTF` where one is met, as where the bytes are none.
 */
export class BpfTypes {
  readonly #view: DataView;
  readonly #strings: number;
  /** By number; 0 is void. */
  readonly #types: (Type | undefined)[] = [undefined];
  readonly #key: number;
  readonly #value: number;

  constructor({ key, value, btf }: { readonly key: number; readonly value: number; readonly btf: Uint8Array }) {
    this.#key = key;
    this.#value = value;
    const view = new DataView(btf.buffer, btf.byteOffset, btf.byteLength);
    this.#view = view;
    try {
      if (view.getUint16(0, true) !== MAGIC) throw new RangeError('no magic number');
      const head = view.getUint32(4, true);
      this.#strings = head + view.getUint32(16, true);
      const first = head + view.getUint32(8, true);
      const end = first + view.getUint32(12, true);
      for (let at = first; at < end;) at = this.#read(at);
    } catch (error) {
      throw unreadable((error as Error).message, error);
    }
  }

  /** A key's fields, by offset. */
  get key(): readonly TypeField[] {
    return [...this.#fields(this.#key, '', 0)];
  }

  /** A value's fields, by offset. */
  get value(): readonly TypeField[] {
    return [...this.#fields(this.#value, '', 0)];
  }

  /** The members of an enum by their names; undefined: there is none of this name. */
  enum(name: string): ReadonlyMap<string, number> | undefined {
    const type = this.#types.find((candidate) => candidate?.kind === kinds.enum && candidate.name === name);
    if (type === undefined) return undefined;
    const members = Array.from({ length: type.members }, (_, index) => type.at + index * 8);
    return new Map(members.map((at) => [this.#text(at), this.#view.getUint32(at + 4, true)]));
  }

  #read(at: number): number {
    const info = this.#view.getUint32(at + 4, true);
    const kind = (info >>> 24) & 0x1f;
    const members = info & 0xffff;
    const room = extra[kind];
    if (room === undefined) throw new RangeError(`a type of kind ${kind}`);
    this.#types.push({
      kind,
      members,
      name: this.#text(at),
      word: this.#view.getUint32(at + 8, true),
      at: at + HEAD,
    });
    return at + HEAD + room[0] + room[1] * members;
  }

  /** The text whose offset stands there. */
  #text(at: number): string {
    const start = this.#strings + this.#view.getUint32(at, true);
    let end = start;
    while (this.#view.getUint8(end) !== 0) end++;
    return Buffer.from(this.#view.buffer, this.#view.byteOffset + start, end - start).toString();
  }

  /** Without typedefs and qualifiers. */
  #plain(id: number): Type {
    let type = this.#types[id];
    for (let depth = 0; type !== undefined && depth < 32; depth++) {
      const { kind, word } = type;
      if (![kinds.typedef, kinds.volatile, kinds.const, kinds.restrict, kinds.typeTag].includes(kind)) return type;
      type = this.#types[word];
    }
    throw unreadable(`type ${id} is not there`);
  }

  #sizeOf(id: number): number {
    const type = this.#plain(id);
    if (type.kind !== kinds.array) return type.word;
    return this.#sizeOf(this.#view.getUint32(type.at, true)) * this.#view.getUint32(type.at + 8, true);
  }

  *#fields(id: number, path: string, offset: number): Generator<TypeField, void, undefined> {
    const type = this.#plain(id);
    switch (type.kind) {
      case kinds.int:
      case kinds.enum:
        yield { path, offset, size: type.word, kind: 'number' };
        return;
      case kinds.array: {
        const element = this.#view.getUint32(type.at, true);
        const count = this.#view.getUint32(type.at + 8, true);
        const size = this.#sizeOf(element);
        if (this.#plain(element).kind === kinds.int && size === 1) {
          if (count > 0) yield { path, offset, size: count, kind: 'bytes' };
          return;
        }
        for (let index = 0; index < count; index++)
          yield* this.#fields(element, `${path}[${index}]`, offset + index * size);
        return;
      }
      case kinds.struct:
        for (let index = 0; index < type.members; index++) {
          const at = type.at + index * HEAD;
          const name = this.#text(at);
          // The upper byte is a bit field's width in structs that have some; no offset is so large.
          const bits = this.#view.getUint32(at + 8, true);
          if (bits % 8 !== 0 || bits >= 1 << 24) throw unreadable(`${path}.${name} is a bit field`);
          const inner = path === '' ? name : `${path}.${name}`;
          yield* this.#fields(this.#view.getUint32(at + 4, true), inner, offset + bits / 8);
        }
        return;
      default:
        throw unreadable(`${path} is of kind ${type.kind}`);
    }
  }
}

function unreadable(what: string, cause?: unknown): Error {
  return Object.assign(new Error(`the types of a BPF map are not readable: ${what}`, { cause }), { code: 'BAD_BTF' });
}
