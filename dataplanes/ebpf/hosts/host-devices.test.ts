import { beforeEach, describe, expect, test } from '@jest/globals';
import { FakeClock } from '#api/fake-clock.ts';
import type { Address, Link, MonitorGroup, NetlinkEvent, Route } from '#native/types.ts';
import type { HostEndpointInfo } from '../../policy.ts';
import { testHostEndpoint } from '../../shared/test-config.ts';
import { silentLogger } from '../../silent-logger.ts';
import { HostDevices } from './host-devices.ts';

const link = (index: number, name: string, more: Partial<Link> = {}): Link => ({
  index,
  name,
  group: 0,
  mtu: 1500,
  up: true,
  running: true,
  mac: `02:00:00:00:00:0${index}`,
  ...more,
});
const address = (linkIndex: number, text: string): Address => ({
  linkIndex,
  family: 4,
  address: text,
  scope: 'global',
  flags: [],
});
const route = (linkIndex: number, more: Partial<Route> = {}): Route => ({
  family: 4,
  dst: '0.0.0.0/0',
  table: 254,
  protocol: 3,
  scope: 'global',
  type: 'unicast',
  linkIndex,
  onlink: false,
  multipath: false,
  ...more,
});

/** A kernel whose events come when the test says so. */
class FakeKernel {
  all: Link[] = [];
  addressList: Address[] = [];
  routeList: Route[] = [];
  dumps = 0;
  readonly opened: (readonly MonitorGroup[])[] = [];
  open = 0;
  #say: ((event: NetlinkEvent) => void) | undefined;

  links = async (): Promise<readonly Link[]> => {
    this.dumps++;
    return this.all;
  };
  addresses = async (): Promise<readonly Address[]> => this.addressList;
  routes = async (): Promise<readonly Route[]> => this.routeList;

  monitor(groups: readonly MonitorGroup[]): AsyncIterable<NetlinkEvent> & Disposable {
    this.opened.push(groups);
    this.open++;
    const queue: NetlinkEvent[] = [];
    let wake: (() => void) | undefined;
    let isOver = false;
    this.#say = (event) => {
      queue.push(event);
      wake?.();
    };
    const close = (): void => {
      if (!isOver) this.open--;
      isOver = true;
      wake?.();
    };
    return {
      async *[Symbol.asyncIterator]() {
        while (!isOver) {
          const event = queue.shift();
          if (event !== undefined) yield event;
          else await new Promise<void>((resolve) => (wake = resolve));
        }
      },
      [Symbol.dispose]: close,
    };
  }

  async say(event: NetlinkEvent): Promise<void> {
    this.#say?.(event);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

let kernel: FakeKernel;
let changes: boolean[];
let devices: HostDevices;

beforeEach(() => {
  kernel = new FakeKernel();
  kernel.all = [
    link(1, 'lo'),
    link(2, 'eth0'),
    link(3, 'eth1'),
    link(4, 'cali1'),
    link(5, 'tunl0', { mac: '00:00:00:00' }),
  ];
  kernel.addressList = [address(1, '127.0.0.1/8'), address(2, '192.0.2.1/24'), address(4, '169.254.1.1/32')];
  kernel.routeList = [route(2), route(4), route(5), route(1, { type: 'local' })];
  changes = [];
  devices = new HostDevices(
    {
      host: kernel,
      openMonitor: (groups) => kernel.monitor(groups),
      clock: new FakeClock({ sleepsPass: true }),
      log: silentLogger,
    },
    (_, isChange) => changes.push(isChange),
  );
});

/** Devices that are judged, and by which host endpoint. */
const resolved = async (): Promise<Record<string, string | undefined>> =>
  Object.fromEntries(
    (await devices.resolve()).filter(({ isJudged }) => isJudged).map((device) => [device.name, device.endpoint]),
  );
const uplinks = async (): Promise<string[]> =>
  (await devices.resolve()).filter(({ isUplink }) => isUplink).map(({ name }) => name);

describe('the devices of host endpoints', () => {
  test.each<[string, Record<string, Partial<HostEndpointInfo>>, Record<string, string>]>([
    ['the one that is named', { a: { ifaceName: 'eth1' } }, { eth1: 'a' }],
    ['none, if that is not there', { a: { ifaceName: 'eth7' } }, {}],
    ['those with an address', { a: { expectedIps: ['192.0.2.9', '192.0.2.1'] } }, { eth0: 'a' }],
    ["`*`: all ways out, but pods' and lo", { a: { ifaceName: '*' } }, { eth0: 'a', tunl0: 'a' }],
    ['`*` behind what is named', { a: { ifaceName: '*' }, b: { ifaceName: 'eth0' } }, { eth0: 'b', tunl0: 'a' }],
    ['lo, if it is named', { a: { ifaceName: 'lo' } }, { lo: 'a' }],
    ['the first by name has it', { b: { ifaceName: 'eth0' }, a: { expectedIps: ['192.0.2.1'] } }, { eth0: 'a' }],
    ["a pod's never", { a: { ifaceName: 'cali1' } }, {}],
  ])('%s', async (_, wanted, expected) => {
    for (const [id, more] of Object.entries(wanted)) devices.set(id, testHostEndpoint(more));
    expect(await resolved()).toEqual(expected);
  });

  test('by which the node forwards are said where that is needed, with whoever has them', async () => {
    devices.set('a', testHostEndpoint({ ifaceName: 'eth1' }));
    devices.setForwarding(true);
    expect(await resolved()).toEqual({ eth0: undefined, eth1: 'a', tunl0: undefined });
  });

  test('without Ethernet are known by their address', async () => {
    devices.set('a', testHostEndpoint({ ifaceName: '*' }));
    const kinds = (await devices.resolve()).map(({ name, device }) => [name, device.hasEthernet]);
    expect(kinds).toEqual([
      ['eth0', true],
      ['tunl0', false],
    ]);
  });

  test('follow events without reading all again, and only those that matter ask for anything', async () => {
    devices.set('a', testHostEndpoint({ ifaceName: '*' }));
    devices.set('b', testHostEndpoint({ expectedIps: ['198.51.100.1'] }));
    await devices.resolve();
    const dst = '203.0.113.0/24';
    await kernel.say({ type: 'route.new', route: route(3, { dst }) });
    await kernel.say({ type: 'route.new', route: route(2, { dst }) });
    await kernel.say({ type: 'route.new', route: route(4, { dst }) });
    await kernel.say({ type: 'link.new', link: link(9, 'cali9') });
    await kernel.say({ type: 'addr.new', address: address(9, '10.0.0.9/32') });
    await kernel.say({ type: 'addr.new', address: address(5, '198.51.100.1/24') });
    await kernel.say({ type: 'link.del', link: link(2, 'eth0') });
    expect(changes).toEqual([true, false, false, false, false, true, true]);
    expect(await resolved()).toEqual({ eth1: 'a', tunl0: 'b' });
    expect(kernel.dumps).toBe(1);
  });

  test('are read again when events were lost, a device went down, or its last route seems to be gone', async () => {
    devices.set('a', testHostEndpoint({ ifaceName: '*' }));
    await devices.resolve();
    await kernel.say({ type: 'overrun' });
    await devices.resolve();
    await kernel.say({ type: 'link.new', link: link(2, 'eth0', { up: false }) });
    await devices.resolve();
    await kernel.say({ type: 'route.del', route: route(5) });
    kernel.routeList = [route(2)];
    expect(await resolved()).toEqual({ eth0: 'a' });
    expect(kernel.dumps).toBe(4);
    expect(changes).toEqual([true, true, true]);
  });

  test('are the very same list as long as nothing is said or happens that could change it', async () => {
    devices.set('a', testHostEndpoint({ ifaceName: '*' }));
    const first = await devices.resolve();
    await kernel.say({ type: 'addr.new', address: address(4, '10.0.0.9/32') });
    devices.setForwarding(false);
    expect(await devices.resolve()).toBe(first);
    await kernel.say({ type: 'addr.new', address: address(3, '198.51.100.1/24') });
    expect(await devices.resolve()).not.toBe(first);
  });

  test.each<[string, () => void]>([
    ['a host endpoint', () => devices.set('b', testHostEndpoint({ ifaceName: 'eth1' }))],
    ['a setting', () => devices.setSettings({ interfacePrefixes: ['cali'], uplinkPattern: 'eth1' })],
    ["the node's address", () => devices.setNode({ ipv4: '198.51.100.1' })],
    ['a pool', () => devices.setPools(['10.65.0.0/16'])],
    ['the need of ways to forward by', () => devices.setForwarding(true)],
    ['a wish to look at all', () => devices.requestResync()],
  ])('are looked at anew after %s was said', async (_, say) => {
    const first = await devices.resolve();
    say();
    expect(await devices.resolve()).not.toBe(first);
  });

  test('are those that were pods, once pods are called otherwise', async () => {
    devices.set('a', testHostEndpoint({ ifaceName: '*' }));
    await devices.resolve();
    devices.setSettings({ interfacePrefixes: ['tap'] });
    expect(await resolved()).toEqual({ cali1: 'a', eth0: 'a', tunl0: 'a' });
  });

  test("are nobody's while host endpoints can not be, but uplinks", async () => {
    devices.set('a', testHostEndpoint({ ifaceName: '*' }));
    expect((await devices.resolve(false)).map(({ name, endpoint, isJudged }) => [name, endpoint, isJudged])).toEqual([
      ['eth0', undefined, false],
    ]);
  });
});

describe('uplinks', () => {
  const block = (linkIndex: number, dst: string): Route => route(linkIndex, { dst });

  test('have Ethernet, and a default route leaves by them', async () => {
    expect(await uplinks()).toEqual(['eth0']);
  });

  test("have the node's address, wherever it goes", async () => {
    kernel.routeList = [];
    expect(await uplinks()).toEqual([]);
    devices.setNode({ ipv4: '192.0.2.1' });
    expect(await uplinks()).toEqual(['eth0']);
    await kernel.say({ type: 'addr.del', address: address(2, '192.0.2.1/24') });
    await kernel.say({ type: 'addr.new', address: address(3, '192.0.2.1/24') });
    await kernel.say({ type: 'addr.new', address: address(1, '192.0.2.1/32') });
    expect(changes).toEqual([true, true, true]);
    expect(await uplinks()).toEqual(['eth1']);
  });

  test.each([
    ["another node's block", '10.65.1.0/26', ['eth0', 'eth1']],
    ['what a pool is part of', '10.0.0.0/8', ['eth0', 'eth1']],
    ['something else', '172.17.0.0/16', ['eth0']],
    ["another family's", '2001:db8::/32', ['eth0']],
  ])('lead to pods elsewhere: a route to %s', async (_, dst, expected) => {
    devices.setPools(['10.65.0.0/16']);
    await uplinks();
    await kernel.say({ type: 'route.new', route: block(3, dst) });
    expect(await uplinks()).toEqual(expected);
    expect(kernel.dumps).toBe(1);
  });

  test('are looked for anew when a default route may have been replaced: nobody says that the former one is gone', async () => {
    expect(await uplinks()).toEqual(['eth0']);
    kernel.routeList = [route(3)];
    await kernel.say({ type: 'route.new', route: route(3) });
    expect(await uplinks()).toEqual(['eth1']);
    kernel.routeList = [];
    await kernel.say({ type: 'route.new', route: { ...route(3, { type: 'blackhole' }), linkIndex: 1 } });
    expect(await uplinks()).toEqual([]);
    expect(kernel.dumps).toBe(3);
    expect(changes).toEqual([true, true]);
  });

  test('are looked for anew when pools change, and when the last route to a pool goes', async () => {
    kernel.routeList.push(block(3, '10.65.1.0/26'), block(3, '10.65.2.0/26'));
    expect(await uplinks()).toEqual(['eth0']);
    devices.setPools(['10.65.0.0/16']);
    expect(await uplinks()).toEqual(['eth0', 'eth1']);
    await kernel.say({ type: 'route.del', route: block(3, '10.65.1.0/26') });
    expect(changes).toEqual([false]);
    kernel.routeList = [route(2)];
    await kernel.say({ type: 'route.del', route: block(3, '10.65.2.0/26') });
    expect(changes).toEqual([false, true]);
    expect(await uplinks()).toEqual(['eth0']);
    expect(kernel.dumps).toBe(3);
  });

  test('are those that a pattern says, once there is one, but never pods, lo or what has no Ethernet', async () => {
    devices.setSettings({ interfacePrefixes: ['cali'], uplinkPattern: '^(eth[12]|cali|lo|tunl)' });
    expect(await uplinks()).toEqual(['eth1']);
    await kernel.say({ type: 'link.new', link: link(7, 'eth2') });
    await kernel.say({ type: 'link.new', link: link(8, 'eth3') });
    expect(changes).toEqual([true, false]);
    expect(await uplinks()).toEqual(['eth1', 'eth2']);
  });

  test('have the address that packets are masqueraded by, as it changes', async () => {
    const source = async () => (await devices.resolve())[0]?.device.masquerade4;
    expect(await source()).toEqual(Uint8Array.of(192, 0, 2, 1));
    await kernel.say({ type: 'addr.new', address: { ...address(2, '192.0.2.1/24'), flags: ['deprecated'] } });
    expect(changes).toEqual([true]);
    expect(await source()).toEqual(new Uint8Array(4));
    devices.setSettings({ interfacePrefixes: ['cali'], natOutgoingAddress: '198.51.100.7' });
    expect(await source()).toEqual(Uint8Array.of(198, 51, 100, 7));
  });

  test("are a host endpoint's besides, or nobody's", async () => {
    devices.set('a', testHostEndpoint({ ifaceName: 'eth0' }));
    expect(await devices.resolve()).toMatchObject([{ name: 'eth0', endpoint: 'a', isUplink: true, isJudged: true }]);
    devices.set('a', undefined);
    expect(await devices.resolve()).toMatchObject([{ name: 'eth0', isUplink: true, isJudged: false }]);
  });
});

describe('reading', () => {
  /** Turns of the event loop while `work` goes on. */
  async function turnsOf(work: Promise<unknown>): Promise<number> {
    let [turns, isOver] = [0, false];
    const ended = work.finally(() => (isOver = true));
    while (!isOver) {
      await new Promise((resolve) => setImmediate(resolve));
      turns++;
    }
    await ended;
    return turns;
  }

  test('many routes lets others have their turn', async () => {
    kernel.routeList = Array.from({ length: 20_000 }, (_, n) => route(2, { dst: `10.${n >> 8}.${n & 255}.0/24` }));
    expect(await turnsOf(devices.resolve())).toBeGreaterThan(15);
  });

  test('tells what happens meanwhile, too', async () => {
    const links = Promise.withResolvers<void>();
    kernel.links = async () => {
      await links.promise;
      return kernel.all;
    };
    const read = devices.resolve();
    await kernel.say({ type: 'filter.del', linkIndex: 2 });
    await kernel.say({ type: 'route.new', route: route(3) });
    expect(changes).toEqual([]);
    links.resolve();
    await read;
    expect(changes).toEqual([false, true]);
    // The default route may have been eth0's.
    kernel.routeList = [route(3)];
    expect(await uplinks()).toEqual(['eth1']);
  });
});
