import { bitsOf, type Family, tryParseIpInNetwork } from '#api/cidr.ts';
import type { ClassEntry } from './class-space.ts';
import type { AddressValue, MapWrite, SizedMap } from './classifier-maps.ts';
import type { Element } from './element.ts';
import type { Signature, Signatures } from './signature.ts';

/**
 * Addresses and prefixes of which something is said: sets that they are in, next hops. They form a forest: a prefix stands around everything
 * in it, and hands its sets and (where that has none of its own) its hop on. The kernel asks the most exact entry only, so each entry says all.
 */
export class Addresses {
  readonly #signatures: Signatures;
  readonly #families: Readonly<Record<Family, FamilyForest>>;
  readonly #dirty = new Set<AddressElement>();

  constructor(signatures: Signatures, nothing: ClassEntry) {
    this.#signatures = signatures;
    this.#families = { 4: new FamilyForest(4, signatures, nothing), 6: new FamilyForest(6, signatures, nothing) };
  }

  /** The address or prefix gets a trait. Throws `RangeError` for other text. */
  addTrait(net: string, trait: number): void {
    const element = this.#insert(net);
    element.own = this.#signatures.with(element.own, trait);
    this.#touch(element);
  }

  removeTrait(net: string, trait: number): void {
    const element = this.#find(net);
    if (element === undefined) return;
    element.own = this.#signatures.without(element.own, trait);
    this.#touch(element);
  }

  /** Packets to the address or prefix go by this hop (an index into the next hops); 0: by what stands around it. */
  setHop(net: string, hop: number): void {
    const element = hop === 0 ? this.#find(net) : this.#insert(net);
    if (element === undefined || element.ownHop === hop) return;
    element.ownHop = hop;
    this.#touch(element);
  }

  /** What has to be looked at since the last call. */
  takeDirty(): AddressElement[] {
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    return dirty;
  }

  /** It has to be looked at again. */
  mark(element: AddressElement): void {
    this.#dirty.add(element);
  }

  /** Addresses and prefixes of which something is said. */
  get size(): number {
    return this.#families[4].size + this.#families[6].size;
  }

  #find(net: string): AddressElement | undefined {
    const { family, value, prefix } = parse(net);
    return this.#families[family].find(value, prefix);
  }

  #insert(net: string): AddressElement {
    const { family, value, prefix } = parse(net);
    return this.#families[family].insert(value, prefix);
  }

  #touch(element: AddressElement): void {
    this.#dirty.add(element);
    for (const inner of element.inside) this.#touch(inner);
  }
}

/** An address or a prefix. */
export class AddressElement implements Element {
  readonly #forest: FamilyForest;
  readonly family: Family;
  readonly value: AddressValue;
  readonly prefix: number;
  readonly map: SizedMap;
  /** The sets that name it itself. */
  own: Signature;
  ownHop = 0;
  written: ClassEntry | undefined;
  writtenHop = 0;
  /** What stands next around it; undefined only for the root, which is everything. */
  around: AddressElement | undefined;
  readonly inside = new Set<AddressElement>();

  constructor(forest: FamilyForest, value: AddressValue, prefix: number, around: AddressElement | undefined) {
    this.#forest = forest;
    this.family = forest.family;
    this.value = value;
    this.prefix = prefix;
    this.map = `tortie_${prefix === bitsOf(forest.family) ? 'addr' : 'net'}${forest.family}`;
    this.own = forest.signatures.empty;
    this.around = around;
  }

  get rank(): number {
    return -this.prefix;
  }

  get isLeaving(): boolean {
    return this.own.traits.size === 0 && this.ownHop === 0;
  }

  get hasOtherChange(): boolean {
    return this.written !== undefined && this.writtenHop !== this.hop;
  }

  /** The hop that it has to have. */
  get hop(): number {
    return this.ownHop === 0 ? (this.around?.hop ?? 0) : this.ownHop;
  }

  now(): Signature {
    return this.written?.signature ?? this.around?.now() ?? this.own;
  }

  wanted(): Signature {
    return this.around === undefined ? this.own : this.#forest.signatures.union(this.own, this.around.wanted());
  }

  write(to: ClassEntry): MapWrite {
    this.written = to;
    this.writtenHop = this.hop;
    return this.#entry({ class: to.id, hop: this.hop });
  }

  canGo(isFinal: (entry: ClassEntry) => boolean): boolean {
    if (!this.isLeaving) return false;
    if (this.written === undefined) return true;
    const next = this.#nextWritten();
    return (
      next?.written !== undefined &&
      isFinal(next.written) &&
      next.written.signature.key === this.wanted().key &&
      next.writtenHop === this.hop
    );
  }

  remove(): MapWrite | undefined {
    this.#forest.remove(this);
    if (this.written === undefined) return undefined;
    this.written = undefined;
    return this.#entry(undefined);
  }

  /** What the kernel would find without this entry. The root always has one. */
  #nextWritten(): AddressElement | undefined {
    let next = this.around;
    while (next !== undefined && next.written === undefined) next = next.around;
    return next;
  }

  #entry(value: Extract<MapWrite, { map: 'addresses' }>['value']): MapWrite {
    return { map: 'addresses', family: this.family, address: this.value, prefix: this.prefix, value };
  }
}

class FamilyForest {
  readonly family: Family;
  readonly signatures: Signatures;
  readonly #root: AddressElement;
  readonly #byPrefix = new Map<number, Map<AddressValue, AddressElement>>();
  /** Lengths that occur, the long ones first. */
  #lengths: readonly number[] = [];
  size = 0;

  constructor(family: Family, signatures: Signatures, nothing: ClassEntry) {
    this.family = family;
    this.signatures = signatures;
    this.#root = new AddressElement(this, 0, -1, undefined);
    this.#root.written = nothing;
  }

  find(value: AddressValue, prefix: number): AddressElement | undefined {
    return this.#byPrefix.get(prefix)?.get(value);
  }

  insert(value: AddressValue, prefix: number): AddressElement {
    const known = this.find(value, prefix);
    if (known !== undefined) return known;
    const around = this.#around(value, prefix);
    const element = new AddressElement(this, value, prefix, around);
    if (prefix < bitsOf(this.family)) {
      for (const inner of around.inside) {
        if (inner.prefix > prefix && this.#cut(inner.value, prefix) === value) moveTo(element, inner);
      }
    }
    around.inside.add(element);
    let ofLength = this.#byPrefix.get(prefix);
    if (ofLength === undefined) {
      ofLength = new Map();
      this.#byPrefix.set(prefix, ofLength);
      this.#lengths = [...this.#byPrefix.keys()].sort((a, b) => b - a);
    }
    ofLength.set(value, element);
    this.size++;
    return element;
  }

  remove(element: AddressElement): void {
    const { around, value, prefix } = element;
    const ofLength = this.#byPrefix.get(prefix);
    if (around === undefined || ofLength?.delete(value) !== true) return;
    if (ofLength.size === 0) {
      this.#byPrefix.delete(prefix);
      this.#lengths = this.#lengths.filter((length) => length !== prefix);
    }
    around.inside.delete(element);
    for (const inner of element.inside) moveTo(around, inner);
    this.size--;
  }

  #around(value: AddressValue, prefix: number): AddressElement {
    for (const length of this.#lengths) {
      if (length >= prefix) continue;
      const found = this.find(this.#cut(value, length), length);
      if (found !== undefined) return found;
    }
    return this.#root;
  }

  #cut(value: AddressValue, prefix: number): AddressValue {
    if (typeof value === 'bigint') {
      const rest = BigInt(128 - prefix);
      return (value >> rest) << rest;
    }
    return prefix === 0 ? 0 : (value & (0xffffffff << (32 - prefix))) >>> 0;
  }
}

function moveTo(around: AddressElement, inner: AddressElement): void {
  inner.around?.inside.delete(inner);
  inner.around = around;
  around.inside.add(inner);
}

function parse(net: string): { readonly family: Family; readonly value: AddressValue; readonly prefix: number } {
  const network = tryParseIpInNetwork(net)?.network;
  if (network === undefined) throw new RangeError(`${net} is no address or network`);
  return { family: network.family, value: network.first, prefix: network.prefix };
}
