import { beforeAll, describe, expect, it } from '@jest/globals';
import { eventually } from '../../lab/agent-lab.ts';
import { differences } from '../../lab/node-snapshot.ts';
import type { Bed } from '../bed.ts';
import { installTortie, manifest } from '../tortie.ts';

const system = '--namespace=kube-system';

/** Uninstalling as docs/uninstall.md says, and installing again. */
export function removal(bed: () => Bed): void {
  describe('removal', () => {
    beforeAll(async () => {
      // The cluster's own pods are gone as they were before Tortie came, so that kube-proxy's rules are the same, too.
      await bed().kubectl.run('scale', system, 'deployment/coredns', '--replicas=0');
      await bed().kubectl.run('wait', system, 'pod', '--selector=k8s-app=kube-dns', '--for=delete', '--timeout=60s');
    }, 90_000);

    it('the documented steps leave each node as it was before', async () => {
      await bed().kubectl.run('delete', system, 'daemonset', 'tortie-node', '--cascade=foreground', '--timeout=120s');
      await bed().kubectl.apply(manifest('tortie-uninstall.yaml'));
      await bed().kubectl.run('rollout', 'status', system, 'daemonset/tortie-uninstall', '--timeout=120s');
      for (const name of ['tortie-uninstall.yaml', 'tortie.yaml']) {
        await bed().kubectl.run('delete', '--ignore-not-found', '--timeout=120s', '-f', `manifests/${name}`);
      }
      const left = async () => {
        const now = await bed().snapshots();
        return [...bed().before].flatMap(([name, before]) => {
          const after = now.get(name);
          return after === undefined ? [] : differences(before, after).map((line) => `${name}: ${line}`);
        });
      };
      // The kubelet takes down the last pods' groups and mounts after the API server has forgotten them.
      await eventually(
        async () => (await left()).length === 0,
        async () => (await left()).join('\n'),
        30_000,
      );
    }, 300_000);

    it('nothing of it is left in the API', async () => {
      const resources = await bed().kubectl.run('api-resources', '-o', 'name');
      expect(resources.split('\n').filter((name) => name.includes('projectcalico'))).toEqual([]);
      for (const kind of [
        'all',
        'configmaps',
        'serviceaccounts',
        'leases',
        'clusterroles',
        'clusterrolebindings',
        'roles',
        'rolebindings',
      ]) {
        const names = await bed().kubectl.run('get', kind, '-A', '-o', 'name');
        expect(names.split('\n').filter((name) => name.includes('tortie'))).toEqual([]);
      }
    });

    it('installed again it works again', async () => {
      await installTortieAgain(bed());
      const [one, two] = await bed().createPods({
        again1: { node: bed().cluster.node(1) },
        again2: { node: bed().cluster.node(2) },
      });
      if (one === undefined || two === undefined) throw new Error('no pods');
      await two.peer();
      expect(await (await one.peer()).connect(two.ipv4, 5_000)).toMatchObject({ ok: true });
      await bed().deletePods([one, two]);
    }, 180_000);
  });
}

async function installTortieAgain(bed: Bed): Promise<void> {
  await bed.kubectl.run('scale', system, 'deployment/coredns', '--replicas=1');
  await installTortie(bed.cluster);
}
