/**
 * Translation and refusal on real devices, where packets come with checksums that are still to be made, and many in one:
 *
 *     inner i0 --- ci client c0 --- hc [translate_flow] node hs --- s0 server
 *
 * The node's filter is a Service 10.96.0.10:80 whose one backend is the server, and whose port 81 nobody answers.
 */
import { existsSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { u32Key } from '#dataplanes/ebpf/keys.ts';
import { openNetlink } from '#native/netlink.ts';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';
import { bytes } from '#test/lab/packets.ts';
import { Peer } from '#test/lab/peer-client.ts';
import type { Version } from './classifier-bed.ts';
import { frame4, ip4, udp } from './header-frames.ts';
import { addressOf, nativeWord, RewriteBed } from './rewrite-bed.ts';

const hasEthtool = ['/usr/sbin/ethtool', '/sbin/ethtool'].some((path) => existsSync(path));
const clientOf = { 4: '10.1.0.2', 6: 'fd01::2' } as const;
const serverOf = { 4: '10.2.0.2', 6: 'fd02::2' } as const;
const vip = { 4: '10.96.0.10', 6: 'fd96::a' } as const;
const deadPort = 81;
const backendPort = 7777;
const closedPort = 9;

/** Sends so many bytes to a peer's echo, and compares what comes back. */
const transfer = `
const [host, port, bytes] = [process.argv[1], +process.argv[2], +process.argv[3]];
const sent = require('node:crypto').randomBytes(bytes);
const parts = [];
const socket = require('node:net').connect(port, host);
socket.on('connect', () => socket.end(sent));
socket.on('data', (part) => parts.push(part));
socket.on('error', (error) => console.log(error.code));
socket.on('end', () => {
  const got = Buffer.concat(parts);
  console.log(got.subarray(got.indexOf(10) + 1).equals(sent) ? 'same' : 'other, ' + got.length);
});`;

class Road implements AsyncDisposable {
  readonly #disposables = new AsyncDisposableStack();
  readonly bed: RewriteBed;
  readonly client: TestNetns;
  readonly node: TestNetns;
  readonly server: TestNetns;
  /** Behind the client, which forwards for it. */
  readonly inner: TestNetns;
  readonly #peers: Peer[] = [];

  private constructor(bed: RewriteBed, client: TestNetns, node: TestNetns, server: TestNetns, inner: TestNetns) {
    this.bed = bed;
    this.client = client;
    this.node = node;
    this.server = server;
    this.inner = inner;
  }

  static async build(): Promise<Road> {
    await using building = new AsyncDisposableStack();
    const bed = building.use(await RewriteBed.load());
    const client = building.use(await createNetns());
    const node = building.use(await createNetns());
    const server = building.use(await createNetns());
    const inner = building.use(await createNetns());
    const road = new Road(bed, client, node, server, inner);
    await road.#wire();
    // The peers end before their namespaces.
    for (const netns of [client, server, inner])
      road.#peers.push(building.use(await Peer.start(netns.path, [backendPort])));
    road.#disposables.use(building.move());
    return road;
  }

  async #wire(): Promise<void> {
    const { client, node, server, inner } = this;
    for (const [router, netns, end, near, net] of [
      [node, client, 'c0', 'hc', 1],
      [node, server, 's0', 'hs', 2],
      [client, inner, 'i0', 'ci', 3],
    ] as const) {
      await router.exec('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
      await router.ip('link', 'add', near, 'type', 'veth', 'peer', 'name', end, 'netns', netns.name);
      for (const [where, device, host] of [
        [router, near, 1],
        [netns, end, 2],
      ] as const) {
        await where.ip('link', 'set', 'lo', 'up');
        await where.ip('link', 'set', device, 'up');
        await where.ip('addr', 'add', `10.${net}.0.${host}/24`, 'dev', device);
        await where.ip('addr', 'add', `fd0${net}::${host}/64`, 'dev', device, 'nodad');
      }
      await netns.ip('route', 'add', 'default', 'via', `10.${net}.0.1`);
      await netns.ip('route', 'add', 'default', 'via', `fd0${net}::1`);
    }
    using netlink = openNetlink({ path: node.path });
    const { fd } = this.bed.program('translate_flow');
    const filter = { op: 'filter.replace', link: 'hc', priority: 1, handle: 1, name: 'translate', fd } as const;
    await netlink.run([
      { op: 'clsact.add', link: 'hc' },
      { ...filter, direction: 'ingress' },
      { ...filter, direction: 'egress' },
    ]);
  }

  get #client(): Peer {
    return this.#peers[0] as Peer;
  }

  get innerPeer(): Peer {
    return this.#peers[2] as Peer;
  }

  /** Where the Service's connections go. */
  serve(version: Version, port: number): void {
    const end = (address: string, at: number) => bytes(addressOf(version, address), nativeWord(at), [0, 0]);
    const rule = bytes(end(vip[version], 80), end(serverOf[version], port), nativeWord(deadPort), [0, 0]);
    this.bed.map(`rules${version}`).set(u32Key(0), rule);
  }

  async ask(version: Version, protocol: 'tcp' | 'udp', port: number, size = 0): Promise<string> {
    const { verdict, seenAs } = await this.#client.probe(vip[version], {
      protocol,
      port,
      bytes: size,
      timeoutMs: 5000,
    });
    return verdict === 'reaches' ? `reaches, seen as ${seenAs}` : verdict;
  }

  async transfer(version: Version, size: number): Promise<string> {
    const words = await this.client.exec(process.execPath, '-e', transfer, vip[version], '80', String(size));
    return words.trim();
  }

  /** How many segments the client sent again. */
  async retransmitted(): Promise<number> {
    const [names = [], values = []] = (await this.client.exec('cat', '/proc/net/snmp'))
      .split('\n')
      .filter((line) => line.startsWith('Tcp:'))
      .map((line) => line.split(' '));
    return Number(values[names.indexOf('RetransSegs')]);
  }

  /** Devices whose checksums and segments are made in software, before the peer gets them; all others leave that to nobody. */
  async inSoftware(devices: readonly string[]): Promise<void> {
    for (const [netns, device] of [
      [this.client, 'c0'],
      [this.node, 'hc'],
      [this.node, 'hs'],
      [this.server, 's0'],
    ] as const) {
      const state = devices.includes(device) ? 'off' : 'on';
      await netns.exec('ethtool', '-K', device, 'tx', state, 'tso', state, 'gso', state);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#disposables.disposeAsync();
  }
}

let road: Road;
beforeAll(async () => {
  if (hasEthtool) road = await Road.build();
});
afterAll(async () => await (road as Road | undefined)?.[Symbol.asyncDispose]());

const describeDevices = hasEthtool ? describe : describe.skip;
const why = hasEthtool ? '' : ' (skipped: there is no ethtool)';

describeDevices.each<readonly [string, readonly string[]]>([
  ['are left to the devices, all of which do nothing', []],
  ['are made behind the translation, before the peer compares them', ['hc', 'hs']],
  ['are made before the translation', ['c0', 's0']],
])(`checksums and segments %s${why}`, (_, devices) => {
  beforeAll(async () => await road.inSoftware(devices));

  test('the program sees many packets in one, as long as the devices allow, each of which fits', async () => {
    road.serve(4, backendPort);
    const counts = () =>
      [0, 1].map((fits) =>
        Number(
          new DataView((road.bed.map('many_in_one').get(u32Key(fits)) as Uint8Array).slice().buffer).getBigUint64(
            0,
            true,
          ),
        ),
      );
    const before = counts();
    expect(await road.transfer(4, 1 << 18)).toBe('same');
    const [tooLong = 0, fitting = 0] = counts().map((count, fits) => count - (before[fits] ?? 0));
    expect(tooLong).toBe(0);
    if (devices.includes('c0')) expect(fitting).toBe(0);
    else expect(fitting).toBeGreaterThan(0);
  });

  describe.each([4, 6] as const)('IPv%i', (version) => {
    beforeEach(() => road.serve(version, backendPort));

    test('TCP is translated there and back', async () => {
      expect(await road.ask(version, 'tcp', 80)).toBe(`reaches, seen as ${clientOf[version]}`);
      expect(await road.transfer(version, 1 << 20)).toBe('same');
    });

    test('UDP is translated there and back', async () => {
      expect(await road.ask(version, 'udp', 80)).toBe(`reaches, seen as ${clientOf[version]}`);
    });

    test('fragments are translated there and back', async () => {
      expect(await road.ask(version, 'udp', 80, 5000)).toBe(`reaches, seen as ${clientOf[version]}`);
    });

    test('the server’s errors reach the socket that asked', async () => {
      road.serve(version, closedPort);
      expect(await road.ask(version, 'udp', 80)).toBe('refused');
      expect(await road.ask(version, 'tcp', 80)).toBe('refused');
    });

    test('who asks where nobody answers is told so at once', async () => {
      const before = await road.retransmitted();
      expect(await road.ask(version, 'tcp', deadPort)).toBe('refused');
      expect(await road.ask(version, 'udp', deadPort)).toBe('refused');
      expect(await road.ask(version, 'udp', deadPort, 1300)).toBe('refused');
      // Not by the answer to a second SYN.
      expect(await road.retransmitted()).toBe(before);
    });
  });
});

describeDevices(`who is refused behind a router that makes checksums in software${why}`, () => {
  beforeAll(async () => {
    await road.inSoftware([]);
    await road.client.exec('ethtool', '-K', 'ci', 'tx', 'off');
  });

  // A checksum that was left to be made would be written into the answer there.
  test.each([4, 6] as const)('IPv%i: is told so', async (version) => {
    road.serve(version, backendPort);
    for (const protocol of ['tcp', 'udp'] as const) {
      const asked = { protocol, port: deadPort, timeoutMs: 5000 };
      expect(await road.innerPeer.probe(vip[version], asked)).toEqual({ verdict: 'refused' });
    }
  });
});

describeDevices(`a narrow link behind the translation${why}`, () => {
  beforeAll(async () => {
    await road.inSoftware([]);
    await road.node.ip('link', 'set', 'hs', 'mtu', '1300');
    // The server says that it takes more, else no packet would be too long; but sends no more: hs drops, in silence, what is longer and
    // not many packets in one, and a lost packet is sent again alone.
    for (const [gateway, mss] of [
      ['10.2.0.1', 1460],
      ['fd02::1', 1440],
    ] as const)
      await road.server.ip('route', 'replace', 'default', 'via', gateway, 'mtu', '1300', 'advmss', String(mss));
  });

  test.each([4, 6] as const)('IPv%i: what the router says of its MTU reaches TCP', async (version) => {
    road.serve(version, backendPort);
    expect(await road.transfer(version, 1 << 18)).toBe('same');
    const [route] = await road.client.ip<{ metrics?: { mtu?: number }[] }[]>('route', 'get', vip[version]);
    expect(route?.metrics).toEqual([expect.objectContaining({ mtu: 1300 })]);
  });

  test('a packet fits a device or not', async () => {
    const [link] = await road.node.ip<{ ifindex: number }[]>('link', 'show', 'dev', 'hs');
    const fits = (ip: Uint8Array, ifindex = link?.ifindex ?? 0) => {
      const context = new Uint8Array(192);
      new DataView(context.buffer).setUint32(48, ifindex, true);
      const { returned } = road.bed
        .program('fits')
        .testRun({ data: frame4(ip), context, netns: { path: road.node.path } });
      return { fits: returned >> 16 === 1, mtu: returned & 0xffff };
    };
    expect(fits(ip4({}, udp(1300 - 28)))).toEqual({ fits: true, mtu: 1300 });
    expect(fits(ip4({}, udp(1301 - 28)))).toEqual({ fits: false, mtu: 1300 });
    expect(fits(ip4({}, udp()), 0x7fffffff)).toEqual({ fits: false, mtu: 0 });
  });
});
