import { describe, expect, it } from '@jest/globals';
import type { Bed } from '../bed.ts';

const account = 'system:serviceaccount:kube-system:tortie-node';

/** What `kubectl apply -f manifests/tortie.yaml` makes of a cluster without a network. */
export function installation(bed: () => Bed): void {
  describe('installation', () => {
    it('nodes are not Ready for want of a network, and Ready with Tortie', async () => {
      for (const node of bed().nodes) {
        expect(bed().readyBefore.get(node.name)).toMatchObject({
          status: 'False',
          message: expect.stringContaining('cni plugin not initialized'),
        });
      }
      const ready = await bed().kubectl.run('wait', '--for=condition=Ready', 'nodes', '--all', '--timeout=60s');
      expect(ready.trim().split('\n')).toHaveLength(bed().nodes.length);
    });

    it('each agent is ready, and says that it uses the Kubernetes datastore', async () => {
      for (const node of bed().nodes) {
        expect(bed().firstStatus.get(node.name)).toMatchObject({
          node: node.name,
          ready: true,
          reasons: [],
          datastore: { location: 'kubernetes', absentKinds: ['ClusterNetworkPolicy'], problems: [], failures: [] },
        });
      }
    });

    it('what was missing is made once, with the ranges of the nodes', async () => {
      const names = async (kind: string) =>
        (await bed().kubectl.run('get', kind, '-o', 'jsonpath={.items[*].metadata.name}')).split(' ').toSorted();
      expect(await names('clusterinformations')).toEqual(['default']);
      expect(await names('felixconfigurations')).toEqual(['default']);
      expect(await names('tiers')).toEqual(['default', 'kube-admin', 'kube-baseline']);
      const pools = await bed().kubectl.json<{ items: { spec: object }[] }>('get', 'ippools');
      expect(pools.items.map(({ spec }) => spec)).toEqual([
        expect.objectContaining({ cidr: '10.244.0.0/16', natOutgoing: true, vxlanMode: 'Never' }),
        expect.objectContaining({ cidr: 'fd00:244::/48', natOutgoing: true, vxlanMode: 'Never' }),
      ]);
    });

    it('Nodes carry the addresses as Calico writes them, and no condition that the network is missing', async () => {
      for (const node of bed().nodes) {
        const object = await bed().kubectl.json<{
          metadata: { annotations: Record<string, string> };
          status: { conditions: { type: string; status: string }[] };
        }>('get', 'node', node.name);
        expect(object.metadata.annotations).toMatchObject({
          'projectcalico.org/IPv4Address': `${node.ipv4}/24`,
          'projectcalico.org/IPv6Address': `${node.ipv6}/64`,
        });
        const condition = object.status.conditions.find(({ type }) => type === 'NetworkUnavailable');
        expect(condition?.status ?? 'False').toBe('False');
      }
    });

    it('the agent needs no more than its own service account, which may see no secret and change no workload', async () => {
      const list = await bed().kubectl.run('auth', 'can-i', '--list', `--as=${account}`);
      expect(list).toContain('ipamblocks.projectcalico.org');
      expect(list).not.toMatch(/secrets|\*\.\*|\[\*\]\s*$/m);
      for (const [verb, what] of [
        ['get', 'secrets'],
        ['create', 'pods'],
        ['update', 'nodes'],
        ['create', 'serviceaccounts/token'],
        ['impersonate', 'users'],
      ] as const) {
        const { stdout } = await bed().kubectl.try(['auth', 'can-i', verb, what, `--as=${account}`, '-A']);
        expect({ verb, what, answer: stdout.trim() }).toEqual({ verb, what, answer: 'no' });
      }
    });
  });
}
