/** What a test run can't do: packets that really go, by the filters of bpf/attach.bpf.c, between namespaces. */
import { Jump } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { u32Key } from '#dataplanes/ebpf/keys.ts';
import type { LoadedObject } from '#native/bpf.ts';
import { loadObject } from '#native/bpf.ts';
import { openNetlink } from '#native/netlink.ts';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';
import { namesOf, type Pod, pods } from './bpf-flow-names.ts';
import type { FlowNode } from './bpf-flow-node.ts';
import type { HostBed } from './bpf-host-bed.ts';

const attachElf = new URL('../../dist/bpf/attach.bpf.o', import.meta.url).pathname;

/** The filters, on the maps of the node's endpoint programs; nothing is in `tortie_jump` yet. */
export async function loadFilters(node: FlowNode): Promise<LoadedObject> {
  return await loadObject({
    name: 'tortie',
    elf: attachElf,
    maps: {
      tortie_counters: { use: node.map('tortie_counters') },
      tortie_devices: { use: node.map('tortie_devices') },
    },
  });
}

/** Loads the programs of hosts and uplinks, and puts all that the filters of pods and uplinks jump to into `tortie_jump`. */
export async function fillJump(bed: HostBed, filters: LoadedObject, cleanup: AsyncDisposableStack): Promise<void> {
  const jump = filters.map('tortie_jump');
  const host = cleanup.use(await bed.load('host', {}, jump));
  const net = cleanup.use(await bed.load('net', {}, jump));
  for (const [place, object, name] of [
    [Jump.podIn, bed.object, 'tortie_pod_in'],
    [Jump.podOut, bed.object, 'tortie_pod_out'],
    [Jump.hostOut, host, 'tortie_host_out'],
    [Jump.hostIn, host, 'tortie_host_in'],
    [Jump.netOut, net, 'tortie_net_out'],
    [Jump.netIn, net, 'tortie_net_in'],
  ] as const)
    jump.set(u32Key(place), u32Key(object.program(name).fd));
}

/** Puts a device's two filters on it: `pod` or `net`. */
export async function filterDevice(
  node: FlowNode,
  filters: LoadedObject,
  link: string,
  kind: 'pod' | 'net',
): Promise<void> {
  using host = openNetlink({ path: node.netns.path });
  await host.run([
    { op: 'clsact.add', link },
    ...(['ingress', 'egress'] as const).map((direction) => {
      const name = `tortie_${direction === 'ingress' ? 'from' : 'to'}_${kind}`;
      const { fd } = filters.program(name);
      return { op: 'filter.replace' as const, link, direction, priority: 1, handle: 1, name, fd };
    }),
  ]);
}

/**
 * Gives each pod of the node a namespace with its end of the veth, as `eth0`:
 *
 *     pod one [eth0] --- one [filters] (node) [filters] two --- [eth0] pod two
 */
export async function inhabitPods(
  node: FlowNode,
  filters: LoadedObject,
  cleanup: AsyncDisposableStack,
): Promise<ReadonlyMap<Pod, TestNetns>> {
  const inside = new Map<Pod, TestNetns>();
  for (const pod of pods) {
    const netns = cleanup.use(await createNetns());
    inside.set(pod, netns);
    const { mac } = node.devices.get(pod) ?? { mac: '' };
    await filterDevice(node, filters, pod, 'pod');
    await node.netns.exec('ip', 'link', 'set', `${pod}-in`, 'netns', netns.name, 'name', 'eth0');
    await node.netns.exec('ip', 'link', 'set', pod, 'up');
    await netns.exec('ip', 'link', 'set', 'lo', 'up');
    await netns.exec('ip', 'link', 'set', 'eth0', 'up');
    for (const version of [4, 6] as const) {
      const family = version === 4 ? '-4' : '-6';
      const own = `${namesOf[version][pod]}/${version === 4 ? 32 : 128}`;
      const gateway = version === 4 ? '169.254.1.1' : 'fe80::1';
      const noDad = version === 4 ? [] : ['nodad'];
      await netns.exec('ip', family, 'addr', 'add', own, 'dev', 'eth0', ...noDad);
      await netns.exec('ip', family, 'neigh', 'replace', gateway, 'lladdr', mac, 'dev', 'eth0', 'nud', 'permanent');
      await netns.exec('ip', family, 'route', 'add', gateway, 'dev', 'eth0');
      await netns.exec('ip', family, 'route', 'add', 'default', 'via', gateway, 'dev', 'eth0');
    }
  }
  return inside;
}

/** A client: what it heard, or why nothing. The third argument says whether a listener is about to begin, so that a refusal isn't the last word. */
const client = `
  const net = require('node:net');
  const [, host, port, isAwaited] = process.argv;
  const end = Date.now() + 40000;
  const connect = () => {
    const socket = net.connect({ host, port: Number(port) }, () => socket.end('hello'));
    socket.setTimeout(isAwaited ? 40000 : 500, () => { console.log('silence'); socket.destroy(); });
    socket.on('data', (data) => console.log(String(data)));
    socket.on('error', ({ code }) => {
      if (isAwaited && code === 'ECONNREFUSED' && Date.now() < end) setTimeout(connect, 50);
      else console.log(code);
    });
  };
  connect();`;
/** Answers one connection; gives up after 45 s. */
const listener = `
  const net = require('node:net');
  const server = net.createServer((socket) => socket.once('data', (data) => { socket.end('heard ' + data); server.close(); }));
  server.listen(8080, '::');
  setTimeout(() => process.exit(1), 45000).unref();`;

/** What a process in the namespace hears when it says hello to `target:port`: the answer, `silence`, or an error's code. */
export async function say(from: TestNetns, target: string, port: number, ...isAwaited: string[]): Promise<string> {
  return (await from.exec(process.execPath, '-e', client, target, String(port), ...isAwaited)).trim();
}

/** The same, while a process in another one listens on port 8080. */
export async function hello(from: TestNetns, target: string, port: number, at: TestNetns): Promise<string> {
  const [said] = await Promise.all([say(from, target, port, 'awaited'), at.exec(process.execPath, '-e', listener)]);
  return said;
}

/** Sends a million bytes and counts what comes back. */
const echoClient = `
  const net = require('node:net');
  const [, host, port] = process.argv;
  const end = Date.now() + 40000;
  const connect = () => {
    let count = 0;
    const socket = net.connect({ host, port: Number(port) }, () => socket.end(Buffer.alloc(1000000)));
    socket.setTimeout(40000, () => { console.log('silence after', count); socket.destroy(); });
    socket.on('data', ({ length }) => { count += length; });
    socket.on('end', () => console.log(count));
    socket.on('error', ({ code }) => {
      if (code === 'ECONNREFUSED' && Date.now() < end) setTimeout(connect, 50);
      else console.log(code);
    });
  };
  connect();`;
/** Echoes one connection's bytes; gives up after 45 s. */
const echoServer = `
  const net = require('node:net');
  const server = net.createServer((socket) => { socket.pipe(socket); server.close(); });
  server.listen(8080, '::');
  setTimeout(() => process.exit(1), 45000).unref();`;

/** How many of a million bytes come back from a process in another namespace that echoes on port 8080. */
export async function echoed(from: TestNetns, target: string, port: number, at: TestNetns): Promise<string> {
  const [said] = await Promise.all([
    from.exec(process.execPath, '-e', echoClient, target, String(port)),
    at.exec(process.execPath, '-e', echoServer),
  ]);
  return said.trim();
}
