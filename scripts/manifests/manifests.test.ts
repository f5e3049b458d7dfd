/** The manifests against what the program does, and the rules that they must keep. */
import { describe, expect, test } from '@jest/globals';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';
import { isKindName, kinds, type KindName } from '#api/kinds.ts';
import { resolveAgentConfig } from '#agent/config/agent-config.ts';
import { defaultSettings } from '#agent/defaults/default-objects.ts';
import { watchedKinds } from '#agent/store/object-store.ts';
import { manifestFiles } from './files.ts';
import { image } from './names.ts';
import { access, type Verb } from './rbac.ts';
import { render } from './render.ts';

interface Manifest {
  readonly kind: string;
  readonly apiVersion: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly rules?: readonly { readonly apiGroups: readonly string[]; readonly resources: readonly string[] }[];
}

const files = manifestFiles();
const objectsOf = (name: string) =>
  parseAllDocuments(files.get(name) ?? '').map((document) => document.toJS() as Manifest);
const root = fileURLToPath(new URL('../../', import.meta.url));

describe('rights', () => {
  /** `verb Kind`, of the objects themselves. */
  const granted = new Set(
    access
      .filter(({ subresource }) => subresource === undefined)
      .flatMap(({ kinds, verbs }) => kinds.flatMap((kind) => verbs.map((verb) => `${verb} ${kind}`))),
  );

  /** Calls of the datastore whose kind stands in a variable, by file: what the variable may be. */
  const byVariable: Readonly<Record<string, readonly (readonly [Verb, readonly KindName[]])[]>> = {
    'felix-agent/defaults/cluster-defaults.ts': [
      ['create', [...defaultSettings().map(({ kind }) => kind), 'IPPool', 'ClusterInformation']],
    ],
    'felix-agent/cni-server/pod-lookup.ts': [['get', ['Namespace', 'ServiceAccount']]],
    'ipam/two-step-delete.ts': [
      ['update', ['IPAMBlock', 'BlockAffinity', 'IPAMHandle']],
      ['delete', ['IPAMBlock', 'BlockAffinity', 'IPAMHandle']],
    ],
  };

  const used = new Map<string, string>();
  for (const kind of watchedKinds) {
    used.set(`list ${kind}`, 'the informers');
    used.set(`watch ${kind}`, 'the informers');
  }
  for (const [file, rights] of Object.entries(byVariable)) {
    for (const [verb, names] of rights) for (const kind of names) used.set(`${verb} ${kind}`, file);
  }
  for (const dir of ['felix-agent', 'ipam']) {
    for (const name of readdirSync(root + dir, { recursive: true, encoding: 'utf8' })) {
      if (!name.endsWith('.ts') || name.includes('test')) continue;
      const source = readFileSync(`${root}${dir}/${name}`, 'utf8');
      for (const [, verb = '', kind] of source.matchAll(/atastore\s*\.(get|list|create|update|delete)\(\s*'(\w+)'/g)) {
        if (isKindName(kind)) used.set(`${verb} ${kind}`, `${dir}/${name}`);
      }
    }
  }
  // Made of Pods there: nobody asks the API for them.
  for (const verb of ['get', 'list', 'watch', 'create', 'update', 'delete']) used.delete(`${verb} WorkloadEndpoint`);

  test('everything that the agent does has its right', () => {
    expect([...used].filter(([right]) => !granted.has(right))).toEqual([]);
  });

  test('no right is unused', () => {
    expect([...granted].filter((right) => !used.has(right))).toEqual([]);
  });

  test('files whose kinds stand in variables are still there', () => {
    for (const file of Object.keys(byVariable)) expect(readFileSync(root + file, 'utf8')).toMatch(/atastore\s*\.\w+\(/);
  });

  test('no secrets, no wildcards, no ConfigMap or Lease of the whole cluster, nothing said twice', () => {
    const roles = objectsOf('tortie.yaml').filter(({ rules }) => rules !== undefined);
    expect(roles.map(({ kind, metadata }) => [kind, metadata.namespace])).toEqual([
      ['ClusterRole', undefined],
      ['Role', 'kube-system'],
    ]);
    const texts = roles.flatMap(({ rules = [] }) => rules.map((rule) => JSON.stringify(rule)));
    expect(texts.filter((text) => /secret|\*|token|impersonate|escalate|bind/.test(text))).toEqual([]);
    const cluster = roles[0]?.rules?.flatMap(({ resources }) => resources) ?? [];
    expect(cluster).not.toContain('configmaps');
    expect(cluster).not.toContain('leases');
    const pairs = roles[0]?.rules?.flatMap(({ apiGroups, resources }) =>
      resources.map((name) => `${apiGroups.join()}/${name}`),
    );
    expect(pairs?.length).toBe(new Set(pairs).size);
    for (const { reason } of access) expect(reason.length).toBeGreaterThan(20);
  });
});

describe('manifests', () => {
  test('bring every definition but the one that is not ours, and no custom resource', () => {
    const objects = objectsOf('tortie.yaml');
    const definitions = objects
      .filter(({ kind }) => kind === 'CustomResourceDefinition')
      .map(({ metadata }) => metadata.name);
    const v3 = Object.values(kinds).filter(({ apiVersion }) => apiVersion === 'projectcalico.org/v3');
    expect(definitions.toSorted()).toEqual(v3.map(({ plural }) => `${plural}.projectcalico.org`).toSorted());
    expect(objects.filter(({ apiVersion }) => apiVersion.startsWith('projectcalico.org'))).toEqual([]);
    expect(objectsOf('tortie-clusternetworkpolicy-crd.yaml').map(({ metadata }) => metadata.name)).toEqual([
      'clusternetworkpolicies.policy.networking.k8s.io',
    ]);
  });

  test('name one image, which is never another', () => {
    const images = [...files.values()].flatMap((text) => [...text.matchAll(/image: (.*)/g)].map(([, name]) => name));
    expect(new Set(images)).toEqual(new Set([image]));
    expect([...files.values()].join('').match(/imagePullPolicy: (?!IfNotPresent)/)).toBeNull();
  });

  test('every object is namespaced where its kind is, in kube-system', () => {
    const clusterWide = new Set(['CustomResourceDefinition', 'ClusterRole', 'ClusterRoleBinding']);
    for (const object of [...files.keys()].flatMap(objectsOf)) {
      expect([object.kind, object.metadata.namespace]).toEqual([
        object.kind,
        clusterWide.has(object.kind) ? undefined : 'kube-system',
      ]);
    }
  });
});

describe('the DaemonSets', () => {
  interface Container {
    readonly name: string;
    readonly securityContext?: { readonly privileged?: boolean };
    readonly volumeMounts?: readonly object[];
    readonly startupProbe?: { readonly httpGet: { readonly port: number } };
    readonly livenessProbe?: { readonly httpGet: { readonly port: number } };
    readonly readinessProbe?: { readonly httpGet: { readonly port: number } };
  }
  const containers = ['tortie.yaml', 'tortie-uninstall.yaml'].flatMap((file) =>
    objectsOf(file)
      .filter(({ kind }) => kind === 'DaemonSet')
      .flatMap((object) => {
        const { template } = (object as unknown as { spec: { template: { spec: Record<string, Container[]> } } }).spec;
        return [...(template.spec['initContainers'] ?? []), ...(template.spec['containers'] ?? [])];
      }),
  );

  test('are privileged where they touch the node (SELinux refuses others), and only there', () => {
    const states = containers.map(({ name, securityContext, volumeMounts = [] }) => [
      name,
      securityContext?.privileged === true,
      volumeMounts.length > 0,
    ]);
    expect(states).toEqual([
      ['install', true, true],
      ['agent', true, true],
      ['cleanup', true, true],
      ['done', false, false],
    ]);
  });

  test('ask for health where an agent without settings serves it', () => {
    const agent = containers.find(({ name }) => name === 'agent');
    const { healthEnabled, healthPort } = resolveAgentConfig({}, undefined, undefined).settings;
    expect(healthEnabled).toBe(true);
    for (const probe of [agent?.startupProbe, agent?.livenessProbe, agent?.readinessProbe]) {
      expect(probe?.httpGet.port).toBe(healthPort);
    }
  });
});

test('a comment on a field that is not there is an error', () => {
  expect(() => render({ object: { a: [1] }, comments: new Map([[['b'], 'why']]) })).toThrow('no field b');
  expect(render({ object: { a: { b: [{ c: 1 }] } }, comments: new Map([[['a', 'b', 0], 'why']]) })).toBe(
    'a:\n  b:\n    # why\n    - c: 1\n',
  );
});
