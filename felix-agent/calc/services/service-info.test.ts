import { describe, expect, test } from '@jest/globals';
import { parseAs, type KindMap } from '#api/kinds.ts';
import type { BackendInfo } from '#dataplanes/services.ts';
import { SliceReader } from './backends.ts';
import { serviceInfo } from './service-info.ts';

const http = { name: 'http', port: 80 };
const base = { clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1'], ports: [http] };

const service = (spec: object = {}, labels: Readonly<Record<string, string>> = {}): KindMap['Service'] =>
  parseAs('Service', {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: 'default', labels },
    spec: { ...base, ...spec },
  }).object;

let serial = 0;
const slice = (fields: object = {}, labels: Readonly<Record<string, string>> = {}): KindMap['EndpointSlice'] =>
  parseAs('EndpointSlice', {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: `web-${serial++}`,
      namespace: 'default',
      labels: { 'kubernetes.io/service-name': 'web', ...labels },
    },
    addressType: 'IPv4',
    endpoints: [{ addresses: ['10.65.0.1'] }],
    ports: [{ name: 'http', port: 8080 }],
    ...fields,
  }).object;

const told = (object: KindMap['Service'], ...slices: KindMap['EndpointSlice'][]) =>
  serviceInfo(object, slices, { selfNodeName: 'me', reader: new SliceReader() });
const usual = { ready: true, serving: true, terminating: false };

/** The IPv4 backends of the first port as `address:port`. */
const targets = (...slices: KindMap['EndpointSlice'][]): readonly string[] =>
  told(service(), ...slices).info?.ports[0]?.ipv4Backends.map(({ address, port }) => `${address}:${port}`) ?? [
    'unsaid',
  ];

test('a service is said with its addresses, ports and who answers on them', () => {
  const object = service({
    clusterIPs: ['10.96.0.1', 'FD00:0::1'],
    ports: [
      { name: 'dns', protocol: 'UDP', port: 53 },
      { name: 'dns-tcp', port: 53 },
      { name: 'sctp', protocol: 'SCTP', port: 9 },
      http,
    ],
  });
  const ports = [
    { name: 'http', port: 8080 },
    { name: 'dns', protocol: 'UDP', port: 5353 },
  ];
  const four = slice({ endpoints: [{ addresses: ['10.65.0.1'], nodeName: 'n1', zone: 'z' }], ports });
  const six = slice({ addressType: 'IPv6', endpoints: [{ addresses: ['fd01:0::2'] }], ports });
  expect(told(object, four, six)).toEqual({
    info: {
      clusterIps: { ipv4: '10.96.0.1', ipv6: 'fd00::1' },
      internalTrafficPolicy: 'cluster',
      ports: [
        { name: 'dns-tcp', protocol: 6, port: 53, ipv4Backends: [], ipv6Backends: [] },
        {
          name: 'http',
          protocol: 6,
          port: 80,
          ipv4Backends: [{ address: '10.65.0.1', port: 8080, nodeName: 'n1', zone: 'z', ...usual }],
          ipv6Backends: [{ address: 'fd01::2', port: 8080, ...usual }],
        },
        {
          name: 'dns',
          protocol: 17,
          port: 53,
          ipv4Backends: [{ address: '10.65.0.1', port: 5353, nodeName: 'n1', zone: 'z', ...usual }],
          ipv6Backends: [{ address: 'fd01::2', port: 5353, ...usual }],
        },
        { name: 'sctp', protocol: 132, port: 9, ipv4Backends: [], ipv6Backends: [] },
      ],
    },
    problems: [],
  });
});

/** The plain service, with this value of the annotation. */
const excluded = (value: string) => {
  const object = service({});
  const annotations = { 'projectcalico.org/natExcludeService': value };
  return { ...object, metadata: { ...object.metadata, annotations } };
};

describe('a service that nobody proxies is not said', () => {
  test.each([
    ['headless', service({ clusterIP: 'None', clusterIPs: ['None'] })],
    ['without an address yet', service({ clusterIP: '', clusterIPs: [] })],
    ['without an address at all', service({ clusterIP: undefined, clusterIPs: [] })],
    ['ExternalName', service({ type: 'ExternalName' })],
    ['of another proxy', service({}, { 'service.kubernetes.io/service-proxy-name': 'other' })],
    ['of another proxy without a name', service({}, { 'service.kubernetes.io/service-proxy-name': '' })],
    ['that is to be left alone', excluded('true')],
    ['called headless', service({}, { 'service.kubernetes.io/headless': '' })],
    ['without ports', service({ ports: [] })],
  ])('%s', (_what, object) => {
    expect(told(object, slice())).toEqual({ info: undefined, problems: [] });
  });
});

test('a service is left alone only if its annotation says `true`', () => {
  expect(told(excluded('false'), slice())).toEqual(told(service({}), slice()));
});

describe('the addresses of a service', () => {
  test.each([
    ['NodePort', {}, { ipv4: '10.96.0.1' }],
    ['LoadBalancer', {}, { ipv4: '10.96.0.1' }],
    ['ClusterIP', { clusterIPs: [] }, { ipv4: '10.96.0.1' }],
    ['ClusterIP', { clusterIP: 'fd00::1', clusterIPs: ['fd00::1'] }, { ipv6: 'fd00::1' }],
    ['ClusterIP', { clusterIPs: ['fd00::1', '10.96.0.1', 'fd00::2'] }, { ipv4: '10.96.0.1', ipv6: 'fd00::1' }],
  ])('of type %s with %j', (type, spec, clusterIps) => {
    expect(told(service({ type, ...spec })).info?.clusterIps).toEqual(clusterIps);
  });

  test('that are none are left out and are a problem', () => {
    expect(told(service({ clusterIPs: ['10.96.0.256', 'fd00::1'] }), slice())).toMatchObject({
      info: { clusterIps: { ipv6: 'fd00::1' }, ports: [{ ipv4Backends: [] }] },
      problems: ['clusterIP 10.96.0.256 is no address'],
    });
    expect(told(service({ clusterIPs: ['none'] }))).toEqual({
      info: undefined,
      problems: ['clusterIP none is no address'],
    });
  });

  test('a family without one has no backends', () => {
    const six = slice({ addressType: 'IPv6', endpoints: [{ addresses: ['fd01::2'] }] });
    expect(told(service(), six).info?.ports[0]).toMatchObject({ ipv4Backends: [], ipv6Backends: [] });
  });
});

describe('which slices count', () => {
  test.each([
    ['one of IPv4', slice(), ['10.65.0.1:8080']],
    ['one of names', slice({ addressType: 'FQDN', endpoints: [{ addresses: ['example.com'] }] }), []],
    ['one of another proxy', slice({}, { 'service.kubernetes.io/service-proxy-name': 'other' }), []],
    ['one of a headless service', slice({}, { 'service.kubernetes.io/headless': '' }), []],
    ['one without endpoints', slice({ endpoints: [] }), []],
    ['one without ports', slice({ ports: [] }), []],
  ])('%s', (_what, object, expected) => {
    expect(targets(object)).toEqual(expected);
  });
});

describe("the slice's port for a service's port", () => {
  test.each([
    ['has its name and protocol', [http], [{ name: 'http', port: 8080 }], [['10.65.0.1:8080']]],
    ['has not another name', [http], [{ name: 'web', port: 8080 }], [[]]],
    ['has not another protocol', [http], [{ name: 'http', protocol: 'UDP', port: 8080 }], [[]]],
    ['may have none where the service gives none', [{ port: 80 }], [{ name: '', port: 8080 }], [['10.65.0.1:8080']]],
    ['and that may be left out', [{ port: 80 }], [{ port: 8080 }], [['10.65.0.1:8080']]],
    ['must not have none where the service gives one', [http], [{ port: 8080 }], [[]]],
    [
      'may serve in both protocols under one name',
      [
        { name: 'dns', port: 53 },
        { name: 'dns', port: 53, protocol: 'UDP' },
      ],
      [
        { name: 'dns', port: 5301 },
        { name: 'dns', port: 5302, protocol: 'UDP' },
      ],
      [['10.65.0.1:5301'], ['10.65.0.1:5302']],
    ],
    [
      'may stand there several times',
      [http],
      [
        { name: 'http', port: 8081 },
        { name: 'http', port: 8080 },
      ],
      [['10.65.0.1:8080', '10.65.0.1:8081']],
    ],
  ])('%s', (_what, ports, slicePorts, expected) => {
    const { info, problems } = told(service({ ports }), slice({ ports: slicePorts }));
    expect(
      info?.ports.map(({ ipv4Backends }) => ipv4Backends.map(({ address, port }) => `${address}:${port}`)),
    ).toEqual(expected);
    expect(problems).toEqual([]);
  });

  test.each([
    ['0', { name: 'http', port: 0 }],
    ['no number', { name: 'http' }],
  ])('with %s is a problem and nobody answers on it', (_what, port) => {
    const object = slice({ ports: [port] });
    expect(targets(object)).toEqual([]);
    expect(told(service(), object).problems).toEqual([
      `EndpointSlice ${object.metadata.name}: port "http" has no number`,
    ]);
  });
});

describe('the conditions of an endpoint', () => {
  const at = (conditions: object | undefined): Partial<BackendInfo> | undefined =>
    told(service(), slice({ endpoints: [{ addresses: ['10.65.0.1'], conditions }] })).info?.ports[0]?.ipv4Backends[0];

  test.each([
    [undefined, usual],
    [{}, usual],
    [{ ready: null, serving: null, terminating: null }, usual],
    [{ ready: false }, { ready: false, serving: true, terminating: false }],
    [
      { ready: false, serving: false },
      { ready: false, serving: false, terminating: false },
    ],
    [
      { ready: false, terminating: true },
      { ready: false, serving: true, terminating: true },
    ],
    [
      { ready: true, serving: true, terminating: true },
      { ready: true, serving: true, terminating: true },
    ],
  ])('%j', (conditions, expected) => {
    expect(at(conditions)).toMatchObject(expected);
  });
});

describe('the address of an endpoint', () => {
  test('is its first', () => {
    expect(targets(slice({ endpoints: [{ addresses: ['10.65.0.2', '10.65.0.1'] }] }))).toEqual(['10.65.0.2:8080']);
  });

  test.each([
    [['not an address'], 'not an address is no IPv4 address'],
    [['fd00::1'], 'fd00::1 is no IPv4 address'],
    [[], 'an endpoint without addresses is no IPv4 address'],
  ])('%j is a problem and left out, the others stay', (addresses, problem) => {
    const object = slice({ endpoints: [{ addresses }, { addresses: ['10.65.0.9'] }] });
    expect(targets(object)).toEqual(['10.65.0.9:8080']);
    expect(told(service(), object).problems).toEqual([`EndpointSlice ${object.metadata.name}: ${problem}`]);
  });
});

describe('several slices', () => {
  const at = (address: string, more: object = {}) => slice({ endpoints: [{ addresses: [address], ...more }] });

  test('are one list in the order of its text, whatever the order of the slices', () => {
    const slices = [at('10.65.0.3'), at('10.65.0.10'), at('10.65.0.2')];
    expect(targets(...slices)).toEqual(['10.65.0.10:8080', '10.65.0.2:8080', '10.65.0.3:8080']);
    expect(targets(...slices.toReversed())).toEqual(targets(...slices));
  });

  test('may have each its own number for a named port', () => {
    expect(targets(at('10.65.0.1'), slice({ ports: [{ name: 'http', port: 81 }] }))).toEqual([
      '10.65.0.1:81',
      '10.65.0.1:8080',
    ]);
  });

  test.each([
    ['on this node before another', { nodeName: 'me', conditions: { ready: false } }, { nodeName: 'a' }],
    ['ready before not', {}, { conditions: { ready: false } }],
    ['serving before not', { conditions: { ready: false } }, { conditions: { ready: false, serving: false } }],
    ['staying before terminating', {}, { conditions: { terminating: true } }],
    ['the first node by name', { nodeName: 'a' }, { nodeName: 'b' }],
    ['the first zone by name', { zone: 'a' }, { zone: 'b' }],
  ])('that have the same backend have it once: %s', (_what, winner, loser) => {
    const [good, bad] = [at('10.65.0.1', winner), at('10.65.0.1', loser)];
    const alone = told(service(), good).info;
    expect(told(service(), bad).info).not.toEqual(alone);
    expect(told(service(), good, bad).info).toEqual(alone);
    expect(told(service(), bad, good).info).toEqual(alone);
  });
});

describe('what a service asks of the choice', () => {
  const clientIP = (timeoutSeconds: number) => ({ clientIP: { timeoutSeconds } });
  test.each([
    [{}, { internalTrafficPolicy: 'cluster' }],
    [{ internalTrafficPolicy: 'Cluster' }, { internalTrafficPolicy: 'cluster' }],
    [{ internalTrafficPolicy: 'Local' }, { internalTrafficPolicy: 'local' }],
    [{ sessionAffinity: 'None', sessionAffinityConfig: clientIP(60) }, {}],
    [{ sessionAffinity: 'ClientIP', sessionAffinityConfig: clientIP(60) }, { clientIpAffinityS: 60 }],
    [{ sessionAffinity: 'ClientIP' }, { clientIpAffinityS: 10_800 }],
  ])('%j', (spec, expected) => {
    const info = told(service(spec)).info;
    expect(info).toMatchObject(expected);
    expect(Object.keys(info ?? {}).includes('clientIpAffinityS')).toBe('clientIpAffinityS' in expected);
  });
});

describe('ports that the API server would not let pass are problems', () => {
  test.each([
    [
      'an unknown protocol',
      [{ name: 'icmp', protocol: 'ICMP', port: 1 }, http],
      [80],
      'port 1 has protocol ICMP, which has no services',
    ],
    [
      'a name twice',
      [http, { name: 'http', port: 81 }],
      [81],
      'several ports of TCP have the name "http": the last one counts',
    ],
    ['a port twice', [http, { name: 'web', port: 80 }], [80], 'port 80 has several names: http counts'],
  ])('%s', (_what, ports, expected, problem) => {
    const { info, problems } = told(service({ ports }));
    expect(info?.ports.map(({ port }) => port)).toEqual(expected);
    expect(problems).toEqual([problem]);
  });
});
