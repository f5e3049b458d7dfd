import { afterAll, describe, expect, it } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { eventually } from '../../lab/agent-lab.ts';
import type { Bed, PodList } from '../bed.ts';
import { Flow } from '../flow.ts';
import { pauseImage } from '../images.ts';
import type { TestPod } from '../test-pod.ts';
import { nodeImage } from '../tortie.ts';

/** Many pods, and a node that goes and comes. */
export function lifecycle(bed: () => Bed): void {
  describe('lifecycle', () => {
    afterAll(() => bed().kubectl.run('delete', 'deployment', 'many', '--ignore-not-found'));

    it('50 pods created at once all start with addresses of their own; deleted, every address is back', async () => {
      const before = await bed().addressesAreThePods();
      await bed().kubectl.apply([
        {
          apiVersion: 'apps/v1',
          kind: 'Deployment',
          metadata: { name: 'many', namespace: 'default' },
          spec: {
            replicas: 50,
            selector: { matchLabels: { app: 'many' } },
            template: {
              metadata: { labels: { app: 'many' } },
              spec: {
                terminationGracePeriodSeconds: 0,
                containers: [{ name: 'pause', image: pauseImage, imagePullPolicy: 'Never' }],
              },
            },
          },
        },
      ]);
      await bed().kubectl.run('rollout', 'status', 'deployment/many', '--timeout=240s');
      const { items } = await bed().kubectl.json<PodList>('get', 'pods', '--selector=app=many');
      const addresses = items.flatMap(({ status }) => (status.podIPs ?? []).map(({ ip }) => ip));
      expect({ addresses: addresses.length, distinct: new Set(addresses).size }).toEqual({
        addresses: 100,
        distinct: 100,
      });
      expect(new Set(items.map(({ spec }) => spec.nodeName)).size).toBe(2);
      expect(await bed().addressesAreThePods()).toBe(before + 100);

      await bed().kubectl.run('delete', 'deployment', 'many', '--cascade=foreground', '--timeout=240s');
      expect(await bed().addressesAreThePods()).toBe(before);
      for (const node of bed().nodes) {
        const devices = (await node.exec('ip', '-o', 'link')).split('\n').filter((line) => line.includes('cali'));
        const endpoints = await bed().tortieJson<readonly object[]>(node, 'endpoints');
        expect({ node: node.name, devices: devices.length }).toEqual({ node: node.name, devices: endpoints.length });
      }
    }, 900_000);

    it('a Node object that is deleted and made again at once: its pods keep addresses and connections', async () => {
      const [one, two] = [bed().cluster.node(1), bed().cluster.node(2)];
      const [here, there] = (await bed().createPods({ near: { node: one }, far: { node: two } })) as [TestPod, TestPod];
      const flow = await Flow.start(here, there);
      await bed().kubectl.run('delete', 'node', two.name);
      // A kubelet registers its node when it starts.
      await two.stop('kubelet');
      await bed().cluster.startKubelet(two);
      await bed().kubectl.run('wait', '--for=create', `node/${two.name}`, '--timeout=240s');
      await bed().kubectl.run('wait', '--for=condition=Ready', `node/${two.name}`, '--timeout=240s');
      await bed().statusBecomes(({ ready }) => ready);
      const { status } = await bed().kubectl.json<PodList['items'][number]>('get', 'pod', there.name);
      expect(status.podIPs).toEqual([{ ip: there.ipv4 }, { ip: there.ipv6 }]);
      // While there was no such node, nobody knew the way to it: no datagram passed. TCP sends again.
      await flow.tcpGoesOn(240_000);
      expect(await flow.stop(Infinity)).toEqual([]);
      const passes = async () => {
        const peer = await here.peer();
        const answers = await Promise.all([there.ipv4, there.ipv6].map((host) => peer.datagram(host, 1_000)));
        return answers.every(({ ok }) => ok);
      };
      await eventually(passes, () => `nobody knows the way to ${two.name}`);
      const again = await Flow.start(here, there);
      await sleep(1_000);
      expect(await again.stop()).toEqual([]);
      await bed().deletePods([here, there]);
    }, 900_000);

    it('a machine that breaks and is deleted leaves no address behind; a new one of its name works', async () => {
      const [one, two] = [bed().cluster.node(1), bed().cluster.node(2)];
      const [here] = (await bed().createPods({ stays: { node: one }, goes: { node: two } })) as [TestPod];
      await bed().cluster.breakNode(two);
      await bed().kubectl.run('delete', 'node', two.name);
      const left = async () => {
        const names = ['-o', 'jsonpath={.items[*].spec.node}{.items[*].spec.affinity}'];
        return bed().kubectl.run('get', 'ipamblocks,blockaffinities', ...names);
      };
      await eventually(async () => !(await left()).includes(two.name), left, 240_000);
      await bed().addressesAreThePods();

      await bed().cluster.replaceNode(two, [nodeImage]);
      await bed().kubectl.run('wait', '--for=create', `node/${two.name}`, '--timeout=240s');
      await bed().kubectl.run('wait', '--for=condition=Ready', `node/${two.name}`, '--timeout=240s');
      await bed().statusBecomes(({ ready }) => ready);
      const [again] = (await bed().createPods({ again: { node: two } })) as [TestPod];
      await again.peer();
      for (const host of [again.ipv4, again.ipv6]) {
        const peer = await here.peer();
        await eventually(
          async () => (await peer.connect(host)).ok,
          () => `${host} is not reached`,
        );
      }
      await bed().deletePods([here, again]);
    }, 1_200_000);
  });
}
