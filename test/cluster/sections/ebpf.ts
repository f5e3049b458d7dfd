import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { eventually } from '../../lab/agent-lab.ts';
import { capabilitiesOf } from '../../contract/combinations.ts';
import type { Bed } from '../bed.ts';
import { kubernetesProgram } from '../binaries.ts';
import { policies } from './policies.ts';
import { traffic } from './traffic.ts';

const { translatesForNode } = await capabilitiesOf({ kind: 'ebpf' });
const namespace = '--namespace=kube-system';
const endpointConfigMap = 'kubernetes-services-endpoint';

/** Every node in eBPF mode: what iptables mode holds, beside kube-proxy and then without. */
export function ebpf(bed: () => Bed): void {
  describe('in eBPF mode', () => {
    beforeAll(async () => {
      await bed().configure({ bpfEnabled: true });
      await bed().statusBecomes(({ ready, dataplane }) => ready && dataplane.active === 'ebpf');
    }, 600_000);
    afterAll(async () => {
      await bed().configure({ bpfEnabled: false });
      await bed().statusBecomes(({ ready, dataplane }) => ready && dataplane.active === 'iptables');
    }, 600_000);

    describe('beside kube-proxy', () => {
      traffic(bed);
      policies(bed);
    });

    describe('without kube-proxy', () => {
      beforeAll(async () => {
        // An agent that starts first on a node needs the API server before anybody leads it to its Service.
        const { hostname, port } = new URL(bed().cluster.plane.server);
        await bed().kubectl.run(
          ...['create', 'configmap', endpointConfigMap, namespace],
          ...[`--from-literal=KUBERNETES_SERVICE_HOST=${hostname}`, `--from-literal=KUBERNETES_SERVICE_PORT=${port}`],
        );
        await bed().kubectl.run('rollout', 'restart', namespace, 'daemonset/tortie-node');
        await bed().kubectl.run('rollout', 'status', namespace, 'daemonset/tortie-node', '--timeout=240s');
        await bed().statusBecomes(({ ready, dataplane }) => ready && dataplane.active === 'ebpf');
        const kubeProxy = await kubernetesProgram('kube-proxy');
        for (const node of bed().nodes) {
          await node.stop('kube-proxy');
          await node.exec(kubeProxy, '--cleanup');
        }
      }, 900_000);
      afterAll(async () => {
        for (const node of bed().nodes) await bed().cluster.startProxy(node);
        const isBack = async () => {
          const saved = await Promise.all(bed().nodes.map((node) => node.exec('iptables-save')));
          return saved.every((rules) => rules.includes('KUBE-SERVICES'));
        };
        await eventually(isBack, () => 'kube-proxy wrote no rules', 150_000);
        await bed().kubectl.run('delete', 'configmap', endpointConfigMap, namespace);
      }, 600_000);

      it('nothing of it is left on the nodes', async () => {
        for (const node of bed().nodes) {
          const rules = `${await node.exec('iptables-save')}${await node.exec('ip6tables-save')}`;
          expect(rules.split('\n').filter((line) => line.includes('KUBE-SVC') || line.includes('KUBE-SEP'))).toEqual(
            [],
          );
        }
      });
      traffic(bed, { nodePorts: false, forNodes: translatesForNode });
      policies(bed);
    });
  });
}
