import type { Classifier } from '../classifier/classifier.ts';
import { type UnitKind, unitLists } from '../classifier/unit-lists.ts';
import type { Unit } from '../classifier/units.ts';
import { flowConstants } from '../bpf-types.gen.ts';
import type { HostEndpointInfo, TierInfo } from '../../policy.ts';

/** One of a host endpoint's lists of tiers. */
type Place = 'ordinary' | 'forward' | 'preDnat' | 'untracked';

interface Lists {
  readonly kind: UnitKind;
  readonly at: number;
  readonly tiers: (endpoint: HostEndpointInfo) => readonly TierInfo[];
}

const lists: Readonly<Record<Place, Lists>> = {
  ordinary: { kind: 'endpoint', at: flowConstants.hostUnitOrdinary, tiers: ({ tiers }) => tiers },
  forward: { kind: 'forward', at: flowConstants.hostUnitForward, tiers: ({ forwardTiers }) => forwardTiers },
  preDnat: { kind: 'early', at: flowConstants.hostUnitPreDnat, tiers: ({ preDnatTiers }) => preDnatTiers },
  untracked: { kind: 'early', at: flowConstants.hostUnitUntracked, tiers: ({ untrackedTiers }) => untrackedTiers },
};

/** A number that no unit has: the classifier denies what it doesn't know. 0 would mean that nobody is asked. */
export const DENY = 0xffffffff;

/** The numbers of `tortie_hosts`' `unit`, by index; 0: not asked. */
export type HostUnitNumbers = readonly number[];

/** Where a host endpoint has policy besides that of the node's own traffic. */
export interface HostTraits {
  readonly forwardsIn: boolean;
  readonly forwardsOut: boolean;
  /** Untracked policy of the direction. */
  readonly untrackedIn: boolean;
  readonly untrackedOut: boolean;
}

type UnitsAt = ReadonlyMap<number, Unit>;

/** Which units of the classifier each host endpoint is judged by, and the ones that it goes over to. */
export class HostUnits {
  readonly #classifier: Pick<Classifier, 'acquire' | 'release'>;
  readonly #inForce = new Map<string, UnitsAt>();
  readonly #next = new Map<string, UnitsAt>();

  constructor(classifier: Pick<Classifier, 'acquire' | 'release'>) {
    this.#classifier = classifier;
  }

  /** Takes the units of what the host endpoint is now. They are made by the classifier's next flush. */
  prepare(id: string, endpoint: HostEndpointInfo): void {
    const next = new Map<number, Unit>();
    for (const place of Object.keys(lists) as Place[]) {
      const { kind, at, tiers } = lists[place];
      for (const direction of ['ingress', 'egress'] as const) {
        if (place === 'preDnat' && direction === 'egress') continue;
        for (const family of [4, 6] as const) {
          const wanted = unitLists(kind, direction, family, { tiers: tiers(endpoint), profiles: endpoint.profiles });
          // What is ordinary is denied unless something allows it; the others say nothing without a policy.
          if (place !== 'ordinary' && wanted.tiers.length === 0) continue;
          next.set(indexOf(at, direction, family), this.#classifier.acquire(wanted));
        }
      }
    }
    this.#leave(this.#next.get(id)); // Behind the new ones: what both have stays.
    this.#next.set(id, next);
  }

  /** The prepared ones come into force: the former ones are left with the next flush, and no slot may name them by then. */
  commit(id: string): void {
    const next = this.#next.get(id);
    if (next === undefined) return;
    this.#next.delete(id);
    this.#leave(this.#inForce.get(id));
    this.#inForce.set(id, next);
  }

  /** No slot names any unit for it. */
  remove(id: string): void {
    for (const units of [this.#next, this.#inForce]) {
      this.#leave(units.get(id));
      units.delete(id);
    }
  }

  /** The numbers for its slots: those that were prepared, else those in force. What there is no number for is denied. */
  numbers(id: string): HostUnitNumbers {
    const numbers = Array.from({ length: flowConstants.hostUnits }, () => 0);
    for (const [index, unit] of this.#of(id)) numbers[index] = unit.number === 0 ? DENY : unit.number;
    return numbers;
  }

  /** Why one of its units denies everything; undefined: each does what its rules say. */
  failure(id: string): string | undefined {
    for (const { failure } of this.#of(id).values()) if (failure !== undefined) return failure;
    return undefined;
  }

  /** Host endpoints that have units. */
  get known(): readonly string[] {
    return [...new Set([...this.#inForce.keys(), ...this.#next.keys()])];
  }

  #of(id: string): UnitsAt {
    return this.#next.get(id) ?? this.#inForce.get(id) ?? new Map<number, Unit>();
  }

  #leave(units: UnitsAt | undefined): void {
    for (const unit of units?.values() ?? []) this.#classifier.release(unit);
  }
}

export function traitsOf({ forwardTiers, untrackedTiers }: HostEndpointInfo): HostTraits {
  const has = (tiers: readonly TierInfo[], direction: 'ingress' | 'egress'): boolean =>
    tiers.some(({ [direction]: policies }) => policies.length > 0);
  return {
    forwardsIn: has(forwardTiers, 'ingress'),
    forwardsOut: has(forwardTiers, 'egress'),
    untrackedIn: has(untrackedTiers, 'ingress'),
    untrackedOut: has(untrackedTiers, 'egress'),
  };
}

const indexOf = (at: number, direction: 'ingress' | 'egress', family: 4 | 6): number =>
  at + (direction === 'egress' ? flowConstants.hostUnitOut : 0) + (family === 6 ? flowConstants.hostUnitIpv6 : 0);

/** The numbers of a slot without those that aren't asked of pods' devices: `*` has a say in what they forward only. */
export function forPods(numbers: HostUnitNumbers): HostUnitNumbers {
  const { hostUnitForward, hostUnitUntracked } = flowConstants;
  return numbers.map((number, index) => (index >= hostUnitForward && index < hostUnitUntracked ? number : 0));
}
