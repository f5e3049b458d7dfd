/** A failure at any step of an ADD leaves nothing: each step fails once, on the real kernel, in an order that the plan gives. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { CniDeps } from '#cni/deps.ts';
import { kernelNamespaces, type Namespaces } from '#cni/namespaces.ts';
import type { Netlink, NetlinkFailure, NetlinkOp, OpResult, SysctlResult } from '#native/types.ts';
import { openNetlink } from '#native/netlink.ts';
import { CniTestbed, containerId } from './cni-testbed.ts';

const dual = { ipam: { type: 'calico-ipam', assign_ipv4: 'true', assign_ipv6: 'true' } };

function failure(object: string): Error & NetlinkFailure {
  return Object.assign(new Error(`sendmsg ${object}: injected`), {
    code: 'ENOBUFS',
    errno: 105,
    syscall: 'sendmsg',
    object,
  });
}

/** The socket, except that ops which `breaks` picks aren't done, and fail. */
function breaking(netlink: Netlink, breaks: (op: NetlinkOp) => boolean): Netlink {
  const answer = (ops: readonly NetlinkOp[], results: readonly OpResult[]): OpResult[] => {
    const rest = [...results];
    return ops.map((op) => (breaks(op) ? { ok: false, error: failure(op.op) } : (rest.shift() as OpResult)));
  };
  const done = (ops: readonly NetlinkOp[]) => ops.filter((op) => !breaks(op));
  return new Proxy(netlink, {
    get(target, key) {
      if (key === 'batchSync') return (ops: readonly NetlinkOp[]) => answer(ops, target.batchSync(done(ops)));
      if (key === 'batch') return async (ops: readonly NetlinkOp[]) => answer(ops, await target.batch(done(ops)));
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

describe('a failing step of ADD', () => {
  let bed: CniTestbed;
  let opened: DisposableStack;
  beforeEach(() => {
    opened = new DisposableStack();
  });
  afterEach(async () => {
    opened.dispose();
    await bed[Symbol.asyncDispose]();
  });

  const broken = (how: { removal?: true; op?: (op: NetlinkOp) => boolean; sysctl?: RegExp }): Partial<CniDeps> => {
    const path = bed.node.path;
    const host = opened.use(openNetlink({ path }));
    const real = opened.use(kernelNamespaces({ path }));
    const fail = (results: readonly SysctlResult[]): readonly SysctlResult[] =>
      results.map((result) =>
        how.sysctl?.test(result.path) ? { path: result.path, status: 'failed', error: failure(result.path) } : result,
      );
    const namespaces: Namespaces = {
      hold: (path) => real.hold(path),
      hostInode: () => real.hostInode(),
      writeHostSysctls: (sysctls) => fail(real.writeHostSysctls(sysctls)),
      removeHostLink: (index) => (how.removal ? Promise.reject(failure('link.del')) : real.removeHostLink(index)),
      [Symbol.dispose]: () => {},
      open: (of, sysctls) => {
        const { netlink, sysctls: results } = real.open(of, sysctls);
        return { netlink: breaking(netlink, how.op ?? (() => false)), sysctls: fail(results) };
      },
    };
    return { host: breaking(host, how.op ?? (() => false)), namespaces };
  };
  const isDefault = (op: NetlinkOp) => op.op === 'route.add' && (op.dst === '0.0.0.0/0' || op.dst === '::/0');
  const podDevice = 'eth0';

  test.each<readonly [string, () => Partial<CniDeps>]>([
    ['the pod’s sysctls', () => broken({ sysctl: /ip_forward/ })],
    ['the veth', () => broken({ op: ({ op }) => op === 'veth.add' })],
    ['the host’s sysctls', () => broken({ sysctl: /proxy_arp/ })],
    [
      'the dataplane’s requests',
      () => ({ podDeviceOps: (link) => [{ op: 'filter.del', link, direction: 'ingress', priority: 1, handle: 1 }] }),
    ],
    ['the host’s link', () => broken({ op: (op) => op.op === 'link.set' && op.link !== podDevice })],
    [
      'the host’s IPv4 route',
      () => broken({ op: (op) => op.op === 'route.add' && op.dst.endsWith('/32') && op.link !== podDevice }),
    ],
    ['the host’s IPv6 route', () => broken({ op: (op) => op.op === 'route.add' && op.dst.endsWith('/128') })],
    ['the host’s neighbour', () => broken({ op: (op) => op.op === 'neigh.replace' && op.link !== podDevice })],
    ['the pod’s address', () => broken({ op: ({ op }) => op === 'addr.add' })],
    ['the pod’s link', () => broken({ op: (op) => op.op === 'link.set' && op.link === podDevice })],
    ['the pod’s gateway', () => broken({ op: (op) => op.op === 'route.add' && op.dst === '169.254.1.1/32' })],
    ['the pod’s default route', () => broken({ op: isDefault })],
  ])('leaves nothing: %s', async (_step, overrides) => {
    bed = await CniTestbed.create('server');
    bed.overrides = overrides();
    const container = await bed.container();
    const id = containerId('fault');
    expect(await bed.call('ADD', container.path, id, { conf: dual })).toMatchObject({ status: 1, json: { code: 103 } });
    expect(await bed.devices()).toEqual([]);
    expect(await bed.node.exec('ip', 'route')).toBe('');
    expect((await container.ip<{ ifname: string }[]>('link')).map(({ ifname }) => ifname)).toEqual(['lo']);
    expect(await bed.addressesInUse()).toBe(0);
    expect(bed.endpoints.list()).toEqual([]);

    bed.overrides = {};
    expect(await bed.call('ADD', container.path, id, { conf: dual })).toMatchObject({ status: 0 });
  });

  test('leaves nothing: policy that does not get into the kernel', async () => {
    bed = await CniTestbed.create('server');
    bed.endpoints.failNext = 'no map space';
    const container = await bed.container();
    expect(await bed.call('ADD', container.path, containerId('p'))).toMatchObject({
      status: 1,
      json: { code: 11, msg: expect.stringContaining('no map space') },
    });
    expect(await bed.devices()).toEqual([]);
    expect(await bed.addressesInUse()).toBe(0);
  });

  test('an address is not given back while its link can’t be removed; the DEL completes it', async () => {
    bed = await CniTestbed.create('server');
    bed.overrides = broken({ removal: true, op: (op) => op.op === 'addr.add' });
    const container = await bed.container();
    const id = containerId('stuck');
    const answer = await bed.call('ADD', container.path, id);
    expect(answer).toMatchObject({
      status: 1,
      json: {
        msg: expect.stringMatching(/addr\.add: injected.*could not be undone.*link\.del: injected.*left: device cali/),
      },
    });
    expect(await bed.addressesInUse()).toBe(1);
    expect(await bed.call('DEL', container.path, id)).toMatchObject({ status: 1, json: { code: 103 } });
    expect(await bed.addressesInUse()).toBe(1);

    bed.overrides = {};
    expect(await bed.call('DEL', container.path, id)).toMatchObject({ status: 0 });
    expect(await bed.devices()).toEqual([]);
    expect(await bed.addressesInUse()).toBe(0);
  });

  test('ADDs and DELs of one pod at once end in one of the two states', async () => {
    bed = await CniTestbed.create('server');
    bed.pod('busy');
    const env = { CNI_ARGS: 'K8S_POD_NAMESPACE=default;K8S_POD_NAME=busy' };
    const sandboxes = await Promise.all(
      Array.from({ length: 4 }, async (_, index) => ({
        netns: await bed.container(),
        id: containerId(`busy${index}`),
      })),
    );
    const added = await Promise.all(sandboxes.map(({ netns, id }) => bed.call('ADD', netns.path, id, { env })));
    expect(added.map(({ status }) => status)).toEqual([0, 0, 0, 0]);
    expect(await bed.devices()).toHaveLength(1);
    expect(await bed.addressesInUse()).toBe(4);
    const [last] = bed.endpoints.list();
    const losers = sandboxes.filter(({ id }) => id !== last?.endpoint.spec.containerID);
    const removed = await Promise.all(losers.map(({ netns, id }) => bed.call('DEL', netns.path, id, { env })));
    expect(removed.map(({ status }) => status)).toEqual([0, 0, 0]);
    expect(await bed.devices()).toHaveLength(1);
    expect(await bed.addressesInUse()).toBe(1);
  });
});
