import { beforeEach, describe, expect, test } from '@jest/globals';
import { parseAs, type KindMap } from '#api/kinds.ts';
import type { DataplaneUpdate, WorkloadEndpointInfo } from '#dataplanes/messages.ts';
import type { HostEndpointInfo } from '#dataplanes/policy.ts';
import { CalcGraph } from './calc-graph.ts';
import { convertPolicy } from './convert/convert.ts';
import { ModelDataplane } from './model-for-tests.ts';
import { give, self } from './world-for-tests.ts';

const v3 = 'projectcalico.org/v3';
let graph: CalcGraph;
let model: ModelDataplane;
beforeEach(() => {
  graph = new CalcGraph(self);
  model = new ModelDataplane();
});

/** Gives an object as YAML has it. */
function put(kind: keyof KindMap, metadata: object, body: object = {}, as: 'local' | keyof KindMap = kind): void {
  const { object } = parseAs(kind, {
    apiVersion: kind === 'KubernetesNetworkPolicy' ? 'networking.k8s.io/v1' : core.has(kind) ? 'v1' : v3,
    kind: kind === 'KubernetesNetworkPolicy' ? 'NetworkPolicy' : kind,
    metadata,
    ...body,
  });
  give(graph, { kind: as, object, isPresent: true });
}
const core = new Set<keyof KindMap>(['Pod', 'Namespace', 'ServiceAccount']);

function take(kind: keyof KindMap, metadata: { readonly name: string; readonly namespace?: string }): void {
  give(graph, { kind, object: { metadata } as never, isPresent: false });
}

/** A pod of this node, wired. */
function localPod(name: string, labels: Readonly<Record<string, string>> = {}, address = '10.0.0.1'): string {
  put('Pod', { name, namespace: 'default', labels }, { spec: { nodeName: self } });
  localEndpoint(name, address, { pod: name, profiles: ['kns.default', 'ksa.default.default'] });
  return `k8s/default/${name}/eth0`;
}

function localEndpoint(
  name: string,
  address: string,
  spec: { readonly pod?: string; readonly profiles: readonly string[] },
) {
  const orchestrator = spec.pod === undefined ? 'cni' : 'k8s';
  put(
    'WorkloadEndpoint',
    { name: `me-${orchestrator}-${name}-eth0`, namespace: 'default' },
    {
      spec: {
        orchestrator,
        workload: name,
        node: self,
        containerID: name,
        endpoint: 'eth0',
        ipNetworks: [`${address}/32`],
        interfaceName: `cali${name}`,
        ...spec,
      },
    },
    'local',
  );
}

const policy = (name: string, spec: object) => put('NetworkPolicy', { name, namespace: 'default' }, { spec });
const globalPolicy = (name: string, spec: object) => put('GlobalNetworkPolicy', { name }, { spec });

function flush(): readonly DataplaneUpdate[] {
  const updates = graph.flush();
  model.tell(updates);
  return updates;
}
const endpoint = (id: string): WorkloadEndpointInfo => model.state().endpoints[id]!;
const host = (name: string): HostEndpointInfo => model.state().hostEndpoints[name]!;

describe('messages', () => {
  test('come in an order in which everything is known when it is referred to, and go the other way round', () => {
    const id = localPod('web', { app: 'web' });
    put('HostEndpoint', { name: 'h', labels: { app: 'web' } }, { spec: { node: self, interfaceName: 'eth0' } });
    globalPolicy('p', { selector: "app == 'web'", ingress: [{ action: 'Allow', source: { selector: 'all()' } }] });
    graph.onInSync();
    const kinds = (updates: readonly DataplaneUpdate[]) => [...new Set(updates.map(({ type }) => type))];
    expect(kinds(flush())).toEqual([
      'ipSetUpdate',
      'profileUpdate',
      'policyUpdate',
      'workloadEndpointUpdate',
      'hostEndpointUpdate',
      'inSync',
    ]);
    graph.onLocalEndpoint(id, undefined);
    take('HostEndpoint', { name: 'h' });
    expect(kinds(flush())).toEqual([
      'workloadEndpointRemove',
      'hostEndpointRemove',
      'policyRemove',
      'profileRemove',
      'ipSetRemove',
    ]);
  });

  test('a policy that takes over the sets of another costs no set', () => {
    localPod('web', { app: 'web' });
    const spec = { selector: 'all()', ingress: [{ action: 'Allow', source: { selector: "app == 'web'" } }] };
    policy('a', spec);
    flush();
    take('NetworkPolicy', { name: 'a', namespace: 'default' });
    policy('b', spec);
    expect(flush().map(({ type }) => type)).toEqual(['policyUpdate', 'workloadEndpointUpdate', 'policyRemove']);
  });

  test('a policy that goes and comes back says nothing', () => {
    localPod('web');
    policy('a', { selector: 'all()' });
    flush();
    take('NetworkPolicy', { name: 'a', namespace: 'default' });
    policy('a', { selector: 'all()' });
    expect(flush()).toEqual([]);
  });

  test('a policy that selects nothing here is not announced, nor are its sets', () => {
    localPod('web');
    policy('a', { selector: "app == 'nobody'", ingress: [{ action: 'Allow', source: { selector: 'all()' } }] });
    expect(flush().filter(({ type }) => type === 'policyUpdate' || type === 'ipSetUpdate')).toEqual([]);
  });
});

describe('the tiers of an endpoint', () => {
  test('are in order, and list a policy in the directions that it has', () => {
    const id = localPod('web');
    put('Tier', { name: 'late' }, { spec: { order: 2_000_000, defaultAction: 'Pass' } });
    put('Tier', { name: 'early' }, { spec: { order: 1 } });
    policy('late.x', { tier: 'late', types: ['Egress'] });
    policy('b', { order: 2, types: ['Ingress', 'Egress'] });
    policy('c', { order: 1 });
    policy('a', { order: 2, types: ['Egress'] });
    policy('none', {});
    policy('early.x', { tier: 'early', types: ['Ingress'] });
    flush();
    const np = (name: string) => `NetworkPolicy default/${name}`;
    expect(endpoint(id).tiers).toEqual([
      { name: 'early', defaultAction: 'deny', ingress: [np('early.x')], egress: [] },
      {
        name: 'default',
        defaultAction: 'deny',
        ingress: [np('c'), np('b'), np('none')],
        egress: [np('a'), np('b')],
      },
      { name: 'late', defaultAction: 'pass', ingress: [], egress: [np('late.x')] },
    ]);
  });

  test('follow a change of an order, of a policy and of a tier', () => {
    const id = localPod('web');
    put('Tier', { name: 'other' }, { spec: { order: 1 } });
    policy('a', { order: 1, types: ['Ingress'] });
    policy('b', { order: 2, types: ['Ingress'] });
    policy('other.x', { tier: 'other', types: ['Ingress'] });
    flush();
    policy('a', { order: 3, types: ['Ingress'] });
    expect(flush().map(({ type }) => type)).toEqual(['workloadEndpointUpdate']);
    expect(endpoint(id).tiers[1]?.ingress).toEqual(['NetworkPolicy default/b', 'NetworkPolicy default/a']);
    put('Tier', { name: 'other' }, { spec: { order: 3_000_000, defaultAction: 'Pass' } });
    flush();
    expect(endpoint(id).tiers.map(({ name, defaultAction }) => `${name} ${defaultAction}`)).toEqual([
      'default deny',
      'other pass',
    ]);
  });

  test('put a tier that does not exist last, and let it deny', () => {
    const id = localPod('web');
    policy('nowhere.x', { tier: 'nowhere', types: ['Ingress'] });
    policy('a', { types: ['Ingress'] });
    put('Tier', { name: 'unordered' }, {});
    policy('unordered.x', { tier: 'unordered', types: ['Ingress'] });
    flush();
    expect(endpoint(id).tiers.map(({ name, defaultAction }) => `${name} ${defaultAction}`)).toEqual([
      'default deny',
      'unordered deny',
      'nowhere deny',
    ]);
  });

  test('of a host tell ordinary, forwarded, preDNAT and untracked policies apart; a workload has no untracked ones', () => {
    const id = localPod('web');
    put('HostEndpoint', { name: 'h' }, { spec: { node: self, interfaceName: '*' } });
    put('HostEndpoint', { name: 'far' }, { spec: { node: 'other', interfaceName: '*' } });
    const both = ['Ingress', 'Egress'];
    globalPolicy('plain', { types: both });
    globalPolicy('forward', { types: both, applyOnForward: true });
    globalPolicy('predn', { types: ['Ingress'], applyOnForward: true, preDNAT: true });
    globalPolicy('raw', { types: both, applyOnForward: true, doNotTrack: true });
    flush();
    const lists = (names: readonly string[], egress = names) => [
      {
        name: 'default',
        defaultAction: 'deny',
        ingress: names.map((name) => `GlobalNetworkPolicy ${name}`),
        egress: egress.map((name) => `GlobalNetworkPolicy ${name}`),
      },
    ];
    expect(Object.keys(model.state().hostEndpoints)).toEqual(['h']);
    expect(host('h')).toEqual({
      ifaceName: '*',
      expectedIps: [],
      profiles: [],
      tiers: lists(['forward', 'plain']),
      forwardTiers: lists(['forward']),
      preDnatTiers: lists(['predn'], []),
      untrackedTiers: lists(['raw']),
    });
    expect(endpoint(id).tiers).toEqual(lists(['forward', 'plain']));
    take('HostEndpoint', { name: 'h' });
    flush();
    expect(Object.keys(model.state().policies).sort()).toEqual([
      'GlobalNetworkPolicy forward',
      'GlobalNetworkPolicy plain',
    ]);
  });
});

test('a policy that begins or ceases to be for hosts only keeps its selector and changes its endpoints', () => {
  const id = localPod('web');
  globalPolicy('a', { types: ['Ingress'], applyOnForward: true, doNotTrack: true });
  flush();
  expect(endpoint(id).tiers).toEqual([]);
  globalPolicy('a', { types: ['Ingress'], applyOnForward: true });
  flush();
  expect(endpoint(id).tiers).toHaveLength(1);
  globalPolicy('a', { types: ['Ingress'], applyOnForward: true, doNotTrack: true });
  expect(flush().map(({ type }) => type)).toEqual(['workloadEndpointUpdate', 'policyRemove']);
});

describe('labels', () => {
  test("a namespace's labels reach its pods and network sets, under their prefix, and only them", () => {
    localPod('target', { app: 'target' });
    policy('a', {
      selector: "app == 'target'",
      ingress: [{ action: 'Allow', source: { namespaceSelector: "team == 'x'", selector: 'all()' } }],
    });
    const other = (name: string, namespace: string, ip: string) =>
      put('Pod', { name, namespace }, { spec: { nodeName: 'other' }, status: { podIPs: [{ ip }] } });
    other('p', 'red', '10.1.0.1');
    other('p', 'blue', '10.2.0.1');
    put('NetworkSet', { name: 'n', namespace: 'red' }, { spec: { nets: ['192.0.2.0/24'] } });
    flush();
    const [set] = Object.keys(model.state().sets);
    put('Namespace', { name: 'red', labels: { team: 'x' } });
    expect(flush()).toEqual([{ type: 'ipSetDelta', id: set, added: ['10.1.0.1/32', '192.0.2.0/24'], removed: [] }]);
    put('Namespace', { name: 'red', labels: { team: 'y' } });
    put('Namespace', { name: 'blue', labels: { team: 'x' } });
    flush();
    expect(model.state().sets[set!]?.members).toEqual(['10.2.0.1/32']);
  });

  test('a pod can’t say that it belongs elsewhere', () => {
    const id = localPod('liar', {
      'projectcalico.org/namespace': 'kube-system',
      'pcns.projectcalico.org/name': 'kube-system',
    });
    globalPolicy('a', { namespaceSelector: "projectcalico.org/name == 'kube-system'" });
    put('NetworkPolicy', { name: 'b', namespace: 'kube-system' }, { spec: { selector: 'all()' } });
    flush();
    expect(endpoint(id).tiers).toEqual([]);
  });
});

describe('profiles', () => {
  test('of a pod exist without its Namespace and ServiceAccount; the namespace’s allows, the account’s has no rules', () => {
    const id = localPod('web');
    flush();
    expect(endpoint(id).profiles).toEqual(['kns.default', 'ksa.default.default']);
    const { profiles } = model.state();
    expect(profiles['kns.default']).toMatchObject({ ingress: [{ action: 'allow' }], egress: [{ action: 'allow' }] });
    expect(profiles['ksa.default.default']).toEqual({ ingress: [], egress: [] });
    put('Namespace', { name: 'default', labels: { a: 'b' } });
    put('ServiceAccount', { name: 'default', namespace: 'default' });
    expect(flush()).toEqual([]);
  });

  test('of a container: its network allows everything, until a Profile of its name says something else', () => {
    localEndpoint('c1', '10.0.0.1', { profiles: ['net1'] });
    flush();
    const { profiles } = model.state();
    expect(profiles['net1']).toMatchObject({ ingress: [{ action: 'allow' }], egress: [{ action: 'allow' }] });
    expect(profiles['net1']?.ingress[0]?.source.sets).toEqual([]);
    put('Profile', { name: 'net1' }, { spec: { ingress: [{ action: 'Deny' }] } });
    flush();
    expect(model.state().profiles['net1']).toMatchObject({ ingress: [{ action: 'deny' }], egress: [] });
    expect(model.state().sets).toEqual({});
  });

  test('that nobody defines are never announced, so that they deny', () => {
    put('HostEndpoint', { name: 'h' }, { spec: { node: self, interfaceName: 'eth0', profiles: ['nobody'] } });
    flush();
    expect(host('h').profiles).toEqual(['nobody']);
    expect(model.state().profiles).toEqual({});
    put('Profile', { name: 'nobody' }, { spec: { ingress: [{ action: 'Allow' }] } });
    expect(flush().map(({ type }) => type)).toEqual(['profileUpdate']);
    take('Profile', { name: 'nobody' });
    expect(flush().map(({ type }) => type)).toEqual(['profileRemove']);
  });

  test('called kns or ksa can’t be written by hand', () => {
    localPod('web');
    flush();
    put('Profile', { name: 'kns.default' }, { spec: { ingress: [{ action: 'Deny' }] } });
    expect(flush()).toEqual([]);
  });
});

test("the services' ranges are those of the BGPConfiguration called default", () => {
  const ranges = (name: string, ...cidrs: string[]) =>
    put('BGPConfiguration', { name }, { spec: { serviceClusterIPs: cidrs.map((cidr) => ({ cidr })) } });
  ranges('node.me', '192.0.2.0/24');
  expect(flush()).toEqual([]);
  ranges('default', 'fd00::/112', '10.96.0.0/12', '10.96.0.0/12');
  expect(flush()).toEqual([{ type: 'serviceRangesUpdate', cidrs: ['10.96.0.0/12', 'fd00::/112'] }]);
  take('BGPConfiguration', { name: 'default' });
  expect(flush()).toEqual([{ type: 'serviceRangesUpdate', cidrs: [] }]);
});

test('what could not be converted is told by object', () => {
  const { object } = parseAs('GlobalNetworkPolicy', {
    apiVersion: v3,
    kind: 'GlobalNetworkPolicy',
    metadata: { name: 'a' },
    spec: {},
  });
  const converted = convertPolicy('GlobalNetworkPolicy', object)!;
  graph.onPolicy('GlobalNetworkPolicy a', { ...converted, problems: ['ingress rule 0 is left out'] });
  expect([...graph.problems()]).toEqual([['GlobalNetworkPolicy a', ['ingress rule 0 is left out']]]);
  graph.onPolicy('GlobalNetworkPolicy a', converted);
  expect(graph.problems().size).toBe(0);
});

test('the counts are those of the cluster and of this node', () => {
  localPod('web', { app: 'web' });
  put('Pod', { name: 'far', namespace: 'default' }, { spec: { nodeName: 'other' } });
  put('HostEndpoint', { name: 'h' }, { spec: { node: self, interfaceName: 'eth0' } });
  put('HostEndpoint', { name: 'far' }, { spec: { node: 'other', interfaceName: 'eth0' } });
  put('Namespace', { name: 'default' });
  put('Tier', { name: 'mine' }, { spec: { order: 1 } });
  policy('a', { selector: "app == 'web'", ingress: [{ action: 'Allow', source: { selector: 'all()' } }] });
  policy('b', { selector: "app == 'nobody'" });
  graph.onNode(self, parseAs('Node', { apiVersion: 'v1', kind: 'Node', metadata: { name: self } }).object);
  flush();
  expect(graph.stats()).toEqual({
    activeLocalEndpoints: 2,
    activePolicies: 1,
    activeSelectors: 1,
    hosts: 1,
    workloadEndpoints: 2,
    hostEndpoints: 2,
    policies: 2,
    profiles: 1,
    tiers: 4,
  });
});

test('a set of many members is not looked through when one of them changes', () => {
  localPod('web');
  policy('a', { ingress: [{ action: 'Allow', source: { selector: 'has(big)', namespaceSelector: 'global()' } }] });
  const nets = Array.from({ length: 20_000 }, (_, index) => `10.${index >> 8}.${index & 255}.0/24`);
  put('GlobalNetworkSet', { name: 'big', labels: { big: '' } }, { spec: { nets } });
  flush();
  put('GlobalNetworkSet', { name: 'small', labels: { big: '' } }, { spec: { nets: ['192.0.2.0/24', nets[0]] } });
  expect(flush()).toMatchObject([{ type: 'ipSetDelta', added: ['192.0.2.0/24'], removed: [] }]);
  take('GlobalNetworkSet', { name: 'small' });
  expect(flush()).toMatchObject([{ type: 'ipSetDelta', added: [], removed: ['192.0.2.0/24'] }]);
});
