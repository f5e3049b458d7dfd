/** Who is killed while filters are put on devices leaves none of which the next agent can't tell what is ours. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { DeviceFilters } from '#dataplanes/ebpf/device-filters.ts';
import type { Filters } from '#dataplanes/ebpf/programs.ts';
import { loadObject, type LoadedObject } from '#native/bpf.ts';
import { openNetlink } from '#native/netlink.ts';
import type { Netlink } from '#native/types.ts';
import { seededRandom } from '#test/lab/agent-lab.ts';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';

const program = new URL('./ebpf-attach-process.ts', import.meta.url).pathname;
const elf = new URL('../../build/bpf/object.bpf.o', import.meta.url).pathname;
const deviceCount = 60;
/** Kills in the middle of the devices; each hit every third time what lay between a qdisc and its filters. */
const midKills = 12;

let ns: TestNetns;
let host: Netlink;
let object: LoadedObject;
let filters: Filters;

beforeEach(async () => {
  ns = await createNetns();
  host = openNetlink({ path: ns.path });
  object = await loadObject({ name: 'tortie', elf });
  filters = { fromPod: object.program('tortie_from_pod'), toPod: object.program('tortie_to_pod') } as Filters;
});
afterEach(async () => {
  object[Symbol.dispose]();
  host[Symbol.dispose]();
  await ns[Symbol.asyncDispose]();
});

const bridges = (names: readonly string[]) => host.run(names.map((name) => ({ op: 'bridge.add', name, up: true })));
const links = async () => (await host.links()).filter(({ name }) => name.startsWith('cali'));
const withClsact = async (): Promise<string[]> => {
  const indexes = new Set(
    (await host.qdiscs()).flatMap(({ kind, linkIndex }) => (kind === 'clsact' ? [linkIndex] : [])),
  );
  return (await links()).filter(({ index }) => indexes.has(index)).map(({ name }) => name);
};
const namesOn = async (link: string): Promise<(string | undefined)[]> =>
  (await Promise.all((['ingress', 'egress'] as const).map((direction) => host.filters(link, direction))))
    .flat()
    .map(({ name }) => name);
const detachAll = async (): Promise<void> => {
  await using next = new DeviceFilters({ host, links: { dir: '/nonexistent', netns: { path: ns.path } } });
  await next.detachAll(await links());
};

/** Starts the process, and kills it so many milliseconds after it has begun. True if it had work left. */
async function killed(what: 'switch' | 'add', afterMs: number): Promise<boolean> {
  const child = spawn(process.execPath, [program, what, ns.path], { stdio: ['ignore', 'pipe', 'pipe'] });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
  const exit = once(child, 'exit');
  await Promise.race([once(child.stdout, 'data'), exit]);
  await sleep(afterMs);
  child.kill('SIGKILL');
  const [code] = await exit;
  expect(errors).toBe('');
  return code === null;
}

describe.each(['switch', 'add'] as const)('kill -9 at random during %s', (what) => {
  test('leaves no qdisc of which the next one could not tell that it is ours, and those of others stay', async () => {
    const names = Array.from({ length: deviceCount }, (_, n) => `cali${n}`);
    await bridges(names);
    const others = what === 'switch' ? ['cali-bare', 'cali-used'] : [];
    const theirs = { link: 'cali-used', direction: 'egress', priority: 9, handle: 1, name: 'theirs' } as const;
    if (others.length > 0) {
      await bridges(others);
      await host.run([
        ...others.map((link) => ({ op: 'clsact.add', link }) as const),
        { op: 'filter.replace', ...theirs, fd: filters.toPod.fd },
      ]);
    }
    const random = seededRandom(`attach, ${what}`);
    // How long it takes depends on the machine, and on what else that does.
    let spanMs = 12;
    for (let mid = 0; mid < midKills;) {
      const wasBusy = await killed(what, random() * spanMs);
      const reached = await withClsact();
      if (!wasBusy || reached.length >= deviceCount + others.length) spanMs = Math.max(spanMs * 0.8, 6);
      else if (reached.length > others.length) mid++;
      else spanMs *= 1.2;
      await detachAll();
      expect(await withClsact()).toEqual(others);
    }
    if (others.length > 0) expect(await namesOn('cali-used')).toEqual(['theirs']);
  }, 600_000);
});

test('whose the qdisc is can be told on the kernel itself: ours goes, one that came before or between stays', async () => {
  await bridges(['cali-ours', 'cali-bare', 'cali-late']);
  await host.run([{ op: 'clsact.add', link: 'cali-bare' }]);
  const late: Netlink = Object.assign(Object.create(null) as object, {
    link: host.link.bind(host),
    links: host.links.bind(host),
    filters: host.filters.bind(host),
    filtersSync: host.filtersSync.bind(host),
    batch: host.batch.bind(host),
    run: host.run.bind(host),
    hasClsact: host.hasClsact.bind(host),
    qdiscs: async () => {
      const before = await host.qdiscs();
      await host.run([{ op: 'clsact.add', link: 'cali-late' }]);
      return before;
    },
  }) as Netlink;
  await using devices = new DeviceFilters({ host: late, links: { dir: '/nonexistent', netns: { path: ns.path } } });
  const report = await devices.attachAll(await links(), filters);
  expect(report.failures).toEqual([]);
  expect(await namesOn('cali-ours')).toEqual(['tortie_from_pod', 'tortie_to_pod']);
  for (const name of ['cali-bare', 'cali-late'])
    expect(await namesOn(name)).toEqual(['tortie_from_pod/guest', 'tortie_to_pod/guest']);
  await detachAll();
  expect((await withClsact()).toSorted()).toEqual(['cali-bare', 'cali-late']);
});
