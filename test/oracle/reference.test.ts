/** The oracle is trusted because of these: each rule of the policy model once, by hand. */
import { describe, expect, it } from '@jest/globals';
import { parseAllDocuments } from 'yaml';
import type { Doc } from './cluster.ts';
import type { Packet } from './policy-model.ts';
import { Reference } from './reference.ts';

const cluster = `
{apiVersion: v1, kind: Namespace, metadata: {name: red, labels: {env: prod}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: blue, labels: {env: dev}}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: robot, namespace: red, labels: {trust: high}}}
---
{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 172.31.0.11}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}, status: {addresses: [{type: InternalIP, address: 172.31.0.12}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: red, labels: {app: web, zone: a1}}
spec: {nodeName: n1, serviceAccountName: robot, containers: [{name: main, ports: [{name: http, containerPort: 8080}]}]}
status: {podIPs: [{ip: 10.65.0.1}, {ip: 'fd65::1'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: red, labels: {app: db}}
spec: {nodeName: n2, containers: [{name: main, ports: [{name: http, containerPort: 80}, {name: dns, containerPort: 53, protocol: UDP}]}]}
status: {podIPs: [{ip: 10.65.0.2}, {ip: 'fd65::2'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: blue, labels: {app: web}}
spec: {nodeName: n2, containers: [{name: main}]}
status: {podIPs: [{ip: 10.65.0.3}, {ip: 'fd65::3'}]}
---
apiVersion: projectcalico.org/v3
kind: NetworkSet
metadata: {name: office, namespace: red, labels: {zone: office}}
spec: {nets: [203.0.113.0/24]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: world, labels: {zone: office}}
spec: {nets: [198.51.100.0/24, '2001:db8::/32']}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: n1, labels: {app: web, host: 'yes'}}
spec: {node: n1, interfaceName: uplink, expectedIPs: [172.31.0.11], profiles: [projectcalico-default-allow]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: red, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints: [{addresses: [10.65.0.2], conditions: {ready: false}}]
ports: [{name: http, port: 80, protocol: TCP}]
`;

const addresses: Readonly<Record<string, string>> = {
  'red/web': '10.65.0.1',
  'red/db': '10.65.0.2',
  'blue/web': '10.65.0.3',
  'red/web6': 'fd65::1',
  'red/db6': 'fd65::2',
  'blue/web6': 'fd65::3',
  n1: '172.31.0.11',
  n2: '172.31.0.12',
  office: '203.0.113.5',
  world: '198.51.100.5',
  stranger: '192.0.2.5',
};
const protocols: Readonly<Record<string, number>> = { tcp: 6, udp: 17, icmp: 1, icmpv6: 58, sctp: 132, gre: 47 };

/** `red/web > red/db tcp 80`, `... tcp 80 from 4000`, `... icmp 8/0`. */
function packet(text: string): Packet {
  const [from = '', , to = '', protocol = '', target = '', , source] = text.split(' ');
  const [type, code] = target.split('/').map(Number);
  return {
    from: addresses[from] ?? from,
    to: addresses[to] ?? to,
    protocol: protocols[protocol] ?? Number(protocol),
    ...(protocol.startsWith('icmp') ? { icmp: { type: type ?? 0, code: code ?? 0 } } : {}),
    ...(target === '' || protocol.startsWith('icmp') ? {} : { port: Number(target) }),
    ...(source === undefined ? {} : { sourcePort: Number(source) }),
  };
}

const docsOf = (yaml: string): Doc[] => parseAllDocuments(yaml).map((document) => document.toJS() as Doc);

/** A NetworkPolicy of `red` that selects the db, or what `spec` says. */
function calico(spec: string, name = 'p'): string {
  return `{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {name: ${name}, namespace: red}, spec: {${spec}}}`;
}
function global(spec: string, name = 'g', kind = 'GlobalNetworkPolicy'): string {
  return `{apiVersion: projectcalico.org/v3, kind: ${kind}, metadata: {name: ${name}}, spec: {${spec}}}`;
}
function hostProfile(name: string, spec: string): string {
  return `{apiVersion: projectcalico.org/v3, kind: Profile, metadata: {name: ${name}}, spec: {${spec}}}`;
}
function tier(name: string, spec: string): string {
  return `{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: ${name}}, spec: {${spec}}}`;
}
function kubernetes(spec: string): string {
  return `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: k, namespace: red}, spec: {${spec}}}`;
}
function clusterPolicy(spec: string): string {
  return `{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {name: c}, spec: {${spec}}}`;
}
const db = `selector: app == 'db'`;
const allowFrom = (peer: string) => calico(`${db}, ingress: [{action: Allow, source: {${peer}}}]`);
const allowTo = (fields: string) => calico(`${db}, ingress: [{action: Allow, ${fields}}]`);

interface Row {
  readonly so: string;
  readonly with: readonly string[];
  readonly allowed: readonly string[];
  readonly denied: readonly string[];
}

const tiersAndOrder: readonly Row[] = [
  {
    so: 'without a policy everything is allowed',
    with: [],
    allowed: ['red/web > red/db tcp 80', 'blue/web > red/db udp 53', 'stranger > red/db icmp 8/0'],
    denied: [],
  },
  {
    so: 'a policy with types and no rules isolates that direction',
    with: [calico(`${db}, types: [Ingress]`)],
    allowed: ['red/db > red/web tcp 80', 'blue/web > red/web tcp 80'],
    denied: ['red/web > red/db tcp 80', 'stranger > red/db tcp 80'],
  },
  {
    so: 'without types a policy with egress rules governs egress only',
    with: [calico(`${db}, egress: [{action: Allow, protocol: TCP}]`)],
    allowed: ['red/db > red/web tcp 80', 'red/web > red/db udp 53'],
    denied: ['red/db > red/web udp 53'],
  },
  {
    so: 'without types and rules it governs ingress',
    with: [calico(db)],
    allowed: ['red/db > red/web tcp 80'],
    denied: ['red/web > red/db tcp 80'],
  },
  {
    so: 'a lower order comes first, and none last',
    with: [
      calico(`order: 20, ${db}, ingress: [{action: Allow}]`, 'a'),
      calico(`order: 10, ${db}, ingress: [{action: Deny, protocol: TCP}]`, 'b'),
      calico(`${db}, ingress: [{action: Deny}]`, 'c'),
    ],
    allowed: ['red/web > red/db udp 53'],
    denied: ['red/web > red/db tcp 80'],
  },
  {
    so: 'equal orders go by name',
    with: [
      calico(`order: 5, ${db}, ingress: [{action: Deny}]`, 'b'),
      calico(`order: 5, ${db}, ingress: [{action: Allow, protocol: TCP}]`, 'a'),
    ],
    allowed: ['red/web > red/db tcp 80'],
    denied: ['red/web > red/db udp 53'],
  },
  {
    so: 'names that begin alike go by what follows, before the end of the shorter one',
    with: [
      calico(`order: 5, ${db}, ingress: [{action: Deny}]`, 'a'),
      calico(`order: 5, ${db}, ingress: [{action: Allow, protocol: TCP}]`, 'a-b'),
      calico(`order: 5, ${db}, ingress: [{action: Allow, protocol: UDP}]`, 'a0'),
    ],
    allowed: ['red/web > red/db tcp 80'],
    denied: ['red/web > red/db udp 53'],
  },
  {
    so: 'equal names go by namespace, none first',
    with: [
      calico(`order: 5, ${db}, ingress: [{action: Deny}]`, 'x'),
      global(`order: 5, ${db}, ingress: [{action: Allow, protocol: TCP}]`, 'x'),
    ],
    allowed: ['red/web > red/db tcp 80'],
    denied: ['red/web > red/db udp 53'],
  },
  {
    so: 'a tier where something applies ends with its default action; one without an order is last but before an unknown one',
    with: [
      tier('first', 'order: 5, defaultAction: Pass'),
      tier('last', ''),
      global(`tier: first, ${db}, ingress: [{action: Deny, protocol: UDP}]`, 'a'),
      global(`tier: last, ${db}, ingress: [{action: Allow, protocol: TCP}]`, 'b'),
      global(`tier: nowhere, ${db}, ingress: [{action: Allow}]`, 'c'),
    ],
    allowed: ['red/web > red/db tcp 80'],
    denied: ['red/web > red/db udp 53', 'red/web > red/db icmp 8/0'],
  },
  {
    so: 'equal orders of tiers go by name',
    with: [
      tier('b', 'order: 5'),
      tier('a', 'order: 5'),
      global(`tier: b, ${db}, ingress: [{action: Allow}]`, 'x'),
      global(`tier: a, ${db}, ingress: [{action: Pass, protocol: TCP}]`, 'y'),
    ],
    allowed: ['red/web > red/db tcp 80'],
    denied: ['red/web > red/db udp 53'],
  },
  {
    so: 'an unknown tier denies at its end',
    with: [global(`tier: nowhere, ${db}, ingress: [{action: Allow, protocol: TCP}]`)],
    allowed: ['red/web > red/db tcp 80'],
    denied: ['red/web > red/db udp 53'],
  },
  {
    so: 'Pass goes to the next tier, after the last one to the profiles',
    with: [calico(`${db}, ingress: [{action: Pass, protocol: TCP}]`)],
    allowed: ['red/web > red/db tcp 80'],
    denied: ['red/web > red/db udp 53'],
  },
  {
    so: 'Pass skips the other policies of its tier',
    with: [
      calico(`order: 1, ${db}, ingress: [{action: Pass}]`, 'a'),
      calico(`order: 2, ${db}, ingress: [{action: Deny}]`, 'b'),
    ],
    allowed: ['red/web > red/db tcp 80'],
    denied: [],
  },
  {
    so: 'Log decides nothing',
    with: [calico(`${db}, ingress: [{action: Log}, {action: Allow, protocol: TCP}]`)],
    allowed: ['red/web > red/db tcp 80'],
    denied: ['red/web > red/db udp 53'],
  },
  {
    so: 'a staged policy decides nothing, and a tier of staged ones is skipped',
    with: [
      `{apiVersion: projectcalico.org/v3, kind: StagedNetworkPolicy, metadata: {name: s, namespace: red}, spec: {${db}, ingress: [{action: Deny}]}}`,
      global('ingress: [{action: Deny}]', 's', 'StagedGlobalNetworkPolicy'),
      `{apiVersion: projectcalico.org/v3, kind: StagedKubernetesNetworkPolicy, metadata: {name: s, namespace: red}, spec: {podSelector: {}}}`,
    ],
    allowed: ['red/web > red/db tcp 80'],
    denied: [],
  },
  {
    so: 'source egress and destination ingress must both allow',
    with: [
      calico(
        `selector: app == 'web', egress: [{action: Deny, destination: {ports: [80]}, protocol: TCP}, {action: Allow}]`,
      ),
    ],
    allowed: ['red/web > red/db tcp 81'],
    denied: ['red/web > red/db tcp 80'],
  },
  {
    so: 'a host always reaches its own pods, and only these',
    with: [calico(`${db}, types: [Ingress]`)],
    allowed: ['n2 > red/db tcp 80'],
    denied: ['n1 > red/db tcp 80'],
  },
  {
    so: 'a pod has its namespace and its account although nobody has seen these objects',
    with: [
      `{apiVersion: v1, kind: Pod, metadata: {name: lost, namespace: nowhere}, spec: {nodeName: n1}, status: {podIPs: [{ip: 10.65.0.9}]}}`,
      allowFrom(`namespaceSelector: projectcalico.org/name == 'nowhere', serviceAccounts: {names: [default]}`),
    ],
    allowed: ['red/web > 10.65.0.9 tcp 80', '10.65.0.9 > red/db tcp 80'],
    denied: ['red/web > red/db tcp 80'],
  },
];

const strict = `{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: n2, labels: {strict: 'yes'}}, spec: {node: n2, interfaceName: uplink}}`;
const hosts: readonly Row[] = [
  {
    so: 'a host endpoint denies what is from and to its host, and leaves alone what passes through',
    with: [strict],
    allowed: ['red/web > red/db tcp 80', 'blue/web > red/web tcp 80', 'n2 > red/db tcp 80', 'stranger > n1 tcp 80'],
    denied: ['stranger > n2 tcp 80', 'red/web > n2 tcp 80', 'n2 > red/web tcp 80', 'n1 > n2 tcp 80'],
  },
  {
    so: 'its policies allow, and what they pass on is up to its profiles',
    with: [
      strict,
      global(
        `selector: has(strict) || has(host), ingress: [{action: Allow, protocol: TCP}, {action: Pass, protocol: UDP}]`,
      ),
    ],
    allowed: ['stranger > n1 tcp 80', 'stranger > n2 tcp 80', 'stranger > n1 udp 1', 'n1 > stranger tcp 80'],
    denied: ['stranger > n2 udp 1', 'n2 > stranger tcp 80', 'stranger > n1 sctp 1'],
  },
  {
    so: 'profiles are asked in their order; one that passes or says nothing leaves it to the next, one that nobody has defined denies',
    with: [
      hostProfile('first', 'ingress: [{action: Pass, protocol: TCP}, {action: Deny, protocol: UDP}]'),
      hostProfile('second', 'ingress: [{action: Log}, {action: Allow}]'),
      strict.replace('uplink', 'uplink, profiles: [first, second, nobody]'),
    ],
    allowed: ['stranger > n2 tcp 80', 'stranger > n2 sctp 1'],
    denied: ['stranger > n2 udp 1', 'n2 > stranger tcp 80'],
  },
  {
    so: 'labels of profiles are inherited, the first one counts and its own before all',
    with: [
      hostProfile('first', 'labelsToApply: {strict: no, zone: a1}'),
      hostProfile('second', 'labelsToApply: {zone: a2, app: x}'),
      strict.replace('uplink', 'uplink, profiles: [first, second]'),
      global(`selector: strict == 'yes' && zone == 'a1' && app == 'x', ingress: [{action: Allow}]`),
    ],
    allowed: ['stranger > n2 tcp 80'],
    denied: ['n2 > stranger tcp 80'],
  },
  {
    so: 'what passes through meets policies that apply on forward, in both directions',
    with: [
      strict,
      global(
        `selector: has(strict), applyOnForward: true, types: [Ingress, Egress], ingress: [{action: Allow, protocol: TCP}], egress: [{action: Pass, protocol: UDP}]`,
      ),
      global(`selector: has(strict), types: [Ingress], ingress: [{action: Deny}]`, 'z'),
    ],
    allowed: ['stranger > red/db tcp 80', 'red/db > stranger udp 80', 'red/db > blue/web sctp 1'],
    denied: ['stranger > red/db udp 80', 'red/db > red/web tcp 80', 'red/web > red/db udp 80'],
  },
  {
    so: 'policies before translation and before tracking have another place; pods never meet them',
    with: [
      global(`selector: all(), applyOnForward: true, preDNAT: true, ingress: [{action: Deny}]`, 'a'),
      global(
        `selector: all(), applyOnForward: true, doNotTrack: true, ingress: [{action: Deny}], egress: [{action: Deny}]`,
        'b',
      ),
    ],
    allowed: ['red/web > red/db tcp 80', 'stranger > red/web tcp 80', 'stranger > n1 tcp 80'],
    denied: [],
  },
  {
    so: 'beside a namespaceSelector or a serviceAccountSelector all() leaves host endpoints alone; a negation does not',
    with: [
      strict,
      global(
        `selector: all(), serviceAccountSelector: trust != 'high', applyOnForward: true, ingress: [{action: Deny, protocol: TCP}, {action: Allow}]`,
        'a',
      ),
      global(
        `namespaceSelector: env != 'prod', selector: all(), applyOnForward: true, ingress: [{action: Deny, protocol: TCP}]`,
        'b',
      ),
      global(
        `selector: has(strict), serviceAccountSelector: trust != 'high', applyOnForward: true, ingress: [{action: Pass, protocol: UDP}]`,
        'c',
      ),
    ],
    allowed: ['stranger > red/web tcp 80', 'stranger > red/db udp 80'],
    denied: ['stranger > red/db tcp 80', 'stranger > red/db sctp 1'],
  },
];

const endpoints: readonly Row[] = [
  {
    so: 'a NetworkPolicy selects in its own namespace only',
    with: [calico(`selector: app == 'web', types: [Ingress]`)],
    allowed: ['red/db > blue/web tcp 80'],
    denied: ['red/db > red/web tcp 80'],
  },
  {
    so: 'a GlobalNetworkPolicy selects everywhere',
    with: [global(`selector: app == 'web', types: [Ingress]`)],
    allowed: ['red/web > red/db tcp 80'],
    denied: ['red/db > red/web tcp 80', 'red/db > blue/web tcp 80'],
  },
  {
    so: 'a namespaceSelector limits it by the labels of the namespace',
    with: [global(`namespaceSelector: env == 'dev', types: [Ingress]`)],
    allowed: ['red/db > red/web tcp 80'],
    denied: ['red/db > blue/web tcp 80'],
  },
  {
    so: 'a serviceAccountSelector limits it by the labels of the service account',
    with: [global(`serviceAccountSelector: trust == 'high', types: [Ingress]`)],
    allowed: ['red/web > red/db tcp 80'],
    denied: ['red/db > red/web tcp 80'],
  },
  {
    so: 'endpoints have labels for namespace, orchestrator and service account',
    with: [
      global(
        `selector: projectcalico.org/namespace == 'red' && projectcalico.org/orchestrator == 'k8s' && projectcalico.org/serviceaccount == 'robot', types: [Ingress]`,
      ),
    ],
    allowed: ['red/web > red/db tcp 80'],
    denied: ['red/db > red/web tcp 80'],
  },
];

const peers: readonly Row[] = [
  {
    so: 'nets are alternatives, notNets exceptions',
    with: [allowFrom(`nets: [10.65.0.0/30, 192.0.2.5], notNets: [10.65.0.1/32]`)],
    allowed: ['blue/web > red/db tcp 80', 'stranger > red/db tcp 80'],
    denied: ['red/web > red/db tcp 80', 'world > red/db tcp 80'],
  },
  {
    so: 'a rule with networks is about their family only, even when it only excepts them',
    with: [allowFrom(`notNets: [192.0.2.0/24]`)],
    allowed: ['red/web > red/db tcp 80'],
    denied: ['stranger > red/db tcp 80', 'red/web6 > red/db6 tcp 80'],
  },
  {
    so: 'a bare selector of a NetworkPolicy stays in its namespace, network sets included',
    with: [allowFrom(`selector: app == 'web' || zone == 'office'`)],
    allowed: ['red/web > red/db tcp 80', 'office > red/db tcp 80'],
    denied: ['blue/web > red/db tcp 80', 'world > red/db tcp 80', 'n1 > red/db tcp 80'],
  },
  {
    so: 'a bare selector of a GlobalNetworkPolicy spans everything',
    with: [global(`${db}, ingress: [{action: Allow, source: {selector: app == 'web' || zone == 'office'}}]`)],
    allowed: [
      'red/web > red/db tcp 80',
      'blue/web > red/db tcp 80',
      'office > red/db tcp 80',
      'world > red/db tcp 80',
      'n1 > red/db tcp 80',
    ],
    denied: ['stranger > red/db tcp 80'],
  },
  {
    so: 'a namespaceSelector goes by the labels of the namespace, also for network sets',
    with: [allowFrom(`namespaceSelector: env == 'dev'`)],
    allowed: ['blue/web > red/db tcp 80'],
    denied: ['red/web > red/db tcp 80', 'office > red/db tcp 80', 'world > red/db tcp 80'],
  },
  {
    so: 'namespaceSelector all() is whatever is in a namespace',
    with: [allowFrom(`namespaceSelector: all()`)],
    allowed: ['red/web > red/db tcp 80', 'blue/web > red/db tcp 80', 'office > red/db tcp 80'],
    denied: ['world > red/db tcp 80', 'n1 > red/db tcp 80', 'stranger > red/db tcp 80'],
  },
  {
    so: 'namespaceSelector global() is what is in none',
    with: [allowFrom(`namespaceSelector: global(), selector: has(zone) || has(host)`)],
    allowed: ['world > red/db tcp 80', 'n1 > red/db tcp 80'],
    denied: ['red/web > red/db tcp 80', 'office > red/db tcp 80', 'stranger > red/db tcp 80'],
  },
  {
    so: 'a negated namespaceSelector is true where there is no namespace',
    with: [allowFrom(`namespaceSelector: env != 'prod'`)],
    allowed: ['blue/web > red/db tcp 80', 'world > red/db tcp 80'],
    denied: ['red/web > red/db tcp 80', 'stranger > red/db tcp 80'],
  },
  {
    so: 'notSelector excepts; in a NetworkPolicy it also limits to the own namespace',
    with: [allowFrom(`notSelector: zone == 'a1'`)],
    allowed: ['office > red/db tcp 80'],
    denied: ['red/web > red/db tcp 80', 'blue/web > red/db tcp 80', 'stranger > red/db tcp 80'],
  },
  {
    so: 'notSelector alone in a GlobalNetworkPolicy excepts and nothing else',
    with: [global(`${db}, ingress: [{action: Allow, source: {notSelector: app == 'web'}}]`)],
    allowed: ['stranger > red/db tcp 80', 'office > red/db tcp 80'],
    denied: ['red/web > red/db tcp 80', 'blue/web > red/db tcp 80', 'n1 > red/db tcp 80'],
  },
  {
    so: 'serviceAccounts by name',
    with: [allowFrom(`serviceAccounts: {names: [robot, x]}`)],
    allowed: ['red/web > red/db tcp 80'],
    denied: ['blue/web > red/db tcp 80', 'office > red/db tcp 80'],
  },
  {
    so: 'serviceAccounts by selector and name',
    with: [allowFrom(`serviceAccounts: {names: [default], selector: trust != 'high'}, namespaceSelector: all()`)],
    allowed: ['blue/web > red/db tcp 80'],
    denied: ['red/web > red/db tcp 80'],
  },
  {
    so: 'services as a source are the addresses behind them, ready or not',
    with: [calico(`selector: app == 'web', ingress: [{action: Allow, source: {services: {name: db}}}]`)],
    allowed: ['red/db > red/web tcp 9999'],
    denied: ['blue/web > red/web tcp 80'],
  },
  {
    so: 'services as a destination are addresses with their ports',
    with: [
      global(`selector: app == 'web', egress: [{action: Allow, destination: {services: {name: db, namespace: red}}}]`),
    ],
    allowed: ['blue/web > red/db tcp 80'],
    denied: ['blue/web > red/db tcp 81', 'blue/web > red/db udp 80', 'blue/web > red/web tcp 80'],
  },
];

const protocolsAndPorts: readonly Row[] = [
  {
    so: 'ports are numbers and ranges, both ends included',
    with: [allowTo(`protocol: TCP, destination: {ports: [80, '100:200']}`)],
    allowed: ['red/web > red/db tcp 80', 'red/web > red/db tcp 100', 'red/web > red/db tcp 200'],
    denied: ['red/web > red/db tcp 99', 'red/web > red/db tcp 201', 'red/web > red/db udp 80'],
  },
  {
    so: 'notPorts except, source ports count too',
    with: [allowTo(`protocol: UDP, destination: {notPorts: [53]}, source: {ports: ['1:1023']}`)],
    allowed: ['red/web > red/db udp 54 from 1000'],
    denied: ['red/web > red/db udp 53 from 1000', 'red/web > red/db udp 54 from 1024'],
  },
  {
    so: 'a named port is what the destination calls so, of TCP if the rule does not say',
    with: [global(`ingress: [{action: Allow, destination: {ports: [http, dns]}}]`)],
    allowed: ['blue/web > red/db tcp 80', 'blue/web > red/web tcp 8080'],
    denied: ['blue/web > red/db tcp 8080', 'blue/web > red/web tcp 80', 'blue/web > red/db udp 53'],
  },
  {
    so: 'a named port counts of who is selected, not of whose address is in a selected network set',
    with: [
      `{apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, metadata: {name: wide, labels: {wide: 'yes'}}, spec: {nets: [10.65.0.0/16]}}`,
      global(
        `selector: app == 'db', ingress: [{action: Allow, protocol: TCP, destination: {selector: has(wide), ports: [http, 81]}}]`,
        'a',
      ),
    ],
    allowed: ['red/web > red/db tcp 81'],
    denied: ['red/web > red/db tcp 80'],
  },
  {
    so: 'a named port of the protocol of the rule',
    with: [allowTo(`protocol: UDP, destination: {ports: [dns]}`)],
    allowed: ['red/web > red/db udp 53'],
    denied: ['red/web > red/db tcp 53', 'red/web > red/db udp 80'],
  },
  {
    so: 'a negated named port',
    with: [allowTo(`protocol: TCP, destination: {notPorts: [http]}`)],
    allowed: ['red/web > red/db tcp 81'],
    denied: ['red/web > red/db tcp 80'],
  },
  {
    so: 'protocols by number, and negated',
    with: [allowTo(`protocol: 47`), calico(`${db}, ingress: [{action: Allow, notProtocol: TCP, ipVersion: 6}]`, 'q')],
    allowed: ['red/web > red/db gre', 'red/web6 > red/db6 sctp 80'],
    denied: ['red/web > red/db sctp 80', 'red/web6 > red/db6 tcp 80'],
  },
  {
    so: 'ICMP by type and code',
    with: [
      allowTo(`protocol: ICMP, icmp: {type: 3, code: 1}`),
      calico(`${db}, ingress: [{action: Allow, protocol: ICMP, icmp: {type: 8}}]`, 'q'),
    ],
    allowed: ['red/web > red/db icmp 3/1', 'red/web > red/db icmp 8/0', 'red/web > red/db icmp 8/9'],
    denied: ['red/web > red/db icmp 3/0', 'red/web > red/db icmp 0/0', 'red/web6 > red/db6 icmpv6 3/1'],
  },
  {
    so: 'notICMP of ICMPv6',
    with: [allowTo(`protocol: ICMPv6, notICMP: {type: 128}`)],
    allowed: ['red/web6 > red/db6 icmpv6 129/0'],
    denied: ['red/web6 > red/db6 icmpv6 128/0', 'red/web > red/db icmp 8/0'],
  },
];

const fromKubernetes: readonly Row[] = [
  {
    so: 'a NetworkPolicy isolates ingress when it says nothing',
    with: [kubernetes(`podSelector: {matchLabels: {app: db}}`)],
    allowed: ['red/db > red/web tcp 80', 'red/db > blue/web tcp 80', 'n2 > red/db tcp 80'],
    denied: ['red/web > red/db tcp 80'],
  },
  {
    so: 'an empty rule allows everything; egress rules imply the type',
    with: [kubernetes(`podSelector: {}, ingress: [{}], egress: [{ports: [{port: 80}]}]`)],
    allowed: ['blue/web > red/db tcp 9', 'red/db > blue/web tcp 80'],
    denied: ['red/db > blue/web udp 80', 'red/db > blue/web tcp 81'],
  },
  {
    so: 'peers by pod, by namespace and by both; network sets never',
    with: [
      kubernetes(
        `podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]`,
      ),
    ],
    allowed: ['red/web > red/db tcp 80'],
    denied: ['blue/web > red/db tcp 80', 'office > red/db tcp 80'],
  },
  {
    so: 'an empty namespaceSelector is every namespace',
    with: [kubernetes(`podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]`)],
    allowed: ['red/web > red/db tcp 80', 'blue/web > red/db tcp 80'],
    denied: ['office > red/db tcp 80', 'stranger > red/db tcp 80'],
  },
  {
    so: 'matchExpressions, all four',
    with: [
      kubernetes(
        `podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [web]}, {key: zone, operator: DoesNotExist}]},
         ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: env, operator: In, values: [dev]}, {key: env, operator: Exists}]}}]}]`,
      ),
    ],
    allowed: ['blue/web > red/db tcp 80', 'stranger > red/web tcp 80'],
    denied: ['red/web > red/db tcp 80'],
  },
  {
    so: 'ipBlock with exceptions',
    with: [kubernetes(`podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.65.0.0/16, except: [10.65.0.3/32]}}]}]`)],
    allowed: ['red/web > red/db tcp 80'],
    denied: ['blue/web > red/db tcp 80', 'red/web6 > red/db6 tcp 80'],
  },
  {
    so: 'ports by number, range, name and protocol alone',
    with: [
      kubernetes(
        `podSelector: {}, ingress: [{ports: [{port: 100, endPort: 102}, {port: http}, {protocol: SCTP}, {protocol: UDP, port: dns}]}]`,
      ),
    ],
    allowed: [
      'blue/web > red/db tcp 102',
      'blue/web > red/db tcp 80',
      'blue/web > red/web tcp 8080',
      'blue/web > red/web sctp 7',
      'blue/web > red/db udp 53',
    ],
    denied: ['blue/web > red/db tcp 103', 'blue/web > red/web tcp 80', 'blue/web > red/web udp 53'],
  },
  {
    so: 'it has order 1000 in the default tier, and before a Calico policy of the same name',
    with: [
      kubernetes(`podSelector: {}, ingress: [{ports: [{port: 80}]}]`),
      calico(`order: 999, ingress: [{action: Deny, source: {selector: app == 'web'}}]`, 'first'),
      calico(`order: 1000, ingress: [{action: Deny}]`, 'k'),
    ],
    allowed: ['office > red/db tcp 80'],
    denied: ['red/web > red/db tcp 80', 'office > red/db tcp 81'],
  },
  {
    so: 'an Admin ClusterNetworkPolicy comes before everything, and passes on what it does not decide',
    with: [
      clusterPolicy(
        `tier: Admin, priority: 1, subject: {namespaces: {matchLabels: {env: prod}}},
         ingress: [{action: Accept, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}}], protocols: [{tcp: {destinationPort: {number: 80}}}]},
                   {action: Pass, from: [{namespaces: {matchLabels: {env: dev}}}]},
                   {action: Deny, from: [{namespaces: {}}]}]`,
      ),
      calico(`${db}, types: [Ingress]`),
    ],
    allowed: ['red/web > red/db tcp 80', 'blue/web > red/web tcp 81'],
    denied: [
      'red/web > red/db tcp 81',
      'blue/web > red/db tcp 81',
      'red/db > red/web udp 1',
      'stranger > red/db tcp 80',
    ],
  },
  {
    so: 'what a ClusterNetworkPolicy asks and nobody here can judge fails closed; ports by name are of any protocol',
    with: [
      clusterPolicy(
        `tier: Admin, priority: 1, subject: {pods: {podSelector: {matchLabels: {app: web}}}},
         ingress: [{action: Accept, from: [{}]}, {action: Pass, from: [{namespaces: {}}]}],
         egress: [{action: Accept, to: [{namespaces: {}}], protocols: [{destinationNamedPort: dns}]}, {action: Pass, to: [{nodes: {}}]}]`,
      ),
    ],
    allowed: ['red/web > red/db udp 53', 'red/db > red/web tcp 9', 'stranger > red/db tcp 9'],
    denied: ['red/web > red/db tcp 53', 'red/web > stranger tcp 53'],
  },
  {
    so: 'a Baseline one comes after the default tier, and governs only directions with rules',
    with: [
      clusterPolicy(
        `tier: Baseline, priority: 1, subject: {pods: {namespaceSelector: {}, podSelector: {}}},
         egress: [{action: Deny, to: [{networks: [192.0.2.0/24]}], protocols: [{udp: {destinationPort: {range: {start: 10, end: 20}}}}, {sctp: {}}]}]`,
      ),
      calico(`${db}, egress: [{action: Pass, protocol: SCTP}, {action: Allow}]`),
    ],
    allowed: ['red/web > stranger udp 9', 'red/db > stranger udp 15', 'stranger > red/web udp 15'],
    denied: [
      'red/web > stranger udp 10',
      'red/web > stranger udp 20',
      'red/web > stranger sctp 1',
      'red/db > stranger sctp 1',
    ],
  },
];

describe.each([
  ['tiers, order, types', tiersAndOrder],
  ['which endpoints a policy selects', endpoints],
  ['hosts', hosts],
  ['peers', peers],
  ['protocols and ports', protocolsAndPorts],
  ['Kubernetes policies', fromKubernetes],
] as const)('the reference: %s', (_, rows) => {
  it.each(rows)('$so', ({ with: policies, allowed, denied }) => {
    const reference = new Reference(docsOf([cluster, ...policies].join('\n---\n')));
    const verdicts = [...allowed, ...denied].map((text) => [text, reference.judge(packet(text))] as const);
    const wrong = verdicts.filter(([text, verdict]) => verdict.allowed !== allowed.includes(text));
    expect(wrong).toEqual([]);
  });
});
