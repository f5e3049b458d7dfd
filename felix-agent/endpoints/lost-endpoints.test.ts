import { describe, expect, test } from '@jest/globals';
import { parseAs, type KindMap } from '#api/kinds.ts';
import { hostDeviceName } from '#api/names.ts';
import { aliasOf } from '#cni/names.ts';
import type { LocalEndpoint } from '#cni/deps.ts';
import { workloadEndpointOf } from '#datastore/kubernetes/derived.ts';
import { annotation } from '#api/annotations.ts';
import { lostEndpoints, type LostEndpointSources } from './lost-endpoints.ts';

/** A Pod that runs on node1, as its kubelet reports it. */
const pod = (name: string, annotations: Record<string, string> = {}, node = 'node1') =>
  parseAs('Pod', {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'default', uid: `uid-${name}`, labels: { app: name }, annotations },
    spec: { nodeName: node },
    status: { phase: 'Running', podIPs: [{ ip: '10.0.0.1' }] },
  }).object;
const annotated = (container: string) => ({ [annotation.podIP]: '10.0.0.1/32', [annotation.containerID]: container });
const device = (name: string, containerId: string, prefix = 'cali', ifname = 'eth0', network = 'pods') => ({
  index: 7,
  name: hostDeviceName(prefix, `default.${name}`),
  alias: aliasOf({ network, containerId, ifname }),
});

interface Case {
  readonly pods: readonly KindMap['Pod'][];
  readonly links: readonly ReturnType<typeof device>[];
  readonly known?: readonly LocalEndpoint[];
}

/** What is found, and how often all Pods were listed. */
async function find({ pods, links, known = [] }: Case) {
  let listed = 0;
  const sources = {
    nodeName: 'node1',
    datastore: {
      derived: new Set(['WorkloadEndpoint']),
      list: () => {
        listed++;
        return Promise.resolve({ items: pods.flatMap((one) => workloadEndpointOf(one) ?? []), resourceVersion: '1' });
      },
    },
    host: {
      links: () => Promise.resolve(links),
      link: (name: string) => links.find((link) => link.name === name),
      neighbours: () =>
        Promise.resolve([
          { address: '10.0.0.9', mac: '02:00:00:00:00:09' },
          { address: '10.0.0.1', mac: '02:00:00:00:00:07' },
        ]),
    },
  } as unknown as LostEndpointSources;
  return { found: await lostEndpoints(sources, known), listed };
}

describe('endpoints that the state dir has lost, in Kubernetes', () => {
  test('are made of Pods, and what those do not say is read from the kernel', async () => {
    const { found } = await find({ pods: [pod('web', annotated('c1'))], links: [device('web', 'c1', 'tap')] });
    expect(found).toEqual([
      {
        endpoint: expect.objectContaining({
          metadata: {
            name: 'node1-k8s-web-eth0',
            namespace: 'default',
            labels: expect.objectContaining({ app: 'web' }),
          },
          spec: expect.objectContaining({
            containerID: 'c1',
            interfaceName: hostDeviceName('tap', 'default.web'),
            mac: '02:00:00:00:00:07',
            ipNetworks: ['10.0.0.1/32'],
          }),
        }),
        network: 'pods',
        ifname: 'eth0',
        netns: '',
        podUid: 'uid-web',
      },
    ]);
  });

  test.each<readonly [string, Case, readonly (readonly [string, string])[]]>([
    [
      'a Pod that was never annotated has the device of its name',
      { pods: [pod('web')], links: [device('web', 'c1')] },
      [['web', 'c1']],
    ],
    [
      'one whose sandbox is another’s has none',
      { pods: [pod('web', annotated('c2'))], links: [device('web', 'c1')] },
      [],
    ],
    [
      'one of another node has none',
      { pods: [pod('web', annotated('c1'), 'node2')], links: [device('web', 'c1')] },
      [],
    ],
    [
      'a second interface is nobody’s',
      { pods: [pod('web', annotated('c1'))], links: [device('web', 'c1', 'cali', 'net1')] },
      [],
    ],
    ['a device without a Pod is left to be deleted', { pods: [], links: [device('web', 'c1')] }, []],
  ])('%s', async (_title, given, expected) => {
    const { found } = await find(given);
    expect(found.map(({ endpoint: { spec } }) => [spec.pod, spec.containerID])).toEqual(expected);
  });

  test('a network whose name is only a hash in the alias is left open', async () => {
    const links = [device('web', 'c1', 'cali', 'eth0', 'n'.repeat(120))];
    expect((await find({ pods: [pod('web', annotated('c1'))], links })).found[0]?.network).toBe('');
  });

  test('the Pods are not listed while the state dir knows every device', async () => {
    const links = [device('web', 'c1'), { index: 1, name: 'eth0', alias: '' }];
    const known = [
      { endpoint: { metadata: {}, spec: { interfaceName: links[0]?.name } } },
    ] as unknown as readonly LocalEndpoint[];
    expect(await find({ pods: [pod('web', annotated('c1'))], links, known })).toEqual({ found: [], listed: 0 });
    expect((await find({ pods: [pod('web', annotated('c1'))], links })).listed).toBe(1);
  });
});
