import { describe, expect, test } from '@jest/globals';
import { parseCidr, parseIp, type Family } from '#api/cidr.ts';
import { parseAs } from '#api/kinds.ts';
import {
  factsFrom,
  hasRestrictedPool,
  openPools,
  poolOf,
  selectPools,
  unreserved,
  type IpamFacts,
  type PoolRequest,
} from './pools.ts';

const apiVersion = 'projectcalico.org/v3';

function pool(name: string, cidr: string, spec: object = {}, metadata: object = {}) {
  return parseAs('IPPool', { apiVersion, kind: 'IPPool', metadata: { name, ...metadata }, spec: { cidr, ...spec } })
    .object;
}

function facts(
  pools: ReturnType<typeof pool>[],
  more: { labels?: Record<string, string>; reserved?: string[]; config?: object } = {},
): IpamFacts {
  return factsFrom({
    pools,
    reservations: [
      parseAs('IPReservation', {
        apiVersion,
        kind: 'IPReservation',
        metadata: { name: 'r' },
        spec: { reservedCIDRs: more.reserved ?? [] },
      }).object,
    ],
    configuration:
      more.config &&
      parseAs('IPAMConfiguration', {
        apiVersion,
        kind: 'IPAMConfiguration',
        metadata: { name: 'default' },
        spec: more.config,
      }).object,
    node: parseAs('Node', { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n', labels: more.labels ?? {} } })
      .object,
  });
}

function names(world: IpamFacts, request: Partial<PoolRequest> = {}, family: Family = 4): string[] {
  return selectPools(world, family, { requested: undefined, namespace: undefined, ...request }).map(({ name }) => name);
}

const blue = { name: 'blue', labels: { team: 'blue' } };

const variety = facts(
  [
    pool('z-open', '10.1.0.0/24'),
    pool('a-open', '10.2.0.0/24'),
    pool('disabled', '10.3.0.0/24', { disabled: true }),
    pool('tunnels', '10.4.0.0/24', { allowedUses: ['Tunnel'] }),
    pool('manual', '10.5.0.0/24', { assignmentMode: 'Manual' }),
    pool('zone-a', '10.6.0.0/24', { nodeSelector: 'zone == "a"' }),
    pool('zone-b', '10.7.0.0/24', { nodeSelector: 'zone == "b"' }),
    pool('blue', '10.8.0.0/24', { namespaceSelector: 'team == "blue"' }),
    pool('named', '10.9.0.0/24', { namespaceSelector: 'kubernetes.io/metadata.name == "blue"' }),
    pool('going', '10.10.0.0/24', {}, { deletionTimestamp: '2026-11-21T00:00:00Z' }),
    pool('v6', 'fd00::/64'),
  ],
  { labels: { zone: 'a' } },
);

describe('pools of a request', () => {
  test.each<[string, Partial<PoolRequest>, Family, string[]]>([
    ['without wishes: open ones by name', {}, 4, ['a-open', 'z-open', 'zone-a']],
    ['of a namespace: those for it too', { namespace: blue }, 4, ['a-open', 'blue', 'named', 'z-open', 'zone-a']],
    ['of another namespace', { namespace: { name: 'red', labels: {} } }, 4, ['a-open', 'z-open', 'zone-a']],
    ['of the other family', {}, 6, ['v6']],
    [
      'by name and CIDR, in the order asked for, whatever the selectors',
      { requested: ['zone-b', '10.5.0.0/24', 'blue'] },
      4,
      ['zone-b', 'manual', 'blue'],
    ],
    ['with an empty wish', { requested: [] }, 6, ['v6']],
  ])('%s', (_, request, family, expected) => {
    expect(names(variety, request, family)).toEqual(expected);
  });

  test.each<[string, string, string]>([
    ['disabled', 'pool-disabled', 'it is disabled'],
    ['tunnels', 'pool-disabled', 'allowedUses are Tunnel'],
    ['going', 'pool-disabled', 'being deleted'],
    ['v6', 'no-pool', '"v6"'],
    ['10.1.0.0/25', 'no-pool', '"10.1.0.0/25"'],
  ])('refuses %s', (requested, code, words) => {
    expect(() => names(variety, { requested: ['a-open', requested] })).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(words) }),
    );
  });

  test('says of each pool why it is none', () => {
    const world = facts([
      pool('p', '10.1.0.0/24', { disabled: true }),
      pool('q', '10.2.0.0/24', { nodeSelector: 'has(x)' }),
    ]);
    expect(() => names(world)).toThrow(
      expect.objectContaining({
        code: 'no-pool',
        message: expect.stringMatching(/p: it is disabled; q: nodeSelector has\(x\)/),
      }),
    );
    expect(() => names(facts([]))).toThrow(
      expect.objectContaining({ code: 'no-pool', message: expect.stringContaining('there is no IPPool') }),
    );
  });
});

test('a reserve is held only from pools that every workload of the node may use', () => {
  expect(openPools(variety).map(({ name }) => name)).toEqual(['a-open', 'v6', 'z-open', 'zone-a']);
  expect(hasRestrictedPool(variety, 4, blue)).toBe(true);
  expect(hasRestrictedPool(variety, 4, undefined)).toBe(false);
  expect(hasRestrictedPool(variety, 6, blue)).toBe(false);
});

test('reservations cover ranges and single addresses of both families', () => {
  const world = facts([], { reserved: ['10.1.0.2', '10.1.0.4/30', 'fd00::/127'] });
  const allowed = (block: string) =>
    Array.from({ length: 8 }, (_, ordinal) => ordinal).filter(unreserved(world, parseCidr(block)));
  expect(allowed('10.1.0.0/29')).toEqual([0, 1, 3]);
  expect(allowed('fd00::/125')).toEqual([2, 3, 4, 5, 6, 7]);
  expect(allowed('10.1.0.4/30')).toEqual([]);
  expect(allowed('10.2.0.0/29')).toHaveLength(8);
});

test('a pool is found by address and by block', () => {
  expect(poolOf(variety, parseIp('10.3.0.7'))?.name).toBe('disabled');
  expect(poolOf(variety, parseCidr('10.4.0.64/26'))?.name).toBe('tunnels');
  expect(poolOf(variety, parseIp('192.168.0.1'))).toBeUndefined();
});

test.each([
  [undefined, { strictAffinity: false, autoAllocateBlocks: true, maxBlocks: 20, cooldownSeconds: 0 }],
  [{ maxBlocksPerHost: 0 }, { strictAffinity: false, autoAllocateBlocks: true, maxBlocks: 20, cooldownSeconds: 0 }],
  [
    { strictAffinity: true, maxBlocksPerHost: 3, autoAllocateBlocks: false, ipCooldownSeconds: 30 },
    { strictAffinity: true, autoAllocateBlocks: false, maxBlocks: 3, cooldownSeconds: 30 },
  ],
])('settings %j', (config, expected) => {
  expect(facts([], config === undefined ? {} : { config }).settings).toEqual(expected);
});

test('block sizes default by family', () => {
  const world = facts([pool('a', '10.1.0.0/16'), pool('b', 'fd00::/64'), pool('c', '10.2.0.0/16', { blockSize: 24 })]);
  expect(world.pools.map(({ blockPrefix }) => blockPrefix)).toEqual([26, 122, 24]);
});
