/**
 * Puts pods' filters on all `cali` devices of a namespace as a process of its own, which a test kills: `switch NETNS` as a switch does, `add NETNS` as
 * ADDs do, one after the other. Says a line when it begins.
 */
import { writeSync } from 'node:fs';
import { DeviceFilters } from '#dataplanes/ebpf/device-filters.ts';
import { newDeviceOps } from '#dataplanes/ebpf/filters.ts';
import type { Filters } from '#dataplanes/ebpf/programs.ts';
import { loadObject } from '#native/bpf.ts';
import { openNetlink } from '#native/netlink.ts';

const [what, path = ''] = process.argv.slice(2);
using host = openNetlink({ path });
using object = await loadObject({
  name: 'tortie',
  elf: new URL('../../build/bpf/object.bpf.o', import.meta.url).pathname,
});
const filters = { fromPod: object.program('tortie_from_pod'), toPod: object.program('tortie_to_pod') } as Filters;
const links = (await host.links()).filter(({ name }) => name.startsWith('cali'));
await using devices = new DeviceFilters({ host, links: { dir: '/nonexistent', netns: { path } } });

writeSync(1, 'begins\n');
if (what === 'switch') await devices.attachAll(links, filters);
else {
  for (const { name } of links)
    await host.run([...newDeviceOps(name, filters), { op: 'link.set', link: name, up: true }]);
}
