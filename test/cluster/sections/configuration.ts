import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Flow } from '../flow.ts';
import type { Bed } from '../bed.ts';
import type { TestPod } from '../test-pod.ts';

/** Datagrams between two nodes, of 50 a second. */
const lostPerSwitch = 2;

/** One field of one object, for the whole cluster. */
export function configuration(bed: () => Bed): void {
  describe('configuration', () => {
    let pods: readonly TestPod[];
    beforeAll(async () => {
      const [one, two] = [bed().cluster.node(1), bed().cluster.node(2)];
      pods = await bed().createPods({ switch1: { node: one }, switch2: { node: two } });
    }, 120_000);
    afterAll(async () => {
      await bed().configure({ bpfEnabled: false });
      await bed().deletePods(pods);
    });

    it('bpfEnabled reaches every node: each is in eBPF, then in iptables again, and a connection lives through both', async () => {
      const [from, to] = pods as [TestPod, TestPod];
      const flow = await Flow.start(from, to);
      await bed().configure({ bpfEnabled: true });
      await bed().statusBecomes(({ dataplane }) => dataplane.active === 'ebpf' && dataplane.wanted === 'ebpf');
      await bed().configure({ bpfEnabled: false });
      await bed().statusBecomes(({ dataplane }) => dataplane.active === 'iptables' && dataplane.wanted === 'iptables');
      // Each node switches in its own time; a datagram between two may meet one of them in between.
      expect(await flow.stop(lostPerSwitch * 2)).toEqual([]);
    }, 120_000);

    it('with a policy that eBPF does not enforce yet a node stays in iptables, says so and why, and the policy holds', async () => {
      const [from, to] = pods as [TestPod, TestPod];
      await bed().kubectl.apply([
        {
          apiVersion: 'networking.k8s.io/v1',
          kind: 'NetworkPolicy',
          metadata: { name: 'closed', namespace: 'default' },
          spec: { podSelector: { matchLabels: { app: to.name } } },
        },
      ]);
      await bed().configure({ bpfEnabled: true });
      const node = bed().cluster.node(2);
      await bed().statusBecomes(({ node: name, dataplane }) =>
        name === node.name
          ? dataplane.active === 'iptables' &&
            dataplane.wanted === 'ebpf' &&
            dataplane.reasons.join().includes('default/closed')
          : dataplane.active === 'ebpf',
      );
      expect(await (await from.peer()).connect(to.ipv4, 700)).toMatchObject({ ok: false });
      await bed().kubectl.run('delete', 'networkpolicy.networking.k8s.io', 'closed');
      // Once nothing is in the way, it comes by itself.
      await bed().statusBecomes(({ dataplane }) => dataplane.active === 'ebpf');
    }, 180_000);
  });
}
