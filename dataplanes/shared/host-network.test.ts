import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { FakeClock } from '#api/fake-clock.ts';
import type { DataplaneUpdate } from '../messages.ts';
import { FakeSets } from '../netfilter/fake-sets.ts';
import { FakeXtables } from '../netfilter/fake-xtables.ts';
import { VariantChoice } from '../netfilter/variant-choice.ts';
import { silentLogger } from '../silent-logger.ts';
import { FakeNetlink } from './fake-netlink.ts';
import { FakeSysctlMemory, FakeSysctls } from './fake-sysctls.ts';
import { HostNetwork } from './host-network.ts';
import { TEST_CONFIG, testEndpoint } from './test-config.ts';

let host: FakeNetlink;
let sysctls: FakeSysctls;
let sysctlMemory: FakeSysctlMemory;
let sets: FakeSets;
let commands: FakeXtables;
let clock: FakeClock;
let disturbed: number;
const started: HostNetwork[] = [];

const make = (): HostNetwork => {
  const network = new HostNetwork({
    host,
    openMonitor: () => host.monitor(),
    sysctls,
    sysctlMemory,
    sets,
    commands,
    variants: new VariantChoice(commands, silentLogger),
    clock,
    log: silentLogger,
  });
  network.onDisturbed(() => (disturbed += 1));
  started.push(network);
  return network;
};
const tell = (network: HostNetwork, ...updates: DataplaneUpdate[]): void => {
  for (const update of updates) network.onUpdate(update);
};
const config = (more: Partial<typeof TEST_CONFIG> = {}): DataplaneUpdate => ({
  type: 'configUpdate',
  config: { ...TEST_CONFIG, ...more },
});
const pod = (n: number): DataplaneUpdate => ({
  type: 'workloadEndpointUpdate',
  id: `k8s/ns/pod-${n}/eth0`,
  endpoint: testEndpoint(n),
});
const podGone = (n: number): DataplaneUpdate => ({ type: 'workloadEndpointRemove', id: `k8s/ns/pod-${n}/eth0` });
const missing = (n: number) => ({
  object: `endpoint k8s/ns/pod-${n}/eth0`,
  endpoint: `k8s/ns/pod-${n}/eth0`,
  reason: `device cali${n} of endpoint k8s/ns/pod-${n}/eth0 does not exist`,
});
const inSync: DataplaneUpdate = { type: 'inSync' };
const events = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const podState = (n: number): string[] => [
  `neigh 10.65.0.${n} dev cali${n} 02:00:00:00:00:0${n} permanent`,
  `neigh fd00:65::${n} dev cali${n} 02:00:00:00:00:0${n} permanent`,
  `unicast 10.65.0.${n}/32 dev cali${n} proto 3 metric 1024`,
  `unicast fd00:65::${n}/128 dev cali${n} proto 3 metric 1024`,
];

beforeEach(() => {
  host = new FakeNetlink();
  sysctls = new FakeSysctls();
  sysctlMemory = new FakeSysctlMemory();
  sets = new FakeSets();
  commands = new FakeXtables();
  clock = new FakeClock({ sleepsPass: true });
  disturbed = 0;
});
afterEach(async () => {
  for (const network of started.splice(0)) await network[Symbol.asyncDispose]();
});

/** A network with pods 1 and 2, in sync. */
async function running(): Promise<HostNetwork> {
  for (const n of [1, 2]) host.addLink(`cali${n}`);
  const network = make();
  tell(network, config(), pod(1), pod(2), inSync);
  expect(await network.apply()).toEqual({
    programmed: ['k8s/ns/pod-1/eth0', 'k8s/ns/pod-2/eth0'],
    removed: [],
    failed: [],
    repaired: [],
  });
  await events();
  expect(disturbed).toBe(0);
  return network;
}

describe('pod routes and neighbours', () => {
  test('are made whatever odd routes others have', async () => {
    host.addLink('eth0');
    host.runSync([{ op: 'route.add', dst: '::ffff:0.0.0.0/96', link: 'eth0', protocol: 4 }]);
    await running();
    host.runSync([{ op: 'route.del', dst: '::ffff:0.0.0.0/96', link: 'eth0' }]);
    await events();
    expect(host.dump()).toEqual([...podState(1), ...podState(2)].sort());
  });

  test('are made for each announced pod, in both families', async () => {
    await running();
    expect(host.dump()).toEqual([...podState(1), ...podState(2)].sort());
  });

  test('that are there and right cost nothing to adopt', async () => {
    await running();
    const successor = make();
    tell(successor, config(), pod(1), pod(2), inSync);
    const { batches } = host.counts;
    await successor.apply();
    expect(host.counts.batches).toBe(batches);
    expect(commands.restores).toBe(2);
  });

  test('a new pod whose routes the plugin has made costs one batch (its neighbours), no dump and no process', async () => {
    const network = await running();
    host.addLink('cali3');
    const routes = [
      { op: 'route.add', dst: '10.65.0.3/32', scope: 'link' },
      { op: 'route.add', dst: 'fd00:65::3/128' },
    ] as const;
    host.runSync(routes.map((route) => ({ ...route, link: 'cali3', protocol: 3, metric: 1024 })));
    await events();
    const before = { ...host.counts, runs: commands.runs.length, sets: sets.calls.length };
    tell(network, pod(3));
    expect(await network.apply()).toMatchObject({ programmed: ['k8s/ns/pod-3/eth0'], failed: [], repaired: [] });
    expect({ ...host.counts, runs: commands.runs.length, sets: sets.calls.length }).toEqual({
      ...before,
      batches: before.batches + 1,
      ops: before.ops + 2,
    });
    expect(host.dump()).toEqual([...podState(1), ...podState(2), ...podState(3)].sort());
  });

  test("a route whose event hasn't come yet is found and adopted", async () => {
    const network = await running();
    host.addLink('cali3');
    host.runSync([{ op: 'route.add', dst: '10.65.0.3/32', scope: 'link', link: 'cali3', protocol: 3, metric: 1024 }]);
    tell(network, pod(3)); // No await in between: the events are still queued.
    expect(await network.apply()).toMatchObject({ programmed: ['k8s/ns/pod-3/eth0'], failed: [], repaired: [] });
    expect(host.dump()).toEqual([...podState(1), ...podState(2), ...podState(3)].sort());
  });

  test("a device that isn't there fails that endpoint alone, and heals when it comes", async () => {
    const network = await running();
    tell(network, pod(3));
    const report = await network.apply();
    expect(report.failed).toEqual([missing(3)]);
    expect(report.programmed).toEqual([]);
    expect([...sysctls.values.keys()].filter((path) => path.includes('cali3'))).toEqual([]);
    host.addLink('cali3');
    await events();
    expect(disturbed).toBeGreaterThan(0);
    expect((await network.apply()).programmed).toEqual(['k8s/ns/pod-3/eth0']);
  });

  test.each(['before', 'after'])(
    'on a device that disappears are one failure, seen %s its event, and come back with the device',
    async (when) => {
      const network = await running();
      const good = host.dump();
      host.delLink('cali1');
      sysctls.values.clear();
      if (when === 'after') await events();
      tell(network, config()); // Everything is looked at again.
      expect((await network.apply()).failed).toEqual([missing(1)]);
      expect([...sysctls.values.keys()].filter((path) => path.includes('cali1'))).toEqual([]);
      await events();
      disturbed = 0;
      host.addLink('cali1');
      await events();
      expect(disturbed).toBeGreaterThan(0);
      expect(await network.apply()).toMatchObject({ failed: [], repaired: [] });
      expect(host.dump()).toEqual(good);
    },
  );

  test('of a device that disappears while they are written are one failure, and none once the endpoint is removed', async () => {
    const network = await running();
    host.addLink('cali3');
    host.beforeBatch = () => host.delLink('cali3');
    tell(network, pod(3));
    expect(await network.apply()).toEqual({ programmed: [], removed: [], failed: [missing(3)], repaired: [] });
    tell(network, podGone(3));
    expect(await network.apply()).toMatchObject({ removed: ['k8s/ns/pod-3/eth0'], failed: [] });
    host.addLink('cali3');
    host.beforeBatch = () => {
      host.delLink('cali3');
      tell(network, podGone(3));
    };
    tell(network, pod(3));
    expect(await network.apply()).toMatchObject({ programmed: [], failed: [] });
    expect((await network.apply()).removed).toEqual(['k8s/ns/pod-3/eth0']);
  });

  test('of a device that was exchanged before its events came are made anew', async () => {
    const network = await running();
    const good = host.dump();
    host.delLink('cali1');
    host.addLink('cali1');
    tell(network, config());
    expect((await network.apply()).failed).toEqual([]);
    await events();
    await network.apply();
    expect(host.dump()).toEqual(good);
  });

  test('of an endpoint that comes or goes during a cycle are the next one’s', async () => {
    const network = await running();
    host.addLink('cali3');
    host.addLink('cali4');
    host.beforeBatch = () => tell(network, pod(4), podGone(3));
    tell(network, pod(3));
    expect(await network.apply()).toEqual({ programmed: [], removed: [], failed: [], repaired: [] });
    expect(await network.apply()).toEqual({
      programmed: ['k8s/ns/pod-4/eth0'],
      removed: ['k8s/ns/pod-3/eth0'],
      failed: [],
      repaired: [],
    });
    expect(host.dump()).toEqual([...podState(1), ...podState(2), ...podState(4)].sort());
  });

  test('go with their endpoint, also while the device stays', async () => {
    const network = await running();
    tell(network, podGone(1));
    expect((await network.apply()).removed).toEqual(['k8s/ns/pod-1/eth0']);
    expect(host.dump()).toEqual(podState(2));
  });

  test('move to the pod announced last when two claim an address', async () => {
    const network = await running();
    host.addLink('cali3');
    tell(network, {
      type: 'workloadEndpointUpdate',
      id: 'new',
      endpoint: testEndpoint(3, { ipv4Nets: ['10.65.0.1/32'], ipv6Nets: [] }),
    });
    await network.apply();
    expect(host.dump()).toContain('unicast 10.65.0.1/32 dev cali3 proto 3 metric 1024');
    tell(network, { type: 'workloadEndpointRemove', id: 'new' });
    await network.apply();
    expect(host.dump()).toEqual([...podState(1), ...podState(2)].sort());
  });

  test('nothing is removed before inSync, and only ours after it', async () => {
    for (const name of ['cali1', 'cali9', 'eth0']) host.addLink(name);
    const foreign = [
      { op: 'route.add', dst: '192.0.2.0/24', link: 'eth0', protocol: 3 },
      { op: 'route.add', dst: 'fe80::/64', link: 'cali1', protocol: 2 },
    ] as const;
    const stale = [
      { op: 'route.add', dst: '10.65.0.9/32', link: 'cali9', protocol: 3, metric: 1024 },
      { op: 'route.add', dst: '10.66.0.0/26', via: '192.0.2.9', link: 'eth0', protocol: 80 },
      { op: 'route.add', dst: '198.51.100.0/24', link: 'cali1', protocol: 4 },
      { op: 'neigh.replace', link: 'cali9', address: '10.65.0.9', mac: '02:00:00:00:00:09' },
    ] as const;
    host.runSync([...foreign, ...stale]);
    const before = host.dump();
    const network = make();
    tell(network, config(), pod(1));
    await network.apply();
    expect(host.dump()).toEqual([...before, ...podState(1)].sort());
    tell(network, inSync);
    await network.apply();
    expect(host.dump()).toEqual(
      [
        ...podState(1),
        'unicast 192.0.2.0/24 dev eth0 proto 3 metric 0',
        'unicast fe80::/64 dev cali1 proto 2 metric 1024',
      ].sort(),
    );
  });

  test("another's route to a pod's address is left alone and named", async () => {
    host.addLink('cali1');
    host.addLink('eth0');
    host.runSync([{ op: 'route.add', dst: '10.65.0.1/32', link: 'eth0', protocol: 4, metric: 1024 }]);
    const network = make();
    tell(network, config({ ipv6Support: false }), pod(1), inSync);
    const { failed } = await network.apply();
    expect(failed[0]?.reason).toContain('not ours: 10.65.0.1/32 dev eth0 proto 4 metric 1024');
    expect(host.dump()).toContain('unicast 10.65.0.1/32 dev eth0 proto 4 metric 1024');
  });
});

describe('what others change', () => {
  test.each([
    [
      'a deleted route',
      () => host.runSync([{ op: 'route.del', dst: '10.65.0.1/32', metric: 1024 }]),
      'route 10.65.0.1/32 had been changed',
    ],
    [
      'a replaced route',
      () => host.runSync([{ op: 'route.replace', dst: '10.65.0.1/32', link: 'cali2', protocol: 4, metric: 1024 }]),
      'route 10.65.0.1/32 had been changed',
    ],
    [
      'a replaced IPv6 route',
      () => host.runSync([{ op: 'route.replace', dst: 'fd00:65::1/128', link: 'cali2', protocol: 3, metric: 1024 }]),
      'route fd00:65::1/128 had been changed',
    ],
    [
      'a deleted neighbour',
      () => host.runSync([{ op: 'neigh.del', link: 'cali1', address: '10.65.0.1' }]),
      'neighbour 10.65.0.1 had been changed',
    ],
    [
      'a neighbour with another MAC',
      () => host.runSync([{ op: 'neigh.replace', link: 'cali1', address: '10.65.0.1', mac: '02:00:00:00:00:66' }]),
      'neighbour 10.65.0.1 had been changed',
    ],
  ])('%s is noticed by its event and repaired at once, again and again', async (_name, change, words) => {
    const network = await running();
    change();
    await events();
    expect(disturbed).toBeGreaterThan(0);
    // The same once more as soon as it is repaired, and that is heard of before the answer is.
    host.duringBatch = async () => {
      await events();
      change();
      disturbed = 0;
      await events();
    };
    expect((await network.apply()).repaired).toContain(words);
    expect(disturbed).toBeGreaterThan(0);
    expect((await network.apply()).repaired).toContain(words);
    expect(host.dump()).toEqual([...podState(1), ...podState(2)].sort());
    await events();
    expect((await network.apply()).repaired).toEqual([]);
  });

  test('a replaced IPv6 route, of which only the new one is told, is noticed and repaired, and nothing is repaired that was right', async () => {
    const network = await running();
    tell(network, { type: 'routeUpdate', route: { dst: 'fd00:65::/122', type: 'localBlock', nodeName: 'a' } });
    expect((await network.apply()).repaired).toEqual([]);
    await events();
    expect([disturbed, (await network.apply()).repaired]).toEqual([0, []]);
    const good = host.dump();
    host.runSync([{ op: 'route.replace', dst: 'fd00:65::1/128', link: 'cali2', protocol: 3, metric: 1024 }]);
    await events();
    expect(disturbed).toBeGreaterThan(0);
    expect((await network.apply()).repaired).toEqual(['route fd00:65::1/128 had been changed']);
    await events();
    expect((await network.apply()).repaired).toEqual([]);
    expect(host.dump()).toEqual(good);
  });

  test("an IPv6 route to a pod that another's replaced is a failure that names it", async () => {
    const network = await running();
    host.addLink('eth0');
    host.runSync([{ op: 'route.replace', dst: 'fd00:65::1/128', link: 'eth0', protocol: 4, metric: 1024 }]);
    await events();
    expect(disturbed).toBeGreaterThan(0);
    expect((await network.apply()).failed.map(({ object, reason }) => `${object}: ${reason}`)).toEqual([
      expect.stringContaining('route fd00:65::1/128: there is a route that is not ours: fd00:65::1/128 dev eth0'),
    ]);
  });

  test('a device that went down and up gets routes, neighbours and sysctls again', async () => {
    const network = await running();
    host.setUp('cali1', false);
    sysctls.values.set('net/ipv4/conf/cali1/proxy_arp', '0');
    await events();
    expect((await network.apply()).failed.map(({ reason }) => reason)).toEqual([
      'device cali1 of endpoint k8s/ns/pod-1/eth0 is down',
    ]);
    sysctls.values.set('net/ipv4/conf/cali1/proxy_arp', '0');
    disturbed = 0;
    host.setUp('cali1', true);
    await events();
    expect(disturbed).toBeGreaterThan(0);
    const report = await network.apply();
    expect(report.failed).toEqual([]);
    expect(report.repaired).toContain('sysctl net.ipv4.conf.cali1.proxy_arp had been changed');
    expect(host.dump()).toEqual([...podState(1), ...podState(2)].sort());
  });

  test('a full comparison comes each refresh interval, on request and when events were lost', async () => {
    const network = await running();
    const dumps = host.counts.dumps;
    await network.apply();
    expect(host.counts.dumps).toBe(dumps);
    clock.advance(90_000);
    expect(disturbed).toBeGreaterThan(0);
    sysctls.values.set('net/ipv4/ip_forward', '0');
    expect((await network.apply()).repaired).toContain('sysctl net.ipv4.ip_forward had been changed');
    expect(host.counts.dumps).toBeGreaterThan(dumps);
    const again = host.counts.dumps;
    host.overrun();
    await events();
    await network.apply();
    expect(host.counts.dumps).toBeGreaterThan(again);
  });
});

test('a monitor that breaks is opened again after a second, and what happened in between is found', async () => {
  const network = await running();
  const good = host.dump();
  host.breakMonitors('ENOBUFS');
  await events();
  host.runSync([{ op: 'route.del', dst: '10.65.0.1/32', metric: 1024 }]);
  await events();
  expect(disturbed).toBe(0);
  clock.advance(1_000);
  expect(disturbed).toBe(1);
  expect((await network.apply()).repaired).toEqual(['route 10.65.0.1/32 had been changed']);
  expect(host.dump()).toEqual(good);
  host.runSync([{ op: 'route.del', dst: '10.65.0.1/32', metric: 1024 }]);
  await events();
  expect(disturbed).toBeGreaterThan(1);
});

test('a monitor that breaks during a full comparison is opened again as soon', async () => {
  const network = make();
  host.addLink('cali1');
  tell(network, config({ routeRefreshIntervalMs: 0 }), pod(1), inSync);
  await network.apply();
  await events();
  network.requestResync();
  host.duringDump = () => {
    host.breakMonitors('ENOBUFS');
    return events();
  };
  await network.apply();
  host.runSync([{ op: 'route.del', dst: '10.65.0.1/32', metric: 1024 }]);
  disturbed = 0;
  clock.advance(1_000);
  expect(disturbed).toBe(1);
  await network.apply();
  expect(host.dump()).toEqual(podState(1).toSorted());
});

test.each([
  ['everything', async (network: HostNetwork) => network.requestResync()],
  [
    'what the kernel has to some destinations',
    async () => {
      for (const link of ['cali2', 'cali1'])
        host.runSync([{ op: 'route.replace', dst: 'fd00:65::1/128', link, metric: 1024, protocol: 3 }]);
      await events();
    },
  ],
])('what happens while %s is read is not forgotten for an answer that is older', async (_what, before) => {
  const network = await running();
  const good = host.dump();
  await before(network);
  host.duringDump = async () => {
    host.runSync([
      { op: 'route.del', dst: 'fd00:65::1/128', metric: 1024 },
      { op: 'route.del', dst: '10.65.0.1/32', metric: 1024 },
    ]);
    await events();
  };
  await network.apply();
  await events();
  await network.apply();
  expect(host.dump()).toEqual(good);
});

test('while nothing can be read, an endpoint that is said then is none that is programmed', async () => {
  const network = await running();
  host.addLink('cali3');
  network.requestResync();
  host.duringDump = () => Promise.reject(new Error('no memory'));
  tell(network, pod(3));
  const { programmed, failed } = await network.apply();
  expect(programmed).toEqual([]);
  expect(failed).toEqual([
    { object: 'host network', reason: 'no memory' },
    { object: 'endpoint k8s/ns/pod-3/eth0', endpoint: 'k8s/ns/pod-3/eth0', reason: 'host network: no memory' },
  ]);
  expect((await network.apply()).programmed).toEqual(['k8s/ns/pod-3/eth0']);
});

describe('routes to blocks', () => {
  const remote = (dst: string, nodeIp: string): DataplaneUpdate => ({
    type: 'routeUpdate',
    route: { dst, type: 'remoteBlock', nodeName: 'b', nodeIp },
  });

  test("go over the other node's address on the device that reaches it; own blocks are blackholes", async () => {
    host.addLink('eth0');
    host.runSync([
      { op: 'route.add', dst: '192.0.2.0/24', link: 'eth0', protocol: 2, scope: 'link' },
      { op: 'route.add', dst: '0.0.0.0/0', via: '192.0.2.1', link: 'eth0' },
      { op: 'route.add', dst: '2001:db8::/64', link: 'eth0', protocol: 2 },
    ]);
    const network = make();
    tell(
      network,
      config(),
      remote('10.65.1.0/26', '192.0.2.9'),
      remote('fd00:65:1::/122', '2001:db8::9'),
      { type: 'routeUpdate', route: { dst: '10.65.2.7/32', type: 'borrowed', nodeName: 'b', nodeIp: '192.0.2.9' } },
      { type: 'routeUpdate', route: { dst: '10.65.0.0/26', type: 'localBlock', nodeName: 'a' } },
      inSync,
    );
    expect((await network.apply()).failed).toEqual([]);
    expect(host.dump().filter((line) => line.includes('proto 80'))).toEqual([
      'blackhole 10.65.0.0/26 proto 80 metric 1024',
      'unicast 10.65.1.0/26 via 192.0.2.9 dev eth0 proto 80 metric 1024',
      'unicast 10.65.2.7/32 via 192.0.2.9 dev eth0 proto 80 metric 1024',
      'unicast fd00:65:1::/122 via 2001:db8::9 dev eth0 proto 80 metric 1024',
    ]);
    tell(network, { type: 'routeRemove', dst: '10.65.2.7/32' });
    await network.apply();
    expect(host.dump().some((line) => line.includes('10.65.2.7'))).toBe(false);
  });

  test.each([
    { what: 'the subnet', block: '10.65.1.0/26', nodeIp: '198.51.100.9', subnet: '198.51.100.0/24' },
    { what: 'a route to just the address', block: '10.65.1.0/26', nodeIp: '198.51.100.9', subnet: '198.51.100.9/32' },
    { what: 'the IPv6 subnet', block: 'fd00:65:1::/122', nodeIp: '2001:db8:1::9', subnet: '2001:db8:1::/64' },
    {
      what: 'a route to just the IPv6 address',
      block: 'fd00:65:1::/122',
      nodeIp: '2001:db8::9',
      subnet: '2001:db8::9/128',
    },
  ])('to a node behind a router fail with the reason, and come when $what does', async ({ block, nodeIp, subnet }) => {
    host.addLink('eth0');
    const [router, everything] = nodeIp.includes(':') ? ['fe80::1', '::/0'] : ['192.0.2.1', '0.0.0.0/0'];
    host.runSync([{ op: 'route.add', dst: everything, via: router, link: 'eth0' }]);
    const network = make();
    tell(network, config(), remote(block, nodeIp), inSync);
    const { failed } = await network.apply();
    expect(failed.map(({ object }) => object)).toEqual([`route ${block}`]);
    expect(failed[0]?.reason).toMatch(
      new RegExp(
        `^node b \\(${nodeIp}\\) is not in a shared subnet \\(it is reached by ${everything} via ${router} dev eth0 proto 4 metric \\d+\\); VXLAN is not there yet$`,
      ),
    );
    await events();
    disturbed = 0;
    host.runSync([{ op: 'route.add', dst: subnet, link: 'eth0', protocol: 2, scope: 'link' }]);
    await events();
    expect(disturbed).toBeGreaterThan(0);
    expect((await network.apply()).failed).toEqual([]);
    expect(host.dump().some((line) => line.startsWith(`unicast ${block} via ${nodeIp} dev eth0 proto 80`))).toBe(true);
  });
});

describe('natOutgoing', () => {
  const pool = (id: string, cidr: string, masquerade: boolean): DataplaneUpdate => ({
    type: 'poolUpdate',
    id,
    pool: { cidr, masquerade },
  });

  test('is one rule per family and sets; a further pool forks nothing', async () => {
    const network = make();
    tell(
      network,
      config(),
      pool('a', '10.65.0.0/16', true),
      pool('b', '10.66.0.0/16', false),
      pool('six', 'fd00::/48', true),
      inSync,
    );
    expect((await network.apply()).failed).toEqual([]);
    expect(
      commands
        .dump('iptables-nft', 'nat')
        .split('\n')
        .filter((line) => line.startsWith('-A')),
    ).toEqual([
      '-A POSTROUTING # -j cali-POSTROUTING',
      '-A cali-nat-outgoing # -m set --match-set cali40masq-ipam-pools src -m set ! --match-set cali40all-ipam-pools dst -j MASQUERADE --random-fully',
      '-A cali-POSTROUTING # -j cali-nat-outgoing',
    ]);
    expect([...(sets.sets.get('cali40masq-ipam-pools')?.members ?? [])]).toEqual(['10.65.0.0/16']);
    expect([...(sets.sets.get('cali40all-ipam-pools')?.members ?? [])]).toEqual(['10.65.0.0/16', '10.66.0.0/16']);
    expect([...(sets.sets.get('cali60masq-ipam-pools')?.members ?? [])]).toEqual(['fd00::/48']);
    const runs = commands.runs.length;
    tell(network, pool('c', '10.67.0.0/16', true), { type: 'poolRemove', id: 'b' });
    await network.apply();
    expect([...(sets.sets.get('cali40all-ipam-pools')?.members ?? [])]).toEqual(['10.65.0.0/16', '10.67.0.0/16']);
    expect(commands.runs).toHaveLength(runs);
  });

  test('is not switched on before all pools are known', async () => {
    const network = make();
    tell(network, config(), pool('a', '10.65.0.0/16', true));
    await network.apply();
    expect(commands.dump('iptables-nft', 'nat')).not.toContain('-A POSTROUTING');
    tell(network, inSync);
    await network.apply();
    expect(commands.dump('iptables-nft', 'nat')).toContain('-A POSTROUTING');
  });

  test('obeys address, port range and exclusion of nodes', async () => {
    const network = make();
    tell(
      network,
      config({
        natOutgoingAddress: '192.0.2.5',
        natPortRange: { min: 32768, max: 65535 },
        natOutgoingExclusions: 'IPPoolsAndHostIPs',
      }),
      inSync,
    );
    tell(network, { type: 'hostUpdate', node: 'b', host: { ipv4: '192.0.2.9', ipv6: '2001:db8::9' } });
    await network.apply();
    const match =
      '-m set --match-set cali40masq-ipam-pools src -m set ! --match-set cali40all-ipam-pools dst -m set ! --match-set cali40all-hosts-net dst';
    expect(
      commands
        .dump('iptables-nft', 'nat')
        .split('\n')
        .filter((line) => line.startsWith('-A cali-nat-outgoing')),
    ).toEqual([
      `-A cali-nat-outgoing # -p tcp ${match} -j SNAT --to-source 192.0.2.5:32768-65535 --random-fully`,
      `-A cali-nat-outgoing # -p udp ${match} -j SNAT --to-source 192.0.2.5:32768-65535 --random-fully`,
      `-A cali-nat-outgoing # ${match} -j SNAT --to-source 192.0.2.5 --random-fully`,
    ]);
    expect(commands.dump('ip6tables-nft', 'nat')).toContain('-j MASQUERADE --to-ports 32768-65535 --random-fully');
    expect([...(sets.sets.get('cali60all-hosts-net')?.members ?? [])]).toEqual(['2001:db8::9']);
  });
});

test('rules of natOutgoing of a family that was switched off are removed by a later cycle when they can not be now', async () => {
  const network = await running();
  const pool: DataplaneUpdate = {
    type: 'poolUpdate',
    id: 'p',
    pool: { cidr: 'fd00:65::/64', masquerade: true },
  };
  tell(network, pool);
  await network.apply();
  expect(commands.dump('ip6tables-nft', 'nat')).toContain('cali-nat-outgoing');
  const run = commands.run.bind(commands);
  commands.run = (file, args, options) =>
    file === 'ip6tables-nft-save'
      ? Promise.resolve({ status: 4, signal: null, stdout: '', stderr: 'the lock is held' })
      : run(file, args, options);
  tell(network, config({ ipv6Support: false }));
  expect((await network.apply()).failed).toEqual([
    { object: 'nat rules of ours of IPv6, which is off', reason: expect.stringContaining('the lock is held') },
  ]);
  commands.run = run;
  expect((await network.apply()).failed).toEqual([]);
  expect(commands.dump('ip6tables-nft', 'nat')).not.toContain('cali-nat-outgoing');
  expect([...sets.sets.keys()].filter((name) => name.startsWith('cali6'))).toEqual([]);
});

test('a node whose default route came by an advertisement keeps hearing them', async () => {
  host.addLink('eth0');
  host.addLink('eth1');
  host.runSync([{ op: 'route.add', dst: '::/0', via: 'fe80::1', link: 'eth0', protocol: 9 }]);
  sysctls.values.set('net/ipv6/conf/eth0/accept_ra', '1');
  sysctls.values.set('net/ipv6/conf/eth1/accept_ra', '1');
  const network = make();
  tell(network, config());
  await network.apply();
  expect(['eth0', 'eth1'].map((name) => sysctls.read(`net/ipv6/conf/${name}/accept_ra`))).toEqual(['2', '1']);
});

test('a kernel without IPv6 is never asked for it', async () => {
  sysctls.absent.push('net/ipv6/');
  host.addLink('cali1');
  const network = make();
  tell(
    network,
    config(),
    { type: 'workloadEndpointUpdate', id: 'x', endpoint: testEndpoint(1, { ipv6Nets: [] }) },
    inSync,
  );
  expect(await network.apply()).toMatchObject({ failed: [], programmed: ['x'] });
  expect(commands.runs.filter((run) => run.startsWith('ip6'))).toEqual([]);
  expect([...sets.sets.keys()].filter((name) => name.startsWith('cali6'))).toEqual([]);
});

test('cleanup leaves nothing, and what was not ours', async () => {
  host.addLink('eth0');
  host.runSync([{ op: 'route.add', dst: '192.0.2.0/24', link: 'eth0', protocol: 2, scope: 'link' }]);
  const before = host.dump();
  const network = await running();
  tell(network, { type: 'routeUpdate', route: { dst: '10.65.0.0/26', type: 'localBlock', nodeName: 'a' } });
  await network.apply();
  await network.cleanup();
  expect(host.dump()).toEqual(before);
  expect([...sets.sets.keys()]).toEqual([]);
  expect(commands.dump('iptables-nft', 'nat')).not.toContain('cali');
});

test.each([
  ['nothing was said', []],
  ['only the configuration', [config()]],
  ['a configuration that has no IPv6', [config({ ipv6Support: false })]],
])('cleanup by a fresh instance to which %s leaves nothing of its predecessors', async (_name, updates) => {
  host.addLink('eth0');
  host.runSync([
    { op: 'route.add', dst: '192.0.2.0/24', link: 'eth0', protocol: 2, scope: 'link' },
    { op: 'neigh.replace', link: 'eth0', address: '192.0.2.9', mac: '02:00:00:00:00:99' },
  ]);
  const before = host.dump();
  const network = await running();
  for (const dst of ['10.65.0.0/26', 'fd00:65::/122'])
    tell(network, { type: 'routeUpdate', route: { dst, type: 'localBlock', nodeName: 'a' } });
  await network.apply();
  await network[Symbol.asyncDispose]();
  const successor = make();
  tell(successor, ...updates);
  await successor.cleanup();
  expect(host.dump()).toEqual(before);
  expect([...sets.sets.keys()]).toEqual([]);
  expect(commands.dump('iptables-nft', 'nat')).not.toContain('cali');
});

test('cleanup does all that it can, and names what it could not', async () => {
  const network = await running();
  sets.referenced.add('cali40masq-ipam-pools');
  sysctls.values.set('net/ipv4/ip_forward', '1');
  await expect(network.cleanup()).rejects.toThrow(/host network: .*cali40masq-ipam-pools/);
  expect(host.dump()).toEqual([]);
  expect(sysctls.read('net/ipv4/ip_forward')).toBe('0');
});

describe("the node's sysctls", () => {
  const forwarding = ['net/ipv4/ip_forward', 'net/ipv6/conf/all/forwarding'] as const;
  const values = (): (string | undefined)[] => forwarding.map((path) => sysctls.read(path));

  test('are put back by a cleanup to what they were before the first agent, whoever changed them since', async () => {
    sysctls.values.set('net/ipv6/conf/all/forwarding', '1'); // Somebody needs it: not ours to switch off.
    for (let start = 0; start < 2; start += 1) {
      const network = make();
      tell(network, config(), inSync);
      await network.apply();
      expect(values()).toEqual(['1', '1']);
      sysctls.values.set('net/ipv4/ip_forward', '0');
      network.requestResync();
      await network.apply();
      expect(values()).toEqual(['1', '1']);
      await network[Symbol.asyncDispose]();
    }
    expect([...sysctlMemory.all()]).toEqual([['net/ipv4/ip_forward', '0']]);
    await make().cleanup();
    expect(values()).toEqual(['0', '1']);
    expect(sysctlMemory.all().size).toBe(0);
    await make().cleanup();
    expect(values()).toEqual(['0', '1']);
  });

  test('that have another value than ours by now are left alone, and so are those of a device that is gone', async () => {
    host.addLink('eth0');
    host.addLink('eth1');
    for (const link of ['eth0', 'eth1']) {
      host.runSync([
        { op: 'route.add', dst: '::/0', via: 'fe80::1', link, protocol: 9, metric: link === 'eth0' ? 1 : 2 },
      ]);
      sysctls.values.set(`net/ipv6/conf/${link}/accept_ra`, '1');
    }
    const network = make();
    tell(network, config(), inSync);
    await network.apply();
    sysctls.values.set('net/ipv6/conf/eth0/accept_ra', '0');
    sysctls.absent.push('net/ipv6/conf/eth1/');
    await network.cleanup();
    expect(sysctls.read('net/ipv6/conf/eth0/accept_ra')).toBe('0');
    expect(sysctls.values.get('net/ipv6/conf/eth1/accept_ra')).toBe('2');
    expect(values()).toEqual(['0', '0']);
  });

  test('are not changed as long as their value cannot be remembered', async () => {
    sysctlMemory.failure = 'ENOSPC: no space left on device';
    const network = make();
    tell(network, config({ ipv6Support: false }), inSync);
    expect((await network.apply()).failed).toEqual([
      { object: 'sysctl net.ipv4.ip_forward', reason: expect.stringContaining('ENOSPC') },
    ]);
    expect(values()).toEqual(['0', '0']);
    sysctlMemory.failure = undefined;
    expect((await network.apply()).failed).toEqual([]);
    expect(values()).toEqual(['1', '0']);
  });
});

test('whatever order things come in, the kernel ends as wanted and nothing foreign is touched', async () => {
  const n = fc.integer({ min: 1, max: 4 });
  const step = fc.oneof(
    fc.record({
      do: fc.constantFrom(
        'announce' as const,
        'remove' as const,
        'link' as const,
        'unlink' as const,
        'down' as const,
        'up' as const,
        'spoil' as const,
        'lead astray' as const,
      ),
      n,
    }),
    fc.record({ do: fc.constantFrom('apply' as const, 'amid' as const, 'events' as const, 'restart' as const), n }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
      host = new FakeNetlink();
      host.addLink('eth0');
      host.runSync([{ op: 'route.add', dst: '192.0.2.0/24', link: 'eth0', protocol: 2 }]);
      const [foreign = ''] = host.dump();
      const announced = new Set<number>();
      let network = make();
      tell(network, config({ routeRefreshIntervalMs: 0 }), inSync);
      let cycle: Promise<unknown> | undefined; // The apply that runs while other steps are taken; there is one at a time.
      for (const { do: what, n } of steps) {
        const name = `cali${n}`;
        if (what === 'apply' || what === 'amid' || what === 'restart') await cycle;
        if (what === 'announce') {
          announced.add(n);
          tell(network, pod(n));
        } else if (what === 'remove') {
          announced.delete(n);
          tell(network, podGone(n));
        } else if (what === 'link' && host.link(name) === undefined) host.addLink(name);
        else if (what === 'unlink') host.delLink(name);
        else if ((what === 'up' || what === 'down') && host.link(name) !== undefined) host.setUp(name, what === 'up');
        else if (what === 'spoil')
          host.batchSync([
            { op: 'route.del', dst: `10.65.0.${n}/32`, metric: 1024 },
            { op: 'neigh.del', link: name, address: `10.65.0.${n}` },
          ]);
        else if (what === 'lead astray')
          host.batchSync(
            [`10.65.0.${n}/32`, `fd00:65::${n}/128`].map((dst) => ({
              op: 'route.replace',
              dst,
              link: `cali${(n % 4) + 1}`,
              protocol: 3,
              metric: 1024,
            })),
          );
        else if (what === 'amid') {
          cycle = network.apply();
          for (let turn = 0; turn < n * 3; turn += 1) await Promise.resolve();
        } else if (what === 'apply') await network.apply();
        else if (what === 'events') await events();
        else if (what === 'restart') {
          await network[Symbol.asyncDispose]();
          network = make();
          tell(network, config({ routeRefreshIntervalMs: 0 }), ...[...announced].map(pod), inSync);
        }
      }
      await cycle;
      await events();
      for (let round = 0; round < 2; round += 1) {
        await network.apply();
        await events();
      }
      const isUp = (n: number): boolean => host.link(`cali${n}`)?.up === true;
      const whole = [...announced].filter(isUp);
      const ofPod = (n: number, line: string): boolean =>
        [` 10.65.0.${n}/32 `, ` 10.65.0.${n} `, ` fd00:65::${n}/128 `, ` fd00:65::${n} `].some((text) =>
          line.includes(text),
        );
      expect(host.dump().filter((line) => whole.some((n) => ofPod(n, line)))).toEqual(whole.flatMap(podState).sort());
      // What others leave of pods that nobody announced goes with a comparison. A device that is down may have neighbours.
      network.requestResync();
      await network.apply();
      const down = [...announced].filter((n) => !isUp(n));
      expect(host.dump().filter((line) => !down.some((n) => line.includes(` dev cali${n} `)))).toEqual(
        [foreign, ...whole.flatMap(podState)].sort(),
      );
      await network[Symbol.asyncDispose]();
    }),
    { numRuns: 400, interruptAfterTimeLimit: 30_000 },
  );
});
