/** Loading some programs of an object, running them without an event, and what is known of them: native/bpf-program.ts, bpf-object.ts. */
import { release } from 'node:os';
import { describe, expect, test } from '@jest/globals';
import { attachXdp, loadObject, probeBpf, probeFeatures, type LoadedObject } from '#native/bpf.ts';
import { createNetns } from '#test/lab/netns.ts';

const elf = new URL('../../build/bpf/native.bpf.o', import.meta.url).pathname;
const FRAME = new Uint8Array(64);
const SCHED_CLS = 3;
const SYSCALL = 31;

const load = async (...names: string[]): Promise<LoadedObject> =>
  await loadObject({ name: 'native', elf, programs: Object.fromEntries(names.map((name) => [name, {}])) });

describe('an object', () => {
  test('has only the programs that were asked for', async () => {
    using object = await load('add', 'read_shared');
    expect(object.program('add').type).toBe(SYSCALL);
    expect(object.program('read_shared').type).toBe(SCHED_CLS);
    expect(() => object.program('emit')).toThrow(expect.objectContaining({ code: 'ENOENT' }));
  });

  test('has all of them when none is named, and none when none is asked for', async () => {
    using all = await loadObject({ name: 'native', elf });
    expect(all.program('emit').name).toBe('emit');
    using none = await loadObject({ name: 'native', elf, programs: {} });
    expect(() => none.program('emit')).toThrow(expect.objectContaining({ code: 'ENOENT' }));
    expect(none.map('hash').shape.maxEntries).toBe(8192);
  });

  test('without a program that is asked for is refused', async () => {
    await expect(load('add', 'nothing')).rejects.toMatchObject({
      code: 'ENOENT',
      message: expect.stringContaining('it has no program nothing'),
    });
  });

  test('with a type of attachment that the program can not have is refused', async () => {
    await expect(loadObject({ name: 'native', elf, programs: { allows: { attachType: 3 } } })).rejects.toMatchObject({
      code: 'EINVAL',
    });
  });
});

describe('a program', () => {
  test('says how many instructions the verifier went through', async () => {
    using object = await load('read_shared', 'emit');
    const { verifiedInstructions } = object.program('read_shared');
    // Some loads, a lookup, two exits; each instruction at least once.
    expect(verifiedInstructions).toBeGreaterThan(8);
    expect(verifiedInstructions).toBeLessThan(64);
    expect(object.program('emit').verifiedInstructions).toBeGreaterThan(verifiedInstructions);
  });

  test('of type syscall has its context alone, which it may change', async () => {
    using object = await load('add');
    const context = new Uint8Array(Uint32Array.of(40, 2, 0, 0).buffer);
    for (const result of [object.program('add').testRun({ context }), await object.program('add').run({ context })]) {
      expect(result).toMatchObject({ returned: 7, data: new Uint8Array(0) });
      expect(new Uint32Array(result.context.slice().buffer)[2]).toBe(42);
    }
    expect([...new Uint32Array(context.buffer)]).toEqual([40, 2, 0, 0]);
  });

  test.each([
    ['a packet', { data: FRAME }],
    ['repetition', { repeat: 2 }],
    ['live frames', { liveFrames: true }],
  ])('of type syscall takes no %s', async (_, request) => {
    using object = await load('add');
    const context = new Uint8Array(16);
    expect(() => object.program('add').testRun({ context, ...request })).toThrow(
      expect.objectContaining({ code: 'EINVAL', message: expect.stringContaining('type syscall') }),
    );
  });

  test('changes a packet and its context on a worker as on the calling thread', async () => {
    using object = await load('read_shared');
    // struct __sk_buff up to `priority`, which is kept.
    const context = new Uint8Array(36);
    new DataView(context.buffer).setUint32(32, 77, true);
    const here = object.program('read_shared').testRun({ data: FRAME, context, repeat: 3 });
    const there = await object.program('read_shared').run({ data: FRAME, context, repeat: 3 });
    expect(here).toMatchObject({ returned: 0, data: FRAME });
    expect(there).toEqual({ ...here, nanoseconds: expect.any(Number) });
    expect(new DataView(there.context.buffer).getUint32(32, true)).toBe(77);
  });

  test('runs with frames that are really handed on, on the device that the context names', async () => {
    await using ns = await createNetns();
    await ns.exec('ip', 'link', 'set', 'lo', 'up');
    await ns.exec('ip', 'link', 'add', 'va', 'type', 'veth', 'peer', 'name', 'vb');
    await ns.exec('ip', 'link', 'set', 'va', 'up');
    await ns.exec('ip', 'link', 'set', 'vb', 'up');
    const indexOf = async (name: string): Promise<number> =>
      (await ns.ip<{ ifindex: number }[]>('link', 'show', 'dev', name))[0]?.ifindex ?? 0;
    const ifindex = await indexOf('va');
    const netns = { path: ns.path };
    using object = await load('sends_back', 'passes');
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
    const context = new Uint8Array(Uint32Array.of(0, FRAME.length, 0, ifindex, 0, 0).buffer);
    const counted = async (): Promise<number> => {
      const [peer] = await ns.ip<{ stats64: { rx: { packets: number } } }[]>('-s', 'link', 'show', 'dev', 'vb');
      return peer?.stats64.rx.packets ?? 0;
    };
    // A veth's end takes frames that XDP sends when its peer has a program, too.
    const { link } = await attachXdp(object.program('passes'), { ifindex: await indexOf('vb'), netns }, 'native');
    await using _ = link;
    const before = await counted();
    const result = await object
      .program('sends_back')
      .run({ data: FRAME, context, repeat: 100, liveFrames: true, netns });
    expect(result).toMatchObject({ data: new Uint8Array(0), context: new Uint8Array(0) });
    for (let waited = 0; (await counted()) < before + 100 && waited < 3000; waited++)
      await new Promise((resolve) => setTimeout(resolve, 10));
    expect(await counted()).toBeGreaterThanOrEqual(before + 100);
  });
});

describe('a probe', () => {
  /** Since when kernels have what 6.1 lacks; Debian took none of it over early. */
  const since: Readonly<Record<string, readonly [number, number]>> = {
    tcx: [6, 6],
    destroyTcpSockets: [6, 5],
    destroyUdpSockets: [6, 5],
  };
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const isFrom = ([wantedMajor, wantedMinor]: readonly [number, number]) =>
    major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);

  test('knows what this kernel can', async () => {
    const answers = await probeFeatures();
    expect(Object.keys(answers)).toEqual(expect.arrayContaining(Object.keys(since)));
    for (const [feature, { answer }] of Object.entries(answers)) {
      expect({ feature, answer }).toEqual({ feature, answer: isFrom(since[feature] ?? [6, 1]) ? 'yes' : 'no' });
    }
  });

  test("has the driver's word on XDP", async () => {
    await using ns = await createNetns();
    await ns.exec('ip', 'link', 'add', 'va', 'type', 'veth', 'peer', 'name', 'vb');
    const [{ ifindex } = { ifindex: 0 }] = await ns.ip<{ ifindex: number }[]>('link', 'show', 'dev', 'va');
    const netns = { path: ns.path };
    // Before 6.3 the kernel has no words for it.
    const silent = { answer: 'unknown', reason: expect.any(String) };
    expect(await probeBpf({ xdp: ifindex, netns })).toEqual(isFrom([6, 3]) ? { answer: 'yes' } : silent);
    expect(await probeBpf({ xdp: 1, netns })).toEqual(
      isFrom([6, 3])
        ? { answer: 'no', reason: 'the driver of device 1 has no XDP: only generic XDP runs there' }
        : silent,
    );
    expect(await probeBpf({ xdp: 999_999, netns })).toEqual({
      answer: 'unknown',
      reason: isFrom([6, 3]) ? expect.stringContaining('ENODEV') : expect.any(String),
    });
    expect(await probeBpf({ xdp: 1, netns: { path: '/no/such' } })).toEqual({
      answer: 'unknown',
      reason: expect.stringContaining('ENOENT'),
    });
  });

  test('of sockets knows two protocols', async () => {
    await expect(async () => await probeBpf({ sockDestroy: 'sct' as 'tcp' })).rejects.toMatchObject({ code: 'EINVAL' });
  });
});
