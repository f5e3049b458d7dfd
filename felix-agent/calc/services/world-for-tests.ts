/** Random Services and EndpointSlices of a small cluster, in which names, ports and addresses meet often. For tests. */
import fc from 'fast-check';
import { parseAs, type KindMap } from '#api/kinds.ts';

/** Mostly the first: what is unusual must not keep the usual from meeting. */
const mostly = <T>(usual: T, ...others: T[]) =>
  fc.oneof(
    { weight: 3 * others.length, arbitrary: fc.constant(usual) },
    ...others.map((other) => ({ weight: 1, arbitrary: fc.constant(other) })),
  );
const namespaces = mostly('red', 'blue');
const names = fc.constantFrom('svc', 'other');
const protocols = mostly('TCP', 'UDP', 'SCTP');
const portNames = mostly('http', 'dns', '');
const labels = fc.oneof(
  { weight: 20, arbitrary: fc.constant({}) },
  { weight: 1, arbitrary: fc.constant({ 'service.kubernetes.io/service-proxy-name': 'mesh' }) },
  { weight: 1, arbitrary: fc.constant({ 'service.kubernetes.io/headless': '' }) },
);

const annotations = fc.oneof(
  { weight: 20, arbitrary: fc.constant({}) },
  { weight: 1, arbitrary: fc.constant({ 'projectcalico.org/natExcludeService': 'true' }) },
);

/** Any Service: ports by name and number are what an API server lets pass, addresses are canonical. */
export const services: fc.Arbitrary<KindMap['Service']> = fc
  .record({
    metadata: fc.record({ name: names, namespace: namespaces, labels, annotations }),
    spec: fc
      .record({
        type: mostly('ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'),
        ips: mostly(['10.96.0.1'], ['10.96.0.2', 'fd01::2'], ['fd01::2', '10.96.0.2'], ['fd01::1'], ['None'], ['']),
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
      addresses: fc.uniqueArray(
        fc.constantFrom('10.0.0.1', '10.0.0.2', '10.0.0.10', '10.0.0.11', 'fd00::1', 'fd00::2'),
        {
          maxLength: 2,
          size: 'max',
        },
      ),
      conditions: fc.record({ ready: condition, serving: condition, terminating: condition }),
      nodeName: fc.constantFrom('me', 'other', 'third'),
      zone: fc.constantFrom('a', 'b'),
    },
    { requiredKeys: ['addresses'] },
  ),
  { maxLength: 4, size: 'max' },
);

/** Any EndpointSlice, of services that may be there or not. */
export const slices: fc.Arbitrary<KindMap['EndpointSlice']> = fc
  .record({
    name: fc.constantFrom('s1', 's2', 's3'),
    namespace: namespaces,
    service: fc.option(names, { nil: undefined, freq: 8 }),
    labels,
    addressType: mostly('IPv4', 'IPv6', 'FQDN'),
    endpoints,
    ports: fc.array(
      fc.record(
        { name: portNames, protocol: protocols, port: mostly(8080, 80, 0) },
        { requiredKeys: ['name', 'protocol'] },
      ),
      { minLength: 1, maxLength: 3 },
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
