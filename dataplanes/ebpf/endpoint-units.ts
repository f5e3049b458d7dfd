import { type Family, familyOf } from '#api/cidr.ts';
import type { CidrText, EndpointId, WorkloadEndpointInfo } from '../messages.ts';
import type { Classifier } from './classifier/classifier.ts';
import { unitLists } from './classifier/unit-lists.ts';
import type { Unit } from './classifier/units.ts';
import type { UnitNumbers } from './slot-table.ts';

/** By place in a slot (`UnitNumbers`); undefined: the endpoint has no address of the family, and everything in it is denied. */
type FourUnits = readonly (Unit | undefined)[];

/** Direction and family of each place. */
const places = [
  ['egress', 4],
  ['egress', 6],
  ['ingress', 4],
  ['ingress', 6],
] as const;

/** Which units of the classifier each endpoint is judged by, and the ones that it goes over to. */
export class EndpointUnits {
  readonly #classifier: Pick<Classifier, 'acquire' | 'release'>;
  readonly #inForce = new Map<EndpointId, FourUnits>();
  readonly #next = new Map<EndpointId, FourUnits>();
  readonly #users = new Map<Unit, Map<EndpointId, number>>();

  constructor(classifier: Pick<Classifier, 'acquire' | 'release'>) {
    this.#classifier = classifier;
  }

  /** Takes the units of what the endpoint is now; `sources`: what it may send from. They are made by the classifier's next flush. */
  prepare(id: EndpointId, lists: Pick<WorkloadEndpointInfo, 'tiers' | 'profiles'>, sources: readonly CidrText[]): void {
    const families = new Set<Family>(sources.map((cidr) => familyOf(cidr)));
    const next = places.map(([direction, family]) =>
      families.has(family) ? this.#classifier.acquire(unitLists('endpoint', direction, family, lists)) : undefined,
    );
    for (const unit of next) if (unit !== undefined) this.#use(unit, id, 1);
    this.#leave(id, this.#next.get(id)); // Behind the new ones: what both have stays.
    this.#next.set(id, next);
  }

  /** The numbers to be stored into its slot. */
  numbers(id: EndpointId): UnitNumbers {
    const [a, b, c, d] = (this.#next.get(id) ?? this.#inForce.get(id) ?? []).map((unit) => unit?.number ?? 0);
    return [a ?? 0, b ?? 0, c ?? 0, d ?? 0];
  }

  /** Why one of its units denies everything; undefined: each does what its rules say. */
  failure(id: EndpointId): string | undefined {
    for (const unit of this.#next.get(id) ?? this.#inForce.get(id) ?? []) {
      if (unit?.failure !== undefined) return unit.failure;
    }
    return undefined;
  }

  /** Its slot names the prepared ones now: the former ones are left with the next flush. */
  commit(id: EndpointId): void {
    const next = this.#next.get(id);
    if (next === undefined) return;
    this.#next.delete(id);
    this.#leave(id, this.#inForce.get(id));
    this.#inForce.set(id, next);
  }

  /** No slot names any unit for it. */
  remove(id: EndpointId): void {
    for (const units of [this.#next, this.#inForce]) {
      this.#leave(id, units.get(id));
      units.delete(id);
    }
  }

  /** Endpoints that have the unit, or go over to it. */
  usersOf(unit: Unit): readonly EndpointId[] {
    return [...(this.#users.get(unit)?.keys() ?? [])];
  }

  #leave(id: EndpointId, units: FourUnits | undefined): void {
    for (const unit of units ?? []) {
      if (unit === undefined) continue;
      this.#use(unit, id, -1);
      this.#classifier.release(unit);
    }
  }

  #use(unit: Unit, id: EndpointId, by: 1 | -1): void {
    let users = this.#users.get(unit);
    if (users === undefined) this.#users.set(unit, (users = new Map()));
    const count = (users.get(id) ?? 0) + by;
    if (count > 0) users.set(id, count);
    else users.delete(id);
    if (users.size === 0) this.#users.delete(unit);
  }
}
