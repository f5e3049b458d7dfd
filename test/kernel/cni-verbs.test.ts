/**
 * The CNI executable on the real kernel, once with a real agent and once stand-alone: the same table for both.
 *
 *   container eth0 --veth-- caliXXXXXXXXXXX node
 */
import { afterEach, describe, expect, test } from '@jest/globals';
import { createHash } from 'node:crypto';
import { until } from '../lab/until.ts';
import { CniTestbed, containerId, podArgs, type CallOptions, type Mode } from './cni-testbed.ts';

const modes: readonly Mode[] = ['agent', 'standalone'];
const dual = { ipam: { type: 'calico-ipam', assign_ipv4: 'true', assign_ipv6: 'true' } };
const only6 = { ipam: { type: 'calico-ipam', assign_ipv4: 'false', assign_ipv6: 'true' } };

interface Route {
  readonly dst: string;
  readonly dev: string;
  readonly gateway?: string;
  readonly scope?: string;
}
interface LinkInfo {
  readonly ifname: string;
  readonly address: string;
  readonly mtu: number;
  readonly operstate: string;
  readonly ifalias?: string;
  readonly addr_info: readonly { readonly local: string; readonly prefixlen: number; readonly scope: string }[];
}

/** Calico's rule. */
const caliName = (pod: string): string =>
  `cali${createHash('sha1').update(`default.${pod}`).digest('hex').slice(0, 11)}`;

describe.each(modes)('CNI verbs, %s', (mode) => {
  let bed: CniTestbed;
  afterEach(async () => {
    await bed[Symbol.asyncDispose]();
  });

  /** ADD that must succeed. */
  const add = async (netns: string, id: string, options: CallOptions = {}) => {
    const answer = await bed.call('ADD', netns, id, options);
    expect(answer).toMatchObject({ status: 0 });
    return answer.json as unknown as {
      interfaces: { name: string; mac: string; mtu?: number; sandbox?: string }[];
      ips: { address: string; interface: number; version?: string }[];
      cniVersion: string;
      dns: object;
      routes: object[];
    };
  };
  const addressesOf = (link: LinkInfo | undefined) =>
    link?.addr_info.filter(({ scope }) => scope === 'global').map(({ local, prefixlen }) => `${local}/${prefixlen}`);

  test('ADD wires a pod as Calico does', async () => {
    bed = await CniTestbed.create(mode);
    bed.pod('web-1');
    const pod = await bed.container();
    const id = containerId('a');
    const device = caliName('web-1');
    const result = await add(pod.path, id, { conf: { ...dual, mtu: 1440 }, env: podArgs('web-1') });

    const inPod = async () => (await pod.ip<LinkInfo[]>('addr', 'show', 'dev', 'eth0'))[0];
    const onNode = async () => (await bed.node.ip<LinkInfo[]>('-d', 'addr', 'show', 'dev', device))[0];
    // The kernel says that a device is up when its worker has got to it.
    await until(async () => [await inPod(), await onNode()].every((link) => link?.operstate === 'UP'));
    const [eth0, host] = [await inPod(), await onNode()];
    expect(result).toMatchObject({
      cniVersion: '1.0.0',
      interfaces: [
        { name: device, mac: 'ee:ee:ee:ee:ee:ee' },
        { name: 'eth0', mac: eth0?.address, sandbox: pod.path },
      ],
      dns: {},
    });
    const addresses = result.ips.map(({ address }) => address);
    expect(addresses.map((address) => address.split('/')[1])).toEqual(['32', '128']);
    expect(result.ips.every((ip) => ip.interface === 1)).toBe(true);
    expect(addressesOf(eth0)).toEqual(addresses);
    expect(eth0).toMatchObject({ mtu: 1440, operstate: 'UP' });
    expect(host).toMatchObject({
      mtu: 1440,
      operstate: 'UP',
      address: 'ee:ee:ee:ee:ee:ee',
      ifalias: `tortie:k8s-pod-network/${id}/eth0`,
    });
    expect(host?.addr_info.map(({ local }) => local)).toEqual(['fe80::ecee:eeff:feee:eeee']);

    expect(await pod.ip<Route[]>('route')).toEqual([
      expect.objectContaining({ dst: 'default', gateway: '169.254.1.1', dev: 'eth0' }),
      expect.objectContaining({ dst: '169.254.1.1', dev: 'eth0', scope: 'link' }),
    ]);
    expect(await pod.ip<Route[]>('-6', 'route', 'show', 'default')).toEqual([
      expect.objectContaining({ gateway: 'fe80::ecee:eeff:feee:eeee', dev: 'eth0' }),
    ]);
    const [ip4 = '', ip6 = ''] = addresses.map((address) => address.split('/')[0] ?? '');
    expect(await bed.node.ip<Route[]>('-d', 'route', 'show', 'proto', 'boot')).toEqual([
      expect.objectContaining({ dst: ip4, dev: device, scope: 'link' }),
    ]);
    expect(await bed.node.ip<Route[]>('-6', '-d', 'route', 'show', 'dev', device, 'proto', 'boot')).toEqual([
      expect.objectContaining({ dst: ip6 }),
    ]);
    const neighbours = await bed.node.ip<{ dst: string; lladdr: string; state: string[] }[]>(
      'neigh',
      'show',
      'nud',
      'permanent',
    );
    expect(neighbours.filter(({ dst }) => dst === ip4 || dst === ip6)).toEqual([
      expect.objectContaining({ dst: ip4, lladdr: eth0?.address }),
      expect.objectContaining({ dst: ip6, lladdr: eth0?.address }),
    ]);
    const sysctl = (netns: { exec(file: string, ...args: string[]): Promise<string> }, ...names: string[]) =>
      netns.exec('sysctl', '-n', ...names).then((text) => text.trim().split('\n').join(' '));
    const conf4 = ['route_localnet', 'proxy_arp', 'forwarding'].map((name) => `net.ipv4.conf.${device}.${name}`);
    const conf6 = ['disable_ipv6', 'proxy_ndp', 'forwarding', 'accept_ra', 'accept_dad'].map(
      (name) => `net.ipv6.conf.${device}.${name}`,
    );
    expect(await sysctl(bed.node, ...conf4, `net.ipv4.neigh.${device}.proxy_delay`, ...conf6)).toBe(
      '1 1 1 0 0 1 1 0 0',
    );
    expect(
      await sysctl(pod, 'net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding', 'net.ipv6.conf.default.accept_dad'),
    ).toBe('0 0 0');

    // Two containers of one node, through it. Nothing else forwards here.
    const other = await bed.container();
    bed.pod('web-2');
    const second = await add(other.path, containerId('b'), { conf: dual, env: podArgs('web-2') });
    await bed.node.exec('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
    for (const { address } of second.ips) await pod.exec('ping', '-c3', '-i0.2', '-W20', address.split('/')[0] ?? '');
  });

  test('a container that is no pod gets a device by its id, and forwarding if the conf says so', async () => {
    bed = await CniTestbed.create(mode);
    const container = await bed.container();
    const id = containerId('plain');
    const result = await add(container.path, id, {
      conf: { container_settings: { allow_ip_forwarding: true }, ...dual },
    });
    expect(result.interfaces[0]?.name).toBe(`cali${id.slice(0, 11)}`);
    expect(await container.exec('sysctl', '-n', 'net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding')).toBe('1\n1\n');
  });

  test.each([
    ['0.3.1', ['4', '6'], undefined],
    ['0.4.0', ['4', '6'], undefined],
    ['1.0.0', [undefined, undefined], undefined],
    ['1.1.0', [undefined, undefined], 1400],
  ])('[%s] ADD, CHECK and DEL speak the version', async (cniVersion, versions, mtu) => {
    bed = await CniTestbed.create(mode);
    const container = await bed.container();
    const id = containerId('v');
    const conf = { ...dual, mtu: 1400, cniVersion };
    const result = await add(container.path, id, { conf });
    expect(result.cniVersion).toBe(cniVersion);
    expect(result.ips.map(({ version }) => version)).toEqual(versions);
    expect(result.interfaces.map((each) => each.mtu)).toEqual([mtu, mtu]);
    const check = await bed.call('CHECK', container.path, id, { conf: { ...conf, prevResult: result } });
    expect(check).toMatchObject(
      cniVersion === '0.3.1' ? { status: 1, json: { code: 1, cniVersion } } : { status: 0, stdout: '' },
    );
    expect(await bed.call('DEL', container.path, id, { conf })).toMatchObject({ status: 0, stdout: '' });
    expect(await bed.devices()).toEqual([]);
    expect(await bed.addressesInUse()).toBe(0);
  });

  test('an IPv6-only container has no IPv4', async () => {
    bed = await CniTestbed.create(mode);
    const container = await bed.container();
    // As runtimes that don't know of IPv6 leave it.
    await container.exec('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1');
    const result = await add(container.path, containerId('six'), { conf: only6 });
    expect(result.ips.map(({ address }) => address.includes(':'))).toEqual([true]);
    expect(await container.ip('-4', 'route')).toEqual([]);
    expect(await bed.node.ip('-4', 'route')).toEqual([]);
    const [eth0] = await container.ip<LinkInfo[]>('addr', 'show', 'dev', 'eth0');
    expect(addressesOf(eth0)).toEqual([result.ips[0]?.address]);
  });

  test('a pod’s annotations decide address and MAC', async () => {
    bed = await CniTestbed.create(mode);
    const annotations = {
      'cni.projectcalico.org/ipAddrs': '["10.65.0.9"]',
      'cni.projectcalico.org/hwAddr': '02:00:00:00:be:ef',
    };
    bed.pod('fixed', annotations);
    bed.pod('late', annotations);
    const pod = await bed.container();
    const result = await add(pod.path, containerId('fixed'), { env: podArgs('fixed') });
    expect(result.ips.map(({ address }) => address)).toEqual(['10.65.0.9/32']);
    expect(result.interfaces[1]?.mac).toBe('02:00:00:00:be:ef');
    const other = await bed.container();
    expect(await bed.call('ADD', other.path, containerId('late'), { env: podArgs('late') })).toMatchObject({
      status: 1,
      json: { code: 101, msg: expect.stringContaining('10.65.0.9') },
    });
  });

  test('runtimeConfig and CNI_ARGS ask for address and MAC', async () => {
    bed = await CniTestbed.create(mode);
    const [one, two] = [await bed.container(), await bed.container()];
    const runtimeConfig = { ips: ['10.65.0.5/28'], mac: '02:00:00:00:00:05' };
    expect(await add(one.path, containerId('1'), { conf: { runtimeConfig } })).toMatchObject({
      ips: [{ address: '10.65.0.5/32' }],
      interfaces: [{}, { mac: '02:00:00:00:00:05' }],
    });
    const result = await add(two.path, containerId('2'), { env: { CNI_ARGS: 'IP=10.65.0.6;MAC=02:00:00:00:00:06' } });
    expect(result).toMatchObject({
      ips: [{ address: '10.65.0.6/32' }],
      interfaces: [{}, { mac: '02:00:00:00:00:06' }],
    });
  });

  test('custom routes take the default route’s place', async () => {
    bed = await CniTestbed.create(mode);
    const container = await bed.container();
    const ipam = { ...dual.ipam, routes: [{ dst: '10.0.0.0/8' }, { dst: 'fd00::/8' }] };
    await add(container.path, containerId('r'), { conf: { ipam } });
    expect((await container.ip<Route[]>('route')).map(({ dst }) => dst)).toEqual(['10.0.0.0/8', '169.254.1.1']);
    expect(await container.ip<Route[]>('-6', 'route', 'show', 'default')).toEqual([]);
    expect(await container.ip<Route[]>('-6', 'route', 'show', 'fd00::/8')).toHaveLength(1);
  });

  test('a pod’s new sandbox takes over; the late DEL of the old one leaves it alone', async () => {
    bed = await CniTestbed.create(mode);
    bed.pod('web');
    const env = podArgs('web');
    const [old, young] = [await bed.container(), await bed.container()];
    const [oldId, youngId] = [containerId('old'), containerId('young')];
    const before = await add(old.path, oldId, { env });
    const after = await add(young.path, youngId, { env });
    expect(after.ips[0]?.address).not.toBe(before.ips[0]?.address);
    expect(await bed.addressesInUse()).toBe(2);
    expect((await old.ip<LinkInfo[]>('link')).map(({ ifname }) => ifname)).toEqual(['lo']);

    expect(await bed.call('DEL', old.path, oldId, { env })).toMatchObject({ status: 0 });
    expect(await bed.addressesInUse()).toBe(1);
    const [host] = await bed.node.ip<LinkInfo[]>('link', 'show', 'dev', caliName('web'));
    expect(host?.ifalias).toContain(youngId);
    const prevResult = after;
    expect(await bed.call('CHECK', young.path, youngId, { env, conf: { prevResult } })).toMatchObject({ status: 0 });
    expect(await bed.call('DEL', young.path, youngId, { env })).toMatchObject({ status: 0 });
    expect(await bed.devices()).toEqual([]);
    expect(await bed.addressesInUse()).toBe(0);
  });

  test('an ADD that is repeated replaces the attachment, and holds one address', async () => {
    bed = await CniTestbed.create(mode);
    const container = await bed.container();
    const id = containerId('twice');
    await add(container.path, id);
    await add(container.path, id);
    expect(await bed.addressesInUse()).toBe(1);
    expect(await bed.devices()).toHaveLength(1);
  });

  test.each<readonly [string, (id: string) => Promise<{ netns: string }>]>([
    ['twice', async () => ({ netns: (await bed.container()).path })],
    ['without a namespace', async () => ({ netns: '' })],
    ['for a namespace that is gone', async () => ({ netns: '/run/netns/tt-never-was' })],
  ])('DEL succeeds %s', async (_how, where) => {
    bed = await CniTestbed.create(mode);
    const container = await bed.container();
    const id = containerId('del');
    await add(container.path, id);
    const { netns } = await where(id);
    for (let times = 0; times < 2; times += 1) {
      expect(await bed.call('DEL', netns, id)).toMatchObject({ status: 0, stdout: '' });
    }
    expect(await bed.devices()).toEqual([]);
    expect(await bed.addressesInUse()).toBe(0);
  });

  test('DEL succeeds before any ADD, and after the namespace was deleted', async () => {
    bed = await CniTestbed.create(mode);
    const container = await bed.container();
    expect(await bed.call('DEL', container.path, containerId('never'))).toMatchObject({ status: 0 });
    const id = containerId('gone');
    await add(container.path, id);
    await container[Symbol.asyncDispose]();
    expect(await bed.call('DEL', container.path, id)).toMatchObject({ status: 0 });
    expect(await bed.addressesInUse()).toBe(0);
  });

  test('ADD into a full pool says so and leaves nothing', async () => {
    bed = await CniTestbed.create(mode, 1);
    const [one, two] = [await bed.container(), await bed.container()];
    await add(one.path, containerId('one'));
    expect(await bed.call('ADD', two.path, containerId('two'), { conf: dual })).toMatchObject({
      status: 1,
      json: { code: 101 },
    });
    expect(await bed.devices()).toHaveLength(1);
    expect(await bed.addressesInUse()).toBe(1);
    expect((await two.ip<LinkInfo[]>('link')).map(({ ifname }) => ifname)).toEqual(['lo']);
  });

  test.each<
    readonly [
      string,
      (netns: { exec(file: string, ...args: string[]): Promise<string> }, id: string) => Promise<unknown>,
      RegExp,
    ]
  >([
    [
      'a device of the node has the name',
      (_, id) => bed.node.exec('ip', 'link', 'add', `cali${id.slice(0, 11)}`, 'type', 'veth', 'peer', 'stranger'),
      /not ours/,
    ],
    [
      'the container has an eth0',
      (pod) => pod.exec('ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'other'),
      /has an interface eth0 already/,
    ],
    [
      'the node routes the address elsewhere',
      () => bed.node.exec('ip', 'route', 'add', '10.65.0.7/32', 'dev', 'lo', 'metric', mode === 'agent' ? '1024' : '0'),
      /10\.65\.0\.7\/32 .* device lo already/,
    ],
  ])('ADD fails when %s, and leaves all as it was', async (_what, obstruct, message) => {
    bed = await CniTestbed.create(mode);
    const container = await bed.container();
    const id = containerId('obstructed');
    await obstruct(container, id);
    // The block that IPAM claimed meanwhile stays the node's, and so does its blackhole.
    const routes = async () => (await bed.node.exec('ip', 'route')).replaceAll(/^blackhole .*\n/gm, '');
    const before = [await bed.node.exec('ip', 'addr'), await routes(), await container.exec('ip', 'link')];
    const answer = await bed.call('ADD', container.path, id, { env: { CNI_ARGS: 'IP=10.65.0.7' } });
    expect(answer).toMatchObject({ status: 1, json: { code: 103, msg: expect.stringMatching(message) } });
    expect([await bed.node.exec('ip', 'addr'), await routes(), await container.exec('ip', 'link')]).toEqual(before);
    expect(await bed.addressesInUse()).toBe(0);
  });

  test('ADD refuses the node’s own namespace, and one that does not exist', async () => {
    bed = await CniTestbed.create(mode);
    expect(await bed.call('ADD', bed.node.path, containerId('x'))).toMatchObject({ status: 1, json: { code: 4 } });
    expect(await bed.call('ADD', '/run/netns/tt-never-was', containerId('x'))).toMatchObject({
      status: 1,
      json: { code: 3 },
    });
  });

  test('ADD of a pod that the datastore does not have is to be tried again', async () => {
    bed = await CniTestbed.create(mode);
    const container = await bed.container();
    const answer = await bed.call('ADD', container.path, containerId('x'), { env: podArgs('nobody') });
    expect(answer).toMatchObject({ status: 1, json: { code: 11, msg: expect.stringContaining('default/nobody') } });
  });

  test('a second interface of a container has names and an address of its own', async () => {
    bed = await CniTestbed.create(mode);
    bed.pod('two');
    const container = await bed.container();
    const id = containerId('multi');
    await add(container.path, id, { env: podArgs('two') });
    const second = { ...podArgs('two'), CNI_IFNAME: 'net1' };
    const conf = {};
    const prevResult = await add(container.path, id, { env: second, conf });
    expect(await bed.call('CHECK', container.path, id, { env: second, conf: { prevResult } })).toMatchObject({
      status: 0,
    });
    const defaults = await container.ip<Route[]>('route', 'show', 'default');
    expect(defaults.map(({ dev }) => dev)).toEqual(['eth0', 'net1']); // In order of preference.
    expect(await bed.devices()).toHaveLength(2);
    expect(await bed.addressesInUse()).toBe(2);
    expect(await bed.call('DEL', container.path, id, { env: second, conf })).toMatchObject({ status: 0 });
    expect(await bed.devices()).toEqual([caliName('two')]);
    expect(await bed.addressesInUse()).toBe(1);
  });

  test('containers whose ids begin alike don’t take each other’s device', async () => {
    bed = await CniTestbed.create(mode);
    const [one, two] = [await bed.container(), await bed.container()];
    await add(one.path, 'web-server-1');
    const second = await add(two.path, 'web-server-2');
    expect(await bed.devices()).toHaveLength(2);
    expect(await bed.devices()).toContain('caliweb-server-');
    expect(await bed.call('CHECK', two.path, 'web-server-2', { conf: { prevResult: second } })).toMatchObject({
      status: 0,
    });
    expect(await bed.call('DEL', two.path, 'web-server-2')).toMatchObject({ status: 0 });
    expect(await bed.devices()).toEqual(['caliweb-server-']);
    expect(await bed.addressesInUse()).toBe(1);
  });

  const tampering: (readonly [string, RegExp, (container: string, device: string) => readonly string[]])[] = [
    [
      'an address is missing',
      /has no address 10\.65/,
      (ns) => ['-n', ns, 'addr', 'flush', 'dev', 'eth0', 'scope', 'global'],
    ],
    [
      'the default route is missing',
      /route 0\.0\.0\.0\/0 via 169\.254\.1\.1/,
      (ns) => ['-n', ns, 'route', 'del', 'default'],
    ],
    ['the interface is down', /interface eth0 is down/, (ns) => ['-n', ns, 'link', 'set', 'eth0', 'down']],
    [
      'the MTU is another',
      /interface eth0 has MTU 1300, not 1400/,
      (ns) => ['-n', ns, 'link', 'set', 'eth0', 'mtu', '1300'],
    ],
    [
      'the MAC is another',
      /interface eth0 has MAC 02:00:00:00:00:99/,
      (ns) => ['-n', ns, 'link', 'set', 'eth0', 'address', '02:00:00:00:00:99'],
    ],
    ['the interface is gone', /interface eth0 is missing/, (ns) => ['-n', ns, 'link', 'del', 'eth0']],
    [
      'the node’s route is missing',
      /node's route 10\.65.* is missing/,
      (_, device) => ['-n', bed.node.name, 'route', 'flush', 'dev', device],
    ],
    [
      'the node’s device is another’s',
      /is not this container's/,
      (_, device) => ['-n', bed.node.name, 'link', 'set', device, 'alias', 'mine'],
    ],
  ];
  // The agent puts the node's routes back at once: whether CHECK comes before that is chance.
  const noticeable = tampering.filter(([what]) => mode !== 'agent' || what !== 'the node’s route is missing');
  test.each(noticeable)('CHECK notices when %s', async (_what, message, tamper) => {
    bed = await CniTestbed.create(mode);
    const container = await bed.container();
    const id = containerId('check');
    const conf = { mtu: 1400 };
    const prevResult = await add(container.path, id, { conf });
    expect(await bed.call('CHECK', container.path, id, { conf: { ...conf, prevResult } })).toMatchObject({
      status: 0,
      stdout: '',
    });
    await container.exec('ip', ...tamper(container.name, `cali${id.slice(0, 11)}`));
    const answer = await bed.call('CHECK', container.path, id, { conf: { ...conf, prevResult } });
    expect(answer).toMatchObject({ status: 1, json: { code: 105, msg: expect.stringMatching(message) } });
  });

  test('GC removes what the runtime no longer knows, of its own network only', async () => {
    bed = await CniTestbed.create(mode);
    const ids = [containerId('keep'), containerId('lost'), containerId('other')];
    const [keep = '', lost = '', other = ''] = ids;
    await add((await bed.container()).path, keep);
    await add((await bed.container()).path, lost);
    await add((await bed.container()).path, other, { conf: { name: 'k8s-pod-network.other' } });
    const conf = { cniVersion: '1.1.0', 'cni.dev/valid-attachments': [{ containerID: keep, ifname: 'eth0' }] };
    expect(await bed.call('GC', '', '', { conf })).toMatchObject({ status: 0, stdout: '' });
    expect((await bed.devices()).toSorted()).toEqual([keep, other].map((id) => `cali${id.slice(0, 11)}`).toSorted());
    expect(await bed.addressesInUse()).toBe(2);
    // An empty list comes as null from runtimes written in Go.
    expect(await bed.call('GC', '', '', { conf: { ...conf, 'cni.dev/valid-attachments': null } })).toMatchObject({
      status: 0,
    });
    expect(await bed.devices()).toEqual([`cali${other.slice(0, 11)}`]);
    expect(await bed.addressesInUse()).toBe(1);
  });

  test('STATUS is truthful', async () => {
    bed = await CniTestbed.create(mode);
    const conf = { cniVersion: '1.1.0' };
    const answer = await bed.call('STATUS', '', '', { conf });
    expect(answer.status).toBe(0);
    expect(answer.stdout).toEqual(mode === 'standalone' ? expect.stringContaining('policy is not enforced') : '');
    bed.apply('cluster', {
      apiVersion: 'projectcalico.org/v3',
      kind: 'ClusterInformation',
      metadata: { name: 'default' },
      spec: { datastoreReady: false },
    });
    let refused = await bed.call('STATUS', '', '', { conf });
    await until(async () => {
      refused = await bed.call('STATUS', '', '', { conf });
      return refused.status !== 0;
    });
    expect(refused).toMatchObject({ status: 1, json: { code: 50, msg: expect.stringContaining('datastoreReady') } });
    expect(await bed.call('ADD', (await bed.container()).path, containerId('x'))).toMatchObject({
      status: 1,
      json: { code: 11 },
    });
  });

  test('VERSION lists what we speak', async () => {
    bed = await CniTestbed.create(mode);
    const { json } = await bed.call('VERSION', '', '');
    expect(json).toEqual({ cniVersion: '1.0.0', supportedVersions: ['0.3.1', '0.4.0', '1.0.0', '1.1.0'] });
  });
});
