/** Random Services and EndpointSlices of a small cluster, in which names, ports and addresses meet often. For tests. */
import fc from 'fast-check';
import { parseAs, type KindMap } from '#api/kinds.ts';

const namespaces = fc.constantFrom('red', 'blue');
const names = fc.constantFrom('svc', 'other');
const protocols = fc.constantFrom('TCP', 'TCP', 'UDP', 'SCTP');
const portNames = fc.constantFrom('', 'http', 'dns');
const labels = fc.constantFrom(
  {},
  {},
  {},
  { 'service.kubernetes.io/service-proxy-name': 'mesh' },
  { 'service.kubernetes.io/headless': '' },
);

/** Any Service: ports by name and number are what an API server lets pass, addresses are canonical. */
export const services: fc.Arbitrary<KindMap['Service']> = fc
  .record({
    metadata: fc.record({ name: names, namespace: namespaces, labels }),
    spec: fc
      .record({
        type: fc.constantFrom('ClusterIP', 'ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'),
        ips: fc.constantFrom(
          ['10.96.0.1'],
          ['10.96.0.1'],
          ['10.96.0.2', 'fd01::2'],
          ['fd01::2', '10.96.0.2'],
          ['fd01::1'],
          ['None'],
          [''],
        ),
        isOld: fc.boolean(),
        sessionAffinity: fc.constantFrom('None', 'ClientIP'),
        sessionAffinityConfig: fc.option(fc.constant({ clientIP: { timeoutSeconds: 60 } }), { nil: undefined }),
        internalTrafficPolicy: fc.constantFrom('Cluster', 'Local'),
        ports: fc.uniqueArray(fc.record({ name: portNames, protocol: protocols, port: fc.constantFrom(80, 53, 443) }), {
          maxLength: 3,
          comparator: (a, b) => isSamePort(a, b),
        }),
      })
      .map(({ ips, isOld, ...spec }) => ({ ...spec, clusterIP: ips[0], clusterIPs: isOld ? [] : ips })),
  })
  .map((body) => parseAs('Service', { apiVersion: 'v1', kind: 'Service', ...body }).object);

interface Port {
  readonly name: string;
  readonly protocol: string;
  readonly port: number;
}

function isSamePort(a: Port, b: Port): boolean {
  return a.protocol === b.protocol && (a.name === b.name || a.port === b.port);
}

const condition = fc.constantFrom(undefined, true, true, false);
const endpoints = fc.array(
  fc.record(
    {
      addresses: fc.uniqueArray(fc.constantFrom('10.0.0.1', '10.0.0.2', '10.0.0.10', 'fd00::1', 'fd00::2'), {
        maxLength: 2,
      }),
      conditions: fc.record({ ready: condition, serving: condition, terminating: condition }),
      nodeName: fc.constantFrom('me', 'other', 'third'),
      zone: fc.constantFrom('a', 'b'),
    },
    { requiredKeys: ['addresses'] },
  ),
  { maxLength: 4 },
);

/** Any EndpointSlice, of services that may be there or not. */
export const slices: fc.Arbitrary<KindMap['EndpointSlice']> = fc
  .record({
    name: fc.constantFrom('s1', 's2', 's3'),
    namespace: namespaces,
    service: fc.option(names, { nil: undefined, freq: 8 }),
    labels,
    addressType: fc.constantFrom('IPv4', 'IPv4', 'IPv6', 'FQDN'),
    endpoints,
    ports: fc.array(
      fc.record(
        { name: portNames, protocol: protocols, port: fc.constantFrom(0, 80, 8080) },
        { requiredKeys: ['name', 'protocol'] },
      ),
      { maxLength: 3 },
    ),
  })
  .map(({ name, namespace, service, labels: more, ...body }) => {
    const owner = service === undefined ? {} : { 'kubernetes.io/service-name': service };
    return parseAs('EndpointSlice', {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name, namespace, labels: { ...owner, ...more } },
      ...body,
    }).object;
  });
