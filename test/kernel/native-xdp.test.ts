import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { attachedPrograms, attachXdp, type BpfProgram, loadObject, type LoadedObject } from '#native/bpf.ts';
import { openNetlink } from '#native/netlink.ts';
import type { Netlink } from '#native/types.ts';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';

const elf = new URL('../../build/bpf/native.bpf.o', import.meta.url).pathname;
let object: LoadedObject;
let ns: TestNetns;
let netlink: Netlink;

const program = (name: string): BpfProgram => object.program(name);
const device = () => ({ ifindex: netlink.link('v0')?.index ?? 0, netns: { path: ns.path } });
const onDevice = async () =>
  (await attachedPrograms({ ...device(), hook: 'xdp' })).map(({ name, mode }) => [name, mode]);

beforeAll(async () => {
  object = await loadObject({ name: 'native', elf });
});
afterAll(() => object[Symbol.dispose]());
beforeEach(async () => {
  ns = await createNetns();
  netlink = openNetlink({ path: ns.path });
  await netlink.run([{ op: 'veth.add', name: 'v0', up: true, peer: { name: 'v1', up: true } }]);
});
afterEach(async () => {
  netlink[Symbol.dispose]();
  await ns[Symbol.asyncDispose]();
});

describe('an XDP program that is set by netlink', () => {
  test.each(['native', 'generic'] as const)('comes where none is, and goes (%s)', async (mode) => {
    const { fd } = program('passes');
    await netlink.run([{ op: 'xdp.set', link: 'v0', mode, fd }]);
    expect(await onDevice()).toEqual([['passes', mode]]);
    await netlink.run([{ op: 'xdp.set', link: 'v0', mode, expected: fd }]);
    expect(await onDevice()).toEqual([]);
  });

  test('is replaced by who names it', async () => {
    const [one, two] = [program('passes').fd, program('passes_too').fd];
    await netlink.run([{ op: 'xdp.set', link: 'v0', mode: 'native', fd: one }]);
    await netlink.run([{ op: 'xdp.set', link: 'v0', mode: 'native', fd: two, expected: one }]);
    expect(await onDevice()).toEqual([['passes_too', 'native']]);
  });

  test("never comes over another's, in whatever place or way that was attached", async () => {
    const [mine, other] = [program('passes').fd, program('passes_too').fd];
    await netlink.run([{ op: 'xdp.set', link: 'v0', mode: 'native', fd: other }]);
    for (const op of [
      { fd: mine, mode: 'native' },
      { fd: mine, mode: 'generic' },
      { fd: mine, expected: mine, mode: 'native' },
      { expected: mine, mode: 'native' },
    ] as const) {
      const [result] = await netlink.batch([{ op: 'xdp.set', link: 'v0', ...op }]);
      expect(result).toMatchObject({ ok: false, error: { code: expect.stringMatching(/^(EBUSY|EEXIST)$/) } });
    }
    await netlink.run([{ op: 'xdp.set', link: 'v0', mode: 'native', expected: other }]);
    await using link = (await attachXdp(program('passes_too'), device())).link;
    const [result] = await netlink.batch([{ op: 'xdp.set', link: 'v0', mode: 'native', fd: mine }]);
    expect(result).toMatchObject({ ok: false, error: { code: 'EBUSY' } });
    expect(await link.info()).toMatchObject({ kind: 'xdp' });
    expect(await onDevice()).toEqual([['passes_too', 'native']]);
  });

  test.each([
    ['a driver without XDP', { link: 'lo', mode: 'native', fd: 0 }, 'EOPNOTSUPP'],
    ['no device', { link: 'nope', mode: 'native', fd: 0 }, 'ENODEV'],
    ['another mode', { link: 'v0', mode: 'offload' as 'native', fd: 0 }, 'EINVAL'],
    ['nothing named', { link: 'v0', mode: 'native' }, 'EINVAL'],
  ] as const)('is refused: %s', async (_, op, code) => {
    const fd = 'fd' in op ? { fd: program('passes').fd } : {};
    const [result] = await netlink.batch([{ op: 'xdp.set', ...op, ...fd }]);
    expect(result).toMatchObject({ ok: false, error: { code } });
  });
});
