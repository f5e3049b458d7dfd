/** Which devices are uplinks, as they come and go, and whose programs they have. */
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { Jump, mapShapes } from '#dataplanes/ebpf/bpf-types.gen.ts';
import type { EbpfDataplane } from '#dataplanes/ebpf/ebpf.ts';
import { idAt, layoutVersion } from '#dataplanes/ebpf/programs.ts';
import type { TierInfo } from '#dataplanes/policy.ts';
import { testHostEndpoint } from '#dataplanes/shared/test-config.ts';
import { attachedPrograms, openPinnedLink, openPinnedMap } from '#native/bpf.ts';
import { openNetlink } from '#native/netlink.ts';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';
import { until } from '#test/lab/until.ts';
import { drive, EbpfBed } from './ebpf-bed.ts';

let bed: EbpfBed;
let outside: TestNetns;

/** eth0 is the way to `outside`, and to the world by its default route; eth1 has an address and nothing else. */
beforeEach(async () => {
  bed = await EbpfBed.create();
  outside = await createNetns();
  for (const [name, address] of [
    ['eth0', '192.0.2.1/24'],
    ['eth1', '198.51.100.1/24'],
  ] as const) {
    await bed.host.run([
      { op: 'veth.add', name, up: true, peer: { name, netns: { path: outside.path } } },
      { op: 'addr.add', link: name, address },
    ]);
  }
  using inside = openNetlink({ path: outside.path });
  await inside.run([
    { op: 'link.set', link: 'eth0', up: true },
    { op: 'link.set', link: 'eth1', up: true },
    { op: 'addr.add', link: 'eth0', address: '192.0.2.2/24' },
  ]);
  await byDefault('eth0');
});
afterEach(async () => {
  await bed[Symbol.asyncDispose]();
  await outside[Symbol.asyncDispose]();
});

const byDefault = (device: string) => bed.node.ip('route', 'replace', 'default', 'dev', device);
const programsOn = async (name: string): Promise<[string, number][]> => {
  const ifindex = bed.host.link(name)?.index ?? 0;
  const of = async (hook: 'ingress' | 'egress') =>
    (await attachedPrograms({ ifindex, netns: { path: bed.node.path }, hook })).map((program): [string, number] => [
      program.name,
      program.programId,
    ]);
  return [...(await of('ingress')), ...(await of('egress'))];
};
const namesOn = async (name: string) => (await programsOn(name)).map(([program]) => program);
const both = ['tortie_from_net', 'tortie_to_net'];
const uplinks = (dataplane: EbpfDataplane): string[] =>
  dataplane.hostDevices.filter(({ isUplink }) => isUplink).map(({ device }) => device);
/** The places that uplinks jump to, and those of host endpoints, that have a program. */
const places = (): string[] => {
  using jump = openPinnedMap(join(bed.bpffs, layoutVersion, 'tortie_jump'), mapShapes.tortie_jump);
  return (['netIn', 'netOut', 'hostIn', 'hostOut'] as const).filter(
    (place) => jump !== undefined && idAt(jump, Jump[place]) !== undefined,
  );
};
const apply = async (dataplane: EbpfDataplane) => {
  const report = await dataplane.apply();
  expect(report.failed).toEqual([]);
  return report;
};
const started = async (): Promise<EbpfDataplane> => {
  const dataplane = await bed.dataplane();
  await dataplane.activate();
  await apply(dataplane);
  return dataplane;
};

test('the device of the default route has programs while packets come by us, without any host endpoint', async () => {
  const dataplane = await bed.dataplane();
  expect([await namesOn('eth0'), places()]).toEqual([[], []]);
  await dataplane.activate();
  await apply(dataplane);
  expect(dataplane.hostDevices).toEqual([
    { device: 'eth0', hostEndpoint: null, isUplink: true, attached: expect.any(String) },
  ]);
  expect([await namesOn('eth0'), await namesOn('eth1')]).toEqual([both, []]);
  expect(places()).toEqual(['netIn', 'netOut']);
  expect(dataplane.notes).toEqual([]);
  await dataplane.release();
  expect([await namesOn('eth0'), places()]).toEqual([[], []]);
  await dataplane.activate();
  await dataplane[Symbol.asyncDispose]();
  await bed.idle().cleanup();
  expect(await namesOn('eth0')).toEqual([]);
});

test('uplinks go and come with their routes and addresses, and a node without one says so', async () => {
  const dataplane = await started();
  const driver = drive(dataplane);
  await byDefault('lo');
  await until(() => uplinks(dataplane).length === 0);
  await driver.idle();
  expect([await namesOn('eth0'), places()]).toEqual([[], []]);
  expect(dataplane.notes).toEqual([expect.stringMatching(/^no device is an uplink/)]);
  await byDefault('eth1');
  await until(() => uplinks(dataplane).join() === 'eth1');
  dataplane.onUpdate({ type: 'hostUpdate', node: 'node', host: { ipv4: '192.0.2.1' } });
  dataplane.onUpdate({ type: 'poolUpdate', id: 'p', pool: { cidr: '10.65.0.0/16', masquerade: true } });
  await apply(dataplane);
  expect(uplinks(dataplane)).toEqual(['eth0', 'eth1']);
  await bed.host.run([{ op: 'link.del', link: 'eth1' }]);
  await until(() => uplinks(dataplane).join() === 'eth0');
  await driver.idle();
  expect((await apply(dataplane)).repaired).toEqual([]);
});

test('a pattern says them instead', async () => {
  const dataplane = await bed.dataplane([], { config: { uplinkPattern: '^eth1$' } });
  await dataplane.activate();
  await apply(dataplane);
  expect(uplinks(dataplane)).toEqual(['eth1']);
  expect([await namesOn('eth0'), await namesOn('eth1')]).toEqual([[], both]);
  dataplane.onUpdate({ type: 'configUpdate', config: { ...bed.config, uplinkPattern: '^eth' } });
  await apply(dataplane);
  expect(uplinks(dataplane)).toEqual(['eth0', 'eth1']);
  expect([await namesOn('eth0'), await namesOn('eth1')]).toEqual([both, both]);
  dataplane.onUpdate({ type: 'configUpdate', config: { ...bed.config, uplinkPattern: '^eth0$' } });
  await apply(dataplane);
  expect(uplinks(dataplane)).toEqual(['eth0']);
  expect([await namesOn('eth0'), await namesOn('eth1')]).toEqual([both, []]);
});

test('of a bridge and its ports it is the bridge, by which the route leaves', async () => {
  await bed.node.ip('link', 'add', 'br0', 'type', 'bridge');
  await bed.node.ip('link', 'set', 'eth0', 'master', 'br0');
  await bed.node.ip('addr', 'del', '192.0.2.1/24', 'dev', 'eth0');
  await bed.node.ip('addr', 'add', '192.0.2.1/24', 'dev', 'br0');
  await bed.node.ip('link', 'set', 'br0', 'up');
  await byDefault('br0');
  const dataplane = await started();
  expect(uplinks(dataplane)).toEqual(['br0']);
  expect([await namesOn('br0'), await namesOn('eth0')]).toEqual([both, []]);
});

test("a host endpoint's program comes and goes with it, on an uplink whose programs stay", async () => {
  const dataplane = await started();
  const before = await programsOn('eth0');
  const early: TierInfo = { name: 'default', defaultAction: 'deny', ingress: ['early'], egress: [] };
  const endpoint = testHostEndpoint({ ifaceName: 'eth0', untrackedTiers: [early] });
  dataplane.onUpdate({ type: 'hostEndpointUpdate', id: 'up', endpoint });
  await apply(dataplane);
  expect(dataplane.hostDevices).toMatchObject([{ device: 'eth0', hostEndpoint: 'up', isUplink: true, xdp: 'native' }]);
  expect([await programsOn('eth0'), places()]).toEqual([before, ['netIn', 'netOut', 'hostIn', 'hostOut']]);
  dataplane.onUpdate({ type: 'hostEndpointRemove', id: 'up' });
  await apply(dataplane);
  expect([await programsOn('eth0'), places()]).toEqual([before, ['netIn', 'netOut']]);
  expect(dataplane.hostDevices).toEqual([
    { device: 'eth0', hostEndpoint: null, isUplink: true, attached: expect.any(String) },
  ]);
});

test('the next agent changes nothing on them before it knows all, and then nothing but what they jump to', async () => {
  const first = await started();
  const before = await programsOn('eth0');
  await first[Symbol.asyncDispose]();
  expect([await programsOn('eth0'), places()]).toEqual([before, ['netIn', 'netOut']]);
  const second = await bed.dataplane([], { inSync: false });
  await second.activate();
  await apply(second);
  expect([await programsOn('eth0'), second.hostDevices]).toEqual([before, []]);
  second.onUpdate({ type: 'inSync' });
  await apply(second);
  expect([await programsOn('eth0'), uplinks(second)]).toEqual([before, ['eth0']]);
});

test('what an earlier agent left on a device that is no uplink any more goes', async () => {
  const first = await started();
  await first[Symbol.asyncDispose]();
  await byDefault('eth1');
  const second = await started();
  expect([await namesOn('eth0'), await namesOn('eth1'), uplinks(second)]).toEqual([[], both, ['eth1']]);
});

test('programs that others take off are put back', async () => {
  const dataplane = await started();
  const ifindex = bed.host.link('eth0')?.index ?? 0;
  const link = await openPinnedLink(join(bed.bpffs, layoutVersion, 'hosts', 'links', `${ifindex}-ingress`));
  await link?.detach();
  await link?.[Symbol.asyncDispose]();
  expect(await namesOn('eth0')).toEqual(['tortie_to_net']);
  dataplane.requestResync();
  expect((await apply(dataplane)).repaired).toEqual(['BPF programs of eth0']);
  expect(await namesOn('eth0')).toEqual(both);
});

test('an agent that cannot read the devices leaves an earlier one in force, and on its devices', async () => {
  const first = await started();
  first.onUpdate({ type: 'hostEndpointUpdate', id: 'up', endpoint: testHostEndpoint({ ifaceName: 'eth1' }) });
  await apply(first);
  const before = [await programsOn('eth0'), await programsOn('eth1'), places()];
  await first[Symbol.asyncDispose]();
  const routes = bed.host.routes.bind(bed.host);
  Object.assign(bed.host, {
    routes: () => Promise.reject(Object.assign(new Error('no room for the dump'), { code: 'ENOBUFS' })),
  });
  const second = await bed.dataplane([], { inSync: false });
  second.onUpdate({ type: 'hostEndpointUpdate', id: 'up', endpoint: testHostEndpoint({ ifaceName: 'eth1' }) });
  second.onUpdate({ type: 'inSync' });
  await second.activate();
  const { failed } = await second.apply();
  expect(failed).toContainEqual({ object: 'host endpoint up', reason: 'no room for the dump' });
  expect([await programsOn('eth0'), await programsOn('eth1'), places()]).toEqual(before);
  Object.assign(bed.host, { routes });
  await apply(second);
  expect(second.hostDevices.map(({ device }) => device)).toEqual(['eth0', 'eth1']);
});
