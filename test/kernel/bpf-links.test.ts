/** Programs attached to devices and control groups by links: native/bpf-links.ts. */
import { mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import {
  attachCgroup,
  attachedPrograms,
  attachTcx,
  attachXdp,
  loadObject,
  mountBpffs,
  openPinnedLink,
  tcxPrograms,
  probeBpf,
  unmountBpffs,
  type BpfProgram,
  type DeviceTarget,
  type LoadedObject,
  type MappedArray,
} from '#native/bpf.ts';
import { cgroup2 } from '#test/lab/cgroups.ts';
import { must } from '#test/lab/exec.ts';
import { createNetns, uniqueName, type TestNetns } from '#test/lab/netns.ts';
import { until } from '#test/lab/until.ts';

const elf = new URL('../../build/bpf/native.bpf.o', import.meta.url).pathname;

/** Kernel 6.1 has no tcx: what needs it is skipped there, which is counted. */
const tcx = await probeBpf({ tcx: true });
const hasTcx = tcx.answer === 'yes';

let dir: string;
let bpffs: string;
let object: LoadedObject;
let seen: MappedArray;
let ns: TestNetns;
let lo: DeviceTarget;
let veth: DeviceTarget;

/** Where programs count, by their names. */
const places = { first_of_tc: 10, second_of_tc: 11, drops: 12, passes: 13, passes_too: 14, forbids: 15, allows: 16 };
const countOf = (name: keyof typeof places): number => seen.load32(places[name], 0);
const program = (name: keyof typeof places): BpfProgram => object.program(name);
const names = async (hook: 'ingress' | 'egress' | 'xdp', device = lo): Promise<string[]> =>
  (await attachedPrograms({ ...device, hook })).map(({ name }) => name);

const cleanup = new AsyncDisposableStack();

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), `tt${process.pid}-link-`));
  cleanup.defer(() => rmSync(dir, { recursive: true }));
  bpffs = join(dir, 'fs');
  mkdirSync(bpffs);
  mountBpffs(bpffs, `tt${process.pid}`);
  cleanup.defer(() => unmountBpffs(bpffs));
  object = cleanup.use(await loadObject({ name: 'native', elf }));
  seen = cleanup.use(object.map('shared').mmap());
  ns = cleanup.use(await createNetns());
  await ns.exec('ip', 'link', 'set', 'lo', 'up');
  await ns.exec('ip', 'link', 'add', 'va', 'type', 'veth', 'peer', 'name', 'vb');
  lo = { ifindex: 1, netns: { path: ns.path } };
  const [device] = await ns.ip<{ ifindex: number }[]>('link', 'show', 'dev', 'va');
  veth = { ifindex: device?.ifindex ?? 0, netns: { path: ns.path } };
});

afterAll(async () => {
  await cleanup.disposeAsync();
});

/** One packet over the loopback device. */
const sendPacket = async (): Promise<void> => {
  await ns.exec('bash', '-c', 'echo x >/dev/udp/127.0.0.1/9');
};

const why = hasTcx ? '' : ` (${tcx.reason})`;

(hasTcx ? describe : describe.skip)(`a tcx link${why}`, () => {
  test('runs its program in the direction and namespace asked for, until it is disposed of', async () => {
    const before = countOf('first_of_tc');
    {
      await using link = await attachTcx(program('first_of_tc'), 'egress', lo);
      expect(await link.info()).toEqual({
        id: link.id,
        kind: 'tcx',
        programId: program('first_of_tc').id,
        ifindex: 1,
        attachType: 47,
      });
      expect(await names('egress')).toEqual(['first_of_tc']);
      expect(await names('ingress')).toEqual([]);
      await sendPacket();
      expect(countOf('first_of_tc')).toBeGreaterThan(before);
    }
    const after = countOf('first_of_tc');
    await sendPacket();
    expect(countOf('first_of_tc')).toBe(after);
    expect(await names('egress')).toEqual([]);
  });

  test('stands where it was asked to among others', async () => {
    await using middle = await attachTcx(program('second_of_tc'), 'ingress', lo);
    await using first = await attachTcx(program('first_of_tc'), 'ingress', lo, 'first');
    expect(await names('ingress')).toEqual(['first_of_tc', 'second_of_tc']);
    {
      await using _last = await attachTcx(program('drops'), 'ingress', lo, 'last');
      expect(await names('ingress')).toEqual(['first_of_tc', 'second_of_tc', 'drops']);
    }
    {
      await using _before = await attachTcx(program('drops'), 'ingress', lo, { before: { linkId: middle.id } });
      expect(await names('ingress')).toEqual(['first_of_tc', 'drops', 'second_of_tc']);
    }
    {
      const after = { after: { programId: program('second_of_tc').id } };
      await using _after = await attachTcx(program('drops'), 'ingress', lo, after);
      expect(await names('ingress')).toEqual(['first_of_tc', 'second_of_tc', 'drops']);
    }
    expect(await attachedPrograms({ ...lo, hook: 'ingress' })).toEqual([
      { programId: program('first_of_tc').id, name: 'first_of_tc', linkId: first.id },
      { programId: program('second_of_tc').id, name: 'second_of_tc', linkId: middle.id },
    ]);
  });

  test('is told of many devices at once, of those that have some', async () => {
    const [first, second] = [program('first_of_tc'), program('second_of_tc')];
    await using _in = await attachTcx(first, 'ingress', lo);
    await using _behind = await attachTcx(second, 'ingress', lo);
    await using _out = await attachTcx(second, 'egress', lo);
    // One has none, one is not there.
    expect(await tcxPrograms([lo.ifindex, veth.ifindex, 4_000_000], lo.netns)).toEqual([
      { ifindex: lo.ifindex, ingress: [first.id, second.id], egress: [second.id] },
    ]);
  });

  test('that says "drop" in front keeps packets from those behind it', async () => {
    await using _behind = await attachTcx(program('second_of_tc'), 'egress', lo);
    await using _front = await attachTcx(program('drops'), 'egress', lo, 'first');
    const before = countOf('second_of_tc');
    const dropped = countOf('drops');
    // The sender of a dropped packet isn't told.
    await sendPacket();
    expect(countOf('drops')).toBeGreaterThan(dropped);
    expect(countOf('second_of_tc')).toBe(before);
  });

  test('changes its program, but not when another one was expected', async () => {
    await using link = await attachTcx(program('first_of_tc'), 'ingress', lo);
    await link.update(program('second_of_tc'), program('first_of_tc'));
    expect(await names('ingress')).toEqual(['second_of_tc']);
    await expect(link.update(program('drops'), program('first_of_tc'))).rejects.toMatchObject({ code: 'EPERM' });
    expect(await names('ingress')).toEqual(['second_of_tc']);
  });

  test('lives by its pin, is found again by it, and is detached though it is pinned', async () => {
    const path = join(bpffs, 'link');
    const first = await attachTcx(program('first_of_tc'), 'ingress', lo);
    first.pin(path);
    await first[Symbol.asyncDispose]();
    expect(await names('ingress')).toEqual(['first_of_tc']);
    await using found = await openPinnedLink(path);
    expect(found).toMatchObject({ id: first.id, kind: 'tcx' });
    await found?.detach();
    expect(await names('ingress')).toEqual([]);
    expect(await found?.info()).not.toHaveProperty('ifindex');
    rmSync(path);
  });

  test('of a device that went away has none, and takes no program any more', async () => {
    await ns.exec('ip', 'link', 'add', 'gone', 'type', 'veth', 'peer', 'name', 'gone-too');
    const [{ ifindex } = { ifindex: 0 }] = await ns.ip<{ ifindex: number }[]>('link', 'show', 'dev', 'gone');
    await using link = await attachTcx(program('first_of_tc'), 'ingress', { ...lo, ifindex });
    await ns.exec('ip', 'link', 'del', 'gone');
    expect(await link.info()).not.toHaveProperty('ifindex');
    await expect(link.update(program('drops'))).rejects.toMatchObject({ code: 'ENOLINK' });
  });

  test('that was only disposed of goes in the background', async () => {
    const link = await attachTcx(program('first_of_tc'), 'ingress', lo);
    link[Symbol.dispose]();
    link[Symbol.dispose]();
    for (let waited = 0; (await names('ingress')).length > 0 && waited < 3000; waited++)
      await new Promise((resolve) => setTimeout(resolve, 10));
    expect(await names('ingress')).toEqual([]);
    await expect(async () => await link.info()).rejects.toMatchObject({ code: 'EBADF' });
  });

  test('leaves a program alone that somebody else has attached', async () => {
    await using _foreign = await attachTcx(program('second_of_tc'), 'ingress', lo);
    {
      await using _ours = await attachTcx(program('first_of_tc'), 'ingress', lo, 'first');
    }
    expect(await names('ingress')).toEqual(['second_of_tc']);
  });

  test.each([
    ['no such device', () => ({ ...lo, ifindex: 999_999 }), 'last', 'ENODEV'],
    ['no such neighbour', () => lo, { before: { linkId: 0x7fffffff } }, 'ENOENT'],
    ['no such namespace', () => ({ ifindex: 1, netns: { path: '/no/such' } }), 'last', 'ENOENT'],
  ] as const)('is refused with %s', async (_, device, position, code) => {
    await expect(attachTcx(program('drops'), 'ingress', device(), position)).rejects.toMatchObject({ code });
  });

  test('takes a program once', async () => {
    await using _link = await attachTcx(program('drops'), 'ingress', lo);
    await expect(attachTcx(program('drops'), 'ingress', lo)).rejects.toMatchObject({ code: 'EEXIST' });
  });

  test('is refused for a program of another type', async () => {
    await expect(attachTcx(program('passes'), 'ingress', lo)).rejects.toMatchObject({ code: 'EINVAL' });
  });
});

describe('an XDP link', () => {
  test('runs in the driver where that is possible', async () => {
    const { link, ...how } = await attachXdp(program('passes'), veth);
    await using _ = link;
    expect(how).toEqual({ mode: 'native' });
    expect(await link.info()).toMatchObject({ kind: 'xdp', ifindex: veth.ifindex, attachType: 37 });
    expect(await attachedPrograms({ ...veth, hook: 'xdp' })).toEqual([
      { programId: program('passes').id, name: 'passes', mode: 'native' },
    ]);
  });

  test('runs in the stack where the driver has none, and says why', async () => {
    const { link, ...how } = await attachXdp(program('passes'), lo);
    await using _ = link;
    expect(how).toEqual({ mode: 'generic', nativeRefused: expect.stringContaining('EOPNOTSUPP') });
    expect(await attachedPrograms({ ...lo, hook: 'xdp' })).toMatchObject([{ mode: 'generic' }]);
    const before = countOf('passes');
    await sendPacket();
    await until(() => countOf('passes') > before);
  });

  test('runs where it was asked to, or not at all', async () => {
    const { link, mode } = await attachXdp(program('passes'), veth, 'generic');
    await link[Symbol.asyncDispose]();
    expect(mode).toBe('generic');
    await expect(attachXdp(program('passes'), lo, 'native')).rejects.toMatchObject({ code: 'EOPNOTSUPP' });
    await expect(attachXdp(program('passes'), veth, 'offload')).rejects.toMatchObject({
      code: 'EOPNOTSUPP',
      message: expect.stringContaining('would share no map'),
    });
    expect(await names('xdp', veth)).toEqual([]);
  });

  test("doesn't go around another program by taking the other mode", async () => {
    const { link } = await attachXdp(program('passes'), veth);
    await using _ = link;
    await expect(attachXdp(program('passes_too'), veth)).rejects.toMatchObject({ code: 'EBUSY' });
    expect(await names('xdp', veth)).toEqual(['passes']);
  });

  test('changes its program', async () => {
    const { link } = await attachXdp(program('passes'), veth);
    await using _ = link;
    await link.update(program('passes_too'));
    expect(await names('xdp', veth)).toEqual(['passes_too']);
  });
});

describe('a control group link', () => {
  /** A group of its own, gone with the test. */
  const withGroup = async (body: (path: string) => Promise<void>): Promise<void> => {
    const path = join(cgroup2(), uniqueName());
    mkdirSync(path);
    try {
      await body(path);
    } finally {
      rmdirSync(path);
    }
  };
  /** What a process in the group is told when it connects to a port where nobody is. */
  const connectIn = async (group: string): Promise<string> =>
    await must('bash', '-c', `echo $$ >${group}/cgroup.procs; (exec 3<>/dev/tcp/127.0.0.1/1) 2>&1 || true`);

  test('judges what the processes of the group do, and nobody else', async () => {
    await withGroup(async (group) => {
      expect(await connectIn(group)).toContain('Connection refused');
      {
        await using link = await attachCgroup(program('forbids'), 'connect4', group);
        expect(await link.info()).toMatchObject({ kind: 'cgroup', attachType: 10, cgroupId: expect.any(BigInt) });
        expect(await connectIn(group)).toContain('Operation not permitted');
        const elsewhere = await must('bash', '-c', '(exec 3<>/dev/tcp/127.0.0.1/1) 2>&1 || true');
        expect(elsewhere).toContain('Connection refused');
      }
      expect(await connectIn(group)).toContain('Connection refused');
    });
  });

  test('is one of several, and its place can be asked who is there', async () => {
    await withGroup(async (group) => {
      await using _one = await attachCgroup(program('allows'), 'connect4', group);
      await using _two = await attachCgroup(program('forbids'), 'connect4', group);
      const found = await attachedPrograms({ cgroup: group, hook: 'connect4' });
      expect(found.map(({ name }) => name)).toEqual(['allows', 'forbids']);
      expect(await attachedPrograms({ cgroup: group, hook: 'sendmsg4' })).toEqual([]);
    });
  });

  test('is for the hook for which the program was loaded', async () => {
    await withGroup(async (group) => {
      await expect(attachCgroup(program('allows'), 'sendmsg4', group)).rejects.toMatchObject({ code: 'EINVAL' });
      using again = await loadObject({ name: 'native', elf, programs: { allows: { attachType: 14 } } });
      await using link = await attachCgroup(again.program('allows'), 'sendmsg4', group);
      expect(await link.info()).toMatchObject({ attachType: 14 });
      expect(() => again.program('forbids')).toThrow(expect.objectContaining({ code: 'ENOENT' }));
    });
  });

  test('needs a control group', async () => {
    await expect(attachCgroup(program('allows'), 'connect4', dir)).rejects.toMatchObject({ code: 'EBADF' });
    await expect(attachCgroup(program('allows'), 'connect4', '/no/such')).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

test('a pinned link is a link', async () => {
  const path = join(bpffs, 'map');
  object.map('shared').pin(path);
  await expect(openPinnedLink(path)).rejects.toMatchObject({
    code: 'EINVAL',
    message: expect.stringContaining('it is no link but anon_inode:bpf-map'),
  });
  expect(await openPinnedLink(join(bpffs, 'nothing'))).toBeUndefined();
  rmSync(path);
});

(hasTcx ? test : test.skip)(`no descriptor is left by links, nor by attempts that fail${why}`, async () => {
  const round = async (): Promise<void> => {
    await using link = await attachTcx(program('drops'), 'ingress', lo);
    await link.update(program('second_of_tc'), program('drops'));
    await link.info();
    await attachedPrograms({ ...lo, hook: 'ingress' });
    await expect(attachTcx(program('passes'), 'ingress', lo)).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(attachCgroup(program('allows'), 'connect4', dir)).rejects.toMatchObject({ code: 'EBADF' });
  };
  await round();
  const before = readdirSync('/proc/self/fd').length;
  for (let i = 0; i < 5; i++) await round();
  expect(readdirSync('/proc/self/fd').length).toBe(before);
});
