import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { Flow } from '../../flows.ts';
import type { BackendInfo, ServiceId, ServiceInfo } from '../../services.ts';
import { ServiceTable } from './service-table.ts';
import { backend, service, ServiceMapsTwin } from './twin-for-tests.ts';

const many = (count: number, prefix = '10.1.0', from = 1) =>
  Array.from({ length: count }, (_, index) => backend(`${prefix}.${from + index}`));
const texts = (count: number, prefix = '10.1.0', from = 1) =>
  Array.from({ length: count }, (_, index) => `${prefix}.${from + index} 8080`);

let twin: ServiceMapsTwin;
let table: ServiceTable;
let pauses: number[];

function start(sizes: ConstructorParameters<typeof ServiceMapsTwin>[0] = {}): void {
  pauses = [];
  twin = new ServiceMapsTwin(sizes);
  table = new ServiceTable(twin.mapOf, twin.settingOf, {
    grace: twin.grace,
    pause: async (milliseconds) => pauses.push(milliseconds),
  });
}

const say = (id: ServiceId, info: ServiceInfo) => table.onUpdate({ type: 'serviceUpdate', id, service: info });
const end = (id: ServiceId) => table.onUpdate({ type: 'serviceRemove', id });
const flush = () => table.flush('here');

beforeEach(() => start());
afterEach(() => table[Symbol.dispose]());

describe('Services in the maps', () => {
  test('each address, port and protocol refers to its backends, in both families', async () => {
    say('shop/web', {
      clusterIps: { ipv4: '10.96.0.1', ipv6: 'fd00::1' },
      ports: [
        { name: 'http', protocol: 6, port: 80, ipv4Backends: many(2), ipv6Backends: [backend('fd01::1', 8080)] },
        { name: 'dns', protocol: 17, port: 53, ipv4Backends: [backend('10.1.0.9', 5353)], ipv6Backends: [] },
      ],
      internalTrafficPolicy: 'cluster',
    });
    await flush();
    expect(await twin.contents()).toEqual({
      '10.96.0.1:80/6': texts(2),
      '10.96.0.1:53/17': ['10.1.0.9 5353'],
      'fd00::1:80/6': ['fd01::1 8080'],
      'fd00::1:53/17': [],
    });
    expect(table.failed).toEqual([]);
    expect(table.backendsOf('10.96.0.1', 53, 17)).toEqual({
      service: 'shop/web',
      backends: [{ address: '10.1.0.9', port: 5353 }],
    });
    expect(table.backendsOf('fd00::1', 80, 6)?.backends).toEqual([{ address: 'fd01::1', port: 8080 }]);
    expect(table.backendsOf('10.96.0.1', 53, 6)).toBeUndefined();
    end('shop/web');
    await flush();
    await table.settle();
    expect(await twin.contents()).toEqual({});
    expect(table.figures).toEqual({ 4: { frontends: 0, backends: 0 }, 6: { frontends: 0, backends: 0 } });
  });

  test('one endpoint of one service among 5,000 is one run and one element, and what says nothing new is nothing', async () => {
    const of = (index: number, backends = 3) =>
      service(`10.96.${index >> 8}.${index & 255}`, many(backends, `10.${2 + (index >> 8)}.${index & 255}`));
    for (let index = 0; index < 5000; index++) say(`default/s${index}`, of(index));
    await flush();
    expect(twin.writes).toBe(5000);
    const [writes, memory] = [twin.writes, twin.memory(4)];
    say('default/s77', of(77, 4));
    await flush();
    expect(twin.writes - writes).toBe(1);
    const now = twin.memory(4);
    const changed = Array.from({ length: now.byteLength / 8 }, (_, index) => index).filter(
      (index) => now.compare(memory, index * 8, index * 8 + 8, index * 8, index * 8 + 8) !== 0,
    );
    expect(changed).toHaveLength(4);
    say('default/s77', of(77, 4));
    say('default/s78', { ...of(78), clientIpAffinityS: 5 });
    await flush();
    expect(twin.writes - writes).toBe(1);
    await table.settle();
    expect(twin.graces).toBe(1);
    expect(table.figures[4]).toEqual({ frontends: 5000, backends: 15_001 });
  });

  test('equal runs stand there once, until the last who refers to them has gone', async () => {
    say('a', service('10.96.0.1', many(3)));
    say('b', service('10.96.0.2', many(3)));
    await flush();
    expect(table.figures[4].backends).toBe(3);
    end('a');
    await flush();
    await table.settle();
    expect(await twin.contents()).toEqual({ '10.96.0.2:80/6': texts(3) });
    expect(table.figures[4].backends).toBe(3);
  });

  test('a run that nobody refers to is free when the grace period is over, and not before', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    say('a', service('10.96.0.1', many(3)));
    await flush();
    say('a', service('10.96.0.1', many(2)));
    await flush();
    expect(table.figures[4].backends).toBe(5);
    twin.gate = promise;
    const settling = [table.settle(), table.settle()];
    // Taken again while it waits, it stays.
    say('a', service('10.96.0.1', many(3)));
    await flush();
    resolve();
    await Promise.all(settling);
    expect(await twin.contents()).toEqual({ '10.96.0.1:80/6': texts(3) });
    expect(table.figures[4].backends).toBe(3);
  });

  test('a grace period that could not be waited for frees nothing, and the next one does', async () => {
    say('a', service('10.96.0.1', many(3)));
    await flush();
    end('a');
    await flush();
    twin.gate = Promise.reject(Object.assign(new Error('no thread'), { code: 'EAGAIN' }));
    await expect(table.settle()).rejects.toMatchObject({ code: 'EAGAIN' });
    expect(table.figures[4].backends).toBe(3);
    twin.gate = Promise.resolve();
    await table.settle();
    expect(table.figures[4].backends).toBe(0);
  });

  test('nothing to free is no grace period', async () => {
    say('a', service('10.96.0.1', many(3)));
    await flush();
    await table.settle();
    expect(twin.graces).toBe(0);
  });

  test('a node that has another name has other local backends', async () => {
    const backends = [backend('10.1.0.1', 80, { nodeName: 'here' }), backend('10.1.0.2', 80, { nodeName: 'there' })];
    say('a', service('10.96.0.1', backends, { internalTrafficPolicy: 'local' }));
    await table.flush('here');
    expect(await twin.contents()).toEqual({ '10.96.0.1:80/6': ['10.1.0.1 80'] });
    await table.flush('there');
    expect(await twin.contents()).toEqual({ '10.96.0.1:80/6': ['10.1.0.2 80'] });
    await table.flush('elsewhere');
    expect(await twin.contents()).toEqual({ '10.96.0.1:80/6': [] });
  });

  describe('an address that passes from one service to another', () => {
    const old = service('10.96.0.1', many(2));
    const next = service('10.96.0.1', many(2, '10.2.0'));
    const after = { '10.96.0.1:80/6': texts(2, '10.2.0') };
    test.each([
      ['removed first', () => (end('old'), say('next', next))],
      ['said first', () => (say('next', next), end('old'))],
      ['said, and the old one said once more', () => (say('next', next), say('old', { ...old }), end('old'))],
    ])('in one flush, %s', async (_, change) => {
      say('old', old);
      await flush();
      const { writes } = twin;
      change();
      await flush();
      expect(await twin.contents()).toEqual(after);
      expect(twin.writes - writes).toBe(1);
      expect(table.backendsOf('10.96.0.1', 80, 6)?.service).toBe('next');
    });

    test('over several flushes the newer one has it, whatever the older one says meanwhile', async () => {
      say('old', old);
      await flush();
      say('next', next);
      await flush();
      expect(await twin.contents()).toEqual(after);
      say('old', service('10.96.0.1', many(5)));
      await flush();
      expect(await twin.contents()).toEqual(after);
      end('next');
      await flush();
      expect(await twin.contents()).toEqual({ '10.96.0.1:80/6': texts(5) });
    });
  });

  describe('what this dataplane does otherwise', () => {
    test('is said once for each service, as long as it holds', async () => {
      say('a', { ...service('10.96.0.1', many(1)), clientIpAffinityS: 10_800 });
      say('b', service('10.96.0.2', many(2), { protocol: 132, port: 80 }));
      say('c', service('10.96.0.3', many(2), { protocol: 132, port: 8080 }));
      await flush();
      await flush();
      expect(table.unsupported).toEqual([
        { object: 'service a', reason: expect.stringContaining('sessionAffinity') },
        { object: 'service b', reason: expect.stringContaining('SCTP port 80 is refused') },
      ]);
      expect(Object.keys(await twin.contents())).toHaveLength(3);
      say('a', service('10.96.0.1', many(1)));
      end('b');
      await flush();
      expect(table.unsupported).toEqual([]);
    });
  });
});

describe('maps that are full', () => {
  test('frontends: the service is named with map, size and setting, the others stay, and it comes in when one goes', async () => {
    start({ tortie_front4: 2 });
    for (const number of [1, 2, 3]) say(`s${number}`, service(`10.96.0.${number}`, many(number)));
    await flush();
    expect(Object.keys(await twin.contents())).toEqual(['10.96.0.1:80/6', '10.96.0.2:80/6']);
    expect(table.failed).toEqual([
      {
        object: 'service s3',
        reason:
          '10.96.0.3:80/TCP is not translated: tortie_front4 (2 entries; setting tortie_front4Size) has no free entry',
      },
    ]);
    const { writes } = twin;
    await flush();
    expect(twin.writes).toBe(writes);
    // What is there can still be changed.
    say('s1', service('10.96.0.1', many(4)));
    end('s2');
    await flush();
    expect(await twin.contents()).toEqual({ '10.96.0.1:80/6': texts(4), '10.96.0.3:80/6': texts(3) });
    expect(table.failed).toEqual([]);
  });

  test('a frontend without backends that goes leaves room in the same flush', async () => {
    start({ tortie_front4: 1 });
    say('empty', service('10.96.0.1', []));
    await flush();
    say('next', service('10.96.0.2', many(1)));
    await flush();
    expect(table.failed).toHaveLength(1);
    end('empty');
    await flush();
    expect(await twin.contents()).toEqual({ '10.96.0.2:80/6': texts(1) });
  });

  test('backends: a new service is refused, and served as soon as settling has made room', async () => {
    start({ tortie_back4: 5 });
    say('a', service('10.96.0.1', many(3)));
    say('b', service('10.96.0.2', many(3, '10.2.0')));
    await flush();
    expect(await twin.contents()).toEqual({ '10.96.0.1:80/6': texts(3), '10.96.0.2:80/6': [] });
    expect(table.failed).toEqual([
      {
        object: 'service b',
        reason:
          '10.96.0.2:80/TCP is refused: tortie_back4 (5 entries; setting tortie_back4Size) has no 3 free entries in one run',
      },
    ]);
    end('a');
    await flush();
    expect(table.failed).toHaveLength(1);
    await table.settle();
    expect(table.failed).toEqual([]);
    expect(await twin.contents()).toEqual({ '10.96.0.2:80/6': texts(3, '10.2.0') });
  });

  test('backends: a service that changes keeps the longest piece of what it had, and never one who has gone', async () => {
    start({ tortie_back4: 10 });
    const seven = many(7);
    say('a', service('10.96.0.1', seven));
    await flush();
    say('a', service('10.96.0.1', seven.toSpliced(2, 1)));
    await flush();
    expect(await twin.contents()).toEqual({ '10.96.0.1:80/6': texts(4, '10.1.0', 4) });
    expect(table.failed[0]?.reason).toContain('10.96.0.1:80/TCP goes to 4 of its 6 backends');
    // Back to all of them: the run is still there.
    say('a', service('10.96.0.1', seven));
    await flush();
    expect(await twin.contents()).toEqual({ '10.96.0.1:80/6': texts(7) });
    expect(table.failed).toEqual([]);
    say('a', service('10.96.0.1', many(5, '10.2.0')));
    await flush();
    expect(await twin.contents()).toEqual({ '10.96.0.1:80/6': [] });
    await table.settle();
    expect(await twin.contents()).toEqual({ '10.96.0.1:80/6': texts(5, '10.2.0') });
    expect(table.figures[4].backends).toBe(5);
  });

  test('a service with several ports that lack room is one failure', async () => {
    start({ tortie_back4: 1 });
    say('a', {
      clusterIps: { ipv4: '10.96.0.1' },
      ports: [80, 81, 82].map((port) => ({
        name: `p${port}`,
        protocol: 6,
        port,
        ipv4Backends: many(2, '10.1.0', port),
        ipv6Backends: [],
      })),
      internalTrafficPolicy: 'cluster',
    });
    await flush();
    expect(table.failed).toEqual([
      { object: 'service a', reason: expect.stringMatching(/^10\.96\.0\.1:80\/TCP .* \(and 2 more of its addresses/) },
    ]);
  });
});

describe('writes that fail', () => {
  test('a moment without memory is waited for', async () => {
    let refusals = 2;
    twin.refuse = () => (refusals-- > 0 ? 'ENOMEM' : undefined);
    say('a', service('10.96.0.1', many(2)));
    await flush();
    expect(pauses).toEqual([1, 4]);
    expect(table.failed).toEqual([]);
    expect(await twin.contents()).toEqual({ '10.96.0.1:80/6': texts(2) });
  });

  test.each(['ENOMEM', 'EPERM', 'E2BIG'])(
    '%s is reported, others are written, and the next flush tries again',
    async (code) => {
      let sets = 0;
      twin.refuse = () => (sets++ === 0 || code !== 'EPERM' ? code : undefined);
      say('a', service('10.96.0.1', many(2)));
      if (code === 'EPERM') say('b', service('10.96.0.2', many(2)));
      await flush();
      expect(table.failed).toEqual([{ object: 'service a', reason: expect.stringContaining('10.96.0.1:80/TCP') }]);
      expect(Object.keys(await twin.contents())).toEqual(code === 'EPERM' ? ['10.96.0.2:80/6'] : []);
      twin.refuse = () => undefined;
      await flush();
      expect(table.failed).toEqual([]);
      expect((await twin.contents())['10.96.0.1:80/6']).toEqual(texts(2));
      await table.settle();
      expect(table.figures[4].backends).toBe(2);
    },
  );

  test('a flush of news alone leaves what was refused before for its time', async () => {
    twin.refuse = () => 'ENOMEM';
    say('a', service('10.96.0.1', many(2)));
    await flush();
    twin.refuse = () => undefined;
    pauses = [];
    say('b', service('10.96.0.2', many(2)));
    await table.flush('here', { retry: false });
    expect(pauses).toEqual([]);
    expect(table.failed.map(({ object }) => object)).toEqual(['service a']);
    expect(Object.keys(await twin.contents())).toEqual(['10.96.0.2:80/6']);
    // Said anew it is news itself.
    say('a', service('10.96.0.1', many(3)));
    await table.flush('here', { retry: false });
    expect(table.failed).toEqual([]);
    expect(Object.keys(await twin.contents())).toHaveLength(2);
  });

  test('a removal that fails is reported, keeps its run, and is tried again', async () => {
    say('a', service('10.96.0.1', many(2)));
    await flush();
    twin.refuse = () => 'EIO';
    end('a');
    await flush();
    await table.settle();
    expect(table.failed).toEqual([{ object: 'service a', reason: expect.stringContaining('EIO') }]);
    expect(table.figures[4]).toEqual({ frontends: 1, backends: 2 });
    twin.refuse = () => undefined;
    await flush();
    await table.settle();
    expect(table.failed).toEqual([]);
    expect(table.figures[4]).toEqual({ frontends: 0, backends: 0 });
  });

  test('an address that can not be read is its service alone', async () => {
    say('a', service('10.96.0.1', [backend('fd00::1')]));
    say('b', service('10.96.0.2', many(1)));
    await flush();
    expect(table.failed).toEqual([{ object: 'service a', reason: expect.stringContaining('fd00::1') }]);
    expect(await twin.contents()).toEqual({ '10.96.0.2:80/6': texts(1) });
  });
});

describe('flows of datagrams', () => {
  const [one, two] = many(2);
  const dns = (...backends: readonly (BackendInfo | undefined)[]) =>
    service(
      '10.96.0.1',
      backends.flatMap((backend) => backend ?? []),
      { protocol: 17, port: 53 },
    );
  /** From a client to the service's port, delivered to this one. */
  const flowTo = (destination: string, destinationPort: number, more: Partial<Flow> = {}): Flow => ({
    family: 4,
    protocol: 17,
    asked: { source: '10.1.0.9', sourcePort: 4000, destination: '10.96.0.1', destinationPort: 53 },
    delivered: { source: '10.1.0.9', sourcePort: 4000, destination, destinationPort },
    state: 'established',
    crossesNetfilter: false,
    details: [],
    ...more,
  });

  test('are looked at where a port has come or a backend has gone, once, and again if that fails', async () => {
    say('a', dns(one));
    say('tcp', service('10.96.0.2', many(1)));
    await flush();
    expect(table.takeLeft()).toEqual(['10.96.0.1']);
    say('a', dns(one, two));
    await flush();
    expect(table.takeLeft()).toEqual([]);
    say('a', dns(two));
    await flush();
    expect(table.takeLeft()).toEqual(['10.96.0.1']);
    table.putBackLeft(['10.96.0.1']);
    expect(table.takeLeft()).toEqual(['10.96.0.1']);
  });

  test('are looked at when the flush is over: until then packets are led to who has gone', async () => {
    say('a', dns(one));
    await flush();
    table.takeLeft();
    const during: (readonly string[])[] = [];
    let refusals = 1;
    twin.refuse = () => {
      // Whoever forgets flows does so while others have their turn.
      during.push(table.takeLeft());
      return refusals-- > 0 ? 'ENOMEM' : undefined;
    };
    say('a', dns(two));
    await flush();
    expect(during).toEqual([[], []]);
    expect(table.takeLeft()).toEqual(['10.96.0.1']);
  });

  test('of a service that is deleted have nobody to go to, and others at its address stay', async () => {
    say('a', dns(one));
    await flush();
    table.takeLeft();
    end('a');
    await flush();
    expect(table.takeLeft()).toEqual(['10.96.0.1']);
    expect(table.isStale(flowTo('10.1.0.1', 8080))).toBe(true);
    expect(table.isStale(flowTo('10.96.0.1', 53, { state: 'new' }))).toBe(false);
  });

  test('are looked at where a service has to leave its address to another one', async () => {
    say('a', dns(one));
    say('b', dns(two));
    await flush();
    table.takeLeft();
    end('b');
    await flush();
    expect(table.takeLeft()).toEqual(['10.96.0.1']);
    expect(table.isStale(flowTo('10.1.0.2', 8080))).toBe(true);
    expect(table.isStale(flowTo('10.1.0.1', 8080))).toBe(false);
  });

  test.each<readonly [string, Flow, boolean]>([
    ['to who serves', flowTo('10.1.0.1', 8080), false],
    ['to who serves while it ends', flowTo('10.1.0.3', 8080), false],
    ['to who has gone', flowTo('10.1.0.2', 8080), true],
    ['to another port of who serves', flowTo('10.1.0.1', 8081), true],
    ['that nobody translates and nobody answers', flowTo('10.96.0.1', 53, { state: 'new' }), true],
    ['that netfilter translates', flowTo('10.96.0.1', 53), false],
    ['of a connection', flowTo('10.1.0.2', 8080, { protocol: 6 }), false],
    [
      'to what is no service',
      flowTo('10.1.0.2', 53, { asked: { source: '10.1.0.9', destination: '10.1.0.2', destinationPort: 53 } }),
      false,
    ],
  ])('%s', async (_, flow, isStale) => {
    const ending = backend('10.1.0.3', 8080, { ready: false, terminating: true });
    say('a', dns(one, ending, backend('10.1.0.4', 8080, { ready: false, serving: false })));
    await flush();
    expect(table.isStale(flow)).toBe(isStale);
  });
});
