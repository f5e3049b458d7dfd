import { describe, expect, test } from '@jest/globals';
import type { HostNetwork } from '#dataplanes/shared/host-network.ts';
import type { DataplaneUpdate } from '#dataplanes/messages.ts';
import { announce, isCutOff, labConfig, NodeLab, reaches } from './iptables-lab.ts';
import { until } from '#test/lab/until.ts';

const tell = (network: HostNetwork, ...updates: DataplaneUpdate[]): void => {
  for (const update of updates) network.onUpdate(update);
};
/** Resolves when the network says that somebody disturbed it. */
const nextDisturbance = (network: HostNetwork): Promise<void> => new Promise((resolve) => network.onDisturbed(resolve));
const pool = (id: string, cidr: string): DataplaneUpdate => ({
  type: 'poolUpdate',
  id,
  pool: { cidr, masquerade: true },
});

describe('pods of a node', () => {
  test('whose routes the plugin made get neighbours, and nothing else is written', async () => {
    await using lab = await NodeLab.create();
    const one = await lab.addPod(1);
    const network = lab.hostNetwork();
    const routes = await lab.node.exec('ip', 'route');
    tell(network, labConfig('nft'), announce(1, one), { type: 'inSync' });
    expect(await network.apply()).toEqual({
      programmed: ['k8s/default/pod-1/eth0'],
      removed: [],
      failed: [],
      repaired: [],
    });
    expect(await lab.node.exec('ip', 'route')).toBe(routes);
    expect(await lab.node.exec('ip', 'neigh', 'show', 'nud', 'permanent', 'dev', 'cali1')).toContain(
      `10.65.0.1 lladdr ${one.endpoint.mac} PERMANENT`,
    );
    expect(await lab.node.exec('ip', '-6', 'neigh', 'show', 'nud', 'permanent', 'dev', 'cali1')).toContain(
      `fd00:65::1 lladdr ${one.endpoint.mac}`,
    );

    const two = await lab.addPod(2);
    const runs = lab.runs.length;
    tell(network, announce(2, two));
    expect(await network.apply()).toMatchObject({ programmed: ['k8s/default/pod-2/eth0'], failed: [], repaired: [] });
    expect(lab.runs).toHaveLength(runs);
    await reaches(one.netns, '10.65.0.2');
    await reaches(one.netns, 'fd00:65::2');
  });

  test.each([
    ['a deleted route', 'ip route del 10.65.0.1/32', 'route 10.65.0.1/32 had been changed'],
    ['a deleted IPv6 route', 'ip -6 route del fd00:65::1/128', 'route fd00:65::1/128 had been changed'],
    [
      'a route led elsewhere',
      'ip route replace 10.65.0.1/32 dev cali2 metric 1024',
      'route 10.65.0.1/32 had been changed',
    ],
    [
      'an IPv6 route led elsewhere',
      'ip -6 route replace fd00:65::1/128 dev cali2 metric 1024',
      'route fd00:65::1/128 had been changed',
    ],
    ['a deleted neighbour', 'ip neigh del 10.65.0.1 dev cali1', 'neighbour 10.65.0.1 had been changed'],
    [
      'a forged neighbour',
      'ip neigh replace 10.65.0.1 dev cali1 lladdr 02:00:00:00:66:66 nud permanent',
      'neighbour 10.65.0.1 had been changed',
    ],
    [
      'a device taken down and up',
      'ip link set cali1 down; sysctl -qw net.ipv4.conf.cali1.proxy_arp=0; ip link set cali1 up',
      'sysctl net.ipv4.conf.cali1.proxy_arp had been changed',
    ],
  ])('%s is noticed by itself and repaired', async (_name, command, words) => {
    await using lab = await NodeLab.create();
    const [one, two] = [await lab.addPod(1), await lab.addPod(2)];
    const network = lab.hostNetwork();
    tell(network, labConfig('nft'), announce(1, one), announce(2, two), { type: 'inSync' });
    await network.apply();
    const good = await lab.snapshot();
    const repaired: string[] = [];
    let disturbed = nextDisturbance(network);
    await lab.node.exec('sh', '-c', command);
    while (!repaired.includes(words)) {
      await disturbed;
      disturbed = nextDisturbance(network);
      repaired.push(...(await network.apply()).repaired);
    }
    const sorted = (snapshot: string) => snapshot.split('\n').sort().join('\n');
    // What the kernel takes off or puts back with a device it does in its own time.
    await until(async () => {
      await network.apply();
      return sorted(await lab.snapshot()) === sorted(good);
    });
    await reaches(two.netns, '10.65.0.1');
  });

  test('whose device disappears are one failure each, and are programmed when it is back', async () => {
    await using lab = await NodeLab.create();
    const [one, two] = [await lab.addPod(1), await lab.addPod(2)];
    const network = lab.hostNetwork();
    tell(network, labConfig('nft'), announce(1, one), announce(2, two), { type: 'inSync' });
    await network.apply();
    await lab.node.exec('ip', 'link', 'del', 'cali1');
    const gone = {
      object: 'endpoint k8s/default/pod-1/eth0',
      endpoint: 'k8s/default/pod-1/eth0',
      reason: 'device cali1 of endpoint k8s/default/pod-1/eth0 does not exist',
    };
    tell(network, labConfig('nft')); // Everything is looked at again, whether the event has come or not.
    expect(await network.apply()).toMatchObject({ failed: [gone], repaired: [] });
    network.requestResync();
    expect(await network.apply()).toMatchObject({ failed: [gone], repaired: [] });

    const disturbed = nextDisturbance(network);
    await lab.node.exec('ip', 'link', 'add', 'cali1', 'type', 'veth', 'peer', 'name', 'peer1');
    await lab.node.exec('ip', 'link', 'set', 'cali1', 'up');
    await disturbed;
    expect(await network.apply()).toMatchObject({ programmed: [gone.endpoint], failed: [], repaired: [] });
    expect(await lab.node.exec('ip', 'route')).toContain('10.65.0.1 dev cali1 scope link metric 1024');
    expect(await lab.node.exec('ip', 'neigh', 'show', 'dev', 'cali1')).toContain(one.endpoint.mac);
    expect(lab.sysctls.read('net/ipv4/conf/cali1/proxy_arp')).toBe('1');

    tell(network, { type: 'workloadEndpointRemove', id: gone.endpoint });
    await lab.node.exec('ip', 'link', 'del', 'cali1');
    expect(await network.apply()).toMatchObject({ removed: [gone.endpoint], failed: [], repaired: [] });
    expect(await network.apply()).toMatchObject({ failed: [], repaired: [] });
  });

  test('forwarding that somebody switched off comes back with the next comparison', async () => {
    await using lab = await NodeLab.create();
    const network = lab.hostNetwork();
    tell(network, labConfig('nft'), { type: 'inSync' });
    await network.apply();
    await lab.node.exec(
      'sh',
      '-c',
      'echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding',
    );
    network.requestResync();
    expect((await network.apply()).repaired).toEqual([
      'sysctl net.ipv4.ip_forward had been changed',
      'sysctl net.ipv6.conf.all.forwarding had been changed',
    ]);
    expect(lab.sysctls.read('net/ipv6/conf/all/forwarding')).toBe('1');
  });
});

test("blocks of other nodes go over the node's address, own blocks are blackholes, and a node behind a router is refused", async () => {
  await using lab = await NodeLab.create();
  const network = lab.hostNetwork();
  const remote = (dst: string, nodeIp: string): DataplaneUpdate => ({
    type: 'routeUpdate',
    route: { dst, type: 'remoteBlock', nodeName: 'other', nodeIp },
  });
  tell(
    network,
    labConfig('nft'),
    remote('10.65.1.0/26', '192.0.2.2'),
    remote('fd00:65:1::/122', '2001:db8::2'),
    remote('10.65.2.0/26', '198.51.100.1'),
    { type: 'routeUpdate', route: { dst: '10.65.0.0/26', type: 'localBlock', nodeName: 'node' } },
    { type: 'routeUpdate', route: { dst: 'fd00:65::/122', type: 'localBlock', nodeName: 'node' } },
    { type: 'inSync' },
  );
  const { failed } = await network.apply();
  expect(failed).toEqual([{ object: 'route 10.65.2.0/26', reason: expect.stringContaining('not in a shared subnet') }]);
  const [v4, v6] = [await lab.node.exec('ip', 'route'), await lab.node.exec('ip', '-6', 'route')];
  expect(v4).toContain('10.65.1.0/26 via 192.0.2.2 dev up0 proto 80 metric 1024');
  expect(v4).toContain('blackhole 10.65.0.0/26 proto 80 metric 1024');
  expect(v6).toContain('fd00:65:1::/122 via 2001:db8::2 dev up0 proto 80 metric 1024');
  expect(v6).toMatch(/blackhole fd00:65::\/122 dev lo proto 80 metric 1024/);
  network.requestResync();
  expect((await network.apply()).repaired).toEqual([]);
  expect([await lab.node.exec('ip', 'route'), await lab.node.exec('ip', '-6', 'route')]).toEqual([v4, v6]);
});

test.each([
  ['late', true],
  ['as they happen', false],
])('what the node itself writes is not taken for a change by others when the events come %s', async (_name, late) => {
  await using lab = await NodeLab.create();
  const [one, two] = [await lab.addPod(1), await lab.addPod(2)];
  let gate = Promise.withResolvers<void>();
  const network = lab.hostNetwork(() => gate.promise);
  if (!late) gate.resolve();
  const seen: string[] = [];
  /** Applies until the kernel's events of all that was written before have come: they are in order, and the last one is our mark's. */
  const settle = async (): Promise<void> => {
    gate.resolve();
    let disturbed = nextDisturbance(network);
    await lab.node.exec('ip', 'route', 'del', '10.65.0.2/32');
    for (const mark = 'route 10.65.0.2/32 had been changed'; ;) {
      await disturbed;
      disturbed = nextDisturbance(network);
      const { repaired, failed } = await network.apply();
      seen.push(...repaired.filter((words) => words !== mark), ...failed.map(({ reason }) => reason));
      if (repaired.includes(mark)) break;
    }
    if (late) gate = Promise.withResolvers();
  };
  tell(network, labConfig('nft'), announce(2, two), { type: 'inSync' });
  await network.apply();
  await settle();
  for (const dst of ['10.65.0.0/26', 'fd00:65::/122'])
    tell(network, { type: 'routeUpdate', route: { dst, type: 'localBlock', nodeName: 'node' } });
  await network.apply();
  await settle();
  tell(network, announce(1, one));
  await network.apply();
  await settle();
  // The pod's addresses move to another device, and back.
  tell(network, announce(3, { ...two, endpoint: { ...one.endpoint, ifaceName: 'cali2', mac: two.endpoint.mac } }));
  await network.apply();
  await settle();
  tell(network, { type: 'workloadEndpointRemove', id: 'k8s/default/pod-3/eth0' });
  await network.apply();
  await settle();
  expect(seen).toEqual([]);
  expect(await lab.node.exec('ip', 'route')).toContain('blackhole 10.65.0.0/26 proto 80 metric 1024');
  const v6 = await lab.node.exec('ip', '-6', 'route');
  expect(v6).toContain('blackhole fd00:65::/122 dev lo proto 80 metric 1024');
  expect(v6).toContain('fd00:65::1 dev cali1 metric 1024');
});

test.each([
  ['nothing was said', []],
  ['only the configuration', [labConfig('nft')]],
])(
  "cleanup by a fresh instance to which %s takes what its predecessor left, and gives the node's sysctls back",
  async (_name, updates) => {
    await using lab = await NodeLab.create();
    const forwarding = ['net/ipv4/ip_forward', 'net/ipv6/conf/all/forwarding'];
    lab.sysctls.write(forwarding.map((path) => ({ path, value: '0' })));
    const before = await lab.snapshot();
    const one = await lab.addPod(1);
    const network = lab.hostNetwork();
    const block = (dst: string): DataplaneUpdate => ({
      type: 'routeUpdate',
      route: { dst, type: 'localBlock', nodeName: 'node' },
    });
    tell(network, labConfig('nft'), announce(1, one), block('10.65.0.0/26'), block('fd00:65::/122'), {
      type: 'inSync',
    });
    expect((await network.apply()).failed).toEqual([]);
    expect(forwarding.map((path) => lab.sysctls.read(path))).toEqual(['1', '1']);
    await network[Symbol.asyncDispose]();

    const successor = lab.hostNetwork();
    tell(successor, ...updates);
    await successor.cleanup();
    const ofDevice = (line: string): boolean => line.startsWith('fe80::/64 dev cali1');
    expect((await lab.snapshot()).split('\n').filter((line) => !ofDevice(line))).toEqual(before.split('\n'));
    expect(forwarding.map((path) => lab.sysctls.read(path))).toEqual(['0', '0']);
    expect(lab.sysctlMemory.all().size).toBe(0);
  },
);

describe.each(['nft', 'legacy'] as const)('natOutgoing (iptables-%s)', (variant) => {
  test("lets pods reach what has no route to them, with the node's address, and leaves traffic between pods alone", async () => {
    await using lab = await NodeLab.create();
    const [one, two] = [await lab.addPod(1), await lab.addPod(2)];
    const network = lab.hostNetwork();
    tell(network, labConfig(variant), announce(1, one), announce(2, two), { type: 'inSync' });
    await network.apply();
    for (const address of ['192.0.2.2', '2001:db8::2']) await isCutOff(one.netns, address);
    const runs = lab.runs.length;
    tell(network, pool('four', '10.65.0.0/16'), pool('six', 'fd00:65::/48'));
    await network.apply();
    expect(lab.runs).toHaveLength(runs);
    for (const address of ['192.0.2.2', '2001:db8::2']) await reaches(one.netns, address);
    // Between pods the source stays: the receiver counts packets from the pod's own address.
    await two.netns.exec('sh', '-ec', 'iptables-nft -A INPUT -s 10.65.0.1; ip6tables-nft -A INPUT -s fd00:65::1');
    await reaches(one.netns, '10.65.0.2');
    await reaches(one.netns, 'fd00:65::2');
    for (const tool of ['iptables-nft', 'ip6tables-nft'])
      expect(await two.netns.exec(tool, '-nvxL', 'INPUT')).toMatch(/^\s+[1-9]\d*\s+\d+.*(10\.65\.0\.1|fd00:65::1)/m);
  });

  test('with a port range and an address is what the kernel takes', async () => {
    await using lab = await NodeLab.create();
    const [one] = [await lab.addPod(1)];
    for (const natOutgoingAddress of ['192.0.2.1', '2001:db8::1']) {
      const network = lab.hostNetwork();
      const more = {
        natOutgoingAddress,
        natPortRange: { min: 40_000, max: 50_000 },
        natOutgoingExclusions: 'IPPoolsAndHostIPs',
      } as const;
      tell(
        network,
        labConfig(variant, more),
        announce(1, one),
        pool('four', '10.65.0.0/16'),
        pool('six', 'fd00:65::/48'),
        { type: 'inSync' },
      );
      expect((await network.apply()).failed).toEqual([]);
      await reaches(one.netns, '192.0.2.2');
      await reaches(one.netns, '2001:db8::2');
    }
  });

  test('is repaired when flushed, adopted by a successor without a write, and leaves nothing behind', async () => {
    await using lab = await NodeLab.create();
    const one = await lab.addPod(1);
    await lab.node.exec(
      'sh',
      '-ec',
      `iptables-${variant} -t nat -A POSTROUTING -s 203.0.113.0/24 -j MASQUERADE; ip6tables-${variant} -t nat -A POSTROUTING -s 2001:db8:9::/48 -j MASQUERADE`,
    );
    const before = await lab.snapshot();
    const updates = [labConfig(variant), announce(1, one), pool('four', '10.65.0.0/16'), { type: 'inSync' }] as const;
    const network = lab.hostNetwork();
    tell(network, ...updates);
    await network.apply();
    const good = await lab.snapshot();
    const { restores } = lab;
    const successor = lab.hostNetwork();
    tell(successor, ...updates);
    expect(await successor.apply()).toMatchObject({ failed: [], repaired: [] });
    expect(lab.restores).toBe(restores);
    expect(await lab.snapshot()).toBe(good);
    await lab.node.exec(
      'sh',
      '-ec',
      `iptables-${variant} -t nat -F cali-nat-outgoing; ipset flush cali40masq-ipam-pools`,
    );
    successor.requestResync();
    expect([...(await successor.apply()).repaired].sort()).toEqual([
      'ipset cali40masq-ipam-pools: 1 members were missing',
      `table nat (iptables-${variant}): rules of chain cali-nat-outgoing had been changed`,
    ]);
    await reaches(one.netns, '192.0.2.2');
    // The plugin's own routes are gone with ours: they carry the same protocol on the same devices.
    await lab.node.exec('sh', '-ec', 'ip route del 10.65.0.1/32; ip -6 route del fd00:65::1/128');
    const withoutPod = before.split('\n').filter((line) => !line.includes('cali1'));
    await successor.cleanup();
    expect(
      (await lab.snapshot()).split('\n').filter((line) => line.includes('cali1') && !line.startsWith('fe80::/64')),
    ).toEqual([]);
    expect((await lab.snapshot()).split('\n').filter((line) => !line.includes('cali1'))).toEqual(withoutPod);
  });
});
