import { describe, expect, test } from '@jest/globals';
import { parseAs } from '#api/kinds.ts';
import { addressesIn, reserveAttributes, reserveHandle } from './allocations.ts';
import { newBlock, takeFree, type BlockSpec } from './block.ts';
import { factsFrom, type IpamFacts } from './pools.ts';
import { planReserve, type ReservePlan } from './reserve-plan.ts';

const apiVersion = 'projectcalico.org/v3';

function facts(spec: object = {}, reserved: string[] = []): IpamFacts {
  return factsFrom({
    pools: [
      parseAs('IPPool', {
        apiVersion,
        kind: 'IPPool',
        metadata: { name: 'p' },
        spec: { cidr: '10.65.0.0/16', ...spec },
      }).object,
    ],
    reservations: [
      parseAs('IPReservation', {
        apiVersion,
        kind: 'IPReservation',
        metadata: { name: 'r' },
        spec: { reservedCIDRs: reserved },
      }).object,
    ],
    configuration: undefined,
    node: undefined,
  });
}

/** A block with so many addresses in use and then so many in reserve. */
function block(cidr: string, inUse: number, inReserve: number): BlockSpec {
  const used = takeFree(newBlock(cidr, 'host:n', 0), { handle: 'pods', attributes: {} }, inUse, () => true).spec;
  return takeFree(used, { handle: reserveHandle('n'), attributes: reserveAttributes('n') }, inReserve, () => true).spec;
}

function plan(
  world: IpamFacts,
  blocks: readonly BlockSpec[],
  isHeld = (_: string, ordinal: number) => ordinal < 0,
): ReservePlan {
  const reserve = blocks.flatMap((spec) => addressesIn(spec).filter(({ handle }) => handle === reserveHandle('n')));
  return planReserve(world, blocks, reserve, isHeld, 8);
}

function refill(result: ReservePlan): Record<string, number> {
  return Object.fromEntries([...result.refill].map(([cidr, { count }]) => [cidr, count]));
}

describe('the reserve', () => {
  test.each<[string, BlockSpec[], Record<string, number>, number]>([
    ['is filled to eight from a roomy block', [block('10.65.0.0/26', 1, 0)], { '10.65.0.0/26': 8 }, 0],
    ['is topped up', [block('10.65.0.0/26', 1, 5)], { '10.65.0.0/26': 3 }, 0],
    ['is a quarter of what is free in a small block', [block('10.65.0.0/28', 1, 0)], { '10.65.0.0/28': 3 }, 0],
    ['is nothing in a /30 with a pod', [block('10.65.0.0/30', 1, 0)], {}, 0],
    [
      'spreads over blocks',
      [block('10.65.0.0/29', 5, 0), block('10.65.0.64/28', 0, 0)],
      { '10.65.0.0/29': 3, '10.65.0.64/28': 1 },
      0,
    ],
    ['shrinks as others use the block', [block('10.65.0.0/28', 8, 8)], {}, 6],
    ['is not more than it should be', [block('10.65.0.0/26', 0, 12)], {}, 4],
    ['needs blocks: none is claimed for it', [], {}, 0],
  ])('%s', (_, blocks, wanted, surplus) => {
    const result = plan(facts(), blocks);
    expect(refill(result)).toEqual(wanted);
    expect(result.surplus).toHaveLength(surplus);
  });

  test.each<[string, IpamFacts]>([
    ['a disabled pool', facts({ disabled: true })],
    ['a pool for some namespaces', facts({ namespaceSelector: 'has(x)' })],
    ['a manual pool', facts({ assignmentMode: 'Manual' })],
    ['another pool', facts({ cidr: '10.66.0.0/16' })],
    ['a reserved range', facts({}, ['10.65.0.0/24'])],
  ])('lets go of the addresses of %s', (_, world) => {
    const result = plan(world, [block('10.65.0.0/26', 0, 8)]);
    expect(result.surplus).toHaveLength(8);
    expect(refill(result)).toEqual({});
  });

  test('does not count or take what is held', () => {
    const result = plan(facts(), [block('10.65.0.0/29', 0, 0)], (_, ordinal) => ordinal < 4);
    expect(refill(result)).toEqual({ '10.65.0.0/29': 1 });
    expect([0, 3, 4].map(result.refill.get('10.65.0.0/29')?.allowed ?? (() => false))).toEqual([false, false, true]);
  });
});
