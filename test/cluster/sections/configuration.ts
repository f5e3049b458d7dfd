import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { eventually } from '../../lab/agent-lab.ts';
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
    }, 300_000);
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
    }, 600_000);

    it('a policy holds in both, and while every node goes from one to the other and back', async () => {
      const [from, to] = pods as [TestPod, TestPod];
      await bed().kubectl.apply([
        {
          apiVersion: 'networking.k8s.io/v1',
          kind: 'NetworkPolicy',
          metadata: { name: 'closed', namespace: 'default' },
          spec: { podSelector: { matchLabels: { app: to.name } } },
        },
      ]);
      const peer = await from.peer();
      const reaches = async () => (await peer.connect(to.ipv4, 700)).ok;
      await eventually(
        async () => !(await reaches()),
        () => 'the policy is not in force',
      );
      let opened = 0;
      let isOver = false;
      const watch = (async () => {
        while (!isOver) if (await reaches()) opened += 1;
      })();
      for (const [bpfEnabled, kind] of [
        [true, 'ebpf'],
        [false, 'iptables'],
      ] as const) {
        await bed().configure({ bpfEnabled });
        await bed().statusBecomes(({ dataplane }) => dataplane.active === kind && dataplane.wanted === kind);
      }
      isOver = true;
      await watch;
      expect(opened).toBe(0);
      await bed().kubectl.run('delete', 'networkpolicy.networking.k8s.io', 'closed');
      await eventually(reaches, () => 'it stayed closed');
    }, 600_000);
  });
}
