import { describe, expect, it } from '@jest/globals';
import { eventually } from '../../lab/agent-lab.ts';
import type { Bed } from '../bed.ts';
import { pauseImage } from '../images.ts';

interface PodList {
  readonly items: readonly {
    readonly metadata: { readonly name: string };
    readonly spec: { readonly nodeName: string };
    readonly status: { readonly podIPs?: readonly { readonly ip: string }[] };
  }[];
}

/** Many pods, and a node that goes and comes. */
export function lifecycle(bed: () => Bed): void {
  describe('lifecycle', () => {
    it('50 pods created at once all start with addresses of their own; deleted, every address is back', async () => {
      const before = await bed().addressesInUse();
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
      await bed().kubectl.run('rollout', 'status', 'deployment/many', '--timeout=120s');
      const { items } = await bed().kubectl.json<PodList>('get', 'pods', '--selector=app=many');
      const addresses = items.flatMap(({ status }) => (status.podIPs ?? []).map(({ ip }) => ip));
      expect({ addresses: addresses.length, distinct: new Set(addresses).size }).toEqual({
        addresses: 100,
        distinct: 100,
      });
      expect(new Set(items.map(({ spec }) => spec.nodeName)).size).toBe(2);
      expect(await bed().addressesInUse()).toBe(before + 100);
      expect((await bed().tortie(bed().cluster.node(1), 'ipam', 'check')).stdout.trim()).toBe('nothing found');

      await bed().kubectl.run('delete', 'deployment', 'many', '--cascade=foreground', '--timeout=120s');
      await eventually(
        async () => (await bed().addressesInUse()) === before,
        () => bed().addressesInUse(),
        60_000,
      );
      for (const node of bed().nodes) {
        const devices = (await node.exec('ip', '-o', 'link')).split('\n').filter((line) => line.includes('cali'));
        const endpoints = await bed().tortieJson<readonly object[]>(node, 'endpoints');
        expect({ node: node.name, devices: devices.length }).toEqual({ node: node.name, devices: endpoints.length });
      }
      expect((await bed().tortie(bed().cluster.node(1), 'ipam', 'check')).stdout.trim()).toBe('nothing found');
    }, 300_000);

    it('a node that is deleted leaves no address behind, and works when it is added again', async () => {
      const [one, two] = [bed().cluster.node(1), bed().cluster.node(2)];
      const [here, there] = await bed().createPods({ stays: { node: one }, goes: { node: two } });
      await there?.[Symbol.asyncDispose]();
      await two.stop('kubelet');
      await bed().kubectl.run('delete', 'node', two.name);
      // Its pods are deleted for want of a node; what they had is collected by another node's agent.
      const blocks = () => bed().kubectl.run('get', 'ipamblocks', '-o', 'jsonpath={.items[*].spec.affinity}');
      await eventually(async () => !(await blocks()).includes(two.name), blocks, 150_000);
      const affinities = () => bed().kubectl.run('get', 'blockaffinities', '-o', 'jsonpath={.items[*].spec.node}');
      await eventually(async () => !(await affinities()).includes(two.name), affinities);

      await bed().cluster.startKubelet(two);
      await bed().kubectl.run('wait', '--for=create', `node/${two.name}`, '--timeout=60s');
      await bed().kubectl.run('wait', '--for=condition=Ready', `node/${two.name}`, '--timeout=120s');
      await bed().statusBecomes(({ ready }) => ready);
      const [again] = await bed().createPods({ again: { node: two } });
      if (here === undefined || again === undefined) throw new Error('no pods');
      await again.peer();
      for (const host of [again.ipv4, again.ipv6]) {
        expect(await (await here.peer()).connect(host, 5_000)).toMatchObject({ ok: true });
      }
      expect((await bed().tortie(one, 'ipam', 'check')).stdout.trim()).toBe('nothing found');
      await bed().deletePods([here, again]);
    }, 420_000);
  });
}
