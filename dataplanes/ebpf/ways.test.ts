import { beforeEach, describe, expect, test } from '@jest/globals';
import type { Address } from '#native/types.ts';
import type { DataplaneUpdate } from '../messages.ts';
import type { HopWish } from './hops.ts';
import { Ways, type WayTable } from './ways.ts';

const address = (linkIndex: number, text: string, scope: Address['scope'] = 'global'): Address => ({
  linkIndex,
  family: text.includes(':') ? 6 : 4,
  address: text,
  scope,
  flags: [],
});

/** What was wished, by owner and network. */
class Table implements WayTable {
  readonly wishes = new Map<string, HopWish['kind']>();

  set(owner: string, net: string, wish: HopWish | undefined): void {
    if (wish === undefined) expect(this.wishes.delete(`${owner} > ${net}`)).toBe(true);
    else this.wishes.set(`${owner} > ${net}`, wish.kind);
  }

  masqueraded: readonly string[] = [];
  setMasqueraded(nets: readonly string[]): void {
    this.masqueraded = nets;
  }
}

let ways: Ways;
let table: Table;

beforeEach(() => {
  ways = new Ways('here');
  table = new Table();
  ways.useTable(table);
});

const said = (): Record<string, string> => Object.fromEntries(table.wishes);

describe('ways', () => {
  test.each<[string, DataplaneUpdate, Record<string, string>]>([
    [
      'of a pool',
      { type: 'poolUpdate', id: 'p', pool: { cidr: '10.65.0.0/16', masquerade: true } },
      { 'pool p > 10.65.0.0/16': 'pool' },
    ],
    [
      "of another node's block",
      { type: 'routeUpdate', route: { dst: '10.65.1.0/26', type: 'remoteBlock', nodeName: 'b', nodeIp: '192.0.2.2' } },
      { 'route 10.65.1.0/26 > 10.65.1.0/26': 'pool' },
    ],
    [
      'of our own block, which says nothing',
      { type: 'routeUpdate', route: { dst: '10.65.2.0/26', type: 'localBlock', nodeName: 'here' } },
      {},
    ],
    [
      'of this node',
      { type: 'hostUpdate', node: 'here', host: { ipv4: '192.0.2.1', ipv6: '2001:db8::1' } },
      { 'node > 192.0.2.1/32': 'host', 'node > 2001:db8::1/128': 'host' },
    ],
    [
      'of Services that netfilter has, which is the stack',
      { type: 'serviceRangesUpdate', cidrs: ['10.96.0.0/12'] },
      { 'services > 10.96.0.0/12': 'host' },
    ],
    ['of another node, which is none', { type: 'hostUpdate', node: 'b', host: { ipv4: '192.0.2.2' } }, {}],
  ])('%s', (_, update, expected) => {
    ways.record(update);
    expect(said()).toEqual(expected);
    // A table that comes later is told the same.
    const later = new Table();
    ways.useTable(later);
    expect(Object.fromEntries(later.wishes)).toEqual(expected);
  });

  test('go when what they are of goes, and follow it when it changes', () => {
    ways.record({ type: 'poolUpdate', id: 'p', pool: { cidr: '10.65.0.0/16', masquerade: true } });
    ways.record({ type: 'poolUpdate', id: 'p', pool: { cidr: '10.66.0.0/16', masquerade: true } });
    expect(said()).toEqual({ 'pool p > 10.66.0.0/16': 'pool' });
    ways.record({ type: 'poolRemove', id: 'p' });
    ways.record({ type: 'hostUpdate', node: 'here', host: { ipv4: '192.0.2.1' } });
    ways.record({ type: 'hostRemove', node: 'here' });
    expect(said()).toEqual({});
    expect(ways.node).toEqual({});
  });

  test('know which pools masquerade, and tell a table that comes later', () => {
    ways.record({ type: 'poolUpdate', id: 'p', pool: { cidr: '10.65.0.0/16', masquerade: true } });
    ways.record({ type: 'poolUpdate', id: 'q', pool: { cidr: '10.66.0.0/16', masquerade: false } });
    expect(table.masqueraded).toEqual(['10.65.0.0/16']);
    ways.record({ type: 'poolUpdate', id: 'q', pool: { cidr: '10.66.0.0/16', masquerade: true } });
    const later = new Table();
    ways.useTable(later);
    expect(later.masqueraded).toEqual(['10.65.0.0/16', '10.66.0.0/16']);
    ways.record({ type: 'poolUpdate', id: 'p', pool: { cidr: '10.65.0.0/16', masquerade: false } });
    ways.record({ type: 'poolRemove', id: 'q' });
    expect(later.masqueraded).toEqual([]);
  });

  test('of the addresses that devices have, whatever their names are; not of loopback and links', async () => {
    await ways.read(async () => [
      address(1, '127.0.0.1/8', 'host'),
      address(2, '192.0.2.1/24'),
      address(2, 'fe80::1/64', 'link'),
      address(3, '192.0.2.1/32'),
    ]);
    expect(said()).toEqual({ 'device 2 > 192.0.2.1/32': 'host', 'device 3 > 192.0.2.1/32': 'host' });
    expect(ways.follow({ type: 'addr.new', address: address(2, '2001:db8::1/64') })).toBe(true);
    expect(ways.follow({ type: 'addr.new', address: address(2, '2001:db8::1/64') })).toBe(false);
    expect(ways.follow({ type: 'addr.del', address: address(2, '192.0.2.1/24') })).toBe(true);
    expect(said()).toEqual({ 'device 2 > 2001:db8::1/128': 'host', 'device 3 > 192.0.2.1/32': 'host' });
    await ways.read(async () => [address(2, '192.0.2.1/24')]);
    expect(said()).toEqual({ 'device 2 > 192.0.2.1/32': 'host' });
  });

  test('of an address that comes or goes while all are read: the dump is of before', async () => {
    await ways.read(async () => {
      ways.follow({ type: 'addr.new', address: address(2, '192.0.2.7/24') });
      ways.follow({ type: 'addr.del', address: address(2, '192.0.2.1/24') });
      return [address(2, '192.0.2.1/24'), address(3, '198.51.100.1/24')];
    });
    expect(said()).toEqual({ 'device 2 > 192.0.2.7/32': 'host', 'device 3 > 198.51.100.1/32': 'host' });
  });
});
