/** What the pre-flight asks the kernel by: probes that need a device, a namespace without a name, nf_tables' tables and hooks. */
import { readdirSync, readlinkSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { probeBpf, type ProbeRequest } from '#native/bpf.ts';
import { openNetlink } from '#native/netlink.ts';
import { netnsInode } from '#native/netns.ts';
import { readNftables } from '#native/nftables.ts';
import { makeScratchNetns } from '#native/scratch-netns.ts';
import { must } from '#test/lab/exec.ts';
import { createNetns } from '#test/lab/netns.ts';
import { until } from '#test/lab/until.ts';

const HASH = 1;
const SCHED_CLS = 3;
const XDP = 6;
const REDIRECT_PEER = 155;
const INET4_CONNECT = 10;

describe('a namespace for trying', () => {
  test('is a new one, empty, reachable by other processes, and gone with its handle', async () => {
    const scratch = await makeScratchNetns();
    const inode = netnsInode(scratch.ref);
    try {
      expect(inode).not.toBe(netnsInode());
      using netlink = openNetlink(scratch.ref);
      expect((await netlink.links()).filter(({ kind }) => kind !== 'ipip' && kind !== 'sit')).toMatchObject([
        { name: 'lo', up: false },
      ]);
      expect(await must('nsenter', `--net=${scratch.ref.path}`, 'readlink', '/proc/self/ns/net')).toBe(
        `net:[${inode}]\n`,
      );
    } finally {
      scratch[Symbol.dispose]();
    }
    expect(() => netnsInode(scratch.ref)).toThrow(expect.objectContaining({ code: 'ENOENT' }));
  });

  test('does not move the thread that asks for it', async () => {
    const home = netnsInode();
    const all = await Promise.all(Array.from({ length: 8 }, () => makeScratchNetns()));
    try {
      expect(new Set([home, ...all.map(({ ref }) => netnsInode(ref))]).size).toBe(9);
      expect(netnsInode()).toBe(home);
    } finally {
      for (const scratch of all) scratch[Symbol.dispose]();
    }
  });
});

describe('a probe', () => {
  test.each([
    ['a device', { link: 'veth' }],
    ['a VXLAN device', { link: 'vxlan' }],
    ['clsact', { clsact: true }],
    ['a tcx link', { tcx: true }],
    ['live frames', { liveFrames: true }],
  ] as const)('says yes to %s and leaves nothing of it when the namespace is gone', async (_, what) => {
    using scratch = await makeScratchNetns();
    expect(await probeBpf({ ...what, netns: scratch.ref })).toEqual({ answer: 'yes' });
    const before = devicesOf(await links());
    expect(await probeBpf(what)).toEqual({ answer: 'yes' });
    // Others probe here meanwhile: theirs go by themselves.
    const left = devicesOf(await links()).filter((index) => !before.includes(index));
    await until(async () => devicesOf(await links()).every((index) => !left.includes(index)));
  });

  test.each<[string, ProbeRequest]>([
    ['a helper', { helper: REDIRECT_PEER, program: SCHED_CLS }],
    ['a program with its type of attachment', { program: 18, attachType: INET4_CONNECT }],
    ['a program that must not refuse', { program: 18, attachType: 19 }],
    ['a program that may sleep', { program: 31, sleepable: true }],
    ['a map of many entries', { map: { type: HASH, keySize: 4, valueSize: 4, flags: 0, entries: 1000 } }],
  ])('says yes to %s', async (_, what) => {
    expect(await probeBpf(what)).toEqual({ answer: 'yes' });
  });

  test.each<[string, ProbeRequest, string]>([
    ['a kind of device that does not exist', { link: 'no-such' as 'veth' }, 'Unknown device type'],
    ['a helper that does not exist', { helper: 99_999, program: SCHED_CLS }, 'invalid func'],
    ['a helper that this type of program may not call', { helper: REDIRECT_PEER, program: XDP }, 'cannot use helper'],
    ['a program that must sleep and is not said to', { program: 31 }, 'EINVAL'],
    ['a type of attachment that there is not', { program: 18, attachType: 9999 }, 'EINVAL'],
  ])("says no to %s, in the kernel's words", async (_, what, words) => {
    expect(await probeBpf(what)).toEqual({ answer: 'no', reason: expect.stringContaining(words) });
  });

  test.each<[string, ProbeRequest, string]>([
    ['a cgroup that is not there', { cgroup: '/no/such', attachType: INET4_CONNECT }, 'ENOENT'],
    ['a directory that is no cgroup', { cgroup: '/tmp', attachType: INET4_CONNECT }, 'EBADF'],
    ['a namespace that is not there', { tcx: true, netns: { path: '/no/such' } }, 'ENOENT'],
    ['a namespace that is none', { link: 'veth', netns: { path: '/dev/null' } }, 'netns /dev/null'],
  ])('could not tell for %s, and says why', async (_, what, words) => {
    expect(await probeBpf(what)).toEqual({ answer: 'unknown', reason: expect.stringContaining(words) });
  });

  test.each([
    [{}],
    [{ link: 'a-name-that-is-too-long' }],
    [{ map: { type: 1 } }],
    [{ helper: 1 }],
    [{ cgroup: '/tmp' }],
    [{ tcx: true, netns: 7 }],
  ])('refuses what is no question: %j', async (what) => {
    await expect(async () => probeBpf(what as unknown as ProbeRequest)).rejects.toMatchObject({ code: 'EINVAL' });
  });
});

const links = async () => {
  using netlink = openNetlink();
  return await netlink.links();
};
/** Indices of what a probe could have left; other tests make and remove devices meanwhile. */
const devicesOf = (all: readonly { readonly name: string; readonly index: number }[]) =>
  all.filter(({ name }) => name.startsWith('probe')).map(({ index }) => index);

test('nf_tables says which tables there are and which chains packets enter', async () => {
  await using ns = await createNetns();
  expect(await readNftables({ path: ns.path })).toEqual({ tables: [], baseChains: [] });
  await ns.exec('nft', 'add table inet firewalld; add chain inet firewalld other; add table ip empty');
  await ns.exec('nft', 'add chain inet firewalld f { type filter hook forward priority 10; policy drop; }');
  await ns.exec('nft', 'add chain ip empty n { type nat hook postrouting priority -5; }');
  await ns.exec(
    'nft',
    'add table netdev dev; add chain netdev dev i { type filter hook ingress device lo priority 0; }',
  );
  const { tables, baseChains } = await readNftables({ path: ns.path });
  expect(tables).toHaveLength(3);
  expect(tables).toEqual(
    expect.arrayContaining([
      { family: 'ip', name: 'empty' },
      { family: 'netdev', name: 'dev' },
      { family: 'inet', name: 'firewalld' },
    ]),
  );
  expect(baseChains).toHaveLength(3);
  expect(baseChains).toEqual(
    expect.arrayContaining([
      {
        family: 'inet',
        table: 'firewalld',
        name: 'f',
        type: 'filter',
        hook: 'forward',
        priority: 10,
        policy: 'drop',
      },
      { family: 'ip', table: 'empty', name: 'n', type: 'nat', hook: 'postrouting', priority: -5, policy: 'accept' },
      { family: 'netdev', table: 'dev', name: 'i', type: 'filter', hook: 'ingress', priority: 0, policy: 'accept' },
    ]),
  );
});

test('nf_tables of thousands of chains are read whole, without those that packets reach by jumps only', async () => {
  await using ns = await createNetns();
  const chains = Array.from({ length: 3000 }, (_, n) => `add chain ip t KUBE-SVC-${n}`).join('\n');
  await ns.exec('sh', '-c', `printf '%s\\n' "$0" | nft -f -`, `add table ip t\n${chains}`);
  await ns.exec('nft', 'add chain ip t f { type filter hook forward priority 0; policy drop; }');
  expect((await readNftables({ path: ns.path })).baseChains).toMatchObject([{ name: 'f', policy: 'drop' }]);
});

test('devices of one kind can be tried at the same time in one namespace', async () => {
  using scratch = await makeScratchNetns();
  const answers = await Promise.all([1, 2, 3].map(() => probeBpf({ link: 'veth', netns: scratch.ref })));
  expect(answers).toEqual([{ answer: 'yes' }, { answer: 'yes' }, { answer: 'yes' }]);
});

test('no descriptor is left by probes', async () => {
  const open = () =>
    readdirSync('/proc/self/fd').flatMap((fd) => {
      try {
        return [`${fd} ${readlinkSync(`/proc/self/fd/${fd}`)}`];
      } catch {
        return []; // Closed meanwhile, as that of the folder itself.
      }
    });
  using scratch = await makeScratchNetns();
  await probeBpf({ tcx: true, netns: scratch.ref });
  const before = open();
  for (let round = 0; round < 5; round++) {
    await probeBpf({ tcx: true, netns: scratch.ref });
    await probeBpf({ link: 'veth', netns: scratch.ref });
    await probeBpf({ helper: REDIRECT_PEER, program: SCHED_CLS });
    await readNftables(scratch.ref);
  }
  // Jest and earlier tests may still close theirs, which doesn't matter.
  expect(open().filter((fd) => !before.includes(fd))).toEqual([]);
});
