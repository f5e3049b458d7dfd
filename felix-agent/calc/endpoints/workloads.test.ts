import { beforeEach, describe, expect, test } from '@jest/globals';
import { parseAs, type KindMap } from '#api/kinds.ts';
import { endpointId, endpointInfo } from '../../endpoints/endpoint-info.ts';
import type { SourceState } from '../sets/set-store.ts';
import { Workloads, type LocalState } from './workloads.ts';

const pod = (parts: { metadata?: object; spec?: object; status?: object } = {}): KindMap['Pod'] =>
  parseAs('Pod', {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'web', namespace: 'default', ...parts.metadata },
    spec: { nodeName: 'other', ...parts.spec },
    status: { podIP: '10.0.0.1', podIPs: [{ ip: '10.0.0.1' }], ...parts.status },
  }).object;

const endpoint = (node: string, address: string, spec: object = {}): KindMap['WorkloadEndpoint'] =>
  parseAs('WorkloadEndpoint', {
    apiVersion: 'projectcalico.org/v3',
    kind: 'WorkloadEndpoint',
    metadata: { name: `${node}-k8s-web-eth0`, namespace: 'default', labels: { from: node } },
    spec: {
      orchestrator: 'k8s',
      workload: 'default.web',
      node,
      containerID: 'c1',
      pod: 'web',
      serviceAccountName: 'robot',
      endpoint: 'eth0',
      ipNetworks: [address],
      profiles: ['kns.default', 'ksa.default.robot'],
      interfaceName: 'cali1',
      mac: '02:00:00:00:00:01',
      ports: [{ name: 'http', protocol: 'TCP', port: 80 }],
      ...spec,
    },
  }).object;

const podIPs = (value: string) => ({ annotations: { 'cni.projectcalico.org/podIPs': value } });
const deleted = { deletionTimestamp: '2026-01-01T00:00:00Z' };
const noStatus = { podIP: undefined, podIPs: [] };

let workloads: Workloads;
let sources: Map<string, SourceState | undefined>;
let locals: Map<string, LocalState | undefined>;
beforeEach(() => {
  sources = new Map();
  locals = new Map();
  workloads = new Workloads('me', {
    source: (id, state) => sources.set(id, state),
    local: (id, state) => locals.set(id, state),
  });
});
const id = 'k8s/default/web/eth0';
const local = (object = endpoint('me', '10.0.0.9/32')) =>
  workloads.onLocal(endpointId(object), { device: endpointInfo(object), object });
const published = (object: KindMap['WorkloadEndpoint']) =>
  workloads.onPublished(`default/${object.metadata.name}`, { id: endpointId(object), object });

describe("a pod's addresses", () => {
  test.each<[string, () => void, readonly string[] | undefined]>([
    ['are what its kubelet reports', () => workloads.onPod('default/web', pod()), ['10.0.0.1/32']],
    [
      'are both families',
      () => workloads.onPod('default/web', pod({ status: { podIPs: [{ ip: '10.0.0.1' }, { ip: 'fd00::1' }] } })),
      ['10.0.0.1/32', 'fd00::1/128'],
    ],
    [
      'are podIP where there is no podIPs',
      () => workloads.onPod('default/web', pod({ status: { podIPs: [] } })),
      ['10.0.0.1/32'],
    ],
    [
      'are what the plugin has written until the kubelet reports',
      () => workloads.onPod('default/web', pod({ metadata: podIPs('10.0.0.2/32,fd00::2/128'), status: noStatus })),
      ['10.0.0.2/32', 'fd00::2/128'],
    ],
    ['are none before the plugin has run', () => workloads.onPod('default/web', pod({ status: noStatus })), undefined],
    [
      "are none in the host's network",
      () => workloads.onPod('default/web', pod({ spec: { hostNetwork: true } })),
      undefined,
    ],
    [
      'are gone when it has succeeded',
      () => workloads.onPod('default/web', pod({ status: { phase: 'Succeeded' } })),
      undefined,
    ],
    [
      'are gone when it has failed',
      () => workloads.onPod('default/web', pod({ status: { phase: 'Failed' } })),
      undefined,
    ],
    [
      'stay while it is being deleted',
      () => workloads.onPod('default/web', pod({ metadata: { ...deleted, ...podIPs('10.0.0.1/32') } })),
      ['10.0.0.1/32'],
    ],
    [
      'are gone when it is being deleted and the plugin has blanked them',
      () => workloads.onPod('default/web', pod({ metadata: { ...deleted, ...podIPs('') } })),
      undefined,
    ],
    [
      'stay when they are blank and it is not being deleted',
      () => workloads.onPod('default/web', pod({ metadata: podIPs('') })),
      ['10.0.0.1/32'],
    ],
    [
      "are its WorkloadEndpoint's before the kubelet's",
      () => {
        workloads.onPod('default/web', pod());
        published(endpoint('other', '10.0.0.5/32'));
      },
      ['10.0.0.5/32'],
    ],
    [
      "are not those of a predecessor's WorkloadEndpoint on another node",
      () => {
        published(endpoint('gone', '10.0.0.5/32'));
        workloads.onPod('default/web', pod());
      },
      ['10.0.0.1/32'],
    ],
    [
      "are this node's record's before all others",
      () => {
        local();
        workloads.onPod('default/web', pod({ spec: { nodeName: 'me' } }));
        published(endpoint('me', '10.0.0.5/32'));
      },
      ['10.0.0.9/32'],
    ],
    [
      'are not those of our record when the pod runs elsewhere by now',
      () => {
        local();
        workloads.onPod('default/web', pod());
      },
      ['10.0.0.1/32'],
    ],
    [
      'are still those of its WorkloadEndpoint when the Pod is gone',
      () => {
        workloads.onPod('default/web', pod());
        published(endpoint('other', '10.0.0.5/32'));
        workloads.onPod('default/web', undefined);
      },
      ['10.0.0.5/32'],
    ],
  ])('%s', (_title, say, expected) => {
    say();
    expect(sources.get(id)?.nets).toEqual(expected);
  });
});

describe("an endpoint's labels, ports and profiles", () => {
  test("are the Pod's; the WorkloadEndpoint's once the Pod is gone", () => {
    local();
    workloads.onPod(
      'default/web',
      pod({
        metadata: { labels: { app: 'web' } },
        spec: {
          nodeName: 'me',
          serviceAccountName: 'other',
          containers: [
            { name: 'a', ports: [{ name: 'dns', containerPort: 53, protocol: 'UDP' }, { containerPort: 1 }] },
          ],
          initContainers: [
            { name: 'b', restartPolicy: 'Always', ports: [{ name: 'mesh', containerPort: 15001 }] },
            { name: 'c', ports: [{ name: 'init', containerPort: 1 }] },
          ],
        },
      }),
    );
    expect(sources.get(id)).toMatchObject({
      labels: {
        own: { app: 'web' },
        over: {
          labels: {
            'projectcalico.org/namespace': 'default',
            'projectcalico.org/orchestrator': 'k8s',
            'projectcalico.org/serviceaccount': 'other',
          },
        },
        parents: ['kns.default', 'ksa.default.other'],
      },
      ports: [
        { name: 'dns', protocol: 17, port: 53 },
        { name: 'mesh', protocol: 6, port: 15001 },
      ],
    });
    expect(locals.get(id)).toMatchObject({ profiles: ['kns.default', 'ksa.default.other'], profileUser: 'pod' });
    workloads.onPod('default/web', undefined);
    expect(sources.get(id)).toMatchObject({
      labels: { own: { from: 'me' }, parents: ['kns.default', 'ksa.default.robot'] },
      ports: [{ name: 'http', protocol: 6, port: 80 }],
    });
    expect(locals.get(id)).toMatchObject({
      device: { ifaceName: 'cali1' },
      profiles: ['kns.default', 'ksa.default.robot'],
    });
  });

  test.each([
    ['of a namespace', { 'pcns.env': 'prod' }],
    ['of a service account', { 'pcsa.trust': 'high', 'projectcalico.org/serviceaccount': 'admin' }],
    ['of what says where it belongs', { 'projectcalico.org/namespace': 'x', 'projectcalico.org/orchestrator': 'x' }],
  ])('its own can’t be those %s, even where nobody else has them', (_title, forged) => {
    workloads.onPod(
      'default/web',
      pod({ metadata: { labels: { app: 'web', ...forged } }, spec: { serviceAccountName: 'a'.repeat(64) } }),
    );
    expect(sources.get(id)?.labels.own).toEqual({ app: 'web' });
  });

  test('a service account whose name is too long for a label is none', () => {
    workloads.onPod('default/web', pod({ spec: { serviceAccountName: 'a'.repeat(64) } }));
    expect(sources.get(id)?.labels.over?.labels).not.toHaveProperty(['projectcalico.org/serviceaccount']);
  });

  test.each([
    [[], ['projectcalico-default-allow']],
    [['net1'], ['net1']],
  ])('of a container that is no pod, with the profiles %j', (profiles, expected) => {
    local(endpoint('me', '10.0.0.7/32', { orchestrator: 'cni', workload: 'c1', pod: undefined, profiles }));
    expect(locals.get('cni/c1/eth0')).toMatchObject({ profiles: expected, profileUser: 'container' });
    expect(sources.get('cni/c1/eth0')?.labels.over?.labels).toEqual({
      'projectcalico.org/namespace': 'default',
      'projectcalico.org/orchestrator': 'cni',
      ...Object.fromEntries(profiles.map((name) => [name, ''])),
    });
  });

  test('a finished pod of ours keeps its device and policy until it is taken down', () => {
    local();
    workloads.onPod('default/web', pod({ spec: { nodeName: 'me' }, status: { phase: 'Succeeded' } }));
    expect(sources.get(id)).toBeUndefined();
    expect(locals.get(id)).toBeDefined();
    workloads.onLocal(id, undefined);
    expect(locals.get(id)).toBeUndefined();
    expect(workloads.localCount).toBe(0);
  });
});
