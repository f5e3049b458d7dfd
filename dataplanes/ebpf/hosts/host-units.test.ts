import { beforeEach, describe, expect, test } from '@jest/globals';
import type { HostEndpointInfo, TierInfo } from '../../policy.ts';
import { testHostEndpoint } from '../../shared/test-config.ts';
import { flowConstants } from '../bpf-types.gen.ts';
import type { UnitLists } from '../classifier/unit-lists.ts';
import type { Unit } from '../classifier/units.ts';
import { DENY, forPods, HostUnits, traitsOf } from './host-units.ts';

const { hostUnitOrdinary, hostUnitForward, hostUnitPreDnat, hostUnitUntracked, hostUnitOut, hostUnitIpv6 } =
  flowConstants;
const tier = (ingress: string[], egress: string[] = []): TierInfo => ({
  name: 'default',
  defaultAction: 'deny',
  ingress,
  egress,
});
const endpoint = (more: Partial<HostEndpointInfo> = {}): HostEndpointInfo =>
  testHostEndpoint({ profiles: ['allow'], ...more });

let taken: Unit[];
let released: Unit[];
let hasRoom: boolean;
let units: HostUnits;

beforeEach(() => {
  taken = [];
  released = [];
  hasRoom = true;
  units = new HostUnits({
    acquire: (lists: UnitLists): Unit => {
      const number = hasRoom ? taken.length + 1 : 0;
      const failure = hasRoom ? undefined : 'no room';
      const unit: Unit = { number, lists, published: undefined, failure, users: 1 };
      taken.push(unit);
      return unit;
    },
    release: (unit) => released.push(unit),
  });
});

describe("a host endpoint's units", () => {
  test('are asked for its own traffic always, and elsewhere only where it has a policy of the direction', () => {
    units.prepare('up', endpoint());
    expect(places(units.numbers('up'))).toEqual([
      hostUnitOrdinary,
      hostUnitOrdinary + hostUnitIpv6,
      hostUnitOrdinary + hostUnitOut,
      hostUnitOrdinary + hostUnitOut + hostUnitIpv6,
    ]);
    units.prepare(
      'all',
      endpoint({
        forwardTiers: [tier([], ['f'])],
        preDnatTiers: [tier(['d'], ['d'])],
        untrackedTiers: [tier(['u'])],
      }),
    );
    expect(places(units.numbers('all')).slice(4)).toEqual([
      hostUnitForward + hostUnitOut,
      hostUnitForward + hostUnitOut + hostUnitIpv6,
      hostUnitPreDnat,
      hostUnitPreDnat + hostUnitIpv6,
      hostUnitUntracked,
      hostUnitUntracked + hostUnitIpv6,
    ]);
    expect(traitsOf(endpoint({ forwardTiers: [tier([], ['f'])], untrackedTiers: [tier(['u'])] }))).toEqual({
      forwardsIn: false,
      forwardsOut: true,
      untrackedIn: true,
      untrackedOut: false,
    });
    expect(taken.map(({ lists: { kind, profiles } }) => `${kind} ${profiles.join()}`)).toEqual(
      [
        ...Array.from({ length: 8 }, () => 'endpoint allow'),
        ...Array.from({ length: 2 }, () => 'forward '),
        ...Array.from({ length: 4 }, () => 'early '),
      ].sort((a, b) => order(a) - order(b)),
    );
  });

  test('for which there is no room deny, and say so', () => {
    hasRoom = false;
    units.prepare('up', endpoint());
    expect(new Set(units.numbers('up'))).toEqual(new Set([0, DENY]));
    expect(units.failure('up')).toBe('no room');
    expect(units.failure('another')).toBeUndefined();
  });

  test('are left when others have come into force, and when it is removed', () => {
    units.prepare('up', endpoint());
    units.commit('up');
    const first = taken.slice();
    units.prepare('up', endpoint({ tiers: [tier(['p'])] }));
    expect(released).toEqual([]);
    units.commit('up');
    expect(released).toEqual(first);
    units.remove('up');
    expect(released).toEqual(taken);
    expect(units.known).toEqual([]);
    expect(places(units.numbers('up'))).toEqual([]);
  });

  test('of `*` have a say in what pods forward and what is asked of them before translation only', () => {
    const numbers = Array.from({ length: flowConstants.hostUnits }, (_, index) => index + 1);
    expect(places(forPods(numbers))).toEqual([4, 5, 6, 7, 8, 9, 10, 11]);
  });
});

const places = (numbers: readonly number[]): number[] =>
  numbers.flatMap((number, index) => (number === 0 ? [] : [index]));
/** The order in which they are acquired: the first host endpoint's come before. */
const order = (text: string): number => ['endpoint', 'forward', 'early'].indexOf(text.split(' ')[0] ?? '');
