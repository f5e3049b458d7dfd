import { bitsOf, type Family, tryParseIpInNetwork } from '#api/cidr.ts';
import type { ClassEntry } from './class-space.ts';
import type { AddressValue, MapWrite, SizedMap } from './classifier-maps.ts';
import type { Element } from './element.ts';
import type { Pieces } from './pieces.ts';
import { arithmetic, PrefixTree } from './prefix-tree.ts';
import { OwnTraits, type Signature, type Signatures } from './signature.ts';

/**
 * Addresses and prefixes of which something is said: sets that they are in, next hops. They form a forest: a prefix stands around everything
 * in it, and hands its sets and (where that has none of its own) its hop on. The kernel asks the most exact entry only, so each entry says all.
 */
export class Addresses {
  readonly #families: Readonly<Record<Family, FamilyForest>>;
  readonly #dirty = new Set<AddressElement>();
  /** Changed by themselves: whatever is inside has to be looked at, too. */
  readonly #changed = new Set<AddressElement>();

  constructor(signatures: Signatures, nothing: ClassEntry) {
    this.#families = { 4: new FamilyForest(4, signatures, nothing), 6: new FamilyForest(6, signatures, nothing) };
  }

  /** The address or prefix gets a trait. Throws `RangeError` for other text. */
  addTrait(net: string, trait: number): void {
    const element = this.#insert(net);
    element.own.add(trait);
    this.#changed.add(element);
  }

  removeTrait(net: string, trait: number): void {
    const element = this.#find(net);
    if (element === undefined) return;
    element.own.remove(trait);
    this.#changed.add(element);
  }

  /** Packets to the address or prefix go by this hop (an index into the next hops); 0: by what stands around it. */
  setHop(net: string, hop: number): void {
    const element = hop === 0 ? this.#find(net) : this.#insert(net);
    if (element === undefined || element.ownHop === hop) return;
    element.ownHop = hop;
    this.#changed.add(element);
  }

  /** What has to be looked at since the last call. */
  *takeDirty(): Pieces<AddressElement[]> {
    // Each once, however many changes there were around it.
    const seen = new Set<AddressElement>();
    const open = [...this.#changed];
    this.#changed.clear();
    for (let element = open.pop(); element !== undefined; element = open.pop()) {
      if (seen.has(element)) continue;
      seen.add(element);
      if (seen.size % 64 === 0) yield;
      this.#dirty.add(element);
      for (const inner of element.inside) open.push(inner);
    }
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
}

/** What most have inside. */
const nobody: readonly AddressElement[] = [];

/** An address or a prefix. */
export class AddressElement implements Element {
  readonly #forest: FamilyForest;
  readonly family: Family;
  readonly value: AddressValue;
  readonly prefix: number;
  readonly map: SizedMap;
  /** The sets that name it itself. */
  readonly own: OwnTraits;
  ownHop = 0;
  written: ClassEntry | undefined;
  writtenHop = 0;
  /** What stands next around it; undefined only for the root, which is everything. */
  around: AddressElement | undefined;
  #inside: Set<AddressElement> | undefined;

  constructor(forest: FamilyForest, value: AddressValue, prefix: number) {
    this.#forest = forest;
    this.family = forest.family;
    this.value = value;
    this.prefix = prefix;
    this.map = `tortie_${prefix === bitsOf(forest.family) ? 'addr' : 'net'}${forest.family}`;
    this.own = new OwnTraits(forest.signatures);
  }

  /** What stands in it with nothing in between. */
  get inside(): Iterable<AddressElement> {
    return this.#inside ?? nobody;
  }

  /** Its place in the forest is in this one from now on. */
  moveInto(around: AddressElement): void {
    this.leave();
    this.around = around;
    (around.#inside ??= new Set()).add(this);
  }

  leave(): void {
    const { around } = this;
    if (around === undefined) return;
    around.#inside?.delete(this);
    // Most have nothing inside, and an empty set isn't small.
    if (around.#inside?.size === 0) around.#inside = undefined;
  }

  get rank(): number {
    return -this.prefix;
  }

  get isLeaving(): boolean {
    return this.own.signature.traits.size === 0 && this.ownHop === 0;
  }

  get hasOtherChange(): boolean {
    return this.written !== undefined && this.writtenHop !== this.hop;
  }

  /** The hop that it has to have. */
  get hop(): number {
    return this.ownHop === 0 ? (this.around?.hop ?? 0) : this.ownHop;
  }

  now(): Signature {
    return this.written?.signature ?? this.around?.now() ?? this.own.signature;
  }

  wanted(): Signature {
    const own = this.own.signature;
    return this.around === undefined ? own : this.#forest.signatures.union(own, this.around.wanted());
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
  readonly #tree: PrefixTree<AddressElement>;
  size = 0;

  constructor(family: Family, signatures: Signatures, nothing: ClassEntry) {
    this.family = family;
    this.signatures = signatures;
    this.#tree = new PrefixTree(arithmetic[family]);
    this.#root = new AddressElement(this, 0, -1);
    this.#root.written = nothing;
  }

  find(value: AddressValue, prefix: number): AddressElement | undefined {
    return this.#byPrefix.get(prefix)?.get(value);
  }

  insert(value: AddressValue, prefix: number): AddressElement {
    const known = this.find(value, prefix);
    if (known !== undefined) return known;
    const element = new AddressElement(this, value, prefix);
    element.moveInto(this.#tree.around(value, prefix) ?? this.#root);
    for (const inner of this.#tree.inside(value, prefix)) inner.moveInto(element);
    this.#tree.set(value, prefix, element);
    let ofLength = this.#byPrefix.get(prefix);
    if (ofLength === undefined) {
      ofLength = new Map();
      this.#byPrefix.set(prefix, ofLength);
    }
    ofLength.set(value, element);
    this.size++;
    return element;
  }

  remove(element: AddressElement): void {
    const { around, value, prefix } = element;
    if (around === undefined || this.#byPrefix.get(prefix)?.delete(value) !== true) return;
    this.#tree.delete(value, prefix);
    element.leave();
    for (const inner of [...element.inside]) inner.moveInto(around);
    this.size--;
  }
}

function parse(net: string): { readonly family: Family; readonly value: AddressValue; readonly prefix: number } {
  const network = tryParseIpInNetwork(net)?.network;
  if (network === undefined) throw new RangeError(`${net} is no address or network`);
  return { family: network.family, value: network.first, prefix: network.prefix };
}
