import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { Jump } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { u32Key } from '#dataplanes/ebpf/keys.ts';
import { loadObject, type LoadedObject } from '#native/bpf.ts';
import { openNetlink } from '#native/netlink.ts';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';
import { namesOf, type Pod, pods } from './bpf-flow-names.ts';
import { FlowNode } from './bpf-flow-node.ts';

/*
 * What a test run can't do: packets that really go from pod to pod, past the node's stack, which has no routes and forwards nothing.
 *
 *     pod one [eth0] --- one [filters] (node) [filters] two --- [eth0] pod two
 */
const attachElf = new URL('../../dist/bpf/attach.bpf.o', import.meta.url).pathname;
const inside = new Map<Pod, TestNetns>();
let node: FlowNode;
let filters: LoadedObject;

beforeAll(async () => {
  node = await FlowNode.create();
  filters = await loadObject({
    name: 'tortie',
    elf: attachElf,
    maps: {
      tortie_counters: { use: node.map('tortie_counters') },
      tortie_devices: { use: node.map('tortie_devices') },
    },
  });
  const jump = filters.map('tortie_jump');
  jump.set(u32Key(Jump.podOut), u32Key(node.object.program('tortie_pod_out').fd));
  jump.set(u32Key(Jump.podIn), u32Key(node.object.program('tortie_pod_in').fd));
  using host = openNetlink({ path: node.netns.path });
  for (const pod of pods) {
    const netns = await createNetns();
    inside.set(pod, netns);
    const { mac } = node.devices.get(pod) ?? { mac: '' };
    await host.run([
      { op: 'clsact.add', link: pod },
      ...(['ingress', 'egress'] as const).map((direction) => {
        const name = direction === 'ingress' ? 'tortie_from_pod' : 'tortie_to_pod';
        const { fd } = filters.program(name);
        return { op: 'filter.replace' as const, link: pod, direction, priority: 1, handle: 1, name, fd };
      }),
    ]);
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
});
afterAll(async () => {
  for (const netns of inside.values()) await netns[Symbol.asyncDispose]();
  (filters as LoadedObject | undefined)?.[Symbol.dispose]();
  await (node as FlowNode | undefined)?.[Symbol.asyncDispose]();
});
beforeEach(async () => await node.reset());

/** A client: what it heard, or why nothing. The third argument says whether a listener is about to begin, so that a refusal isn't the last word. */
const client = `
  const net = require('node:net');
  const [, host, port, isAwaited] = process.argv;
  const end = Date.now() + 10000;
  const connect = () => {
    const socket = net.connect({ host, port: Number(port) }, () => socket.end('hello'));
    socket.setTimeout(isAwaited ? 10000 : 500, () => { console.log('silence'); socket.destroy(); });
    socket.on('data', (data) => console.log(String(data)));
    socket.on('error', ({ code }) => {
      if (isAwaited && code === 'ECONNREFUSED' && Date.now() < end) setTimeout(connect, 50);
      else console.log(code);
    });
  };
  connect();`;
/** Answers one connection; gives up after 15 s. */
const listener = `
  const net = require('node:net');
  const server = net.createServer((socket) => socket.once('data', (data) => { socket.end('heard ' + data); server.close(); }));
  server.listen(8080, '::');
  setTimeout(() => process.exit(1), 15000).unref();`;

/** What pod one hears when it says hello to `target:port`. */
async function say(target: string, port: number, ...isAwaited: string[]): Promise<string> {
  const said = await inside.get('one')?.exec(process.execPath, '-e', client, target, String(port), ...isAwaited);
  return said?.trim() ?? '';
}

/** The same, while pod two listens. */
async function hello(target: string, port: number): Promise<string> {
  const [said] = await Promise.all([
    say(target, port, 'awaited'),
    inside.get('two')?.exec(process.execPath, '-e', listener),
  ]);
  return said;
}

describe.each([4, 6] as const)('IPv%i', (version) => {
  const { two = '', front = '' } = namesOf[version];

  test('a connection from pod to pod', async () => {
    expect(await hello(two, 8080)).toBe('heard hello');
    const records = await node.records(version);
    expect(records.map(({ text }) => text)).toContainEqual(
      expect.stringMatching(/ingressOk answered established finOpener finOther$/),
    );
  });

  test('a connection to a Service, by its address', async () => {
    node.service(version, 6, 80, ['two:8080']);
    expect(await hello(front, 80)).toBe('heard hello');
  });

  test('nobody answers for a Service: refused', async () => {
    node.service(version, 6, 80, []);
    expect(await say(front, 80)).toBe('ECONNREFUSED');
  });

  test("the receiver's policy refuses", async () => {
    node.policy({ 'two ingress': 'deny' });
    expect(await say(two, 8080)).toBe('silence');
  });
});
