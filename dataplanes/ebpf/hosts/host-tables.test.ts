import { beforeEach, describe, expect, test } from '@jest/globals';
import { testHostEndpoint } from '../../shared/test-config.ts';
import type { UnitLists } from '../classifier/unit-lists.ts';
import type { Unit } from '../classifier/units.ts';
import { hostDevice } from './device-for-tests.ts';
import { HostTables } from './host-tables.ts';
import { DENY, type HostUnitNumbers } from './host-units.ts';

const device = hostDevice(2);
const devices = [device];

let units: Unit[];
let stored: HostUnitNumbers | undefined;
let onFlush: () => void;
let tables: HostTables;

beforeEach(() => {
  units = [];
  stored = undefined;
  onFlush = () => {};
  const acquire = (lists: UnitLists): Unit => {
    const unit: Unit = { number: 0, lists, published: undefined, failure: 'no room', users: 1 };
    units.push(unit);
    return unit;
  };
  tables = new HostTables({
    classifier: { acquire, release: () => {} } as unknown as ConstructorParameters<typeof HostTables>[0]['classifier'],
    flush: async () => onFlush(),
    setHosts: () => {},
    hostSlots: {
      store: (_, __, numbers) => {
        stored = numbers;
        return 1;
      },
      release: () => {},
      ifindexes: [2],
    },
  });
  tables.set('up', testHostEndpoint({ ifaceName: 'eth0' }));
});

/** As a classifier that has room by now. */
function makeUnits(): void {
  for (const [index, unit] of units.entries()) Object.assign(unit, { number: index + 1, failure: undefined });
}

describe('policy of host endpoints in the maps', () => {
  test('is in force on the devices that it was brought to, and on no other list of them', async () => {
    onFlush = makeUnits;
    await tables.prepare();
    expect(await tables.commit(devices, undefined)).toEqual([]);
    expect(tables.isInForceOn(devices)).toBe(true);
    expect(tables.isInForceOn([...devices])).toBe(false);
    tables.set('up', testHostEndpoint({ ifaceName: 'eth0' }));
    expect(tables.isInForceOn(devices)).toBe(false);
  });

  test('is brought there again after a unit got its number while the slots already denied', async () => {
    await tables.prepare();
    onFlush = makeUnits;
    await tables.commit(devices, undefined);
    expect(stored).toContain(DENY);
    expect(tables.failures).toEqual([{ object: 'host endpoint up', reason: 'no room' }]);
    expect(tables.isInForceOn(devices)).toBe(false);
    await tables.commit(devices, undefined);
    expect(tables.failures).toEqual([]);
    expect(stored).not.toContain(DENY);
    expect(tables.isInForceOn(devices)).toBe(true);
  });
});
