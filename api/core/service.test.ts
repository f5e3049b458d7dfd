import { describe, expect, test } from '@jest/globals';
import { ValidationError } from '../errors.ts';
import { parseAs } from '../kinds.ts';

const service = (spec: object) =>
  parseAs('Service', { apiVersion: 'v1', kind: 'Service', metadata: { name: 'a' }, spec }).object.spec;
const slice = (fields: object) =>
  parseAs('EndpointSlice', {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 'a-1' },
    addressType: 'IPv4',
    ...fields,
  }).object;

describe('a Service', () => {
  test('that says nothing has what Kubernetes takes for granted', () => {
    expect(service({ ports: [{ port: 80 }] })).toEqual({
      type: 'ClusterIP',
      clusterIPs: [],
      sessionAffinity: 'None',
      internalTrafficPolicy: 'Cluster',
      ports: [{ name: '', protocol: 'TCP', port: 80 }],
    });
  });

  test('keeps what we use of it and nothing else', () => {
    const used = {
      type: 'NodePort',
      clusterIP: '10.96.0.1',
      clusterIPs: ['10.96.0.1', 'fd00::1'],
      sessionAffinity: 'ClientIP',
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } },
      internalTrafficPolicy: 'Local',
      ports: [{ name: 'dns', protocol: 'UDP', port: 53 }],
    };
    const whole = {
      ...used,
      selector: { app: 'dns' },
      externalIPs: ['192.0.2.1'],
      ports: [{ ...used.ports[0], targetPort: 'dns', nodePort: 30_053 }],
    };
    expect(service(whole)).toEqual(used);
  });

  test.each([
    ['a port 0', { ports: [{ port: 0 }] }],
    ['a port over 65535', { ports: [{ port: 65_536 }] }],
    ['an affinity of no time', { sessionAffinityConfig: { clientIP: { timeoutSeconds: 0 } } }],
  ])('with %s is none', (_what, spec) => {
    expect(() => service(spec)).toThrow(ValidationError);
  });
});

describe('an EndpointSlice', () => {
  test('that says nothing has what Kubernetes takes for granted, and unknown conditions stay unknown', () => {
    const { endpoints, ports } = slice({
      endpoints: [{ addresses: ['10.65.0.1'], conditions: { ready: true, serving: null } }, {}],
      ports: [{ port: 8080 }, { name: 'dns', port: null, protocol: 'UDP' }],
    });
    expect(endpoints).toEqual([{ addresses: ['10.65.0.1'], conditions: { ready: true } }, { addresses: [] }]);
    expect(ports).toEqual([
      { name: '', protocol: 'TCP', port: 8080 },
      { name: 'dns', protocol: 'UDP' },
    ]);
  });

  test('keeps what we use of it and nothing else', () => {
    const endpoint = { addresses: ['10.65.0.1'], conditions: { terminating: true }, nodeName: 'n', zone: 'z' };
    const whole = { ...endpoint, hostname: 'h', hints: { forZones: [{ name: 'z' }] }, targetRef: { kind: 'Pod' } };
    expect(slice({ endpoints: [whole] })).toMatchObject({ endpoints: [endpoint], ports: [] });
    expect(Object.keys(slice({ endpoints: [whole] }).endpoints[0] ?? {})).toEqual(Object.keys(endpoint));
  });
});
