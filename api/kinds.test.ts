import { describe, expect, test } from '@jest/globals';
import { block, errorOf, least, object } from './kinds.fixtures.ts';
import { kinds, objectText, parseAs, parseObject, type KindMap, type KindName } from './kinds.ts';
import { blockSizeOf } from './v3/ip-pool.ts';

describe('every kind', () => {
  const names = Object.keys(kinds) as KindName[];

  test.each(names)(
    '%s is parsed from the least that it takes, frozen to the ground, and parses again to itself',
    (kind) => {
      const parsed = parseObject(object(kind));
      expect(parsed.kind).toBe(kind);
      expect(parsed.unknownFields).toEqual([]);
      expect(isDeepFrozen(parsed.object)).toBe(true);
      expect(parseAs(kind, structuredClone(parsed.object)).object).toEqual(parsed.object);
    },
  );

  test.each(names)('%s knows its own name and version', (kind) => {
    expect(kinds[kind].name).toBe(kind);
    expect(parseAs(kind, object(kind)).object.apiVersion).toBe(kinds[kind].apiVersion);
  });

  test.each(names)('%s has a namespace, default unless it says, exactly if it is namespaced', (kind) => {
    const { metadata } = parseAs(kind, object(kind)).object;
    expect('namespace' in metadata ? metadata.namespace : undefined).toBe(
      kinds[kind].namespaced ? 'default' : undefined,
    );
  });

  test('takes null for absent, except in lists, where it may mean something', () => {
    const raw = object('IPAMBlock', { ...block, affinityClaimTime: null, deleted: null }, { creationTimestamp: null });
    const parsed = parseAs('IPAMBlock', raw).object;
    expect(parsed.metadata).toEqual({ name: 'a' });
    expect(parsed.spec.deleted).toBe(false);
    expect(parsed.spec.allocations).toEqual([null, 0, null, null]);
    expect(raw['spec']).toHaveProperty('deleted', null);
  });
});

describe('what no schema knows', () => {
  test('stays in objects of our group and is listed, so that writing them back loses nothing', () => {
    const parsed = parseObject({
      ...object('IPAMBlock', { ...block, attributes: [{ ...block.attributes[0], novel: { a: [1] } }], later: true }),
      status: { x: 1 },
    });
    expect(parsed.unknownFields).toEqual(['spec.attributes[0].novel', 'spec.later', 'status']);
    expect(parsed.object).toMatchObject({
      spec: { attributes: [{ novel: { a: [1] } }], later: true },
      status: { x: 1 },
    });
    expect(isDeepFrozen(parsed.object)).toBe(true);
  });

  test('stays without a word in metadata that others own, but managedFields goes', () => {
    const parsed = parseObject(
      object('IPPool', least.IPPool, { finalizers: ['f'], ownerReferences: [{ uid: 'u' }], managedFields: [{}] }),
    );
    expect(parsed.unknownFields).toEqual([]);
    expect(parsed.object.metadata).toEqual({ name: 'a', finalizers: ['f'], ownerReferences: [{ uid: 'u' }] });
  });

  test('includes the namespace of a kind that has none, which must not become part of its key', () => {
    const parsed = parseObject(object('IPPool', least.IPPool, { namespace: 'default' }));
    expect(parsed.unknownFields).toEqual(['metadata.namespace']);
    expect(parsed.object.metadata).toEqual({ name: 'a' });
  });

  test('is dropped from core objects', () => {
    const parsed = parseAs('Pod', {
      ...object('Pod', {
        nodeName: 'n',
        volumes: [],
        containers: [{ name: 'c', image: 'i', ports: [{ containerPort: 80, name: 'http' }] }],
      }),
      status: { phase: 'Running', podIP: '10.0.0.1', podIPs: [{ ip: '10.0.0.1' }], conditions: [] },
    });
    expect(parsed.unknownFields).toEqual([]);
    expect(parsed.object.spec).toEqual({
      nodeName: 'n',
      hostNetwork: false,
      containers: [{ name: 'c', ports: [{ name: 'http', containerPort: 80, protocol: 'TCP' }] }],
      initContainers: [],
    });
    expect(parsed.object.status).toEqual({ phase: 'Running', podIP: '10.0.0.1', podIPs: [{ ip: '10.0.0.1' }] });
  });

  test('is never taken for a prototype', () => {
    const raw = JSON.parse(
      '{"apiVersion":"projectcalico.org/v3","kind":"IPPool","metadata":{"name":"a","labels":{"__proto__":"x","b":"c"}},' +
        '"spec":{"cidr":"10.65.0.0/16","__proto__":{"disabled":true}},"__proto__":{"x":1}}',
    ) as unknown;
    const parsed = parseAs('IPPool', raw).object;
    expect(parsed.metadata.labels).toEqual({ b: 'c' });
    expect(parsed.spec.disabled).toBe(false);
    expect('x' in parsed).toBe(false);
  });

  test('does not reach the input: it is neither frozen nor changed', () => {
    const raw = object('IPPool', { cidr: '10.65.0.0/16', extra: { a: 1 } });
    parseObject(raw);
    expect(raw).toEqual(object('IPPool', { cidr: '10.65.0.0/16', extra: { a: 1 } }));
    expect(Object.isFrozen((raw['spec'] as { extra: object }).extra)).toBe(false);
  });
});

describe('what is read besides policy and addresses', () => {
  test('a ConfigMap has data, if only empty, and nothing of what is binary', () => {
    const head = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'c', namespace: 'kube-system' } };
    expect(parseAs('ConfigMap', head).object.data).toEqual({});
    expect(parseAs('ConfigMap', { ...head, data: { a: 'b' }, binaryData: { c: 'ZA==' } }).object).toEqual({
      ...head,
      data: { a: 'b' },
    });
    expect(errorOf(() => parseAs('ConfigMap', { ...head, data: { a: 1 } })).message).toContain('data.a: must be text');
  });

  test('a Lease is written back whole, with what a newer Kubernetes has put into it', () => {
    const spec = { holderIdentity: 'node-1', leaseTransitions: 3, preferredHolder: 'node-2' };
    const { object: lease, unknownFields } = parseAs('Lease', object('Lease', spec));
    expect(lease.spec).toEqual(spec);
    expect(unknownFields).toEqual(['spec.preferredHolder']);
  });
});

describe('an object of no supported kind', () => {
  test.each([
    [
      { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's', namespace: 'n' } },
      'Secret "n/s": kind Secret of v1 is not supported',
    ],
    [
      { apiVersion: 'crd.projectcalico.org/v1', kind: 'IPPool', metadata: { name: 'p' } },
      'IPPool "p": kind IPPool of crd.projectcalico.org/v1 is not supported; use apiVersion projectcalico.org/v3',
    ],
    [{ apiVersion: 'v1', kind: 'toString' }, 'toString (without a name): kind toString of v1 is not supported'],
    [
      { apiVersion: 'projectcalico.org/v3', kind: 'IPAMConfig' },
      'IPAMConfig (without a name): kind IPAMConfig of projectcalico.org/v3 is not supported',
    ],
    [{}, 'object (without a name): kind (none) of (no apiVersion) is not supported'],
    [null, 'object (without a name): kind (none) of (no apiVersion) is not supported'],
    ['text', 'object (without a name): kind (none) of (no apiVersion) is not supported'],
    [[], 'object (without a name): kind (none) of (no apiVersion) is not supported'],
  ])('%j has a code of its own', (raw, message) => {
    const error = errorOf(() => parseObject(raw));
    expect(error.code).toBe('unknown-kind');
    expect(error.message).toBe(message);
  });
});

describe('defaults', () => {
  test('of a pool are those of Calico', () => {
    expect(parseAs('IPPool', object('IPPool')).object.spec).toEqual({
      cidr: '10.65.0.0/16',
      vxlanMode: 'Never',
      ipipMode: 'Never',
      natOutgoing: false,
      disabled: false,
      disableBGPExport: false,
      nodeSelector: 'all()',
      allowedUses: ['Workload', 'Tunnel'],
      assignmentMode: 'Automatic',
    });
  });

  test.each([
    [{ cidr: '10.65.0.0/16' }, 26],
    [{ cidr: '10.65.0.0/16', blockSize: 0 }, 26],
    [{ cidr: '10.65.0.0/28', blockSize: 30 }, 30],
    [{ cidr: '10.65.0.0/28', disabled: true }, 26],
    [{ cidr: 'fd00::/48' }, 122],
    [{ cidr: 'fd00::/48', blockSize: 116 }, 116],
  ])('of %j give blocks of /%d', (spec, expected) => {
    expect(blockSizeOf(parseAs('IPPool', object('IPPool', spec)).object)).toBe(expected);
  });

  test('of IPAM are those of Calico', () => {
    const { spec } = parseAs('IPAMConfiguration', { ...object('IPAMConfiguration'), spec: undefined }).object;
    expect(spec).toEqual({ strictAffinity: false, maxBlocksPerHost: 0, autoAllocateBlocks: true });
  });

  test('of a FelixConfiguration are not filled in: a less specific object may have a value', () => {
    expect(parseAs('FelixConfiguration', object('FelixConfiguration')).object.spec).toEqual({});
  });
});

test('a sequence number of Calico comes through exactly', () => {
  const raw = object('IPAMBlock', { ...block, sequenceNumber: 1_763_700_000_123_456_789n });
  expect(parseAs('IPAMBlock', raw).object.spec.sequenceNumber).toBe(1_763_700_000_123_456_789n);
});

test('messages name objects by kind, namespace and name', () => {
  expect(objectText('Pod', { namespace: 'default', name: 'web' })).toBe('Pod default/web');
  expect(objectText('IPPool', { name: 'pool-a' })).toBe('IPPool pool-a');
});

test('objects may not be changed in place, says the compiler too', () => {
  const change = (pool: KindMap['IPPool']): void => {
    // @ts-expect-error: read-only
    pool.spec.disabled = true;
  };
  expect(() => change(parseAs('IPPool', object('IPPool')).object)).toThrow(TypeError);
});

function isDeepFrozen(value: unknown): boolean {
  return (
    typeof value !== 'object' || value === null || (Object.isFrozen(value) && Object.values(value).every(isDeepFrozen))
  );
}
