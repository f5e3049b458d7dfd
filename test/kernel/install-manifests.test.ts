/** The manifests at a real API server: taken whole, definitions served, and the agent's account may do what it must and nothing else. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { fileURLToPath } from 'node:url';
import { kinds, type KindName } from '#api/kinds.ts';
import { eventually } from '#test/lab/agent-lab.ts';
import { ControlPlane } from '../cluster/control-plane.ts';
import { access, type Verb } from '../../scripts/manifests/rbac.ts';

const path = (name: string) => fileURLToPath(new URL(`../../manifests/${name}`, import.meta.url));
const verbs: readonly Verb[] = ['get', 'list', 'watch', 'create', 'update', 'patch', 'delete'];

describe('an API server', () => {
  let plane: ControlPlane;
  beforeAll(async () => {
    plane = await ControlPlane.start();
  });
  afterAll(() => plane[Symbol.asyncDispose]());

  const definitions = async () => {
    const { items } = await plane.kubectl.json<{
      items: { metadata: { name: string }; status: { conditions: { type: string; status: string }[] } }[];
    }>('get', 'crd');
    return items;
  };

  test.each(['tortie.yaml', 'tortie-clusternetworkpolicy-crd.yaml', 'tortie-uninstall.yaml'])(
    'takes %s, as kubectl apply sends it and by server-side apply',
    async (name) => {
      for (const how of [[], ['--server-side']]) {
        const { status, stderr } = await plane.kubectl.try(['apply', '--dry-run=server', ...how, '-f', path(name)]);
        expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      }
    },
  );

  test('serves every kind after one kubectl apply, and a second one changes nothing', async () => {
    await plane.kubectl.run('apply', '-f', path('tortie.yaml'), '-f', path('tortie-clusternetworkpolicy-crd.yaml'));
    await plane.kubectl.run('wait', '--for=condition=Established', 'crd', '--all', '--timeout=100s');
    expect(await definitions()).toHaveLength(21);
    const again = await plane.kubectl.run('apply', '-f', path('tortie.yaml'));
    expect(again.split('\n').filter((line) => line !== '' && !line.endsWith(' unchanged'))).toEqual([]);
  });

  describe("the agent's account", () => {
    const as = '--as=system:serviceaccount:kube-system:tortie-node';
    const resourceOf = (kind: KindName) => {
      const { apiVersion, plural } = kinds[kind];
      return apiVersion.includes('/') ? `${plural}.${apiVersion.split('/')[0]}` : plural;
    };
    const can = async (...args: string[]) => {
      const { stdout } = await plane.kubectl.try(['auth', 'can-i', as, ...args]);
      return stdout.trim() === 'yes';
    };

    test('may do to every object of the cluster what the list says, and nothing else', async () => {
      const granted = (kind: KindName, verb: Verb) =>
        access.some(
          ({ kinds: of, verbs: allowed, subresource, names, ownNamespace }) =>
            subresource === undefined &&
            names === undefined &&
            ownNamespace === undefined &&
            of.includes(kind) &&
            allowed.includes(verb),
        );
      const { rules } = await plane.kubectl.json<{
        rules: { apiGroups: string[]; resources: string[]; verbs: string[] }[];
      }>('get', 'clusterrole', 'tortie-node');
      for (const kind of Object.keys(kinds) as KindName[]) {
        const [plural = '', group = ''] = resourceOf(kind).split(/\.(.*)/s);
        const allowed = rules
          .filter(({ apiGroups, resources }) => apiGroups.includes(group) && resources.includes(plural))
          .flatMap((rule) => rule.verbs);
        expect([kind, allowed.toSorted()]).toEqual([kind, verbs.filter((verb) => granted(kind, verb)).toSorted()]);
      }
    });

    test.each([
      [true, ['list', 'pods', '--all-namespaces']],
      [true, ['patch', 'pods', '--subresource=status', '--all-namespaces']],
      [true, ['patch', 'nodes', '--subresource=status']],
      [true, ['update', 'ipamblocks.projectcalico.org']],
      [true, ['get', 'configmaps/tortie-config', '-n=kube-system']],
      [true, ['get', 'configmaps/kubeadm-config', '-n=kube-system']],
      [true, ['update', 'leases.coordination.k8s.io/tortie-controllers', '-n=kube-system']],
      [true, ['create', 'leases.coordination.k8s.io', '-n=kube-system']],
      [false, ['patch', 'pods', '--all-namespaces']],
      [false, ['patch', 'nodes']],
      [false, ['get', 'secrets', '-n=kube-system']],
      [false, ['list', 'secrets', '--all-namespaces']],
      [false, ['get', 'configmaps/extension-apiserver-authentication', '-n=kube-system']],
      [false, ['list', 'configmaps', '-n=kube-system']],
      [false, ['get', 'configmaps/tortie-config', '-n=default']],
      [false, ['update', 'leases.coordination.k8s.io/kube-scheduler', '-n=kube-system']],
      [false, ['create', 'leases.coordination.k8s.io', '-n=default']],
      [false, ['update', 'networkpolicies.networking.k8s.io', '--all-namespaces']],
      [false, ['update', 'felixconfigurations.projectcalico.org']],
      [false, ['delete', 'ippools.projectcalico.org']],
      [false, ['create', 'pods', '-n=kube-system']],
      [false, ['create', 'serviceaccounts/tortie-node', '--subresource=token', '-n=kube-system']],
      [false, ['list', 'workloadendpoints.projectcalico.org', '--all-namespaces']],
    ])('%s: can-i %j', async (expected, args) => {
      // A role is in force a moment after it was made.
      if (expected)
        await eventually(
          () => can(...args),
          () => 'no',
        );
      else expect(await can(...args)).toBe(false);
    });
  });

  test('kubectl delete takes all of it away', async () => {
    await plane.kubectl.run(
      'delete',
      '-f',
      path('tortie.yaml'),
      '-f',
      path('tortie-clusternetworkpolicy-crd.yaml'),
      '--wait=false',
    );
    const { stdout } = await plane.kubectl.try(['get', 'clusterrole,clusterrolebinding', '-o', 'name']);
    expect(stdout).not.toContain('tortie');
  });
});
