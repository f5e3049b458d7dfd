/** The whole way without a kernel: text of a user's file, objects or what stands in for them, conversion, messages, a verdict. */
import { describe, expect, test } from '@jest/globals';
import { parseUserFile } from '#datastore/files/user-file.ts';
import { CalcGraph } from '../calc/calc-graph.ts';
import { give, self } from '../calc/world-for-tests.ts';
import { DesiredState } from '../driver/desired-state.ts';
import type { Party } from './directory.ts';
import { explain, type Explanation } from './explain.ts';

const pod = (namespace: string, name: string, address: string, labels: string) => `
apiVersion: v1
kind: Pod
metadata: {namespace: ${namespace}, name: ${name}, labels: ${labels}}
spec:
  nodeName: ${self}
  serviceAccountName: ${name}
  containers: [{name: c, ports: [{name: http, containerPort: 80}, {name: dns, containerPort: 53, protocol: UDP}]}]
status: {podIPs: [{ip: ${address}}]}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {namespace: ${namespace}, name: ${self}-k8s-${name}-eth0}
spec:
  orchestrator: k8s
  workload: ${name}
  pod: ${name}
  node: ${self}
  containerID: ${name}
  endpoint: eth0
  serviceAccountName: ${name}
  ipNetworks: [${address}/32]
  interfaceName: cali${name}
  profiles: [kns.${namespace}, ksa.${namespace}.${name}]
`;

const world = `
apiVersion: v1
kind: Namespace
metadata: {name: front, labels: {team: x}}
---
apiVersion: v1
kind: Namespace
metadata: {name: back}
---
apiVersion: v1
kind: ServiceAccount
metadata: {namespace: front, name: client, labels: {role: reader}}
---${pod('front', 'client', '10.0.0.1', '{app: client}')}
---${pod('back', 'web', '10.0.0.2', '{app: web}')}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: office, labels: {site: office}}
spec: {nets: [192.0.2.0/24]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: back, name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.2]}]
ports: [{port: 80}]
`;

const parties: Readonly<Record<string, Party>> = {
  client: { name: 'client', kind: 'local endpoint', endpoint: 'k8s/front/client/eth0', addresses: ['10.0.0.1'] },
  web: { name: 'web', kind: 'local endpoint', endpoint: 'k8s/back/web/eth0', addresses: ['10.0.0.2'] },
  office: { name: 'office', kind: 'outside', addresses: ['192.0.2.1'] },
  world: { name: 'world', kind: 'outside', addresses: ['198.51.100.1'] },
};

/** `client web tcp 80` and such. */
function verdict(yaml: string, question: string): Explanation['verdict'] {
  const graph = new CalcGraph(self);
  const state = new DesiredState();
  for (const { kind, content } of parseUserFile('/a.yaml', `${world}---\n${yaml}`).claims) {
    const object = content.object ?? content.replacement?.object;
    if (object === undefined) continue;
    give(graph, { kind, object, isPresent: true });
    if (kind === 'WorkloadEndpoint') give(graph, { kind: 'local', object, isPresent: true });
  }
  graph.onInSync();
  for (const update of graph.flush()) state.record(update);
  const [source = '', destination = '', protocol = '', port] = question.split(' ');
  const request = { source, destination, protocol, ...(port === undefined ? {} : { port }) };
  return explain(request, { find: (text) => parties[text] as Party }, state).verdict;
}

const v3 = (kind: string, name: string, spec: string) =>
  `apiVersion: projectcalico.org/v3\nkind: ${kind}\nmetadata: {name: ${name}${kind.startsWith('Global') || kind.startsWith('StagedGlobal') ? '' : ', namespace: back'}}\nspec: ${spec}\n`;
const network = (spec: string) => v3('NetworkPolicy', 'p', spec);
const global = (spec: string) => v3('GlobalNetworkPolicy', 'p', spec);
const kubernetes = (spec: string) =>
  `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: back}\nspec: ${spec}\n`;
const cluster = (spec: string) =>
  `apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: p}\nspec: ${spec}\n`;
const allowAll = kubernetes('{podSelector: {}, ingress: [{}], egress: [{}]}').replace('name: p', 'name: open');

describe('a policy that can not be used denies', () => {
  test.each([
    ['NetworkPolicy', network('{selector: app == "web", ingress: [{action: Alow}]}')],
    ['GlobalNetworkPolicy', global('{selector: app == "web", order: x, ingress: [{action: Allow}]}')],
    [
      'Kubernetes NetworkPolicy',
      kubernetes('{podSelector: {matchExpressions: null}, ingress: [{ports: [{port: 0}]}]}'),
    ],
    [
      'ClusterNetworkPolicy',
      `${cluster('{tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{}]}')}---\n${allowAll}`,
    ],
    [
      'ClusterNetworkPolicy of an unreadable tier',
      `${cluster('{tier: {toString: 1}, priority: 1, subject: {namespaces: {}}, ingress: [{action: Accept, from: [{namespaces: {}}]}]}')}---\n${allowAll}`,
    ],
    [
      'NetworkPolicy of types that are no text',
      network('{selector: app == "web", types: [{toString: 1}], ingress: [{action: Allow}]}'),
    ],
  ])('%s', (_kind, yaml) => {
    expect(verdict(yaml, 'client web tcp 80')).toBe('deny');
  });
});

const cases: readonly (readonly [yaml: string, allowed: string[], denied: string[]])[] = [
  ['', ['client web tcp 80', 'world web tcp 80', 'web world udp 53'], []],
  // A list of peers that is empty or absent is everybody; a list of rules that is, nobody.
  [kubernetes('{podSelector: {}, ingress: []}'), ['web world tcp 1'], ['client web tcp 80', 'world web tcp 80']],
  [kubernetes('{podSelector: {}, ingress: [{from: []}]}'), ['client web tcp 80', 'world web icmp'], []],
  [
    kubernetes('{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}'),
    [],
    ['client web tcp 80', 'world web tcp 80'],
  ],
  [kubernetes('{podSelector: {}, policyTypes: [Egress]}'), ['client web tcp 80'], ['web world tcp 80']],
  [kubernetes('{podSelector: {}, egress: [{}]}'), ['web world tcp 80'], ['client web tcp 80']],
  [
    kubernetes('{podSelector: {}, ingress: [{ports: [{port: http}]}]}'),
    ['world web tcp 80'],
    ['world web tcp 81', 'world web udp 80'],
  ],
  [
    kubernetes('{podSelector: {}, ingress: [{ports: [{protocol: UDP}, {port: 81, endPort: 90}, {port: 85}]}]}'),
    ['world web udp 1', 'world web tcp 90'],
    ['world web tcp 80', 'world web icmp', 'world web sctp 85'],
  ],
  // What has no label is NotIn any list; what has no team at all is no member of one.
  [
    kubernetes(
      '{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [y]}]}}]}]}',
    ),
    ['client web tcp 80'],
    ['world web tcp 80'],
  ],
  [
    kubernetes(
      '{podSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}]}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: DoesNotExist}]}}]}]}',
    ),
    [],
    ['client web tcp 80'],
  ],
  [
    kubernetes(
      '{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: front}}, podSelector: {matchLabels: {app: client}}}]}]}',
    ),
    ['client web tcp 80'],
    ['office web tcp 80'],
  ],
  [
    kubernetes('{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.7/16, except: [192.0.2.0/24]}}]}]}'),
    [],
    ['office web tcp 80', 'client web tcp 80'],
  ],
  [
    kubernetes('{podSelector: {}, ingress: [{form: [{podSelector: {}}]}]}'),
    [],
    ['client web tcp 80', 'world web tcp 80'],
  ],
  // projectcalico.org/v3: peers of its own namespace unless a namespaceSelector says more.
  [network('{ingress: [{action: Allow, source: {selector: app == "client"}}]}'), [], ['client web tcp 80']],
  [
    network('{ingress: [{action: Allow, source: {selector: app == "client", namespaceSelector: all()}}]}'),
    ['client web tcp 80'],
    ['office web tcp 80'],
  ],
  [
    network('{ingress: [{action: Allow, source: {namespaceSelector: (all() && !has(zone)) || zone == "z"}}]}'),
    ['client web tcp 80'],
    ['office web tcp 80'],
  ],
  [
    network('{ingress: [{action: Allow, source: {namespaceSelector: global(), selector: has(site)}}]}'),
    ['office web tcp 80'],
    ['client web tcp 80', 'world web tcp 80'],
  ],
  [
    network(
      '{ingress: [{action: Allow, source: {serviceAccounts: {selector: role == "reader"}, namespaceSelector: team == "x"}}]}',
    ),
    ['client web tcp 80'],
    ['office web tcp 80'],
  ],
  [network('{ingress: [{action: Allow, source: {serviceAccounts: {names: [client]}}}]}'), [], ['client web tcp 80']],
  [
    network('{ingress: [{action: Allow, destination: {ports: [http]}}]}'),
    ['client web tcp 80'],
    ['client web tcp 81', 'client web udp 80'],
  ],
  [
    network('{ingress: [{action: Allow, protocol: UDP, destination: {ports: [dns, 5353]}}]}'),
    ['client web udp 53', 'client web udp 5353'],
    ['client web tcp 53', 'client web udp 80'],
  ],
  [
    network('{ingress: [{action: Allow, protocol: TCP, destination: {notPorts: [http]}}]}'),
    ['client web tcp 81'],
    ['client web tcp 80'],
  ],
  [network('{types: [Ingress, Egress]}'), [], ['client web tcp 80', 'web world tcp 80']],
  [
    network('{egress: [{action: Deny}], types: [Ingress], ingress: [{action: Allow}]}'),
    ['client web tcp 80', 'web world tcp 80'],
    [],
  ],
  [
    network('{ingress: [{action: Allow, notICMP: {type: 8}}]}'),
    ['client web tcp 80', 'client web icmp 0'],
    ['client web icmp 8'],
  ],
  [network('{ingress: [{action: Allow, protocol: ICMP, icmp: {type: 8, code: 1}}]}'), [], ['client web icmp 8']],
  [
    network('{ingress: [{action: Allow, source: {notNets: [192.0.2.0/24]}}]}'),
    ['client web tcp 80'],
    ['office web tcp 80'],
  ],
  [network('{ingress: [{action: Allow, protocol: TCP, http: {methods: [GET]}}]}'), [], ['client web tcp 80']],
  [
    global(
      '{namespaceSelector: team == "x", egress: [{action: Allow, destination: {services: {name: web, namespace: back}}}]}',
    ),
    ['client web tcp 80'],
    ['client web tcp 81', 'client world tcp 80'],
  ],
  [
    global('{selector: app == "web", ingress: [{action: Allow, source: {notSelector: has(app)}}]}'),
    ['world web tcp 80', 'office web tcp 80'],
    ['client web tcp 80'],
  ],
  [
    global(
      '{selector: all(), namespaceSelector: has(team), serviceAccountSelector: role == "reader", types: [Egress]}',
    ),
    ['web world tcp 80'],
    ['client world tcp 80'],
  ],
  // Tiers: pass from the last one goes to the profiles, staged policies decide nothing, a tier that does not exist denies last.
  [
    network('{ingress: [{action: Pass, source: {nets: [192.0.2.0/24]}}]}'),
    ['office web tcp 80'],
    ['client web tcp 80'],
  ],
  [v3('StagedNetworkPolicy', 'p', '{ingress: [{action: Deny}]}'), ['client web tcp 80'], []],
  [
    v3('GlobalNetworkPolicy', 'p', '{tier: nowhere, selector: app == "web", types: [Ingress]}'),
    [],
    ['client web tcp 80'],
  ],
  [
    `${allowAll}---\n${v3('GlobalNetworkPolicy', 'p', '{tier: nowhere, selector: app == "web", types: [Ingress]}')}`,
    ['client web tcp 80'],
    [],
  ],
  // ClusterNetworkPolicy: Admin before and Baseline after what namespaces say; what no rule decides passes.
  [
    `${allowAll}---\n${cluster('{tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {matchLabels: {team: x}}}], protocols: [{tcp: {destinationPort: {number: 80}}}]}]}')}`,
    ['client web tcp 81', 'world web tcp 80'],
    ['client web tcp 80'],
  ],
  [
    `${allowAll}---\n${cluster('{tier: Baseline, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}]}]}')}`,
    ['client web tcp 80'],
    [],
  ],
  [
    cluster(
      '{tier: Baseline, priority: 1, subject: {pods: {podSelector: {}}}, egress: [{action: Deny, to: [{networks: [192.0.2.0/24, "fd00::/8"]}]}]}',
    ),
    ['web world tcp 80'],
    ['web office tcp 80'],
  ],
  [
    cluster(
      '{tier: Admin, priority: 1, subject: {namespaces: {}}, egress: [{action: Accept, to: [{nodes: {}}]}, {action: Deny, to: [{nodes: {}}]}]}',
    ),
    ['world web tcp 80'],
    ['web world tcp 80'],
  ],
];

test.each(cases.map((row) => [titleOf(row[0]), row] as const))('%s', (_title, [yaml, allowed, denied]) => {
  const wrong = [
    ...allowed.filter((question) => verdict(yaml, question) !== 'allow').map((question) => `${question} is denied`),
    ...denied.filter((question) => verdict(yaml, question) !== 'deny').map((question) => `${question} is allowed`),
  ];
  expect(wrong).toEqual([]);
});

function titleOf(yaml: string): string {
  return yaml.match(/^(kind|spec): .*$/gm)?.join(' ') ?? 'no policy';
}
