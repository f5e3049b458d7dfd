import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { FlowFlag } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { macBytes } from '#dataplanes/ebpf/keys.ts';
import { attachXdp, loadObject } from '#native/bpf.ts';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';
import { until } from '#test/lab/until.ts';
import { marks, namesOf, type Pod } from './bpf-flow-names.ts';
import { macOf } from './bpf-host-bed.ts';
import { frameOf } from './bpf-flow-words.ts';
import { NetBed } from './bpf-net-bed.ts';
import type { Version } from './classifier-bed.ts';
import { echoed, fillJump, filterDevice, hello, inhabitPods, loadFilters, say } from './bpf-veths.ts';

/*
 * Packets that really go by an uplink. The node's filters of reverse paths are strict, and netfilter forwards nothing: whatever arrives at a pod
 * or comes from one went past it.
 *
 *     pods --- [filters] (node) [filters] uplink --- uplink-far [away]
 *                               [filters] side   --- side-far   [router]
 */
const injectElf = new URL('../../build/bpf/inject.bpf.o', import.meta.url).pathname;
const cleanup = new AsyncDisposableStack();
let bed: NetBed;
let inside: ReadonlyMap<Pod, TestNetns>;
let far: TestNetns;

beforeAll(async () => {
  bed = cleanup.use(await NetBed.create());
  far = cleanup.use(await createNetns());
  const node = bed.netns;
  const filters = cleanup.use(await loadFilters(bed));
  await fillJump(bed, filters, cleanup);
  inside = await inhabitPods(bed, filters, cleanup);
  await node.exec('ip', 'link', 'set', 'lo', 'up');
  await far.exec('ip', 'link', 'set', 'lo', 'up');
  for (const device of ['uplink', 'side'] as const) {
    await filterDevice(bed, filters, device, 'net');
    await node.exec('ip', 'link', 'set', `${device}-far`, 'netns', far.name);
    await far.exec('ip', 'link', 'set', `${device}-far`, 'up');
    // Answers of `router` come by side, whatever the node's address is.
    await node.exec('sysctl', '-qw', `net.ipv4.conf.${device}.rp_filter=1`);
  }
  await node.exec('sysctl', '-qw', 'net.ipv4.conf.all.rp_filter=1');
  const [{ address: sideFar } = { address: '' }] = await far.ip<{ address: string }[]>('link', 'show', 'side-far');
  for (const version of [4, 6] as const) {
    const names = namesOf[version];
    const [own, width, gateway] = version === 4 ? ['10.1.0.254/24', 32, '10.1.0.1'] : ['fd01::fe/64', 128, 'fd01::1'];
    const noDad = version === 4 ? [] : ['nodad'];
    const ip = async (...args: string[]) => await far.exec('ip', `-${version}`, ...args);
    await ip('addr', 'add', own, 'dev', 'uplink-far', ...noDad);
    await ip('addr', 'add', `${names['away']}/${width}`, 'dev', 'lo', ...noDad);
    await ip('addr', 'add', `${names['router']}/${width}`, 'dev', 'side-far', ...noDad);
    for (const pod of ['one', 'two'])
      await ip('route', 'add', `${names[pod]}/${width}`, 'via', gateway, 'dev', 'uplink-far');
    await ip('rule', 'add', 'from', names['router'] ?? '', 'lookup', '100');
    await ip('route', 'add', gateway, 'dev', 'side-far', 'table', '100');
    await ip('neigh', 'add', gateway, 'lladdr', macOf('side'), 'dev', 'side-far', 'nud', 'permanent');
    await node.exec('ip', `-${version}`, 'neigh', 'add', names['router'] ?? '', 'lladdr', sideFar, 'dev', 'side');
    const tables = version === 4 ? 'iptables' : 'ip6tables';
    await node.exec(tables, '-w', '-P', 'FORWARD', 'DROP');
    await node.exec(
      tables,
      '-w',
      '-t',
      'mangle',
      '-A',
      'OUTPUT',
      '-m',
      'addrtype',
      '--src-type',
      'LOCAL',
      '-j',
      'MARK',
      '--set-xmark',
      `${marks.host}/${marks.host}`,
    );
  }
});
afterAll(async () => await cleanup.disposeAsync());
beforeEach(async () => await bed.reset());

const pod = (name: Pod): TestNetns => inside.get(name) as TestNetns;

describe.each([4, 6] as const)('IPv%i', (version) => {
  const { one = '', front = '' } = namesOf[version];
  const states = async (): Promise<readonly string[]> => (await bed.records(version)).map(({ text }) => text);

  test('a connection from outside to a pod', async () => {
    expect(await hello(far, one, 8080, pod('one'))).toBe('heard hello');
    // The last packets may be under way.
    const over = /one:8080 ingressOk answered established finOpener finOther byNet$/;
    await until(async () => (await states()).some((text) => over.test(text)));
  });

  test("a connection from outside that the pod's policy refuses", async () => {
    bed.policy({ 'one ingress': 'deny' });
    expect(await say(far, one, 8080)).toBe('silence');
  });

  test('the node asks a Service, and a pod of its own answers', async () => {
    bed.policy({ 'two ingress': 'deny' });
    bed.service(version, 6, 80, ['two:8080']);
    expect(await hello(bed.netns, front, 80, pod('two'))).toBe('heard hello');
    expect(await states()).toContainEqual(expect.stringMatching(/two:8080 .*destination ofHost/));
  });

  test('the node asks a Service, and one beyond the uplink answers', async () => {
    bed.service(version, 6, 80, ['away:8080']);
    expect(await hello(bed.netns, front, 80, far)).toBe('heard hello');
    expect(await states()).toContainEqual(expect.stringMatching(/away:8080 .*destination ofHost/));
  });

  test('packets of many segments, both ways', async () => {
    expect(await echoed(far, one, 8080, pod('one'))).toBe('1000000');
    for (const [backend, at] of [
      ['away', far],
      ['two', pod('two')],
      ['node', bed.netns],
    ] as const) {
      bed.service(version, 6, 80, [`${backend}:8080`]);
      expect(await echoed(bed.netns, front, 80, at)).toBe('1000000');
    }
  });

  test('the node asks Services beside a host endpoint that lets nothing in and nothing else out', async () => {
    bed.uplink('uplink', { in: 'deny', preDnat: 'silent', 'forward in': 'deny' });
    bed.service(version, 6, 80, ['away:8080', 'two:8080']);
    for (let i = 0; i < 4; i += 1) {
      const { netns } = bed;
      bed.service(version, 6, 80, [i % 2 === 0 ? 'away:8080' : 'two:8080']);
      expect(await hello(netns, front, 80, i % 2 === 0 ? far : pod('two'))).toBe('heard hello');
    }
  });

  test('untracked policy that lets nothing in, in XDP, too: what programs give to the uplink has not come by it', async () => {
    const { netns } = bed;
    const target = { ifindex: bed.ifindexOf('uplink'), netns: { path: netns.path } };
    const { link } = await attachXdp(bed.xdpProgram, target, 'generic');
    await using attached = link;
    expect(await attached.info()).toMatchObject({ kind: 'xdp' });
    bed.uplink('uplink', { 'untracked in': 'deny' });
    expect(await say(far, one, 8080)).toBe('silence');
    bed.service(version, 6, 80, ['two:8080']);
    expect(await hello(netns, front, 80, pod('two'))).toBe('heard hello');
    bed.service(version, 6, 80, []);
    expect(await say(netns, front, 80)).toBe('ECONNREFUSED');
  });

  test('the node asks a Service, and the answer comes by another uplink than that by which it asked', async () => {
    bed.service(version, 6, 80, ['router:8080']);
    expect(await hello(bed.netns, front, 80, far)).toBe('heard hello');
    expect(await states()).toContainEqual(expect.stringMatching(/router:8080 .*destination ofHost/));
  });

  test('the node asks a Service, and a process of its own answers', async () => {
    bed.service(version, 6, 80, ['node:8080']);
    expect(await hello(bed.netns, front, 80, bed.netns)).toBe('heard hello');
    expect(await states()).toContainEqual(expect.stringMatching(/front:\w+ > node:8080 .*destination source ofHost/));
  });

  test('nobody answers for a Service: refused at once, host endpoint or not', async () => {
    bed.service(version, 6, 80, []);
    expect(await say(bed.netns, front, 80)).toBe('ECONNREFUSED');
    bed.uplink('uplink', { in: 'deny', preDnat: 'deny' });
    expect(await say(bed.netns, front, 80)).toBe('ECONNREFUSED');
  });

  test('an answer to a masqueraded pod', async () => {
    bed.translated(version, 17, ['node:61000', 'away:5353'], { opener: 'one:5' }, FlowFlag.byNet | FlowFlag.egressOk);
    const heard = pod('one').exec(process.execPath, '-e', udpListener, one, '5');
    const { away = '', node = '' } = namesOf[version];
    await untilOver(
      heard,
      async () => void (await far.exec(process.execPath, '-e', udpSender, away, '5353', node, '61000')),
    );
    expect((await heard).trim()).toBe(`hello from ${namesOf[version]['away']}:5353`);
  });

  test('an answer to a masqueraded pod with a tag that names no VLAN, as some networks deliver all frames', async () => {
    bed.translated(version, 17, ['node:61000', 'away:5353'], { opener: 'one:5' }, FlowFlag.byNet | FlowFlag.egressOk);
    const heard = pod('one').exec(process.execPath, '-e', udpListener, one, '5');
    await untilOver(heard, async () => {
      await priorityTagged(version, 'udp away:5353 > node:61000');
      await sleep(50);
    });
    expect((await heard).trim()).toMatch(new RegExp(` from ${namesOf[version]['away']}:5353$`));
  });
});

/** `far` sends a packet by `uplink` whose frame has a tag with a priority (IEEE 802.1p), and VLAN 0. */
async function priorityTagged(version: Version, packet: string): Promise<void> {
  using injector = await loadObject({ name: 'inject', elf: injectElf });
  const [{ ifindex } = { ifindex: 0 }] = await far.ip<{ ifindex: number }[]>('link', 'show', 'uplink-far');
  const { frame } = frameOf(version, namesOf[version], packet);
  const protocol = ((frame[12] ?? 0) << 8) | (frame[13] ?? 0);
  frame.set(macBytes(macOf('uplink')));
  // IEEE 802 local experimental: see inject.bpf.c, and offsetof(struct __sk_buff, cb).
  frame.set([0x88, 0xb5], 12);
  const context = new Uint8Array(192);
  const cb = new DataView(context.buffer, 48);
  [ifindex, protocol, 0x2000].forEach((word, at) => cb.setUint32(at * 4, word, true));
  const { returned } = injector.program('inject').testRun({ data: frame, context, netns: { path: far.path } });
  if (returned !== 0) throw new Error(`the frame could not be sent: ${returned}`);
}

/** Does something again and again while somebody listens, whether that ends well or not. */
async function untilOver(listening: Promise<unknown>, deed: () => Promise<void>): Promise<void> {
  let isOver = false;
  const end = listening.finally(() => (isOver = true)).catch(() => undefined);
  while (!isOver) await deed();
  await end;
}

/** Tells of the first datagram for an address and port; gives up after 45 s. */
const udpListener = `
  const [, address, port] = process.argv;
  const socket = require('node:dgram').createSocket(address.includes(':') ? 'udp6' : 'udp4');
  socket.once('message', (data, from) => { console.log(data + ' from ' + from.address + ':' + from.port); process.exit(); });
  socket.bind(Number(port), address);
  setTimeout(() => process.exit(1), 45000);`;
/** Sends some datagrams from an address and port to another. */
const udpSender = `
  const [, from, fromPort, to, port] = process.argv;
  const socket = require('node:dgram').createSocket(from.includes(':') ? 'udp6' : 'udp4');
  socket.bind(Number(fromPort), from, () => {
    const timer = setInterval(() => socket.send('hello', Number(port), to), 50);
    setTimeout(() => { clearInterval(timer); socket.close(); }, 300);
  });
  socket.on('error', () => {});`;
