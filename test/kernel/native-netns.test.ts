import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { openIpset } from '#native/ipset.ts';
import { openMonitor } from '#native/monitor.ts';
import { openNetlink, openNetlinkWithSysctls } from '#native/netlink.ts';
import { netnsInode, writeSysctls } from '#native/netns.ts';
import type { NetnsRef, Sysctl } from '#native/types.ts';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';

let ns: TestNetns;
const home = readlinkSync('/proc/thread-self/ns/net');

beforeEach(async () => {
  ns = await createNetns();
});
afterEach(async () => {
  await ns[Symbol.asyncDispose]();
  // Whatever a test did, and however it failed: the thread is where it was.
  expect(readlinkSync('/proc/thread-self/ns/net')).toBe(home);
});

const inNetns = async (path: string): Promise<string> => (await ns.exec('cat', `/proc/sys/${path}`)).trim();

describe('sysctls', () => {
  test('are written in the namespace, and only where they differ', async () => {
    const sysctls: Sysctl[] = [
      { path: 'net/ipv4/conf/lo/proxy_arp', value: '1' },
      { path: 'net/ipv4/conf/lo/rp_filter', value: '2' },
      { path: 'net/ipv6/conf/all/forwarding', value: '1' },
      { path: 'net/ipv4/ip_local_port_range', value: '20000 30000' },
    ];
    const before = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8');
    expect(writeSysctls(sysctls, { path: ns.path })).toEqual(sysctls.map(({ path }) => ({ path, status: 'written' })));
    for (const { path, value } of sysctls) expect((await inNetns(path)).replace('\t', ' ')).toBe(value);
    expect(writeSysctls(sysctls, { path: ns.path })).toEqual(
      sysctls.map(({ path }) => ({ path, status: 'unchanged' })),
    );
    expect(readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8')).toBe(before);
  });

  test('one that fails is named and does not stop the others', async () => {
    const results = writeSysctls(
      [
        { path: 'net/ipv4/conf/nope/proxy_arp', value: '1' },
        { path: 'net/ipv4/ip_forward', value: 'nonsense' },
        { path: 'net/ipv4/ip_forward', value: '1' },
      ],
      { path: ns.path },
    );
    expect(results).toMatchObject([
      { status: 'failed', error: { code: 'ENOENT', syscall: 'open', object: 'sysctl net/ipv4/conf/nope/proxy_arp=1' } },
      { status: 'failed', error: { code: 'EINVAL', syscall: 'write', object: 'sysctl net/ipv4/ip_forward=nonsense' } },
      { path: 'net/ipv4/ip_forward', status: 'written' },
    ]);
  });

  test.each(['/proc/sys/kernel/hostname', '../../etc/passwd', 'net/../../../etc/passwd', '', 'a\0b', 7, undefined])(
    'a path such as %p is refused',
    (path) => {
      const results = writeSysctls([{ path, value: 'x' } as unknown as Sysctl], { path: ns.path });
      expect(results).toMatchObject([{ status: 'failed', error: { code: 'EINVAL', syscall: 'encode' } }]);
    },
  );

  test('can be written while a socket is opened, in one visit', async () => {
    const { netlink, sysctls } = openNetlinkWithSysctls({ path: ns.path }, [
      { path: 'net/ipv6/conf/all/disable_ipv6', value: '0' },
      { path: 'net/ipv4/ip_forward', value: '1' },
      { path: 'net/nonsense', value: '1' },
    ]);
    using _closing = netlink;
    expect(sysctls.map(({ status }) => status)).toEqual(['unchanged', 'written', 'failed']);
    await netlink.run([{ op: 'bridge.add', name: 'br0' }]);
    expect(await ns.ip('link', 'show', 'br0')).toHaveLength(1);
    expect(await inNetns('net/ipv4/ip_forward')).toBe('1');
  });
});

describe('namespaces', () => {
  test('are told apart by inode number', async () => {
    await using other = await createNetns();
    expect(netnsInode()).toBe(statSync('/proc/self/ns/net').ino);
    expect(netnsInode({ pid: process.pid })).toBe(netnsInode());
    expect(netnsInode({ path: ns.path })).toBe(statSync(ns.path).ino);
    expect(netnsInode({ path: ns.path })).not.toBe(netnsInode({ path: other.path }));
  });

  const openers: [string, (ref: NetnsRef) => unknown][] = [
    ['openNetlink', (ref) => openNetlink(ref)],
    ['openMonitor', (ref) => openMonitor(['link'], ref)],
    ['openIpset', (ref) => openIpset(ref)],
    ['writeSysctls', (ref) => writeSysctls([], ref)],
    ['netnsInode', (ref) => netnsInode(ref)],
  ];
  const bad: [string, unknown, object][] = [
    [
      'a path that is not there',
      { path: '/run/netns/nope' },
      { code: 'ENOENT', syscall: 'open', object: 'netns /run/netns/nope' },
    ],
    ['a file that is no namespace', { path: '/etc/passwd' }, { code: 'EINVAL', object: 'netns /etc/passwd' }],
    [
      'a namespace of another kind',
      { path: '/proc/self/ns/mnt' },
      { code: 'EINVAL', message: expect.stringContaining('not a network namespace') },
    ],
    ['a process that is not there', { pid: 2 ** 31 - 1 }, { code: 'ENOENT' }],
    ['a bad pid', { pid: -1 }, { code: 'EINVAL', message: expect.stringContaining('netns.pid:') }],
    ['both', { pid: 1, path: '/x' }, { code: 'EINVAL', message: expect.stringContaining('either a path or a pid') }],
    ['neither', {}, { code: 'EINVAL' }],
    ['text', '/run/netns/x', { code: 'EINVAL', message: expect.stringContaining('netns: must be an object') }],
    ['null', null, { code: 'EINVAL' }],
  ];
  test.each(
    openers.flatMap(([name, open]) => bad.map(([what, ref, error]) => [name, what, open, ref, error] as const)),
  )('%s with %s fails and names it', (_, __, open, ref, error) => {
    const fds = readdirSync('/proc/self/fd').length;
    expect(() => open(ref as NetnsRef)).toThrow(expect.objectContaining(error));
    expect(readdirSync('/proc/self/fd').length).toBe(fds);
  });

  test('200 visits leave no descriptor behind, and the thread is at home after each', () => {
    const before = readdirSync('/proc/self/fd').length;
    for (let i = 0; i < 200; i++) {
      using netlink = openNetlink({ path: ns.path });
      using ipset = openIpset({ path: ns.path });
      expect(netlink.link('lo')?.index).toBe(1);
      expect(ipset).toBeDefined();
      expect(readlinkSync('/proc/thread-self/ns/net')).toBe(home);
      writeSysctls(
        [
          { path: 'net/ipv4/ip_forward', value: '1' },
          { path: 'nope', value: '1' },
        ],
        { path: ns.path },
      );
      expect(readlinkSync('/proc/thread-self/ns/net')).toBe(home);
    }
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });

  test('a socket keeps its namespace when the name is gone', async () => {
    const gone = await createNetns();
    using netlink = openNetlink({ path: gone.path });
    await gone[Symbol.asyncDispose]();
    await netlink.run([{ op: 'bridge.add', name: 'br0' }]);
    expect(netlink.link('br0')).toMatchObject({ kind: 'bridge' });
  });
});
