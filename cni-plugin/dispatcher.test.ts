/** The dispatcher's protocol and ADD's decisions, with a node that only records. */
import { beforeEach, describe, expect, test } from '@jest/globals';
import { parseAs } from '#api/kinds.ts';
import type { AssignIpsRequest, AutoAssignRequest } from '#ipam/ipam.ts';
import type { Netlink, NetlinkOp } from '#native/types.ts';
import type { CniAnswer, CniDeps, LocalEndpoint } from './deps.ts';
import { runCni } from './dispatcher.ts';
import { KeyedMutex } from './keyed-mutex.ts';
import { CNI_VERSIONS } from './versions.ts';

const POD_NETNS = '/run/netns/c1';
const env = {
  CNI_COMMAND: 'ADD',
  CNI_CONTAINERID: 'c1',
  CNI_NETNS: POD_NETNS,
  CNI_IFNAME: 'eth0',
  CNI_PATH: '/opt/cni/bin',
};
const podEnv = { ...env, CNI_ARGS: 'K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web' };
const conf = { cniVersion: '1.1.0', name: 'net', type: 'tortie' };

/** Every request succeeds and is noted. */
class RecordingNode {
  readonly ops: NetlinkOp[] = [];
  readonly requests: (AutoAssignRequest | AssignIpsRequest)[] = [];
  readonly released: string[] = [];
  readonly endpoints: LocalEndpoint[] = [];
  readonly logged: string[] = [];
  podAnnotations: Record<string, string> = {};
  namespaceAnnotations: Record<string, string> = {};

  readonly #netlink = (): Netlink =>
    ({
      batchSync: (ops: readonly NetlinkOp[]) => {
        this.ops.push(...ops);
        return ops.map(() => ({ ok: true }));
      },
      link: () => undefined,
      [Symbol.dispose]: () => {},
    }) as unknown as Netlink;

  deps(overrides: Partial<CniDeps> = {}): CniDeps {
    const metadata = { name: 'web', namespace: 'shop', uid: 'u-1', labels: { app: 'web' } };
    return {
      nodeName: 'node-1',
      interfacePrefix: 'cali',
      ipam: {
        autoAssign: async (request) => {
          this.requests.push(request);
          return { addresses: [...(request.want4 ? ['10.65.0.1/32'] : []), ...(request.want6 ? ['fd00::1/128'] : [])] };
        },
        assignIps: async (request) => {
          this.requests.push(request);
          return { addresses: request.addresses.map((address) => `${address}/${address.includes(':') ? 128 : 32}`) };
        },
        releaseHandle: async (handle) => {
          this.released.push(handle);
          return [];
        },
        addressesOf: async () => [],
        allocations: async () => new Map(),
        unavailableReason: () => undefined,
      },
      endpoints: {
        get: () => undefined,
        list: () => [],
        add: async (endpoint) => {
          this.endpoints.push(endpoint);
        },
        remove: async () => {},
      },
      host: this.#netlink(),
      namespaces: {
        open: () => ({ netlink: this.#netlink(), sysctls: [] }),
        writeHostSysctls: () => [],
        removeHostLink: async () => {},
        hold: (path) => ({ path, inode: path === POD_NETNS ? 2 : 1, [Symbol.dispose]: () => {} }),
        hostInode: () => 1,
        [Symbol.dispose]: () => {},
      },
      locks: new KeyedMutex(),
      commands: { run: () => Promise.reject(new Error('no command')) },
      pod: async () => ({
        pod: parseAs('Pod', {
          apiVersion: 'v1',
          kind: 'Pod',
          metadata: { ...metadata, annotations: this.podAnnotations },
          spec: {
            serviceAccountName: 'shopkeeper',
            containers: [
              {
                name: 'main',
                ports: [
                  { name: 'http', containerPort: 80 },
                  { containerPort: 81 },
                  { containerPort: 82, hostPort: 8082 },
                ],
              },
            ],
            initContainers: [
              {
                name: 'sidecar',
                restartPolicy: 'Always',
                ports: [{ name: 'proxy', containerPort: 15001, protocol: 'UDP' }],
              },
              { name: 'once', ports: [{ name: 'never', containerPort: 1 }] },
            ],
          },
        }).object,
        namespace: parseAs('Namespace', {
          apiVersion: 'v1',
          kind: 'Namespace',
          metadata: { name: 'shop', labels: { team: 'cats' }, annotations: this.namespaceAnnotations },
        }).object,
      }),
      node: async () => undefined,
      notReadyReason: async () => undefined,
      podDeviceOps: () => [],
      linkPodDevice: () => Promise.resolve(),
      podRoutes: () => ({ protocol: 3, metric4: 0, metric6: 0 }),
      defaultMtu: () => 1450,
      standalone: false,
      log: (_level, message) => this.logged.push(message),
      ...overrides,
    };
  }
}

let node: RecordingNode;
beforeEach(() => {
  node = new RecordingNode();
});
const run = (
  json: object | string,
  environment: Readonly<Record<string, string>> = env,
  overrides: Partial<CniDeps> = {},
): Promise<CniAnswer> =>
  runCni({ env: environment, stdin: typeof json === 'string' ? json : JSON.stringify(json) }, node.deps(overrides));
const errorOf = async (answer: Promise<CniAnswer>) => {
  const { exitCode, stdout } = await answer;
  expect(exitCode).toBe(1);
  return JSON.parse(stdout) as { cniVersion: string; code: number; msg: string };
};

describe('runCni', () => {
  test.each<readonly [string, Promise<CniAnswer> | (() => Promise<CniAnswer>), number]>([
    ['no verb', () => run(conf, {}), 4],
    ['an unknown verb', () => run(conf, { ...env, CNI_COMMAND: 'PAINT' }), 4],
    ['no container id', () => run(conf, { ...env, CNI_CONTAINERID: '' }), 4],
    ['no JSON', () => run('{'), 6],
    ['a wrong type', () => run({ ...conf, mtu: 'big' }), 7],
    ['an unknown version', () => run({ ...conf, cniVersion: '9.0.0' }), 1],
    ['no version', () => run({ name: 'net' }), 1],
    ['CHECK without prevResult', () => run(conf, { ...env, CNI_COMMAND: 'CHECK' }), 7],
    ['CHECK before it was there', () => run({ ...conf, cniVersion: '0.3.1' }, { ...env, CNI_COMMAND: 'CHECK' }), 1],
    ['GC before it was there', () => run({ ...conf, cniVersion: '1.0.0' }, { CNI_COMMAND: 'GC' }), 1],
    ['STATUS before it was there', () => run({ ...conf, cniVersion: '1.0.0' }, { CNI_COMMAND: 'STATUS' }), 1],
    ['a node that is not ready', () => run(conf, env, { notReadyReason: async () => 'asleep' }), 11],
    [
      'a status that is not ready',
      () => run(conf, { CNI_COMMAND: 'STATUS' }, { notReadyReason: async () => 'asleep' }),
      50,
    ],
    ['a pod that nobody knows', () => run(conf, podEnv, { pod: async () => undefined }), 11],
    ['a pod of another uid', () => run(conf, { ...podEnv, CNI_ARGS: `${podEnv.CNI_ARGS};K8S_POD_UID=u-2` }), 11],
    ['the node’s own namespace', () => run(conf, { ...env, CNI_NETNS: '/proc/1/ns/net' }), 4],
    ['a fault of ours', () => run(conf, env, { podDeviceOps: () => [].at(0) as never }), 999],
  ])('%s is an error of the specification', async (_what, answer, code) => {
    const error = await errorOf(typeof answer === 'function' ? answer() : answer);
    expect(error).toMatchObject({
      code,
      msg: expect.stringMatching(/./),
      cniVersion: expect.stringMatching(/^\d+\.\d+\.\d+$/),
    });
  });

  test('an error has the caller’s version, even one that we don’t speak', async () => {
    expect(await errorOf(run({ ...conf, cniVersion: '0.1.0' }))).toMatchObject({ cniVersion: '0.1.0', code: 1 });
    expect(await errorOf(run({ ...conf, cniVersion: '"; drop' }))).toMatchObject({ cniVersion: '1.1.0', code: 1 });
  });

  test('a failure of ours is no stack for the runtime, but one for the log', async () => {
    const { msg, ...rest } = await errorOf(
      run(conf, env, {
        defaultMtu: () => {
          throw new TypeError('oops');
        },
      }),
    );
    expect(msg).toBe('oops');
    expect(rest).not.toHaveProperty('details');
    expect(node.logged).toContain('CNI ADD failed: oops');
  });

  test('a mirror pod’s uid is another than the kubelet’s', async () => {
    node.podAnnotations = { 'kubernetes.io/config.mirror': 'abc' };
    expect(await run(conf, { ...podEnv, CNI_ARGS: `${podEnv.CNI_ARGS};K8S_POD_UID=abc` })).toMatchObject({
      exitCode: 0,
    });
  });

  test('VERSION needs a JSON object and nothing else', async () => {
    expect(JSON.parse((await run({}, { CNI_COMMAND: 'VERSION' })).stdout)).toEqual({
      cniVersion: '1.1.0',
      supportedVersions: CNI_VERSIONS,
    });
    expect(await errorOf(run('', { CNI_COMMAND: 'VERSION' }))).toMatchObject({ code: 6 });
  });

  test('keys that change nothing are one line', async () => {
    await run({ ...conf, colour: 'black', log_level: 'info' });
    expect(node.logged).toEqual(['keys of the network configuration that change nothing', 'CNI ADD done']);
  });

  test('a failing ADD releases its addresses', async () => {
    await errorOf(
      run(conf, env, { endpoints: { ...node.deps().endpoints, add: () => Promise.reject(new Error('full map')) } }),
    );
    expect(node.released).toEqual(['net.c1']);
  });
});

describe('ADD', () => {
  test('records the pod’s endpoint as Calico does', async () => {
    node.podAnnotations = {
      'cni.projectcalico.org/allowedSourcePrefixes': '["8.8.8.8/32"]',
      'cni.projectcalico.org/hwAddr': '02:00:00:00:00:42',
    };
    expect(await run({ ...conf, ipam: { assign_ipv6: 'true' } }, podEnv)).toMatchObject({ exitCode: 0 });
    expect(node.endpoints).toEqual([
      {
        network: 'net',
        ifname: 'eth0',
        podUid: 'u-1',
        netns: POD_NETNS,
        endpoint: {
          apiVersion: 'projectcalico.org/v3',
          kind: 'WorkloadEndpoint',
          metadata: {
            name: 'node--1-k8s-web-eth0',
            namespace: 'shop',
            labels: {
              app: 'web',
              'projectcalico.org/namespace': 'shop',
              'projectcalico.org/orchestrator': 'k8s',
              'projectcalico.org/serviceaccount': 'shopkeeper',
            },
          },
          spec: {
            orchestrator: 'k8s',
            workload: 'shop.web',
            node: 'node-1',
            containerID: 'c1',
            pod: 'web',
            serviceAccountName: 'shopkeeper',
            endpoint: 'eth0',
            ipNetworks: ['10.65.0.1/32', 'fd00::1/128'],
            profiles: ['kns.shop', 'ksa.shop.shopkeeper'],
            interfaceName: expect.stringMatching(/^cali[0-9a-f]{11}$/),
            mac: '02:00:00:00:00:42',
            ports: [
              { name: 'http', protocol: 'TCP', port: 80 },
              { protocol: 'TCP', port: 82, hostPort: 8082 },
              { name: 'proxy', protocol: 'UDP', port: 15001 },
            ],
            allowSpoofedSourcePrefixes: ['8.8.8.8/32'],
          },
        },
      },
    ]);
    expect(() => parseAs('WorkloadEndpoint', node.endpoints[0]?.endpoint)).not.toThrow();
  });

  test.each<readonly [string, object, Record<string, string>, boolean]>([
    ['nothing', {}, {}, false],
    ['the Pod limits what it gets', {}, { 'kubernetes.io/ingress-bandwidth': '10M' }, false],
    ['the Pod limits what it sends', {}, { 'kubernetes.io/egress-bandwidth': '10M' }, true],
    ['the runtime says a limit', { runtimeConfig: { bandwidth: { egressRate: 1e6, egressBurst: 1e6 } } }, {}, true],
    ['the runtime says one of what it gets', { runtimeConfig: { bandwidth: { ingressRate: 1e6 } } }, {}, false],
  ])(
    'the dataplane links its programs, before the device is up, where the qdisc ingress is to come: %s',
    async (_what, more, annotations, isLinked) => {
      node.podAnnotations = annotations;
      const upWhenLinked: boolean[] = [];
      const isUp = () => node.ops.some((op) => op.op === 'link.set' && op.link !== 'eth0');
      const answer = await run({ ...conf, ...more }, podEnv, {
        podDeviceOps: (link) => [{ op: 'clsact.add', link }],
        linkPodDevice: async () => {
          upWhenLinked.push(isUp());
        },
      });
      expect(answer).toMatchObject({ exitCode: 0 });
      expect(isUp()).toBe(true);
      expect(upWhenLinked).toEqual(isLinked ? [false] : []);
      expect(node.ops.some(({ op }) => op === 'clsact.add')).toBe(!isLinked);
    },
  );

  test('where it can not, the pod is refused: the error names it, its device and the reason', async () => {
    node.podAnnotations = { 'kubernetes.io/egress-bandwidth': '10M' };
    const error = await errorOf(
      run(conf, podEnv, { linkPodDevice: () => Promise.reject(new Error('no tcx: do this')) }),
    );
    expect(error).toMatchObject({
      code: 102,
      msg: expect.stringMatching(/Pod shop\/web .*cali[0-9a-f]{11}.*no tcx: do this/),
    });
    expect(node.released).toEqual(['net.c1']);
    expect(node.endpoints).toEqual([]);
  });

  test('a MAC that nobody asked for is unicast and locally administered, and not twice the same', async () => {
    for (let times = 0; times < 20; times += 1) await run(conf);
    const macs = node.endpoints.map(({ endpoint }) => endpoint.spec.mac ?? '');
    expect(new Set(macs).size).toBe(20);
    for (const mac of macs) expect(Number.parseInt(mac.slice(0, 2), 16) & 3).toBe(2);
  });

  const pools = (pod: string | undefined, namespace: string | undefined, inConf: string | undefined) => {
    if (pod !== undefined) node.podAnnotations = { 'cni.projectcalico.org/ipv4pools': JSON.stringify([pod]) };
    if (namespace !== undefined)
      node.namespaceAnnotations = { 'cni.projectcalico.org/ipv4pools': JSON.stringify([namespace]) };
    return inConf === undefined ? {} : { ipam: { ipv4_pools: [inConf] } };
  };
  test.each([
    ['pod', 'namespace', 'conf', 'pod'],
    [undefined, 'namespace', 'conf', 'namespace'],
    [undefined, undefined, 'conf', 'conf'],
    [undefined, undefined, undefined, undefined],
  ])('pools of pod %s, namespace %s, conf %s: %s', async (pod, namespace, inConf, wanted) => {
    await run({ ...conf, ...pools(pod, namespace, inConf) }, podEnv);
    expect(node.requests).toEqual([
      {
        handle: 'net.c1',
        attributes: {
          node: 'node-1',
          namespace: 'shop',
          pod: 'web',
          network: 'net',
          timestamp: expect.stringMatching(/^\d{4}-/),
        },
        want4: true,
        want6: false,
        namespace: { name: 'shop', labels: { team: 'cats' } },
        ...(wanted === undefined ? {} : { pools4: [wanted] }),
      },
    ]);
  });

  test('exact addresses: the annotation goes before runtimeConfig, that before CNI_ARGS', async () => {
    const asked = { ...conf, runtimeConfig: { ips: ['10.0.0.2/24'] } };
    const args = { ...podEnv, CNI_ARGS: `${podEnv.CNI_ARGS};IP=10.0.0.3` };
    node.podAnnotations = { 'cni.projectcalico.org/ipAddrs': '["10.0.0.1"]' };
    await run(asked, args);
    node.podAnnotations = {};
    await run(asked, args);
    await run(conf, args);
    expect(node.requests.map((request) => 'addresses' in request && request.addresses)).toEqual([
      ['10.0.0.1'],
      ['10.0.0.2'],
      ['10.0.0.3'],
    ]);
  });

  test.each([
    [{ 'cni.projectcalico.org/ipAddrsNoIpam': '["10.0.0.1"]' }, {}, 102],
    [{ 'cni.projectcalico.org/floatingIPs': '["9.9.9.9"]' }, {}, 102],
    [{ 'cni.projectcalico.org/floatingIPs': '["fd99::9"]' }, { feature_control: { floating_ips: true } }, 102],
    [{ 'cni.projectcalico.org/ipAddrs': '["10.0.0.1"]' }, { ipam: { type: 'host-local' } }, 102],
    [{ 'cni.projectcalico.org/ipAddrs': '10.0.0.1' }, {}, 102],
    [{ 'cni.projectcalico.org/hwAddr': 'zz' }, {}, 102],
    [{}, { ipam: { assign_ipv4: 'false' } }, 7],
    [{}, { runtimeConfig: { ips: ['10.0.0.1', '10.0.0.2'] } }, 4],
    [{}, { runtimeConfig: { ips: ['ten'] } }, 7],
  ])('annotations %j with conf %j are refused', async (annotations, json, code) => {
    node.podAnnotations = annotations;
    expect(await errorOf(run({ ...conf, ...json }, podEnv))).toMatchObject({ code });
    expect(node.ops).toEqual([]);
  });

  test('addresses without IPAM, floating addresses and families, where they are allowed', async () => {
    node.podAnnotations = {
      'cni.projectcalico.org/ipAddrsNoIpam': '["fd99::1","10.9.0.1"]',
      'cni.projectcalico.org/floatingIPs': '["9.9.9.9"]',
    };
    await run({ ...conf, feature_control: { ip_addrs_no_ipam: true, floating_ips: true } }, podEnv);
    expect(node.endpoints[0]?.endpoint.spec).toMatchObject({
      ipNetworks: ['10.9.0.1/32', 'fd99::1/128'],
      ipNATs: [{ internalIP: '10.9.0.1', externalIP: '9.9.9.9' }],
    });
    node.podAnnotations = { 'cni.projectcalico.org/ipFamilies': '["IPv6"]' };
    await run(conf, podEnv);
    expect(node.requests).toEqual([expect.objectContaining({ want4: false, want6: true })]);
  });

  test('the MTU is the conf’s, else the node’s', async () => {
    await run({ ...conf, mtu: 1300 });
    await run({ ...conf, mtu: 0 });
    expect(node.ops.flatMap((op) => (op.op === 'veth.add' ? [op.mtu, op.peer.mtu] : []))).toEqual([
      1300, 1300, 1450, 1450,
    ]);
  });
});

test('a DEL without CNI_ARGS waits for the ADD of its container, and then finds the pod', async () => {
  const given = Promise.withResolvers<void>();
  const recorded: LocalEndpoint[] = [];
  const deps = node.deps({ log: () => {} });
  const events: string[] = [];
  const busy = node.deps({
    ipam: {
      ...deps.ipam,
      autoAssign: async (request) => {
        await given.promise;
        return deps.ipam.autoAssign(request);
      },
      releaseHandle: async (handle) => {
        events.push(`address of ${handle} released`);
        return [];
      },
    },
    endpoints: {
      get: (namespace, name) =>
        recorded.find(({ endpoint: { metadata } }) => metadata.namespace === namespace && metadata.name === name),
      list: () => recorded,
      add: async (endpoint) => {
        recorded.push(endpoint);
        events.push('endpoint added');
      },
      remove: async (_namespace, name) => {
        events.push(`endpoint ${name} removed`);
      },
    },
  });
  const stdin = JSON.stringify(conf);
  const adding = runCni({ env: podEnv, stdin }, busy);
  const deleting = runCni({ env: { ...env, CNI_COMMAND: 'DEL' }, stdin }, busy);
  await new Promise((resolve) => setImmediate(resolve));
  given.resolve();
  expect((await adding).exitCode).toBe(0);
  expect(await deleting).toEqual({ exitCode: 0, stdout: '' });
  expect(events).toEqual(['endpoint added', 'endpoint node--1-k8s-web-eth0 removed', 'address of net.c1 released']);
});
