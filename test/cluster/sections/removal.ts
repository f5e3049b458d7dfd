import { beforeAll, describe, expect, it } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { eventually } from '../../lab/agent-lab.ts';
import { differences } from '../../lab/node-snapshot.ts';
import { exec } from '../../lab/exec.ts';
import type { Bed } from '../bed.ts';
import { kubernetesProgram } from '../binaries.ts';
import { installTortie } from '../tortie.ts';

const system = '--namespace=kube-system';

/** What docs/uninstall.md says that stays. */
const documented = ['+ /run: xtables.lock'];

/** The one command of docs/uninstall.md, for a shell in its folder. */
function command(): string {
  const [, block] = /^```\n(kubectl .*?)^```$/ms.exec(readFileSync('docs/uninstall.md', 'utf8')) ?? [];
  if (block === undefined) throw new Error('docs/uninstall.md has no command');
  return `cd manifests\n${block}`;
}

/** Uninstalling as docs/uninstall.md says, and installing again. */
export function removal(bed: () => Bed): void {
  describe('removal', () => {
    beforeAll(async () => {
      // The cluster's own pods are gone as they were before Tortie came, so that kube-proxy's rules are the same, too.
      await bed().kubectl.run('scale', system, 'deployment/coredns', '--replicas=0');
      await bed().kubectl.run('wait', system, 'pod', '--selector=k8s-app=kube-dns', '--for=delete', '--timeout=240s');
    }, 300_000);

    it('the documented steps leave each node as it was before', async () => {
      const { status, stdout, stderr } = await exec(
        'nsenter',
        [`--net=${bed().cluster.fabric.netnsPath}`, 'bash', '-c', command()],
        {
          env: {
            KUBECONFIG: bed().kubectl.kubeconfig,
            PATH: `${dirname(await kubernetesProgram('kubectl'))}:${process.env['PATH'] ?? ''}`,
          },
          timeoutMs: 500_000,
        },
      );
      expect({ status, stderr, stdout }).toEqual({ status: 0, stderr: '', stdout: expect.any(String) });
      const left = async () => {
        const now = await bed().snapshots();
        return [...bed().before].flatMap(([name, before]) => {
          const after = now.get(name);
          return after === undefined
            ? []
            : differences(before, after)
                .filter((line) => !documented.includes(line))
                .map((line) => `${name}: ${line}`);
        });
      };
      // The kubelet takes down the last pods' groups and mounts after the API server has forgotten them.
      await eventually(
        async () => (await left()).length === 0,
        async () => (await left()).join('\n'),
        150_000,
      );
    }, 600_000);

    it('nothing of it is left in the API', async () => {
      // What the API server serves follows its definitions a moment later.
      const resources = async () =>
        (await bed().kubectl.run('api-resources', '-o', 'name'))
          .split('\n')
          .filter((name) => name.includes('projectcalico'));
      await eventually(async () => (await resources()).length === 0, resources);
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
      const peer = await one.peer();
      await eventually(
        async () => (await peer.connect(two.ipv4)).ok,
        () => 'pods do not reach each other',
      );
      await bed().deletePods([one, two]);
    }, 900_000);
  });
}

async function installTortieAgain(bed: Bed): Promise<void> {
  await bed.kubectl.run('scale', system, 'deployment/coredns', '--replicas=1');
  await installTortie(bed.cluster);
}
