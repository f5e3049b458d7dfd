import { describe, expect, test } from '@jest/globals';
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';
import { openMonitor } from '#native/monitor.ts';
import type { Monitor } from '#native/monitor.ts';
import { openNetlink } from '#native/netlink.ts';
import type { MonitorGroup, NetlinkEvent } from '#native/types.ts';
import { createNetns } from '#test/lab/netns.ts';

const groups: MonitorGroup[] = ['link', 'addr4', 'addr6', 'route4', 'route6', 'neigh', 'tc'];

/** Takes events until one matches; fails by the test's time limit when none does. */
async function until(monitor: Monitor, wanted: (event: NetlinkEvent) => boolean): Promise<NetlinkEvent[]> {
  const seen: NetlinkEvent[] = [];
  for (;;) {
    const { done, value } = await monitor.next();
    if (done === true) throw new Error(`the monitor ended after ${JSON.stringify(seen)}`);
    seen.push(value);
    if (wanted(value)) return seen;
  }
}

describe('monitor', () => {
  test('tells of links, addresses, routes, neighbours, qdiscs and filters, in order', async () => {
    await using ns = await createNetns();
    using monitor = openMonitor(groups, { path: ns.path });
    using netlink = openNetlink({ path: ns.path });
    await netlink.run([
      { op: 'veth.add', name: 'v0', up: true, peer: { name: 'v1', up: true } },
      { op: 'addr.add', link: 'v0', address: '10.0.0.1/24' },
      { op: 'addr.add', link: 'v0', address: 'fd00::1/64', noDad: true },
    ]);
    // The kernel tells of an IPv6 address when it is through with duplicate detection, which it is even for this one.
    const events = await until(monitor, (event) => event.type === 'addr.new' && event.address.address === 'fd00::1/64');
    await netlink.run([
      { op: 'route.add', dst: '10.9.0.0/16', via: '10.0.0.2', link: 'v0' },
      { op: 'route.add', dst: 'fd09::/64', via: 'fd00::2', link: 'v0' },
      { op: 'neigh.replace', link: 'v0', address: '10.0.0.2', mac: '0a:00:00:00:00:02' },
      { op: 'clsact.add', link: 'v0' },
      { op: 'clsact.del', link: 'v0' },
      { op: 'link.del', link: 'v0' },
    ]);
    events.push(...(await until(monitor, (event) => event.type === 'link.del' && event.link.name === 'v0')));
    const ifindex = events.flatMap((event) =>
      event.type === 'link.new' && event.link.name === 'v0' ? [event.link.index] : [],
    )[0]!;
    const wanted = [
      { type: 'link.new', link: { name: 'v0', kind: 'veth' } },
      { type: 'addr.new', address: { address: '10.0.0.1/24', linkIndex: ifindex } },
      { type: 'route.new', route: { dst: '10.9.0.0/16', via: '10.0.0.2', linkIndex: ifindex } },
      { type: 'route.new', route: { dst: 'fd09::/64', via: 'fd00::2', linkIndex: ifindex } },
      { type: 'neigh.new', neighbour: { address: '10.0.0.2', mac: '0a:00:00:00:00:02', state: 'permanent' } },
      { type: 'qdisc.new', linkIndex: ifindex, qdisc: { kind: 'clsact', isRoot: false } },
      { type: 'qdisc.del', linkIndex: ifindex },
      { type: 'link.del', link: { name: 'v0' } },
    ];
    const matched = wanted.map((event) => events.findIndex((seen) => matches(seen, event)));
    expect(matched).not.toContain(-1);
    expect(matched).toEqual([...matched].sort((a, b) => a - b));
  });

  test('listens to the groups that were asked for only, in its namespace only', async () => {
    await using ns = await createNetns();
    await using other = await createNetns();
    using monitor = openMonitor(['route4'], { path: ns.path });
    using elsewhere = openNetlink({ path: other.path });
    using netlink = openNetlink({ path: ns.path });
    await elsewhere.run([{ op: 'route.add', dst: '10.1.0.0/16', type: 'blackhole' }]);
    await netlink.run([
      { op: 'bridge.add', name: 'br0' },
      { op: 'route.add', dst: '10.2.0.0/16', type: 'blackhole' },
    ]);
    const events = await until(monitor, () => true);
    expect(events).toMatchObject([{ type: 'route.new', route: { dst: '10.2.0.0/16', type: 'blackhole' } }]);
  });

  test('says overrun when more happened than the kernel keeps, and goes on', async () => {
    await using ns = await createNetns();
    using monitor = openMonitor(['route4'], { path: ns.path });
    using netlink = openNetlink({ path: ns.path });
    for (let round = 0; round < 30; round++) {
      const routes = Array.from({ length: 1000 }, (_, i) => `10.${round}.${i >> 8}.${i & 255}/32`);
      await netlink.run(routes.map((dst) => ({ op: 'route.add', dst, type: 'blackhole' })));
    }
    await until(monitor, (event) => event.type === 'overrun');
    await netlink.run([{ op: 'route.add', dst: '10.255.0.0/32', type: 'blackhole' }]);
    const after = await until(monitor, (event) => event.type === 'route.new');
    expect(after).toMatchObject([{ type: 'route.new', route: { dst: '10.255.0.0/32' } }]);
  });

  test('does not keep others from their turn while events come', async () => {
    await using ns = await createNetns();
    using monitor = openMonitor(['route4'], { path: ns.path });
    using netlink = openNetlink({ path: ns.path });
    const ops = Array.from(
      { length: 2000 },
      (_, i) => ({ op: 'route.add', dst: `10.0.${i >> 8}.${i & 255}/32`, type: 'blackhole' }) as const,
    );
    await netlink.run(ops);
    let turns = 0;
    let stop = false;
    const counting = (async () => {
      while (!stop) {
        turns += 1;
        await setImmediate();
      }
    })();
    await until(monitor, (event) => event.type === 'route.new' && event.route.dst === '10.0.7.207/32');
    stop = true;
    await counting;
    expect(turns).toBeGreaterThan(20);
  });

  test('leaving the loop closes it', async () => {
    await using ns = await createNetns();
    using netlink = openNetlink({ path: ns.path });
    const before = readdirSync('/proc/self/fd').length;
    const monitor = openMonitor(['link'], { path: ns.path });
    await netlink.run([{ op: 'bridge.add', name: 'br0' }]);
    for await (const event of monitor) {
      expect(event.type).toBe('link.new');
      break;
    }
    expect(await monitor.next()).toEqual({ done: true, value: undefined });
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });

  test('disposing ends the wait of whoever waits, also twice', async () => {
    const monitor = openMonitor(['tc']);
    const first = monitor.next();
    const second = monitor.next();
    await setImmediate();
    monitor[Symbol.dispose]();
    monitor[Symbol.dispose]();
    expect(await first).toEqual({ done: true, value: undefined });
    expect(await second).toEqual({ done: true, value: undefined });
  });

  test('200 monitors leave no descriptor behind', async () => {
    await using ns = await createNetns();
    const before = readdirSync('/proc/self/fd').length;
    for (let i = 0; i < 200; i++) {
      using monitor = openMonitor(groups, { path: ns.path });
      const waiting = monitor.next();
      monitor[Symbol.dispose]();
      await waiting;
    }
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });

  test.each([
    ['left open, but nobody waits', "openMonitor(['link']);"],
    ['disposed while someone waits', "const m = openMonitor(['link']); void m.next(); m[Symbol.dispose]();"],
  ])('a process ends with a monitor %s', async (_, code) => {
    const script = `import { openMonitor } from './native/monitor.ts'; ${code}`;
    const { stderr } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], {
      timeout: 60_000,
    });
    expect(stderr).toBe('');
  });

  test('a worker thread may end with an open monitor', async () => {
    const worker = `import('${new URL('../../native/monitor.ts', import.meta.url).href}').then(({ openMonitor }) => {
      void openMonitor(['link']).next();
      setImmediate(() => process.exit(0));
    });`;
    const script = `
      import { Worker } from 'node:worker_threads';
      const worker = new Worker(${JSON.stringify(worker)}, { eval: true });
      worker.on('error', (error) => { throw error; });
      worker.on('exit', () => console.log('ended'));`;
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], {
      timeout: 60_000,
    });
    expect(stdout).toBe('ended\n');
  });

  test.each([
    ['not an array', 'link'],
    ['an unknown group', ['link', 'nonsense']],
    ['no text', [7]],
  ])('groups that are %s are an error that says so', (_, bad) => {
    expect(() => openMonitor(bad as unknown as MonitorGroup[])).toThrow(
      expect.objectContaining({ code: 'EINVAL', message: expect.stringContaining('groups:') }),
    );
  });
});

/** Does `seen` have all that `wanted` has? */
function matches(seen: unknown, wanted: object): boolean {
  try {
    expect(seen).toMatchObject(wanted);
    return true;
  } catch {
    return false;
  }
}
