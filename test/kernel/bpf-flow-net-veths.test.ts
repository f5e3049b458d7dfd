import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';
import { namesOf, type Pod } from './bpf-flow-names.ts';
import { MasqueradeBed } from './bpf-masquerade-bed.ts';
import { fillJump, filterDevice, inhabitPods, loadFilters } from './bpf-veths.ts';

/*
 * Packets that pods really send by an uplink: whether the next hop is found, and what is cut out of long ones (GSO). Netfilter forwards nothing.
 * `away` has no way to the pods: it knows the node alone.
 *
 *     pods --- [filters] (node) [filters] uplink --- uplink-far [away]
 */
const cleanup = new AsyncDisposableStack();
let bed: MasqueradeBed;
let inside: ReadonlyMap<Pod, TestNetns>;
let far: TestNetns;

beforeAll(async () => {
  bed = cleanup.use(await MasqueradeBed.create());
  far = cleanup.use(await createNetns());
  const filters = cleanup.use(await loadFilters(bed));
  await fillJump(bed, filters, cleanup);
  inside = await inhabitPods(bed, filters, cleanup);
  await filterDevice(bed, filters, 'uplink', 'net');
  await bed.netns.exec('ip', 'link', 'set', 'uplink-far', 'netns', far.name);
  await far.exec('ip', 'link', 'set', 'lo', 'up');
  await far.exec('ip', 'link', 'set', 'uplink-far', 'up');
  for (const version of [4, 6] as const) {
    const ip = async (...args: string[]) => await far.exec('ip', `-${version}`, 'addr', 'add', ...args);
    const noDad = version === 4 ? [] : ['nodad'];
    await ip(version === 4 ? '10.1.0.254/24' : 'fd01::fe/64', 'dev', 'uplink-far', ...noDad);
    await ip(`${namesOf[version]['away']}/${version === 4 ? 32 : 128}`, 'dev', 'lo', ...noDad);
    await bed.netns.exec(version === 4 ? 'iptables' : 'ip6tables', '-w', '-P', 'FORWARD', 'DROP');
  }
});
afterAll(async () => await cleanup.disposeAsync());
beforeEach(async () => {
  await bed.reset();
  bed.ports(61_000, 61_999);
});

/** Sends back what it hears, on one connection, and says who that was; gives up after 30 s. */
const echo = `
  const server = require('node:net').createServer((socket) => {
    console.log(socket.remoteAddress + ' ' + socket.remotePort);
    socket.pipe(socket);
    server.close();
  });
  server.listen(8080, '::');
  setTimeout(() => process.exit(1), 30000).unref();`;
/** Says so much to somebody who is about to listen, and whether all of that came back; gives up after 30 s. */
const talk = `
  const net = require('node:net');
  const [, host, bytes] = process.argv;
  const said = require('node:crypto').randomBytes(Number(bytes));
  const connect = () => {
    const heard = [];
    const socket = net.connect({ host, port: 8080 }, () => socket.end(said));
    socket.on('data', (data) => heard.push(data));
    socket.on('error', ({ code }) => { if (code === 'ECONNREFUSED') setTimeout(connect, 50); else { console.log(code); process.exit(); } });
    socket.on('close', (isError) => { if (!isError) { console.log(Buffer.concat(heard).equals(said) ? 'all' : 'something else'); process.exit(); } });
  };
  connect();
  setTimeout(() => { console.log('silence'); process.exit(); }, 30000);`;

describe.each([4, 6] as const)('IPv%i', (version) => {
  const { away = '', node = '' } = namesOf[version];

  /** What pod one hears of so many bytes, and whom `away` has heard. */
  async function exchange(
    bytes: number,
  ): Promise<{ readonly heard: string; readonly by: string; readonly port: number }> {
    const [heard = '', by] = await Promise.all([
      inside.get('one')?.exec(process.execPath, '-e', talk, away, String(bytes)),
      far.exec(process.execPath, '-e', echo),
    ]);
    const [address = '', port] = by.trim().split(' ');
    return { heard: heard.trim(), by: address.replace('::ffff:', ''), port: Number(port) };
  }

  test('the next hop isn’t known yet: it is asked for, and the connection stands', async () => {
    await bed.netns.exec('ip', `-${version}`, 'neigh', 'flush', 'dev', 'uplink');
    const { heard, by, port } = await exchange(100);
    expect({ heard, by }).toEqual({ heard: 'all', by: node });
    expect(port).toBeGreaterThanOrEqual(61_000);
    expect(port).toBeLessThanOrEqual(61_999);
    expect((await bed.records(version)).map(({ text }) => text)).toContainEqual(
      expect.stringMatching(/^node:any > away:8080 egressOk answered established .*source byNet$/),
    );
  });

  test('much is said, in packets that are many in one', async () => {
    expect(await exchange(4_000_000)).toMatchObject({ heard: 'all', by: node });
  });

  test('packets longer than the uplink takes: the stack says so to the pod', async () => {
    const mtu = async (bytes: number) => {
      await bed.netns.exec('ip', 'link', 'set', 'uplink', 'mtu', String(bytes));
    };
    // `away` says that it takes more, but sends no more: the uplink drops, in silence, what is longer and not many packets in one.
    const way = [version === 4 ? `${node}/32` : `${node}/128`, 'dev', 'uplink-far'];
    await mtu(1400);
    await far.exec('ip', 'route', 'add', ...way, 'mtu', '1400', 'advmss', String(version === 4 ? 1460 : 1440));
    try {
      expect(await exchange(400_000)).toMatchObject({ heard: 'all', by: node });
    } finally {
      await mtu(1500);
      await far.exec('ip', 'route', 'del', ...way);
      const pod = inside.get('one');
      await pod?.exec('ip', `-${version}`, 'route', 'flush', 'cache');
    }
  });

  test('an echo and its answer', async () => {
    const said = await inside.get('one')?.exec('ping', '-n', '-c', '1', '-W', '5', away);
    expect(said).toMatch(/ 1 (packets )?received/);
  });
});
