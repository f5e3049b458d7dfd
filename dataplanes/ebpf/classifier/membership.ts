import { Addresses, AddressElement } from './addresses.ts';
import { ClassSpace, type ClassEntry, FIRST_NAMED_CLASS } from './class-space.ts';
import type { MapSizes } from './classifier-maps.ts';
import type { Element } from './element.ts';
import { NamedPort, NamedPorts } from './named-ports.ts';
import { PortRun, Ports } from './ports.ts';
import type { Pieces } from './pieces.ts';
import type { Retirement } from './retirement.ts';
import type { TraitName } from './rule-conditions.ts';
import { Sets } from './sets.ts';
import { Signatures } from './signature.ts';
import { Traits } from './traits.ts';
import { ADDRESS_DIMENSIONS, SERVICE_DIMENSIONS } from './unit-form.ts';

/** Classes of one kind, and the dimensions that ask for them. */
export interface Space {
  readonly classes: ClassSpace;
  readonly dimensions: readonly number[];
  /** True if a record's default row may be another than that of a class without traits: all its classes can be asked for by all units. */
  readonly mayInvert: boolean;
}

/** Who has which traits: the sets, and everything that can be a member of one or in a range. */
export class Membership {
  readonly addressSpace: Space;
  readonly serviceSpace: Space;
  readonly addresses: Addresses;
  readonly sets: Sets;
  readonly traits: Traits;
  readonly ports: Ports;
  readonly named: NamedPorts;

  /** `onFree`: nothing can ask for the class any more. */
  constructor(sizes: MapSizes, retirement: Retirement, onFree: (space: Space, entry: ClassEntry) => void) {
    const signatures = new Signatures();
    const { empty } = signatures;
    const portClasses = Math.min(sizes.tortie_ports.entries, FIRST_NAMED_CLASS);
    this.addressSpace = {
      classes: new ClassSpace(empty, retirement, 2 ** 32, (entry) => onFree(this.addressSpace, entry)),
      dimensions: ADDRESS_DIMENSIONS,
      mayInvert: true,
    };
    this.serviceSpace = {
      classes: new ClassSpace(empty, retirement, portClasses, (entry) => onFree(this.serviceSpace, entry)),
      dimensions: SERVICE_DIMENSIONS,
      mayInvert: false,
    };
    this.addresses = new Addresses(signatures, this.addressSpace.classes.zero);
    this.named = new NamedPorts(signatures);
    this.ports = new Ports(signatures, this.serviceSpace.classes.zero, (run) => this.named.touch(run));
    this.named.follow(this.ports);
    this.sets = new Sets({ net: this.addresses, ipPort: this.named });
    this.traits = new Traits({
      ownerOf: (name) => this.#ownerOf(name),
      activate: (name, owner, trait) => this.#activate(name, owner, trait),
      deactivate: (name, owner, trait) => this.#deactivate(name, owner, trait),
    });
  }

  /** Throws `BrokenSet` where a set has members that are none: they are looked at only when somebody asks for the set. */
  check(name: TraitName): void {
    if (name.kind === 'set' || name.kind === 'ipPort') this.sets.check(name.set);
  }

  /** What may have to become something else since the last call, in the order in which it has to be written. */
  *takeDirty(): Pieces<Element[]> {
    // Ports before names: what a named port is depends on its port's class.
    const elements: Element[] = [...this.ports.takeDirty(), ...this.named.takeDirty()];
    const byRank = new Map<number, Element[]>();
    for (const element of yield* this.addresses.takeDirty()) {
      const ofRank = byRank.get(element.rank);
      if (ofRank === undefined) byRank.set(element.rank, [element]);
      else ofRank.push(element);
    }
    for (const [, ofRank] of [...byRank].sort(([one], [other]) => one - other)) {
      for (const element of ofRank) elements.push(element);
    }
    return elements;
  }

  /** It has to be looked at again. */
  mark(element: Element): void {
    if (element instanceof AddressElement) this.addresses.mark(element);
    else if (element instanceof NamedPort) this.named.mark(element);
    else if (element instanceof PortRun) this.ports.mark(element);
  }

  /** True if its entry has to be there whatever units ask for: it says the next hop. */
  isHop(element: Element): boolean {
    return element instanceof AddressElement && element.ownHop !== 0;
  }

  spaceOf(element: Element): Space {
    return element instanceof AddressElement ? this.addressSpace : this.serviceSpace;
  }

  #ownerOf(name: TraitName): object {
    switch (name.kind) {
      case 'set':
        return this.sets.source(name.set, 'net');
      case 'ipPort':
        return this.sets.source(name.set, 'ipPort');
      case 'net':
        return this.addresses;
      case 'ports':
        return this.ports;
    }
  }

  *#activate(name: TraitName, owner: object, trait: number): Pieces<void> {
    if (name.kind === 'net') this.addresses.addTrait(name.net, trait);
    else if (name.kind === 'ports') this.ports.addTrait(name.table, name.min, name.max, trait);
    else yield* this.sets.activate(owner, trait);
  }

  *#deactivate(name: TraitName, owner: object, trait: number): Pieces<void> {
    if (name.kind === 'net') this.addresses.removeTrait(name.net, trait);
    else if (name.kind === 'ports') this.ports.removeTrait(name.table, name.min, name.max, trait);
    else yield* this.sets.deactivate(owner, trait);
  }
}
