import { type Family, tryParseIp } from '#api/cidr.ts';
import type { ClassEntry } from './class-space.ts';
import type { AddressValue, MapWrite, SizedMap } from './classifier-maps.ts';
import type { Element } from './element.ts';
import { type PortRun, type Ports, portTablesOf } from './ports.ts';
import { OwnTraits, type Signature, type Signatures } from './signature.ts';

/** {address, protocol, port} in some set. It is what its port is, as a destination's and as a source's, and in its sets besides. */
export class NamedPort implements Element {
  readonly rank = 0;
  readonly hasOtherChange = false;
  readonly #owner: NamedPorts;
  readonly text: string;
  readonly family: Family;
  readonly address: AddressValue;
  readonly protocol: number;
  readonly port: number;
  readonly own: OwnTraits;
  written: ClassEntry | undefined;

  constructor(
    owner: NamedPorts,
    text: string,
    { family, value }: { readonly family: Family; readonly value: AddressValue },
    protocol: number,
    port: number,
  ) {
    this.#owner = owner;
    this.text = text;
    this.family = family;
    this.address = value;
    this.protocol = protocol;
    this.port = port;
    this.own = new OwnTraits(owner.signatures);
  }

  get map(): SizedMap {
    return `tortie_named${this.family}`;
  }

  get isLeaving(): boolean {
    return this.own.signature.traits.size === 0;
  }

  now(): Signature {
    return this.written?.signature ?? this.#owner.ofPort(this, (run) => run.now());
  }

  wanted(): Signature {
    return this.#owner.signatures.union(
      this.own.signature,
      this.#owner.ofPort(this, (run) => run.wanted()),
    );
  }

  write(to: ClassEntry): MapWrite {
    this.written = to;
    return this.#entry(to.id);
  }

  canGo(): boolean {
    if (!this.isLeaving) return false;
    return this.written === undefined || this.wanted().key === this.#owner.ofPort(this, (run) => run.now()).key;
  }

  remove(): MapWrite | undefined {
    this.#owner.forget(this);
    if (this.written === undefined) return undefined;
    this.written = undefined;
    return this.#entry(undefined);
  }

  #entry(entry: number | undefined): MapWrite {
    const { family, address, protocol, port } = this;
    return { map: 'named', family, address, protocol, port, class: entry };
  }
}

/** Members of `ipPort` sets. */
export class NamedPorts {
  readonly signatures: Signatures;
  #ports: Ports | undefined;
  readonly #known = new Map<string, NamedPort>();
  /** By table and number: what a change of the ports' classes concerns. */
  readonly #atPort = new Map<number, Map<number, Set<NamedPort>>>();
  readonly #dirty = new Set<NamedPort>();

  constructor(signatures: Signatures) {
    this.signatures = signatures;
  }

  /** Once, before anything else. */
  follow(ports: Ports): void {
    this.#ports = ports;
  }

  /** `10.65.0.3,6:8080` gets a trait. Members of protocols that have no ports here never match, so nothing is kept of them. */
  addTrait(member: string, trait: number): void {
    const element = this.#known.get(member) ?? this.#insert(member);
    if (element === undefined) return;
    element.own.add(trait);
    this.#dirty.add(element);
  }

  removeTrait(member: string, trait: number): void {
    const element = this.#known.get(member);
    if (element === undefined) return;
    element.own.remove(trait);
    this.#dirty.add(element);
  }

  /** The classes of these ports change. */
  touch({ table, min, max }: PortRun): void {
    const ofTable = this.#atPort.get(table);
    if (ofTable === undefined) return;
    // Whichever are fewer: the run's numbers, or those that have a name.
    const numbers = max - min < ofTable.size ? range(min, max) : ofTable.keys();
    for (const number of numbers) {
      if (number < min || number > max) continue;
      for (const element of ofTable.get(number) ?? []) this.#dirty.add(element);
    }
  }

  takeDirty(): NamedPort[] {
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    return dirty;
  }

  mark(element: NamedPort): void {
    this.#dirty.add(element);
  }

  get size(): number {
    return this.#known.size;
  }

  /** What its port alone says, in both of its tables. */
  ofPort({ protocol, port }: NamedPort, what: (run: PortRun) => Signature): Signature {
    const tables = portTablesOf(protocol);
    const ports = this.#ports;
    if (tables === undefined || ports === undefined) return this.signatures.empty;
    return this.signatures.union(what(ports.at(tables.destination, port)), what(ports.at(tables.source, port)));
  }

  forget(element: NamedPort): void {
    this.#known.delete(element.text);
    for (const table of tablesOf(element)) {
      const ofTable = this.#atPort.get(table);
      const elements = ofTable?.get(element.port);
      elements?.delete(element);
      if (elements?.size === 0) ofTable?.delete(element.port);
    }
  }

  #insert(member: string): NamedPort | undefined {
    const [, address = '', protocol = '', port = ''] = /^([^,]+),(\d+):(\d+)$/.exec(member) ?? [];
    const ip = tryParseIp(address);
    if (ip === undefined || Number(port) > 65_535) throw new RangeError(`${member} is no {address, protocol, port}`);
    if (portTablesOf(Number(protocol)) === undefined) return undefined;
    const element = new NamedPort(this, member, ip, Number(protocol), Number(port));
    this.#known.set(member, element);
    for (const table of tablesOf(element)) {
      const ofTable = this.#atPort.get(table) ?? new Map<number, Set<NamedPort>>();
      this.#atPort.set(table, ofTable);
      const elements = ofTable.get(element.port) ?? new Set();
      ofTable.set(element.port, elements.add(element));
    }
    return element;
  }
}

/** The tables of its destination port and of its source port. */
function tablesOf({ protocol }: NamedPort): number[] {
  const tables = portTablesOf(protocol);
  return tables === undefined ? [] : [tables.destination, tables.source];
}

function* range(min: number, max: number): Generator<number> {
  for (let number = min; number <= max; number++) yield number;
}
