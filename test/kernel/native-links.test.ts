import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openNetlink } from '#native/netlink.ts';
import type { Netlink } from '#native/types.ts';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';
import { until } from '#test/lab/until.ts';

let host: TestNetns;
let pod: TestNetns;
let netlink: Netlink;

beforeEach(async () => {
  host = await createNetns();
  pod = await createNetns();
  netlink = openNetlink({ path: host.path });
});
afterEach(async () => {
  netlink[Symbol.dispose]();
  await host[Symbol.asyncDispose]();
  await pod[Symbol.asyncDispose]();
});

describe('veth', () => {
  test('has each end in its namespace, with what was asked of it', async () => {
    await netlink.run([
      {
        op: 'veth.add',
        name: 'cali1',
        mac: 'ee:ee:ee:ee:ee:ee',
        mtu: 1450,
        alias: 'default/web',
        up: true,
        queues: 2,
        peer: { name: 'eth0', mac: '0a:58:0a:41:00:03', mtu: 1440, up: true, queues: 3, netns: { path: pod.path } },
      },
    ]);
    // The kernel tells of the carrier in its own time.
    await until(async () => (await pod.ip('link', 'show', 'eth0'))[0]?.['operstate'] === 'UP');
    await until(() => netlink.link('cali1')?.running === true);
    const [hostEnd] = await host.ip('-d', 'link', 'show', 'cali1');
    const [podEnd] = await pod.ip('-d', 'link', 'show', 'eth0');
    expect(hostEnd).toMatchObject({
      ifalias: 'default/web',
      mtu: 1450,
      address: 'ee:ee:ee:ee:ee:ee',
      linkinfo: { info_kind: 'veth' },
      num_tx_queues: 2,
      num_rx_queues: 2,
    });
    expect(podEnd).toMatchObject({
      mtu: 1440,
      address: '0a:58:0a:41:00:03',
      operstate: 'UP',
      num_tx_queues: 3,
      num_rx_queues: 3,
    });
    expect(netlink.link('cali1')).toMatchObject({
      name: 'cali1',
      index: hostEnd?.['ifindex'],
      kind: 'veth',
      alias: 'default/web',
      mac: 'ee:ee:ee:ee:ee:ee',
      up: true,
      running: true,
      mtu: 1450,
      peerIndex: podEnd?.['ifindex'],
    });
  });

  const ups: { up?: boolean; peerUp?: boolean }[] = [
    {},
    { up: true },
    { peerUp: true },
    { up: true, peerUp: true },
    { up: false, peerUp: true },
  ];
  test.each(ups)('comes up as asked: $up and its peer $peerUp', async ({ up, peerUp }) => {
    await netlink.run([
      {
        op: 'veth.add',
        name: 'v0',
        ...(up === undefined ? {} : { up }),
        peer: { name: 'v1', netns: { path: pod.path }, ...(peerUp === undefined ? {} : { up: peerUp }) },
      },
    ]);
    using inPod = openNetlink({ path: pod.path });
    expect([netlink.link('v0')?.up, inPod.link('v1')?.up]).toEqual([up ?? false, peerUp ?? false]);
  });

  test('is made from a third namespace, by a process in each end', async () => {
    await using third = await createNetns();
    using elsewhere = openNetlink({ path: third.path });
    const process = spawn('ip', ['netns', 'exec', pod.name, 'sh', '-c', 'echo ready; exec cat'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    await once(process.stdout, 'data');
    await elsewhere.run([
      {
        op: 'veth.add',
        name: 'a',
        netns: { path: host.path },
        peer: { name: 'b', up: true, netns: { path: pod.path } },
      },
      { op: 'veth.add', name: 'c', up: true, netns: { pid: process.pid! }, peer: { name: 'd' } },
    ]);
    process.stdin.end();
    await once(process, 'exit');
    expect(await host.ip('link', 'show', 'a')).toMatchObject([{ ifname: 'a' }]);
    expect(await pod.ip('link', 'show', 'b')).toMatchObject([{ ifname: 'b' }]);
    expect(await pod.ip('link', 'show', 'c')).toMatchObject([{ ifname: 'c', flags: expect.arrayContaining(['UP']) }]);
    expect(elsewhere.link('d')).toMatchObject({ kind: 'veth', up: false });
    expect(elsewhere.link('a')).toBeUndefined();
  });

  test.each([
    ['alias', { alias: 'x' }],
    ['up', { up: true }],
  ])('in another namespace takes no %s that the kernel could not give it', async (field, more) => {
    const [result] = netlink.batchSync([
      { op: 'veth.add', name: 'a', netns: { path: pod.path }, peer: { name: 'b', up: true }, ...more },
    ]);
    expect(result).toMatchObject({
      ok: false,
      error: { code: 'EINVAL', message: expect.stringContaining(`${field}: `) },
    });
    expect(await host.ip('link', 'show')).toHaveLength(1);
  });

  test('leaves a device of the same name as it was', async () => {
    await netlink.run([{ op: 'bridge.add', name: 'x' }]);
    const results = netlink.batchSync([
      { op: 'veth.add', name: 'x', alias: 'mine', up: true, peer: { name: 'y', up: true } },
    ]);
    expect(results).toMatchObject([
      { ok: false, error: { code: 'EEXIST', object: 'veth.add x peer y', syscall: 'sendmsg' } },
    ]);
    const link = netlink.link('x');
    expect(link).toMatchObject({ kind: 'bridge', up: false });
    expect(link?.alias).toBeUndefined();
    expect(netlink.link('y')).toBeUndefined();
  });

  test('goes away with either end', async () => {
    await netlink.run([{ op: 'veth.add', name: 'v0', peer: { name: 'v1', netns: { path: pod.path } } }]);
    await netlink.run([{ op: 'link.del', link: 'v0' }]);
    expect(await pod.ip('link', 'show')).toHaveLength(1);
  });
});

describe('link.set', () => {
  beforeEach(async () => {
    await netlink.run([
      { op: 'bridge.add', name: 'br0', up: true, mac: '02:00:00:00:00:01', mtu: 1400 },
      { op: 'veth.add', name: 'v0', peer: { name: 'v1' } },
    ]);
  });

  test.each([
    ['up', { up: true }, { up: true }],
    ['mtu', { mtu: 9000 }, { mtu: 9000 }],
    ['mac', { mac: '02:aa:bb:cc:dd:ee' }, { mac: '02:aa:bb:cc:dd:ee' }],
    ['alias', { alias: 'tortie pod' }, { alias: 'tortie pod' }],
    [
      'all at once',
      { up: true, mtu: 1300, mac: '02:00:00:00:00:09', alias: 'a' },
      { up: true, mtu: 1300, mac: '02:00:00:00:00:09', alias: 'a' },
    ],
  ])('sets %s, by name and by index', async (_, change, expected) => {
    const index = netlink.link('v1')!.index;
    await netlink.run([
      { op: 'link.set', link: 'v0', ...change },
      { op: 'link.set', link: index, ...change },
    ]);
    expect(netlink.link('v0')).toMatchObject(expected);
    expect(netlink.link(index)).toMatchObject({ name: 'v1', ...expected });
  });

  test('takes down again', async () => {
    await netlink.run([{ op: 'link.set', link: 'v0', up: true }]);
    await netlink.run([{ op: 'link.set', link: 'v0', up: false }]);
    expect(netlink.link('v0')?.up).toBe(false);
  });

  test('puts a device under a bridge and takes it out', async () => {
    await netlink.run([{ op: 'link.set', link: 'v0', master: 'br0' }]);
    expect(netlink.link('v0')?.master).toBe(netlink.link('br0')?.index);
    expect(await host.ip('link', 'show', 'v0')).toMatchObject([{ master: 'br0' }]);
    await netlink.run([{ op: 'link.set', link: 'v0', master: 0 }]);
    expect(netlink.link('v0')?.master).toBeUndefined();
  });

  test('renames, and what follows in the batch finds the new name', async () => {
    const { index } = netlink.link('v0')!;
    await netlink.run([
      { op: 'link.set', link: 'v0', name: 'w0' },
      { op: 'addr.add', link: 'w0', address: '10.0.0.1/24' },
      { op: 'link.set', link: 'v1', name: 'v0' },
      { op: 'addr.add', link: 'v0', address: '10.0.1.1/24' },
    ]);
    expect(netlink.link('w0')?.index).toBe(index);
    expect(await host.ip('addr', 'show', 'w0')).toMatchObject([{ addr_info: [{ local: '10.0.0.1' }] }]);
    expect(await host.ip('addr', 'show', 'v0')).toMatchObject([{ addr_info: [{ local: '10.0.1.1' }] }]);
  });

  test('moves a device to another namespace', async () => {
    await netlink.run([{ op: 'link.set', link: 'v0', netns: { path: pod.path } }]);
    expect(netlink.link('v0')).toBeUndefined();
    expect(await pod.ip('link', 'show', 'v0')).toMatchObject([{ ifname: 'v0' }]);
  });
});

describe('link', () => {
  test('one that is not there is undefined, by name and by index', () => {
    expect(netlink.link('nope')).toBeUndefined();
    expect(netlink.link(4711)).toBeUndefined();
    expect(netlink.link('lo')).toMatchObject({ index: 1, name: 'lo', up: false, mtu: 65536 });
  });

  test('each answer is its own, whatever else is asked on the same socket', async () => {
    await netlink.run([{ op: 'veth.add', name: 'v0', peer: { name: 'v1' } }]);
    for (let round = 0; round < 3; round++) {
      expect(netlink.link('v0')).toMatchObject({ name: 'v0', kind: 'veth', peerIndex: netlink.link('v1')?.index });
      expect(netlink.link('nope')).toBeUndefined();
      expect(netlink.batchSync([{ op: 'link.set', link: 'v0', mtu: 1400 + round }])).toMatchObject([{ ok: true }]);
      expect(netlink.link('v0')?.mtu).toBe(1400 + round);
      expect(netlink.filtersSync('v0', 'ingress')).toEqual([]);
    }
  });

  test('the dump has them all, as ip has', async () => {
    await netlink.run([
      { op: 'bridge.add', name: 'br0' },
      { op: 'veth.add', name: 'v0', mac: '02:00:00:00:00:07', peer: { name: 'v1' } },
    ]);
    const links = await netlink.links();
    expect(links.map(({ name, mac, mtu, index }) => ({ ifname: name, address: mac, mtu, ifindex: index }))).toEqual(
      (await host.ip('link', 'show')).map(({ ifname, address, mtu, ifindex }) => ({ ifname, address, mtu, ifindex })),
    );
    expect(links.map(({ kind }) => kind)).toEqual([undefined, 'bridge', 'veth', 'veth']);
  });

  test('deleting one that is not there is ENODEV and names it', async () => {
    expect(
      await netlink.batch([
        { op: 'link.del', link: 'nope' },
        { op: 'link.del', link: 4711 },
      ]),
    ).toMatchObject([
      { ok: false, error: { code: 'ENODEV', errno: 19, syscall: 'sendmsg', object: 'link.del nope' } },
      { ok: false, error: { code: 'ENODEV', object: 'link.del #4711' } },
    ]);
  });

  test('many go in one batch', async () => {
    const names = Array.from({ length: 40 }, (_, i) => `v${i}`);
    await netlink.run(names.map((name) => ({ op: 'veth.add', name, peer: { name: `p${name}` } })));
    expect(await netlink.links()).toHaveLength(81);
    await netlink.run(names.map((link) => ({ op: 'link.del', link })));
    expect(await netlink.links()).toHaveLength(1);
  });
});
