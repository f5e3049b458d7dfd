import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { systemClock, type Clock } from '#api/clock.ts';
import { FakeClock } from '#api/fake-clock.ts';
import { parseAs, type KindName } from '#api/kinds.ts';
import { DatastoreError } from '#datastore/errors.ts';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import { seededRandom } from '#test/lab/agent-lab.ts';
import { until } from '#test/lab/until.ts';
import { ObjectStore } from '../store/object-store.ts';
import { ClusterDefaults } from './cluster-defaults.ts';

const silent = pino({ level: 'silent' });
const made = ['FelixConfiguration', 'IPAMConfiguration', 'Tier', 'IPPool', 'ClusterInformation'] as const;

let datastore: MemoryDatastore;
let running: { readonly defaults: ClusterDefaults | undefined; readonly store: ObjectStore }[];
/** What kinds were created, in order. */
let creations: string[];
/** What was read. */
let reads: string[];

beforeEach(() => {
  datastore = new MemoryDatastore({
    pause: ({ operation, kind, key }) => {
      (operation === 'create' ? creations : reads).push(`${kind} ${key?.name ?? ''}`.trim());
    },
  });
  running = [];
  creations = [];
  reads = [];
});
afterEach(async () => {
  for (const { defaults, store } of running) {
    await defaults?.[Symbol.asyncDispose]();
    await store[Symbol.asyncDispose]();
  }
  await datastore[Symbol.asyncDispose]();
});

/** One agent's. Its node has these routes. */
async function agent(routes: readonly string[] = [], on = datastore, clock: Clock = hasty()) {
  const store = new ObjectStore(on, silent);
  store.start();
  await store.synced();
  const host = {
    routes: () => Promise.resolve(routes.map((dst) => ({ dst }))),
    addresses: () => Promise.resolve([]),
  } as unknown as ConstructorParameters<typeof ClusterDefaults>[0]['host'];
  const defaults = new ClusterDefaults({ datastore: on, store, host, clock, log: silent });
  running.push({ defaults, store });
  return defaults;
}

async function run(defaults: ClusterDefaults): Promise<void> {
  await defaults.start();
  expect(defaults.problems).toEqual([]);
  expect(defaults.unavailableReason).toBeUndefined();
}

/** Of the default kinds: their names and specs. */
async function objects(on = datastore): Promise<Record<string, unknown>> {
  const lists = await Promise.all(
    made.map(async (kind) => (await on.list(kind)).items.map((item) => [`${kind} ${item.metadata.name}`, item.spec])),
  );
  return Object.fromEntries(lists.flat() as [string, unknown][]);
}

const user = async (kind: KindName, object: Record<string, unknown>) => {
  creations = [];
  const parsed = parseAs(kind, object).object;
  await datastore.create(kind, parsed);
  creations = [];
};
const configMap = (name: string, data: object) =>
  user('ConfigMap', { apiVersion: 'v1', kind: 'ConfigMap', metadata: { namespace: 'kube-system', name }, data });
const node = (name: string, address: string, podCIDR?: string) =>
  user('Node', {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name },
    spec: podCIDR === undefined ? {} : { podCIDR, podCIDRs: [podCIDR] },
    status: { addresses: [{ type: 'InternalIP', address }] },
  });
const v3 = (kind: KindName, name: string, spec: object) =>
  user(kind, { apiVersion: 'projectcalico.org/v3', kind, metadata: { name }, spec });

const settings = [
  'FelixConfiguration default',
  'IPAMConfiguration default',
  'Tier kube-admin',
  'Tier default',
  'Tier kube-baseline',
];

describe('in a cluster where nobody has made anything', () => {
  test('one agent makes all of it, and says last that the cluster is set up', async () => {
    await node('node1', '10.0.0.1', '10.244.0.0/24');
    const defaults = await agent();
    expect(defaults.unavailableReason).toBe('the cluster is not set up yet');
    await run(defaults);
    expect(creations).toEqual([...settings, 'IPPool default-ipv4-ippool', 'ClusterInformation default']);
    expect(await objects()).toEqual({
      'FelixConfiguration default': { defaultEndpointToHostAction: 'Accept' },
      'IPAMConfiguration default': { strictAffinity: false, maxBlocksPerHost: 0, autoAllocateBlocks: true },
      'Tier kube-admin': { order: 1_000, defaultAction: 'Pass' },
      'Tier default': { order: 1_000_000, defaultAction: 'Deny' },
      'Tier kube-baseline': { order: 10_000_000, defaultAction: 'Pass' },
      'IPPool default-ipv4-ippool': expect.objectContaining({
        cidr: '10.244.0.0/16',
        natOutgoing: true,
        vxlanMode: 'Never',
        ipipMode: 'Never',
      }),
      'ClusterInformation default': {
        clusterGUID: expect.stringMatching(/^[0-9a-f]{32}$/),
        clusterType: 'k8s,tortie',
        datastoreReady: true,
      },
    });
  });

  test('the next agent changes nothing and asks for nothing', async () => {
    await node('node1', '10.0.0.1');
    await run(await agent());
    const before = await objects();
    const next = await agent();
    creations = [];
    reads = [];
    await run(next);
    expect([creations, reads]).toEqual([[], []]);
    expect(await objects()).toEqual(before);
  });

  test('a Node that has just come is given a moment to get its podCIDR', async () => {
    await node('node1', '10.0.0.1');
    const clock = new FakeClock();
    const defaults = await agent([], datastore, clock);
    void defaults.start();
    await until(() => clock.pending > 0);
    const stored = await datastore.get('Node', { name: 'node1' });
    await datastore.update('Node', { ...stored, spec: { podCIDR: '10.99.3.0/24' } } as NonNullable<typeof stored>);
    const store = running[0]?.store;
    await until(() => store?.of('Node').get({ name: 'node1' })?.spec.podCIDR !== undefined);
    clock.advance(250);
    await run(defaults);
    expect((await datastore.get('IPPool', { name: 'default-ipv4-ippool' }))?.spec.cidr).toBe('10.99.0.0/16');
  });

  test('it is as the ConfigMap says, and no pool is made if it says so', async () => {
    await node('node1', '10.0.0.1', '10.244.0.0/24');
    await configMap('tortie-config', { podCIDR: '10.1.0.0/16', podCIDRv6: 'fd01::/48' });
    await run(await agent());
    const pools = (await datastore.list('IPPool')).items.map(({ metadata, spec }) => `${metadata.name} ${spec.cidr}`);
    expect(pools).toEqual(['default-ipv4-ippool 10.1.0.0/16', 'default-ipv6-ippool fd01::/48']);
  });

  test('no pool is made if the ConfigMap says so', async () => {
    await configMap('tortie-config', { defaultPools: 'false' });
    await run(await agent());
    expect(creations).toEqual([...settings, 'ClusterInformation default']);
  });

  test('a value that can’t be used keeps everything from being made, until it is corrected', async () => {
    await node('node1', '10.0.0.1');
    await configMap('tortie-config', { podCIDR: '10.1.0.0' });
    const clock = new FakeClock();
    const defaults = await agent([], datastore, clock);
    void defaults.start();
    await until(() => defaults.problems.length > 0);
    expect(defaults.problems).toEqual([
      expect.stringContaining('ConfigMap kube-system/tortie-config: podCIDR must be'),
    ]);
    expect(defaults.unavailableReason).toContain('podCIDR must be');
    expect([creations, await objects()]).toEqual([[], {}]);
    const stored = await datastore.get('ConfigMap', { namespace: 'kube-system', name: 'tortie-config' });
    await datastore.update('ConfigMap', { ...stored, data: { podCIDR: '10.1.0.0/16' } } as NonNullable<typeof stored>);
    await until(() => clock.pending > 0);
    clock.advance(10_000);
    await run(defaults);
    expect((await objects())['IPPool default-ipv4-ippool']).toMatchObject({ cidr: '10.1.0.0/16' });
  });

  test('what the API server refuses is said and tried again', async () => {
    await node('node1', '10.0.0.1', '10.244.0.0/24');
    const refusal = new DatastoreError('invalid', 'create Tier default: tiers.projectcalico.org is forbidden');
    datastore.failNext('create', refusal, { kind: 'Tier' });
    const clock = new FakeClock();
    const defaults = await agent([], datastore, clock);
    void defaults.start();
    await until(() => clock.pending > 0);
    expect(defaults.unavailableReason).toContain('tiers.projectcalico.org is forbidden');
    clock.advance(500);
    await run(defaults);
  });

  test('an agent that ends in the middle leaves a set that the next one completes', async () => {
    await configMap('tortie-config', { podCIDR: '10.1.0.0/16', podCIDRv6: 'fd01::/48' });
    let isDead = false;
    const create = datastore.create.bind(datastore);
    datastore.create = (kind, object) => {
      if (isDead || (kind === 'IPPool' && object.metadata.name === 'default-ipv6-ippool')) {
        isDead = true;
        return new Promise(() => {});
      }
      return create(kind, object);
    };
    void (await agent()).start();
    await until(() => isDead);
    running = running.map(({ store }) => ({ store, defaults: undefined })); // It is dead: nobody stops it.
    datastore.create = create;
    await run(await agent());
    expect(Object.keys(await objects()).toSorted()).toEqual(
      [
        ...settings,
        'IPPool default-ipv4-ippool',
        'IPPool default-ipv6-ippool',
        'ClusterInformation default',
      ].toSorted(),
    );
  });
});

describe('what somebody has made', () => {
  test.each([
    ['a pool', {}],
    ['a pool that is disabled', { disabled: true }],
  ])('%s means: no default pool; a bad ConfigMap is no matter', async (_title, spec) => {
    await v3('IPPool', 'mine', { cidr: '10.9.0.0/16', ...spec });
    await configMap('tortie-config', { podCIDR: 'bad' });
    await run(await agent());
    expect(creations).toEqual([...settings, 'ClusterInformation default']);
  });

  test('a pool of a default name is no set that was begun, if agents did not make it', async () => {
    await v3('IPPool', 'default-ipv4-ippool', { cidr: '10.9.0.0/16' });
    await configMap('tortie-config', { podCIDRv6: 'fd01::/48' });
    await run(await agent());
    expect(creations).not.toContain('IPPool default-ipv6-ippool');
  });

  test('a default pool that was deleted does not come back while there is another', async () => {
    await configMap('tortie-config', { podCIDR: '10.1.0.0/16', podCIDRv6: 'fd01::/48' });
    await run(await agent());
    await datastore.delete('IPPool', { name: 'default-ipv6-ippool' });
    const next = await agent();
    creations = [];
    await run(next);
    expect(creations).toEqual([]);
  });

  test('settings and tiers stay as they are', async () => {
    await node('node1', '10.0.0.1', '10.244.0.0/24');
    await v3('FelixConfiguration', 'default', { bpfEnabled: true });
    await v3('ClusterInformation', 'default', { datastoreReady: false });
    await v3('Tier', 'default', {});
    await run(await agent());
    expect(creations).toEqual([
      'IPAMConfiguration default',
      'Tier kube-admin',
      'Tier kube-baseline',
      'IPPool default-ipv4-ippool',
    ]);
    expect(await objects()).toMatchObject({
      'FelixConfiguration default': { bpfEnabled: true },
      'ClusterInformation default': { datastoreReady: false },
    });
  });
});

test.each([2, 50])('%d agents that start at once make one set, and none of them has a problem', async (count) => {
  const random = seededRandom(`${count} agents make defaults`);
  const shuffled = new MemoryDatastore({
    pause: async () => {
      for (let turns = Math.floor(random() * 8); turns > 0; turns--)
        await new Promise((resolve) => setImmediate(resolve));
    },
  });
  for (let index = 0; index < 3; index++) {
    await shuffled.create(
      'Node',
      parseAs('Node', {
        apiVersion: 'v1',
        kind: 'Node',
        metadata: { name: `node${index}` },
        status: {
          addresses: [
            { type: 'InternalIP', address: `10.0.0.${index + 1}` },
            { type: 'InternalIP', address: `fd31::${index + 1}` },
          ],
        },
      }).object,
    );
  }
  // Their nodes have different routes: each would choose another range.
  const agents = await Promise.all(
    Array.from({ length: count }, (_, index) =>
      agent(
        Array.from({ length: index % 5 }, (_route, route) =>
          route === 0 ? '192.168.0.0/24' : `172.${15 + route}.0.0/24`,
        ),
        shuffled,
      ),
    ),
  );
  await Promise.all(agents.map(run));
  expect(Object.keys(await objects(shuffled)).toSorted()).toEqual(
    [...settings, 'IPPool default-ipv4-ippool', 'IPPool default-ipv6-ippool', 'ClusterInformation default'].toSorted(),
  );
});

/** A clock on which everything has come to pass at the next turn of the event loop. */
function hasty(): Clock {
  let now = 0;
  return {
    now: () => (now += 1_000),
    sleep: async (_ms, signal) => {
      await new Promise((resolve) => setImmediate(resolve));
      signal?.throwIfAborted();
    },
    after: (ms, action) => systemClock.after(ms, action),
  };
}

test('a datastore that hangs does not hold up a stop', async () => {
  await node('node1', '10.0.0.1', '10.244.0.0/24');
  datastore.beforeNext('create', () => new Promise(() => {}));
  const defaults = await agent();
  const started = defaults.start();
  await until(() => creations.length > 0);
  await defaults[Symbol.asyncDispose]();
  await started;
});
