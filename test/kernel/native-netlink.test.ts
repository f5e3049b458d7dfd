import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readdirSync } from 'node:fs';
import { openNetlink } from '#native/netlink.ts';
import type { Netlink, NetlinkOp, RouteOp } from '#native/types.ts';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';

let ns: TestNetns;
let netlink: Netlink;

beforeEach(async () => {
  ns = await createNetns();
  netlink = openNetlink({ path: ns.path });
});
afterEach(async () => {
  netlink[Symbol.dispose]();
  await ns[Symbol.asyncDispose]();
});

const openFiles = (): number => readdirSync('/proc/self/fd').length;
const blackhole = (i: number): RouteOp => ({
  op: 'route.add',
  dst: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}/32`,
  type: 'blackhole',
});
const blackholes = (count: number): RouteOp[] => Array.from({ length: count }, (_, i) => blackhole(i));

describe('batch', () => {
  test('makes a pod, host end and pod end, in one batch each', async () => {
    await using pod = await createNetns();
    using inPod = openNetlink({ path: pod.path });
    await netlink.run([
      {
        op: 'veth.add',
        name: 'cali1',
        mac: 'ee:ee:ee:ee:ee:ee',
        peer: { name: 'eth0', up: true, netns: { path: pod.path } },
      },
      { op: 'clsact.add', link: 'cali1' },
      { op: 'link.set', link: 'cali1', up: true },
      { op: 'route.replace', dst: '10.65.0.3/32', link: 'cali1' },
      { op: 'neigh.replace', link: 'cali1', address: '10.65.0.3', mac: '0a:58:0a:41:00:03' },
    ]);
    inPod.runSync([
      { op: 'addr.add', link: 'eth0', address: '10.65.0.3/32' },
      { op: 'route.add', dst: '169.254.1.1/32', link: 'eth0' },
      { op: 'route.add', dst: 'default', family: 4, via: '169.254.1.1', link: 'eth0' },
      { op: 'neigh.replace', link: 'eth0', address: '169.254.1.1', mac: 'ee:ee:ee:ee:ee:ee' },
    ]);
    expect(await ns.ip('route', 'get', '10.65.0.3')).toMatchObject([{ dev: 'cali1' }]);
    expect(await pod.ip('route', 'get', '8.8.8.8')).toMatchObject([
      { gateway: '169.254.1.1', dev: 'eth0', prefsrc: '10.65.0.3' },
    ]);
  });

  test.each(['batchSync', 'batch'] as const)('%s tries every op, and says of each what became of it', async (how) => {
    const results = await netlink[how]([
      { op: 'bridge.add', name: 'br0' },
      { op: 'bridge.add', name: 'br0' },
      { op: 'nonsense', name: 'x' } as unknown as NetlinkOp,
      { op: 'addr.add', link: 'br0', address: '10.0.0.1' },
      { op: 'addr.add', link: 'br1', address: '10.0.0.1/24' },
      { op: 'bridge.add', name: 'br1' },
      { op: 'addr.add', link: 'br1', address: '10.0.0.1/24' },
    ]);
    expect(
      results.map((result) =>
        result.ok ? 'ok' : `${result.error.code} ${result.error.syscall} ${result.error.object}`,
      ),
    ).toEqual([
      'ok',
      'EEXIST sendmsg bridge.add br0',
      'EINVAL encode nonsense',
      'EINVAL encode addr.add',
      'ENODEV sendmsg addr.add 10.0.0.1/24 dev br1',
      'ok',
      'ok',
    ]);
  });

  test('run throws the first failure, after all have been tried', async () => {
    const ops: NetlinkOp[] = [
      { op: 'link.del', link: 'first' },
      { op: 'link.del', link: 'second' },
      { op: 'bridge.add', name: 'br0' },
    ];
    await expect(netlink.run(ops)).rejects.toMatchObject({ object: 'link.del first' });
    expect(netlink.link('br0')).toBeDefined();
    expect(() => netlink.runSync(ops)).toThrow(expect.objectContaining({ object: 'link.del first' }));
  });

  test('an empty batch is nothing', async () => {
    expect(netlink.batchSync([])).toEqual([]);
    expect(await netlink.batch([])).toEqual([]);
  });

  test.each([1000, 10_000])('%d ops are all carried out, and each failure stands in its place', async (count) => {
    const ops = blackholes(count);
    expect((await netlink.batch(ops)).filter(({ ok }) => !ok)).toEqual([]);
    const routes = await netlink.routes({ family: 4, table: 254 });
    expect(new Set(routes.map(({ dst }) => dst))).toEqual(new Set(ops.map(({ dst }) => dst)));
    // Every second one is gone: the others fail when they are added again.
    await netlink.run(ops.filter((_, i) => i % 2 === 0).map(({ dst }) => ({ op: 'route.del', dst })));
    const again = netlink.batchSync(ops);
    expect(again.map((result) => (result.ok ? 'ok' : result.error.code))).toEqual(
      ops.map((_, i) => (i % 2 === 0 ? 'ok' : 'EEXIST')),
    );
    again.forEach((result, i) => {
      if (!result.ok) expect(result.error.object).toBe(`route.add ${ops[i]!.dst} blackhole`);
    });
  });

  test('batches and dumps that are started together are all done, in order', async () => {
    const batches = Array.from({ length: 20 }, (_, i) =>
      netlink.batch([
        { op: 'bridge.add', name: 'br0' },
        { op: 'link.set', link: 'br0', name: `b${i}` },
      ]),
    );
    const dump = netlink.links();
    const sync = netlink.batchSync([{ op: 'bridge.add', name: 'sync' }]);
    const results = await Promise.all(batches);
    expect(results.flat().filter(({ ok }) => !ok)).toEqual([]);
    expect(sync).toEqual([{ ok: true }]);
    expect((await dump).map(({ name }) => name)).toEqual(
      expect.arrayContaining(Array.from({ length: 20 }, (_, i) => `b${i}`)),
    );
  });

  test('what is changed in an op after the call does not count', async () => {
    const first = netlink.batch(blackholes(500));
    const op = { op: 'bridge.add', name: 'before' };
    const second = netlink.run([op as NetlinkOp]);
    op.name = 'after';
    await Promise.all([first, second]);
    expect(netlink.link('before')).toBeDefined();
    expect(netlink.link('after')).toBeUndefined();
  });
});

describe('closing', () => {
  test('while batches run is safe: the one under way ends, those waiting fail with EBADF', async () => {
    const other = openNetlink({ path: ns.path });
    const first = other.batch(blackholes(5000));
    const waiting = [other.batch([{ op: 'bridge.add', name: 'late' }]), other.links(), other.hasClsact('lo')];
    // Promises only, no turn of the event loop: the first is under way and can't have ended.
    for (let i = 0; i < 20; i++) await Promise.resolve();
    other[Symbol.dispose]();
    other[Symbol.dispose]();
    expect((await first).filter(({ ok }) => !ok)).toEqual([]);
    for (const result of await Promise.allSettled(waiting))
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'EBADF' } });
    expect(netlink.link('late')).toBeUndefined();
    expect(() => other.batchSync([])).toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(() => other.link('lo')).toThrow(
      expect.objectContaining({ code: 'EBADF', message: expect.stringContaining('closed') }),
    );
  });

  test('200 sockets leave no descriptor behind, whatever happened on them', async () => {
    const before = openFiles();
    for (let i = 0; i < 200; i++) {
      using other = openNetlink({ path: ns.path });
      other.batchSync([
        { op: 'veth.add', name: 'v0', netns: { path: ns.path }, peer: { name: 'lo', netns: { path: ns.path } } },
      ]);
      await other.batch([
        { op: 'veth.add', name: 'v0', netns: { path: ns.path }, peer: { name: '', netns: { path: ns.path } } },
      ]);
      await other.links();
    }
    expect(openFiles()).toBe(before);
  });
});

describe('dumps', () => {
  test('are whole while links come and go', async () => {
    // More than one message's worth, so that a change can come in the middle.
    const names = Array.from({ length: 60 }, (_, i) => `d${i}`);
    await netlink.run(names.map((name) => ({ op: 'bridge.add', name })));
    using other = openNetlink({ path: ns.path });
    let stop = false;
    let changes = 0;
    const changing = (async () => {
      while (!stop) {
        await other.run([
          { op: 'bridge.add', name: 'x' },
          { op: 'addr.add', link: 'x', address: '10.0.0.1/24' },
          { op: 'link.del', link: 'x' },
        ]);
        changes += 1;
      }
    })();
    try {
      for (let i = 0; i < 50 || changes < 5; i++) {
        const [links, addresses, neighbours] = await Promise.all([
          netlink.links(),
          netlink.addresses(),
          netlink.neighbours(),
        ]);
        const seen = links.map(({ name }) => name).filter((name) => name !== 'x' && name !== 'lo');
        expect(seen.sort()).toEqual([...names].sort());
        expect(addresses).toBeDefined();
        expect(neighbours).toBeDefined();
      }
    } finally {
      stop = true;
      await changing;
    }
  });

  test('20,000 routes are listed once each', async () => {
    await netlink.run(blackholes(20_000));
    const routes = await netlink.routes({ table: 254, family: 4 });
    expect(routes).toHaveLength(20_000);
    expect(new Set(routes.map(({ dst }) => dst)).size).toBe(20_000);
  });

  test.each([
    ['family', { family: 5 }],
    ['table', { table: 'main' }],
    ['link', { link: 0 }],
    ['protocol', { protocol: 256 }],
  ])('a bad %s in a filter is an error that says so', async (field, filter) => {
    await expect(netlink.routes(filter as never)).rejects.toMatchObject({
      code: 'EINVAL',
      message: expect.stringContaining(`filter.${field}:`),
    });
  });
});

describe('garbage', () => {
  const cases: [NetlinkOp['op'], object, string][] = [
    ['veth.add', { name: 'x'.repeat(16), peer: { name: 'y' } }, 'name:'],
    ['veth.add', { name: 'a/b', peer: { name: 'y' } }, 'name:'],
    ['veth.add', { name: 'a b', peer: { name: 'y' } }, 'name:'],
    ['veth.add', { name: '..', peer: { name: 'y' } }, 'name:'],
    ['veth.add', { name: 'x' }, 'peer: must be an object, not nothing'],
    ['veth.add', { name: 'x', peer: { name: 7 } }, 'peer.name:'],
    ['veth.add', { name: 'x', peer: { name: 'y', mac: '1:2:3:4:5:6' } }, 'peer.mac:'],
    ['veth.add', { name: 'x', mtu: 1e9, peer: { name: 'y' } }, 'mtu:'],
    ['veth.add', { name: 'x', alias: 'a'.repeat(256), peer: { name: 'y' } }, 'alias:'],
    ['veth.add', { name: 'x', up: 'yes', peer: { name: 'y' } }, 'up: must be true or false'],
    ['veth.add', { name: 'x', peer: { name: 'y', netns: { path: '/nope' } } }, 'netns /nope: ENOENT'],
    ['bridge.add', { name: '' }, 'name:'],
    ['link.set', { link: {} }, 'link: must be a device'],
    ['link.set', { link: 1.5 }, 'link: must be an ifindex'],
    ['link.set', { link: 'lo', mac: 'zz:zz:zz:zz:zz:zz' }, 'mac:'],
    ['link.del', {}, 'link: is missing'],
    ['link.del', { link: 'a\0b' }, 'link:'],
    ['addr.add', { link: 'lo', address: '10.0.0.1' }, 'address:'],
    ['addr.add', { link: 'lo', address: '10.0.0.1/' }, 'address:'],
    ['addr.add', { link: 'lo', address: '10.0.0.1/+8' }, 'address:'],
    ['addr.add', { link: 'lo', address: '10.0.0.1/8 ' }, 'address:'],
    ['addr.add', { link: 'lo', address: 'fd00::1/129' }, 'address:'],
    ['addr.add', { link: 'lo', address: '10.0.0.1\0/8' }, 'address:'],
    ['route.add', { dst: 'default', link: 'lo' }, 'family: is missing'],
    ['route.add', { dst: '10.0.0.0/8', family: 6 }, 'family: is not that of dst'],
    ['route.add', { dst: '10.0.0.300/32' }, 'dst:'],
    ['route.add', { dst: '10.0.0.0/8', table: 0 }, 'table:'],
    ['route.add', { dst: '10.0.0.0/8', protocol: 300 }, 'protocol:'],
    ['route.add', { dst: '10.0.0.0/8', type: 'local' }, 'type:'],
    ['route.add', { dst: '10.0.0.0/8', scope: 'site' }, 'scope:'],
    ['route.add', { dst: '10.0.0.0/8', metric: -1 }, 'metric:'],
    ['route.add', { dst: '10.0.0.0/8', src: 'fd00::1' }, 'src:'],
    ['route.add', { dst: 'fd00::/8', via: '10.0.0.1' }, 'via:'],
    ['neigh.replace', { link: 'lo', address: '10.0.0.1/32', mac: '0a:00:00:00:00:01' }, 'address:'],
    ['neigh.replace', { link: 'lo', address: '10.0.0.1', mac: '0a:00:00:00:00:01', state: 'failed' }, 'state:'],
  ];
  test.each(cases)('%s with %j is refused by name and changes nothing', async (op, fields, message) => {
    const before = await ns.ip('addr', 'show');
    expect(netlink.batchSync([{ op, ...fields } as NetlinkOp])).toMatchObject([
      { ok: false, error: { message: expect.stringContaining(message), object: expect.stringContaining(op) } },
    ]);
    expect(await ns.ip('addr', 'show')).toEqual(before);
  });

  test.each([undefined, null, 7, 'ops', {}, { length: 1 }])('a batch that is %p is an error', async (bad) => {
    expect(() => netlink.batchSync(bad as never)).toThrow(
      expect.objectContaining({ code: 'EINVAL', message: expect.stringContaining('ops:') }),
    );
    await expect(netlink.batch(bad as never)).rejects.toMatchObject({ code: 'EINVAL' });
  });

  test('an array of absurd length is an error', () => {
    expect(() => netlink.batchSync(Array(2 ** 32 - 1) as never)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  test('a getter that throws is that op’s failure', () => {
    const op = {
      op: 'link.del',
      get link(): string {
        throw new Error('got you');
      },
    } as const;
    expect(netlink.batchSync([op, { op: 'bridge.add', name: 'br0' }])).toMatchObject([
      { ok: false, error: { message: expect.stringContaining('got you') } },
      { ok: true },
    ]);
  });

  test('of any kind gives each op a result, and the process lives', async () => {
    await netlink.run([{ op: 'veth.add', name: 'v0', up: true, peer: { name: 'v1', up: true } }]);
    const value = fc.oneof(
      fc.constantFrom<unknown>(
        'v0',
        'v1',
        'lo',
        'nope',
        '10.0.0.1',
        '10.0.0.0/8',
        'fd00::/64',
        'fd00::1',
        'default',
        '0a:00:00:00:00:01',
      ),
      fc.constantFrom<unknown>(
        undefined,
        null,
        NaN,
        Infinity,
        -1,
        0,
        1,
        4,
        6,
        254,
        2 ** 31,
        2 ** 32,
        2 ** 53,
        true,
        false,
        10n,
        Symbol('x'),
      ),
      fc.constantFrom<unknown>(
        {},
        [],
        { path: '/proc/self/ns/net' },
        { path: '/dev/null' },
        { pid: 1e9 },
        () => 1,
        new Date(0),
        new Uint8Array(4),
      ),
      fc.constantFrom<unknown>('ingress', 'egress', 'link', 'blackhole', 'permanent'),
      fc.string({ unit: 'binary' }),
      fc.string({ minLength: 250, maxLength: 300 }),
      fc.double(),
    );
    const names = [
      'veth.add',
      'bridge.add',
      'link.set',
      'addr.add',
      'addr.replace',
      'addr.del',
      'route.add',
      'route.replace',
      'route.del',
    ];
    names.push('neigh.replace', 'neigh.del', 'clsact.add', 'clsact.del', 'filter.replace', 'filter.del', 'nonsense');
    // Not a namespace: the devices that garbage makes shall stay in that of the test.
    const fields = [
      'link',
      'name',
      'mac',
      'mtu',
      'alias',
      'up',
      'queues',
      'address',
      'noDad',
      'dst',
      'family',
      'via',
      'onlink',
      'table',
    ];
    fields.push(
      'protocol',
      'scope',
      'metric',
      'type',
      'src',
      'state',
      'proxy',
      'direction',
      'priority',
      'handle',
      'fd',
      'master',
    );
    const record = fc.dictionary(fc.constantFrom(...fields), value, { maxKeys: 12 });
    const op = fc.oneof(
      {
        weight: 20,
        arbitrary: fc
          .tuple(fc.constantFrom(...names), record, fc.oneof(record, value))
          .map(([name, rest, peer]) => ({ ...rest, op: name, peer })),
      },
      { weight: 1, arbitrary: value },
    );
    const seen = { ok: 0, refused: 0, failed: 0 };
    const check = fc.property(fc.array(op, { maxLength: 20 }), (ops) => {
      const results = netlink.batchSync(ops as NetlinkOp[]);
      expect(results).toHaveLength(ops.length);
      for (const result of results) {
        if (result.ok) {
          seen.ok += 1;
          continue;
        }
        seen[result.error.syscall === 'encode' ? 'refused' : 'failed'] += 1;
        expect(result.error).toMatchObject({
          code: expect.stringMatching(/^E/),
          errno: expect.any(Number),
          object: expect.any(String),
        });
      }
    });
    // Until it got past the checks, too, however slow the machine is.
    do fc.assert(check, { interruptAfterTimeLimit: 1000, numRuns: 3000 });
    while (Math.min(seen.ok, seen.failed, seen.refused) === 0);
    expect(netlink.link(1)).toBeDefined();
  });
});
