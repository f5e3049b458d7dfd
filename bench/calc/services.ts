import { parseAs, type KindMap } from '#api/kinds.ts';
import { keyText } from '#api/meta.ts';
import { CalcGraph } from '#agent/calc/calc-graph.ts';
import { heapUsed, mustSay, repeat, type Spread } from './timing.ts';
import { self } from './world.ts';

/** The cluster: each service has one slice; one service has many more. */
const scale = { services: 10_000, endpoints: 10, bigEndpoints: 5_000, perSlice: 100, nodes: 1_000 } as const;

/** What one run has measured of Services. */
export interface ServiceFigures {
  /** From all Services and slices to their messages. */
  readonly buildMs: number;
  /** An endpoint of a service with 10 stops being ready, or is ready again: from the slice to the message, in us. */
  readonly endpointChange: Spread;
  /** The same of a service with 5,000 in slices of 100. */
  readonly bigServiceChange: Spread;
  /** The Services and slices as the informer holds them, divided by the backends. */
  readonly objectBytesPerBackend: number;
  /** What calc holds and has said besides, divided by the backends. */
  readonly bytesPerBackend: number;
}

/** Builds the Services of a cluster and changes endpoints. Needs `--expose-gc`. */
export function measureServices(): ServiceFigures {
  const bare = heapUsed();
  const services = Array.from({ length: scale.services }, (_, index) => service(`web-${index}`, index));
  const slices = services.map((_, index) => slice(`web-${index}`, 0, index, scale.endpoints));
  const graph = new CalcGraph(self);
  const objects = heapUsed();

  const began = performance.now();
  for (const object of services) graph.onService(keyText(object.metadata), object);
  for (const object of slices) graph.onEndpointSlice(keyText(object.metadata), object);
  const first = graph.flush();
  const buildMs = performance.now() - began;
  mustSay(first, 'serviceUpdate');
  const full = heapUsed();

  const endpointChange = repeat(
    1_000,
    (round) => {
      const index = (round * 7) % scale.services;
      const changed = slice(`web-${index}`, 0, index, scale.endpoints, round % scale.endpoints);
      return () => graph.onEndpointSlice(keyText(changed.metadata), changed);
    },
    graph,
  );
  graph.onService('default/big', service('big', scale.services));
  const bigSlices = scale.bigEndpoints / scale.perSlice;
  for (let part = 0; part < bigSlices; part++) {
    const object = slice('big', part, 20_000 + part, scale.perSlice);
    graph.onEndpointSlice(keyText(object.metadata), object);
  }
  mustSay(graph.flush(), 'serviceUpdate');
  const bigServiceChange = repeat(
    200,
    (round) => {
      const part = round % bigSlices;
      const changed = slice('big', part, 20_000 + part, scale.perSlice, round % scale.perSlice);
      return () => graph.onEndpointSlice(keyText(changed.metadata), changed);
    },
    graph,
  );
  const backends = scale.services * scale.endpoints;
  return {
    buildMs,
    endpointChange,
    bigServiceChange,
    objectBytesPerBackend: (objects.bytes - bare.bytes) / backends,
    bytesPerBackend: (full.bytes - objects.bytes) / backends,
  };
}

function service(name: string, index: number): KindMap['Service'] {
  const clusterIP = `10.${96 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`;
  return read('Service', {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'default', uid: `uid-${index}`, resourceVersion: `${index}`, labels: { app: name } },
    spec: { clusterIP, clusterIPs: [clusterIP], ports: [{ name: 'http', protocol: 'TCP', port: 80 }] },
  });
}

/** `unready`: which of its endpoints isn't. */
function slice(of: string, part: number, index: number, count: number, unready?: number): KindMap['EndpointSlice'] {
  const endpoints = Array.from({ length: count }, (_, ordinal) => {
    const number = index * scale.perSlice + ordinal;
    const ready = ordinal !== unready;
    return {
      addresses: [`10.${(number >> 16) & 255}.${(number >> 8) & 255}.${number & 255}`],
      conditions: { ready, serving: ready, terminating: false },
      nodeName: `worker-node-${number % scale.nodes}`,
      zone: `europe-west1-${number % 3}`,
    };
  });
  return read('EndpointSlice', {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: `${of}-${part}`, namespace: 'default', labels: { 'kubernetes.io/service-name': of } },
    addressType: 'IPv4',
    endpoints,
    ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
  });
}

/** As from the API: every object has texts of its own. */
function read<K extends 'Service' | 'EndpointSlice'>(kind: K, raw: object): KindMap[K] {
  return parseAs(kind, JSON.parse(JSON.stringify(raw))).object;
}
