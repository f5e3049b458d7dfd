import { expect, test } from '@jest/globals';
import { parseAs, type KindMap } from '#api/kinds.ts';
import { flawOf, workloadEndpointOf } from './derived.ts';

function pod(spec: object = {}, status: object = {}, metadata: object = {}): KindMap['Pod'] {
  return parseAs('Pod', {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'web-0', namespace: 'shop', uid: 'u', resourceVersion: '7', labels: { app: 'web' }, ...metadata },
    spec: { nodeName: 'node-1', ...spec },
    status: { phase: 'Running', ...status },
  }).object;
}

const annotations = {
  'cni.projectcalico.org/podIP': '10.0.0.2/32',
  'cni.projectcalico.org/podIPs': '10.0.0.2/32,fd00::2/128',
  'cni.projectcalico.org/containerID': 'c0ffee',
};

test('is what the plugin would have written', () => {
  const ports = [
    { name: 'http', containerPort: 80 },
    { containerPort: 81 },
    { containerPort: 82, hostPort: 8082, hostIP: '10.0.0.9', protocol: 'UDP' },
  ];
  const sidecar = { name: 's', restartPolicy: 'Always', ports: [{ name: 'metrics', containerPort: 90 }] };
  const init = { name: 'i', ports: [{ name: 'never', containerPort: 91 }] };
  const spec = { containers: [{ name: 'c', ports }], initContainers: [sidecar, init], serviceAccountName: 'seller' };
  expect(workloadEndpointOf(pod(spec, {}, { annotations }))).toEqual({
    apiVersion: 'projectcalico.org/v3',
    kind: 'WorkloadEndpoint',
    metadata: {
      namespace: 'shop',
      name: 'node--1-k8s-web--0-eth0',
      uid: 'u',
      resourceVersion: '7',
      labels: {
        app: 'web',
        'projectcalico.org/namespace': 'shop',
        'projectcalico.org/orchestrator': 'k8s',
        'projectcalico.org/serviceaccount': 'seller',
      },
    },
    spec: {
      orchestrator: 'k8s',
      workload: 'shop.web-0',
      node: 'node-1',
      containerID: 'c0ffee',
      pod: 'web-0',
      serviceAccountName: 'seller',
      endpoint: 'eth0',
      ipNetworks: ['10.0.0.2/32', 'fd00::2/128'],
      profiles: ['kns.shop', 'ksa.shop.seller'],
      // printf shop.web-0 | sha1sum
      interfaceName: 'calia4fc3c48bd8',
      ports: [
        { name: 'http', protocol: 'TCP', port: 80 },
        { protocol: 'UDP', port: 82, hostPort: 8082, hostIP: '10.0.0.9' },
        { name: 'metrics', protocol: 'TCP', port: 90 },
      ],
    },
  });
});

test.each<[string, KindMap['Pod'], readonly string[] | undefined]>([
  ['the kubelet reports them', pod({}, { podIPs: [{ ip: '10.0.0.3' }] }, { annotations }), ['10.0.0.3/32']],
  ['the kubelet reports only one', pod({}, { podIP: '10.0.0.4' }, { annotations }), ['10.0.0.4/32']],
  ['the kubelet has not yet reported', pod({}, {}, { annotations }), ['10.0.0.2/32', 'fd00::2/128']],
  ['there are none yet', pod(), []],
  ['it has no node', pod({ nodeName: undefined }), undefined],
  ['it is in the network of its host', pod({ hostNetwork: true }, { podIP: '10.0.0.1' }), undefined],
  ['it has succeeded', pod({}, { phase: 'Succeeded', podIP: '10.0.0.3' }), undefined],
  ['it has failed', pod({}, { phase: 'Failed', podIP: '10.0.0.3' }), undefined],
  [
    'it is being deleted, and its network is gone',
    pod(
      {},
      { podIP: '10.0.0.3' },
      { deletionTimestamp: '2026-01-01T00:00:00Z', annotations: { 'cni.projectcalico.org/podIPs': '' } },
    ),
    undefined,
  ],
  [
    'it is being deleted, and still has its network',
    pod({}, { podIP: '10.0.0.3' }, { deletionTimestamp: '2026-01-01T00:00:00Z', annotations }),
    ['10.0.0.3/32'],
  ],
])('addresses when %s', (_when, object, networks) => {
  expect(workloadEndpointOf(object)?.spec.ipNetworks).toEqual(networks);
});

const allowed = 'cni.projectcalico.org/allowedSourcePrefixes';

test('an annotation that makes no sense takes only its own prefixes, and is told with the Pod', () => {
  const wrong = pod({}, {}, { annotations: { ...annotations, [allowed]: 'nonsense' } });
  expect(workloadEndpointOf(wrong)?.spec).toMatchObject({ ipNetworks: ['10.0.0.2/32', 'fd00::2/128'] });
  expect(workloadEndpointOf(wrong)?.spec.allowSpoofedSourcePrefixes).toBeUndefined();
  expect(flawOf(wrong)).toMatch(
    /^Pod "?shop\/web-0"?: annotation cni\.projectcalico\.org\/allowedSourcePrefixes must be .*nonsense.*WorkloadEndpoint/,
  );
});

test('allowed sources are read whatever the other annotations say', () => {
  const right = { [allowed]: '["10.1.0.0/16"]', 'cni.projectcalico.org/hwAddr': 'nonsense' };
  expect(workloadEndpointOf(pod({}, {}, { annotations: right }))?.spec.allowSpoofedSourcePrefixes).toEqual([
    '10.1.0.0/16',
  ]);
  expect(flawOf(pod({}, {}, { annotations: right }))).toBe('');
});

test.each<[string, object, object]>([
  ['has no node', { nodeName: undefined }, {}],
  ['is in the network of its host', { hostNetwork: true }, {}],
  ['has run to its end', {}, { phase: 'Succeeded' }],
])('of a Pod that %s nothing is wrong: it stands for no WorkloadEndpoint', (_what, spec, status) => {
  expect(flawOf(pod(spec, status, { annotations: { [allowed]: 'nonsense' } }))).toBe('');
});
