import { describe, expect, test } from '@jest/globals';
import type { LocalEndpoint } from '#cni/deps.ts';
import { parseAlias } from '#cni/names.ts';
import type { Link, Netlink, Route } from '#native/types.ts';
import { readLiveState } from './live-state.ts';

const link = (index: number, name: string, alias?: string): Link => ({
  index,
  name,
  group: 0,
  mtu: 1500,
  up: true,
  running: true,
  ...(alias === undefined ? {} : { alias }),
});
const route = (dst: string, linkIndex: number, table = 254): Route => ({
  family: dst.includes(':') ? 6 : 4,
  dst,
  table,
  protocol: 3,
  scope: 'link',
  type: 'unicast',
  linkIndex,
  onlink: false,
  multipath: false,
});
const host = (links: readonly Link[], routes: readonly Route[]) =>
  ({ links: () => Promise.resolve(links), routes: () => Promise.resolve(routes) }) as unknown as Netlink;
const endpoint = (interfaceName: string, containerID = 'a') =>
  ({
    endpoint: { metadata: { name: interfaceName }, spec: { interfaceName, containerID } },
    ifname: 'eth0',
  }) as unknown as LocalEndpoint;
const ownerOf = ({ alias }: Link) => parseAlias(alias);

describe('what a starting agent finds', () => {
  test('endpoints with a device go on, those without one are dead', async () => {
    const [alive, dead] = [endpoint('cali1'), endpoint('cali2')];
    const state = await readLiveState(
      host([link(2, 'cali1', 'tortie:net/a/eth0')], []),
      [alive, dead],
      'cali',
      ownerOf,
    );
    expect(state.alive).toEqual([alive]);
    expect(state.dead).toEqual([dead]);
  });

  test("a device that is another sandbox's by now leaves the earlier one's endpoint dead", async () => {
    const earlier = endpoint('cali1', 'earlier');
    const { alive, dead, orphans } = await readLiveState(
      host([link(2, 'cali1', 'tortie:net/a/eth0')], []),
      [earlier],
      'cali',
      ownerOf,
    );
    expect({ alive, dead, orphans: orphans.map(({ name }) => name) }).toEqual({
      alive: [],
      dead: [earlier],
      orphans: ['cali1'],
    });
  });

  test("a device without our alias may be anybody's: the endpoint that names it goes on", async () => {
    const known = endpoint('cali1');
    expect((await readLiveState(host([link(2, 'cali1')], []), [known], 'cali', ownerOf)).alive).toEqual([known]);
  });

  test('a device of ours without an endpoint is an orphan; one that only is called like ours is not', async () => {
    const links = [link(2, 'cali1', 'tortie:net/a/eth0'), link(3, 'cali2'), link(4, 'eth0')];
    const { orphans } = await readLiveState(host(links, []), [], 'cali', ownerOf);
    expect(orphans.map(({ name }) => name)).toEqual(['cali1']);
  });

  test('a pod device from the time of another prefix counts', async () => {
    const links = [link(2, 'old1', 'tortie:net/a/eth0')];
    const state = await readLiveState(host(links, [route('10.0.0.1/32', 2)]), [endpoint('old1')], 'cali', ownerOf);
    expect([...state.routedAddresses]).toEqual(['10.0.0.1']);
  });

  test('addresses routed to pod devices are in use, except to orphans', async () => {
    const links = [
      link(2, 'cali1', 'tortie:net/a/eth0'),
      link(3, 'cali2'),
      link(4, 'eth0'),
      link(5, 'cali3', 'tortie:net/x/eth0'),
    ];
    const routes = [
      route('10.0.0.1/32', 2),
      route('10.0.0.2/32', 3),
      route('fd00::2/128', 3),
      route('10.0.0.3/32', 4),
      route('10.0.0.4/32', 5),
      route('10.0.1.0/26', 3),
      route('10.0.0.9/32', 3, 100),
    ];
    const { routedAddresses } = await readLiveState(host(links, routes), [endpoint('cali1')], 'cali', ownerOf);
    expect([...routedAddresses].toSorted()).toEqual(['10.0.0.1', '10.0.0.2', 'fd00::2']);
  });
});
