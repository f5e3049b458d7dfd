import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { EbpfDataplane } from '#dataplanes/ebpf/ebpf.ts';
import { HostEnforcement } from '#dataplanes/ebpf/hosts/host-enforcement.ts';
import { PODS_DEVICE } from '#dataplanes/ebpf/hosts/host-slots.ts';
import type { LoadedDataplane } from '#dataplanes/ebpf/loaded-dataplane.ts';
import { layoutVersion } from '#dataplanes/ebpf/programs.ts';
import type { HostEndpointInfo, TierInfo } from '#dataplanes/policy.ts';
import { ANY_RULE, testHostEndpoint } from '#dataplanes/shared/test-config.ts';
import {
  attachedPrograms,
  attachTcx,
  type BpfProgram,
  loadObject,
  type LoadedObject,
  openPinnedLink,
} from '#native/bpf.ts';
import { systemCommandRunner } from '#native/command-runner.ts';
import { openNetlink } from '#native/netlink.ts';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';
import { until } from '#test/lab/until.ts';
import { drive, EbpfBed, ebpfObjects } from './ebpf-bed.ts';

const nativeElf = new URL('../../build/bpf/native.bpf.o', import.meta.url).pathname;

let bed: EbpfBed;
let outside: TestNetns;

/** eth0 is the node's way to `outside`; eth1 goes nowhere. */
beforeEach(async () => {
  bed = await EbpfBed.create();
  outside = await createNetns();
  await device('eth0', '192.0.2.1');
  using inside = openNetlink({ path: outside.path });
  await inside.run([
    { op: 'link.set', link: 'eth0', up: true },
    { op: 'addr.add', link: 'eth0', address: '192.0.2.2/24' },
  ]);
});
afterEach(async () => {
  await bed[Symbol.asyncDispose]();
  await outside[Symbol.asyncDispose]();
});

const device = async (name: string, address?: string): Promise<void> => {
  await bed.host.run([
    { op: 'veth.add', name, up: true, peer: { name, netns: { path: outside.path } } },
    ...(address === undefined ? [] : [{ op: 'addr.add', link: name, address: `${address}/24` } as const]),
  ]);
};

const tier = (policy: string): TierInfo => ({ name: 'default', defaultAction: 'deny', ingress: [policy], egress: [] });

const say = (dataplane: EbpfDataplane, id: string, more: Partial<HostEndpointInfo> | undefined): void => {
  if (more === undefined) dataplane.onUpdate({ type: 'hostEndpointRemove', id });
  else dataplane.onUpdate({ type: 'hostEndpointUpdate', id, endpoint: testHostEndpoint(more) });
};

const target = (name: string) => ({
  ifindex: bed.host.link(name)?.index ?? 0,
  netns: { path: bed.node.path },
});
const programsOn = async (name: string, hook: 'ingress' | 'egress' | 'xdp' = 'ingress'): Promise<string[]> =>
  (await attachedPrograms({ ...target(name), hook })).map((program) => program.name);
const links = (): string => join(bed.bpffs, layoutVersion, 'hosts', 'links');
const inForce = (dataplane: EbpfDataplane) =>
  Object.fromEntries(dataplane.hostDevices.map((state) => [state.device, state.hostEndpoint]));

/** Applies until nothing more is to be done: events of what was done are followed, too. */
const apply = async (dataplane: EbpfDataplane) => {
  const report = await dataplane.apply();
  expect(report.failed).toEqual([]);
  return report;
};

describe('the programs of host endpoints', () => {
  test('come with the first host endpoint, and nothing of them is there before and after', async () => {
    const dataplane = await bed.dataplane();
    await dataplane.activate();
    await apply(dataplane);
    expect(await programsOn('eth0')).toEqual([]);
    expect(existsSync(join(bed.bpffs, layoutVersion, 'hosts'))).toBe(false);
    say(dataplane, 'up', { ifaceName: 'eth0' });
    await apply(dataplane);
    expect([await programsOn('eth0'), await programsOn('eth0', 'egress')]).toEqual([
      ['tortie_from_net'],
      ['tortie_to_net'],
    ]);
    expect(dataplane.hostDevices).toEqual([{ device: 'eth0', hostEndpoint: 'up', isUplink: false, attached: 'tcx' }]);
    expect(await programsOn('lo')).toEqual([]);
    say(dataplane, 'up', undefined);
    await apply(dataplane);
    expect([await programsOn('eth0'), await programsOn('eth0', 'egress')]).toEqual([[], []]);
    expect(existsSync(links()) ? readdirSync(links()) : []).toEqual([]);
    expect(dataplane.hostDevices).toEqual([]);
  });

  test('wait for the way of packets, and go with it', async () => {
    const dataplane = await bed.dataplane();
    say(dataplane, 'up', { ifaceName: 'eth0' });
    await apply(dataplane);
    expect(await programsOn('eth0')).toEqual([]);
    await dataplane.activate();
    expect(await programsOn('eth0')).toEqual(['tortie_from_net']);
    await dataplane.release();
    expect(await programsOn('eth0')).toEqual([]);
  });

  test('outlive their agent, and the next one goes on with them', async () => {
    const first = await bed.dataplane();
    say(first, 'up', { ifaceName: 'eth0' });
    await apply(first);
    await first.activate();
    const before = await attachedPrograms({ ...target('eth0'), hook: 'ingress' });
    const rules = await bed.node.exec('iptables-nft', '-S', 'tortie-INPUT');
    expect(rules).toContain('-j DROP');
    await first[Symbol.asyncDispose]();
    expect(await attachedPrograms({ ...target('eth0'), hook: 'ingress' })).toEqual(before);
    const second = await bed.dataplane([], { inSync: false });
    // It doesn't know yet of what it will know: until then nothing is changed.
    await second.activate();
    await apply(second);
    expect(await attachedPrograms({ ...target('eth0'), hook: 'ingress' })).toEqual(before);
    expect(await bed.node.exec('iptables-nft', '-S', 'tortie-INPUT')).toBe(rules);
    say(second, 'up', { ifaceName: 'eth0' });
    second.onUpdate({ type: 'inSync' });
    await apply(second);
    expect(await attachedPrograms({ ...target('eth0'), hook: 'ingress' })).toEqual(before);
    expect(inForce(second)).toEqual({ eth0: 'up' });
  });

  test('of an earlier agent go if no host endpoint needs them any more', async () => {
    const first = await bed.dataplane();
    say(first, 'up', { ifaceName: 'eth0' });
    await apply(first);
    await first.activate();
    await first[Symbol.asyncDispose]();
    const second = await bed.dataplane();
    await second.activate();
    await apply(second);
    expect(await programsOn('eth0')).toEqual([]);
    expect(readdirSync(links())).toEqual([]);
  });

  test('are put back when somebody takes them off, and when their pin goes', async () => {
    const dataplane = await bed.dataplane();
    say(dataplane, 'up', { ifaceName: 'eth0' });
    await apply(dataplane);
    await dataplane.activate();
    const [pin = ''] = readdirSync(links()).filter((name) => name.endsWith('ingress'));
    const link = await openPinnedLink(join(links(), pin));
    await link?.detach();
    await link?.[Symbol.asyncDispose]();
    expect(await programsOn('eth0')).toEqual([]);
    dataplane.requestResync();
    expect((await apply(dataplane)).repaired).toEqual(['BPF programs of eth0']);
    expect(await programsOn('eth0')).toEqual(['tortie_from_net']);
    await bed.node.exec('rm', '-r', links());
    dataplane.requestResync();
    await apply(dataplane);
    expect(readdirSync(links())).toHaveLength(2);
    await dataplane[Symbol.asyncDispose]();
    expect(await programsOn('eth0')).toEqual(['tortie_from_net']);
  });

  test('go with everything at cleanup, by whoever cleans up', async () => {
    const dataplane = await bed.dataplane();
    say(dataplane, 'up', { ifaceName: 'eth0', untrackedTiers: [tier('early')] });
    await apply(dataplane);
    await dataplane.activate();
    expect(await programsOn('eth0', 'xdp')).toEqual(['tortie_xdp_in']);
    await dataplane[Symbol.asyncDispose]();
    await bed.idle().cleanup();
    for (const hook of ['ingress', 'egress', 'xdp'] as const) expect(await programsOn('eth0', hook)).toEqual([]);
    expect(existsSync(bed.bpffs)).toBe(false);
  });
});

describe('which devices', () => {
  test('an address says follows the address', async () => {
    const dataplane = await bed.dataplane();
    const driver = drive(dataplane);
    await device('eth1');
    say(dataplane, 'up', { expectedIps: ['192.0.2.1'] });
    await apply(dataplane);
    await dataplane.activate();
    expect(inForce(dataplane)).toEqual({ eth0: 'up' });
    await bed.host.run([
      { op: 'addr.del', link: 'eth0', address: '192.0.2.1/24' },
      { op: 'addr.add', link: 'eth1', address: '192.0.2.1/24' },
    ]);
    await until(() => inForce(dataplane)['eth1'] === 'up' && !('eth0' in inForce(dataplane)));
    await driver.idle();
    expect([await programsOn('eth0'), await programsOn('eth1')]).toEqual([[], ['tortie_from_net']]);
  });

  test('`*` says are those by which the node reaches others, as they come and go, but for named ones, pods and lo', async () => {
    const dataplane = await bed.dataplane();
    const driver = drive(dataplane);
    await bed.pod(1, dataplane);
    say(dataplane, 'all', { ifaceName: '*' });
    say(dataplane, 'one', { ifaceName: 'eth1' });
    await apply(dataplane);
    await dataplane.activate();
    expect(inForce(dataplane)).toEqual({ eth0: 'all' });
    await device('eth1', '198.51.100.1');
    await device('eth2');
    await until(() => inForce(dataplane)['eth1'] === 'one');
    await bed.host.run([{ op: 'route.add', dst: '203.0.113.0/24', link: 'eth2', scope: 'link' }]);
    await until(() => inForce(dataplane)['eth2'] === 'all');
    expect(inForce(dataplane)).toEqual({ eth0: 'all', eth1: 'one', eth2: 'all' });
    await bed.host.run([{ op: 'link.del', link: 'eth2' }]);
    await until(() => !('eth2' in inForce(dataplane)));
    await driver.idle();
    expect(readdirSync(links())).toHaveLength(4);
    say(dataplane, 'one', undefined);
    await apply(dataplane);
    expect(inForce(dataplane)).toEqual({ eth0: 'all', eth1: 'all' });
  });

  test('forward policy asks for: all by which what came in may leave', async () => {
    const dataplane = await bed.dataplane();
    await device('eth1', '198.51.100.1');
    dataplane.requestResync(); // The news of eth1 may be under way.
    say(dataplane, 'up', { ifaceName: 'eth0', forwardTiers: [tier('forward')] });
    await apply(dataplane);
    await dataplane.activate();
    expect(inForce(dataplane)).toEqual({ eth0: 'up', eth1: null });
  });
});

describe('other programs', () => {
  let object: LoadedObject;
  const other = (name = 'passes'): BpfProgram => object.program(name);
  beforeEach(async () => {
    object = await loadObject({ name: 'native', elf: nativeElf });
  });
  afterEach(() => object[Symbol.dispose]());

  test('on tcx and clsact stay where they are', async () => {
    await using link = await attachTcx(other('first_of_tc'), 'ingress', target('eth0'));
    await bed.node.exec('tc', 'qdisc', 'add', 'dev', 'eth0', 'clsact');
    const dataplane = await bed.dataplane();
    say(dataplane, 'up', { ifaceName: 'eth0' });
    await apply(dataplane);
    await dataplane.activate();
    expect(await programsOn('eth0')).toEqual(['tortie_from_net', 'first_of_tc']);
    await dataplane.cleanup();
    expect(await programsOn('eth0')).toEqual(['first_of_tc']);
    expect(await link.info()).toMatchObject({ kind: 'tcx' });
    expect(await bed.host.hasClsact('eth0')).toBe(true);
  });

  test('of XDP are never replaced, and may replace ours', async () => {
    const dataplane = await bed.dataplane();
    await bed.host.run([{ op: 'xdp.set', link: 'eth0', mode: 'native', fd: other().fd }]);
    say(dataplane, 'up', { ifaceName: 'eth0', untrackedTiers: [tier('early')] });
    await apply(dataplane);
    await dataplane.activate();
    expect(await programsOn('eth0', 'xdp')).toEqual(['passes']);
    expect(dataplane.hostDevices).toMatchObject([{ xdp: 'off', xdpReason: expect.stringContaining('passes') }]);
    await bed.host.run([{ op: 'xdp.set', link: 'eth0', mode: 'native', expected: other().fd }]);
    dataplane.requestResync();
    await apply(dataplane);
    expect(dataplane.hostDevices).toMatchObject([{ xdp: 'native' }]);
    await bed.node.exec('ip', 'link', 'set', 'eth0', 'xdp', 'off');
    await bed.host.run([{ op: 'xdp.set', link: 'eth0', mode: 'native', fd: other().fd }]);
    dataplane.requestResync();
    await apply(dataplane);
    expect(dataplane.hostDevices).toMatchObject([{ xdp: 'off' }]);
    await dataplane.cleanup();
    expect(await programsOn('eth0', 'xdp')).toEqual(['passes']);
  });
});

describe('XDP', () => {
  const early = { ifaceName: 'lo', untrackedTiers: [tier('early')] };

  test('is where untracked policy is, as the configuration and the device allow it', async () => {
    const dataplane = await bed.dataplane();
    await dataplane.activate();
    say(dataplane, 'lo', early);
    await apply(dataplane);
    expect(dataplane.hostDevices).toMatchObject([
      { xdp: 'off', xdpReason: expect.stringContaining('genericXDPEnabled') },
    ]);
    const configure = async (xdp: { enabled: boolean; generic: boolean }): Promise<void> => {
      dataplane.onUpdate({
        type: 'configUpdate',
        config: { ...bed.config, xdp: { ...xdp, refreshIntervalMs: 0 } },
      });
      await apply(dataplane);
    };
    await configure({ enabled: true, generic: true });
    const aloud = [{ xdp: 'generic', xdpReason: expect.stringMatching(/^the driver runs none: .*EOPNOTSUPP/) }];
    expect(dataplane.hostDevices).toMatchObject(aloud);
    expect(await programsOn('lo', 'xdp')).toEqual(['tortie_xdp_in']);
    dataplane.requestResync();
    await apply(dataplane);
    expect(dataplane.hostDevices).toMatchObject(aloud);
    await configure({ enabled: true, generic: false });
    expect(dataplane.hostDevices).toMatchObject([{ xdp: 'off' }]);
    expect(await programsOn('lo', 'xdp')).toEqual([]);
    await configure({ enabled: true, generic: true });
    await configure({ enabled: false, generic: true });
    expect(await programsOn('lo', 'xdp')).toEqual([]);
    await configure({ enabled: true, generic: true });
    say(dataplane, 'lo', { ifaceName: 'lo' });
    await apply(dataplane);
    expect(await programsOn('lo', 'xdp')).toEqual([]);
    expect(dataplane.hostDevices).toEqual([{ device: 'lo', hostEndpoint: 'lo', isUplink: false, attached: 'tcx' }]);
  });

  test('goes over to the program of the next agent', async () => {
    const first = await bed.dataplane();
    say(first, 'up', { ...early, ifaceName: 'eth0' });
    await apply(first);
    await first.activate();
    const id = async () => (await attachedPrograms({ ...target('eth0'), hook: 'xdp' }))[0]?.programId;
    const before = await id();
    await first[Symbol.asyncDispose]();
    expect(await id()).toBe(before);
    const second = await bed.dataplane();
    say(second, 'up', { ...early, ifaceName: 'eth0' });
    await apply(second);
    await second.activate();
    expect(await id()).not.toBe(before);
    expect(second.hostDevices).toMatchObject([{ xdp: 'native' }]);
    expect(readdirSync(join(bed.bpffs, layoutVersion, 'hosts', 'xdp'))).toEqual([String(await id())]);
  });

  test('of an earlier agent goes when this one can not load its own: it drops by what nobody says any more', async () => {
    const first = await bed.dataplane();
    say(first, 'up', { ...early, ifaceName: 'eth0' });
    await apply(first);
    await first.activate();
    await first[Symbol.asyncDispose]();
    expect(await programsOn('eth0', 'xdp')).toEqual(['tortie_xdp_in']);
    using object = await loadObject({ name: 'tortie', elf: join(ebpfObjects, 'attach.bpf.o') });
    const loaded = {
      filters: { fromNet: object.program('tortie_from_net'), toNet: object.program('tortie_to_net') },
      enterHosts: () => Promise.resolve(),
      leaveHosts: () => {},
      xdpProgram: () => Promise.reject(new Error('no such helper')),
    } as unknown as LoadedDataplane;
    const { ifindex, netns } = target('eth0');
    await using enforcement = new HostEnforcement({
      host: bed.host,
      dir: join(bed.bpffs, layoutVersion, 'hosts'),
      netns,
    });
    const eth0 = { ifindex, name: 'eth0', device: PODS_DEVICE, endpoint: 'up' };
    const devices = [{ ...eth0, isUplink: false, isJudged: true, isUntracked: true }];
    expect((await enforcement.keep(loaded, devices, { enabled: true, generic: false })).failed).toEqual([]);
    expect(await programsOn('eth0', 'xdp')).toEqual([]);
    expect(enforcement.states).toMatchObject([{ device: 'eth0', xdp: 'off', xdpReason: 'no such helper' }]);
  });

  test('leaves IPv6 alone where that is not ours', async () => {
    for (const [netns, address] of [
      [bed.node, 'fd00:1::1/64'],
      [outside, 'fd00:1::2/64'],
    ] as const)
      await netns.ip('addr', 'add', address, 'dev', 'eth0', 'nodad');
    const dataplane = await bed.dataplane([], { config: { ipv6Support: false } });
    say(dataplane, 'up', { ...early, ifaceName: 'eth0' });
    await apply(dataplane);
    await dataplane.activate();
    expect(await programsOn('eth0', 'xdp')).toEqual(['tortie_xdp_in']);
    await expect(outside.exec('ping', '-c1', '-W30', 'fd00:1::1')).resolves.toContain('1 received');
    await expect(outside.exec('ping', '-c1', '-W1', '192.0.2.1')).rejects.toThrow();
  });

  /** From now on until that is called no XDP program comes or goes. */
  const failXdp = (): (() => void) => {
    const batch = bed.host.batch.bind(bed.host);
    const busy = Object.assign(new Error('busy'), { code: 'ENOMEM' });
    const failing: typeof batch = async (ops) =>
      ops.some(({ op }) => op === 'xdp.set') ? await Promise.reject(busy) : await batch(ops);
    Object.assign(bed.host, { batch: failing });
    return () => void Object.assign(bed.host, { batch });
  };

  test('of an earlier agent that nobody needs is tried to be taken off until it is', async () => {
    const first = await bed.dataplane();
    say(first, 'up', { ...early, ifaceName: 'eth0' });
    await apply(first);
    await first.activate();
    await first[Symbol.asyncDispose]();
    const second = await bed.dataplane();
    const restore = failXdp();
    try {
      await second.activate();
      expect((await second.apply()).failed).toMatchObject([{ reason: 'busy' }]);
    } finally {
      restore();
    }
    await apply(second);
    expect(await programsOn('eth0', 'xdp')).toEqual([]);
  });

  test('that an agent could not take off before its end, the next one does', async () => {
    await device('eth1', '198.51.100.1');
    const first = await bed.dataplane();
    for (const name of ['eth0', 'eth1']) say(first, name, { ...early, ifaceName: name });
    await apply(first);
    await first.activate();
    expect(await programsOn('eth1', 'xdp')).toEqual(['tortie_xdp_in']);
    const restore = failXdp();
    try {
      say(first, 'eth1', undefined);
      expect((await first.apply()).failed).toMatchObject([{ object: 'BPF programs of eth1', reason: 'busy' }]);
      await first[Symbol.asyncDispose]();
    } finally {
      restore();
    }
    const second = await bed.dataplane();
    say(second, 'eth0', { ...early, ifaceName: 'eth0' });
    await apply(second);
    await second.activate();
    expect([await programsOn('eth0', 'xdp'), await programsOn('eth1', 'xdp')]).toEqual([['tortie_xdp_in'], []]);
  });
});

test("host endpoints are said to have failed while netfilter's rules can't be made: what their programs only mark would come in", async () => {
  const dataplane = await bed.dataplane();
  await dataplane.activate();
  const run = systemCommandRunner.run.bind(systemCommandRunner);
  const failing: typeof run = (file, args, options) =>
    args.some((arg) => arg.includes('restore')) ? Promise.reject(new Error('no rules')) : run(file, args, options);
  Object.assign(systemCommandRunner, { run: failing });
  try {
    say(dataplane, 'up', { ifaceName: 'eth0' });
    const objects = (await dataplane.apply()).failed.map(({ object }) => object);
    expect(objects).toContain('host endpoint up');
  } finally {
    Object.assign(systemCommandRunner, { run });
  }
  dataplane.requestResync();
  await apply(dataplane);
});

test('a policy that is not known denies, and a unit that cannot be made fails its host endpoint', async () => {
  const dataplane = await bed.dataplane();
  // First it denies, being unknown, which is no failure.
  say(dataplane, 'up', { ifaceName: 'eth0', tiers: [tier('broken')] });
  await apply(dataplane);
  dataplane.onUpdate({
    type: 'policyUpdate',
    id: 'broken',
    policy: {
      tier: 'default',
      staged: false,
      egress: [],
      ingress: [
        {
          ...ANY_RULE,
          id: 'broken ingress 0',
          action: 'allow',
          source: { ...ANY_RULE.source, sets: ['not announced'] },
        },
      ],
    },
  });
  const { failed } = await dataplane.apply();
  expect(failed).toEqual([{ object: 'host endpoint up', reason: expect.stringContaining('not announced') }]);
});
