/** Policy objects as users write them, for tests: each must be taken, as Calico (or Kubernetes) takes it. */

/** What the document shows, and its YAML. */
export type ValidDocument = readonly [title: string, yaml: string];

const v3 = (kind: string, name: string, rest: string): string =>
  `apiVersion: projectcalico.org/v3\nkind: ${kind}\nmetadata: {name: ${name}}\n${rest}`;
const kubernetes = (name: string, rest: string): string =>
  `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: ${name}, namespace: shop}\n${rest}`;
const cluster = (name: string, rest: string): string =>
  `apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: ${name}}\n${rest}`;

export const validDocuments: readonly ValidDocument[] = [
  [
    'frontends may reach the database on one port',
    `apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: db-from-frontend, namespace: shop}
spec:
  selector: role == 'db'
  types: [Ingress, Egress]
  ingress:
    - action: Allow
      metadata: {annotations: {from: frontend, to: database}}
      protocol: TCP
      source: {selector: role == 'frontend'}
      destination: {ports: [5432]}
  egress:
    - action: Allow
`,
  ],
  [
    'isolation by having no rules',
    v3('NetworkPolicy', 'closed', 'spec: {selector: all(), types: [Ingress, Egress]}\n'),
  ],
  ['a spec that says nothing', v3('NetworkPolicy', 'empty', 'spec: {}\n')],
  [
    'empty lists and texts, which ask nothing',
    v3(
      'NetworkPolicy',
      'zero',
      "spec: {selector: '', types: [], ingress: [], egress: [], serviceAccountSelector: ''}\n",
    ),
  ],
  [
    'nulls, which count as absent',
    v3('NetworkPolicy', 'nulls', 'spec: {order: null, selector: null, ingress: null}\n'),
  ],
  [
    "a tier, and its name before the policy's",
    v3('NetworkPolicy', 'security.block-all', 'spec: {tier: security, order: 10, selector: all()}\n'),
  ],
  [
    'a name without its tier',
    v3('GlobalNetworkPolicy', 'block-all', 'spec: {tier: security, order: 10.5, selector: all()}\n'),
  ],
  ['the name of a converted Kubernetes policy', v3('NetworkPolicy', 'knp.default.allow.web', 'spec: {order: 1000}\n')],
  ['an order below zero', v3('GlobalNetworkPolicy', 'first', 'spec: {order: -7}\n')],
  [
    'a cluster-wide default denial that spares the system, with DNS let through',
    v3(
      'GlobalNetworkPolicy',
      'default-deny',
      `spec:
  namespaceSelector: kubernetes.io/metadata.name not in {"kube-system", "calico-system"}
  types: [Ingress, Egress]
  egress:
    - {action: Allow, protocol: UDP, destination: {selector: 'k8s-app == "kube-dns"', ports: [53]}}
`,
    ),
  ],
  [
    'every way to write a port',
    v3(
      'NetworkPolicy',
      'ports',
      `spec:
  ingress:
    - {action: Allow, protocol: TCP, destination: {ports: [80, "443", "8000:9000", http-alt, '1:65535']}}
    - {action: Deny, protocol: UDP, source: {notPorts: [53]}, destination: {notPorts: [dns]}}
`,
    ),
  ],
  [
    'service accounts by name and by label',
    v3(
      'NetworkPolicy',
      'accounts',
      `spec:
  serviceAccountSelector: role == "intern"
  ingress:
    - {action: Allow, source: {serviceAccounts: {names: [api-service, user-auth]}}}
    - {action: Allow, source: {serviceAccounts: {selector: app == "web"}, namespaceSelector: has(team)}}
`,
    ),
  ],
  [
    'a Service as destination and as source',
    v3(
      'NetworkPolicy',
      'services',
      `spec:
  egress:
    - {action: Allow, destination: {services: {name: kube-dns, namespace: kube-system}}}
    - {action: Allow, destination: {services: {name: local}}}
  ingress:
    - {action: Allow, source: {services: {name: local}}}
    - {action: Allow, protocol: TCP, source: {services: {name: local}, ports: [1024]}, destination: {ports: [80]}}
`,
    ),
  ],
  [
    'a Service in a policy for all namespaces',
    v3(
      'GlobalNetworkPolicy',
      'to-api',
      'spec: {egress: [{action: Allow, destination: {services: {name: kubernetes, namespace: default}}}]}\n',
    ),
  ],
  [
    'peers without a namespace',
    v3(
      'NetworkPolicy',
      'global-peers',
      "spec: {egress: [{action: Allow, destination: {selector: role == 'external', namespaceSelector: global()}}]}\n",
    ),
  ],
  [
    'negation in every place',
    v3(
      'GlobalNetworkPolicy',
      'negations',
      `spec:
  ingress:
    - action: Deny
      notProtocol: TCP
      source: {notSelector: trusted == "yes", notNets: [10.0.0.0/8, 192.168.0.0/16]}
    - {action: Deny, protocol: ICMP, notICMP: {type: 8, code: 0}}
`,
    ),
  ],
  [
    'NodePorts closed before translation',
    v3(
      'GlobalNetworkPolicy',
      'pre-dnat',
      'spec: {order: 20, preDNAT: true, applyOnForward: true, selector: has(host-endpoint), types: [Ingress], ingress: [{action: Deny, protocol: TCP, destination: {ports: ["30000:32767"]}}]}\n',
    ),
  ],
  [
    'packets that are not tracked',
    v3(
      'GlobalNetworkPolicy',
      'untracked',
      'spec: {doNotTrack: true, applyOnForward: true, selector: has(host-endpoint), ingress: [{action: Allow, protocol: TCP, destination: {ports: [11211]}}], egress: [{action: Allow, protocol: TCP, source: {ports: [11211]}}]}\n',
    ),
  ],
  [
    'what is forwarded',
    v3(
      'GlobalNetworkPolicy',
      'forwarded',
      'spec: {applyOnForward: true, performanceHints: [AssumeNeededOnEveryNode], ingress: [{action: Pass}]}\n',
    ),
  ],
  [
    'HTTP methods and paths',
    v3(
      'GlobalNetworkPolicy',
      'http',
      'spec: {ingress: [{action: Allow, http: {methods: [GET, PUT], paths: [{exact: /projects/calico}, {prefix: /users}]}}]}\n',
    ),
  ],
  [
    'a status by a controller',
    v3(
      'NetworkPolicy',
      'status',
      'spec: {}\nstatus: {conditions: [{type: Valid, status: "True", reason: Ok, message: fine, lastTransitionTime: "2026-01-01T00:00:00Z"}]}\n',
    ),
  ],
  [
    'a staged policy',
    v3(
      'StagedNetworkPolicy',
      'preview',
      "spec: {stagedAction: Set, selector: app == 'x', ingress: [{action: Deny}]}\n",
    ),
  ],
  [
    'a staged policy without an action',
    v3('StagedGlobalNetworkPolicy', 'preview', 'spec: {order: 100, ingress: [{action: Allow}, {action: Log}]}\n'),
  ],
  ['a staged deletion', v3('StagedNetworkPolicy', 'preview', 'spec: {stagedAction: Delete, tier: security}\n')],
  [
    "a staged deletion with Go's zeros",
    v3(
      'StagedGlobalNetworkPolicy',
      'preview',
      "spec: {stagedAction: Delete, selector: '', ingress: [], preDNAT: false}\n",
    ),
  ],
  ['a staged policy that learns', v3('StagedGlobalNetworkPolicy', 'preview', 'spec: {stagedAction: Learn}\n')],
  [
    'a staged Kubernetes policy',
    v3(
      'StagedKubernetesNetworkPolicy',
      'preview',
      'spec: {podSelector: {matchLabels: {app: x}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}]}]}\n',
    ),
  ],
  [
    'a staged deletion of a Kubernetes policy',
    v3('StagedKubernetesNetworkPolicy', 'preview', 'spec: {stagedAction: Delete}\n'),
  ],
  ['a tier', v3('Tier', 'security', 'spec: {order: 100, defaultAction: Pass}\n')],
  ['a tier without an order', v3('Tier', 'last', 'spec: {}\n')],
  ['the default tier as Calico makes it', v3('Tier', 'default', 'spec: {order: 1000000, defaultAction: Deny}\n')],
  ["the administrators' tiers", v3('Tier', 'kube-admin', 'spec: {order: 1000, defaultAction: Pass}\n')],
  ['the baseline tier', v3('Tier', 'kube-baseline', 'spec: {order: 10000000, defaultAction: Pass}\n')],
  [
    'networks outside, for all namespaces',
    `apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: blocked, labels: {role: blocked}}
spec: {nets: [198.51.100.0/28, 203.0.113.7, 10.1.2.3/8, "2001:db8::/32", "2001:db8::1"]}
`,
  ],
  ['networks outside, for one namespace', v3('NetworkSet', 'partners', 'spec: {nets: [198.51.100.0/28]}\n')],
  [
    "a host's device with named ports",
    v3(
      'HostEndpoint',
      'node1-eth0',
      'spec: {node: node1, interfaceName: eth0, expectedIPs: [192.168.0.1, "fd00::1"], profiles: [projectcalico-default-allow], ports: [{name: http, port: 80, protocol: TCP}, {name: dns, port: 53, protocol: 17}]}\n',
    ),
  ],
  [
    'all devices of a host',
    v3('HostEndpoint', 'node1-auto-hep', "spec: {node: node1.example.com, interfaceName: '*'}\n"),
  ],
  [
    'the device that has an address',
    v3('HostEndpoint', 'node1-by-ip', "spec: {node: node1, interfaceName: '', expectedIPs: [192.168.0.1]}\n"),
  ],
  ['a profile with labels', v3('Profile', 'ksa.shop.web', 'spec: {labelsToApply: {pcsa.role: web}}\n')],
  [
    'a profile with rules',
    v3('Profile', 'projectcalico-default-allow', 'spec: {ingress: [{action: Allow}], egress: [{action: Allow}]}\n'),
  ],
  [
    'where Services have their addresses',
    v3(
      'BGPConfiguration',
      'default',
      'spec: {asNumber: 64512, serviceClusterIPs: [{cidr: 10.96.0.0/12}, {cidr: "fd00:96::/108"}], serviceExternalIPs: [{cidr: 203.0.113.9}], serviceLoadBalancerIPs: [{cidr: 198.51.100.0/24}], nodeToNodeMeshEnabled: false, listenPort: 178}\n',
    ),
  ],
  ['Kubernetes: everything denied', kubernetes('deny', 'spec: {podSelector: {}, policyTypes: [Ingress, Egress]}\n')],
  [
    'Kubernetes: every kind of peer and port',
    kubernetes(
      'web',
      `spec:
  podSelector: {matchLabels: {role: db}, matchExpressions: [{key: tier, operator: In, values: [a, b]}, {key: old, operator: DoesNotExist}]}
  ingress:
    - from:
        - ipBlock: {cidr: 172.17.0.0/16, except: [172.17.1.0/24]}
        - namespaceSelector: {matchLabels: {project: shop}}
          podSelector: {matchExpressions: [{key: role, operator: NotIn, values: [guest]}]}
        - podSelector: {}
      ports: [{protocol: TCP, port: 6379}, {port: http}, {protocol: SCTP}, {protocol: UDP, port: 32000, endPort: 32768}]
    - {}
  egress:
    - to: [{ipBlock: {cidr: "2001:db8::/64"}}]
`,
    ),
  ],
  ['Kubernetes: no spec at all', kubernetes('bare', '')],
  [
    "an administrator's denial with exceptions",
    cluster(
      'isolate',
      `spec:
  tier: Admin
  priority: 10
  subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: sensitive}}}
  ingress:
    - {name: monitoring, action: Accept, from: [{namespaces: {matchLabels: {role: monitoring}}}], protocols: [{tcp: {destinationPort: {number: 9100}}}]}
    - {action: Pass, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: gate}}}}]}
    - {action: Deny, from: [{namespaces: {}}]}
  egress:
    - {action: Deny, to: [{networks: [10.0.0.0/8, "fd00::/8"]}], protocols: [{udp: {destinationPort: {range: {start: 1, end: 52}}}}, {sctp: {}}]}
    - {action: Accept, to: [{domainNames: ['*.kubernetes.io', example.com]}]}
    - {action: Deny, to: [{nodes: {}}]}
    - {action: Accept, to: [{pods: {podSelector: {}}}], protocols: [{destinationNamedPort: dns}]}
`,
    ),
  ],
  [
    'a baseline, with a kind of peer that is not known yet',
    cluster(
      'base',
      'spec: {tier: Baseline, priority: 0, subject: {pods: {podSelector: {}}}, egress: [{action: Deny, to: [{planets: {}}]}]}\n',
    ),
  ],
];

/** Single rules that are fine, for NetworkPolicies, in the direction that they are written for. */
export const validRules: readonly (readonly ['ingress' | 'egress', string])[] = [
  ['ingress', '{action: Allow}'],
  ['ingress', '{action: Deny}'],
  ['ingress', '{action: Log}'],
  ['ingress', '{action: Pass}'],
  ['ingress', '{action: Allow, ipVersion: 4}'],
  ['ingress', '{action: Allow, ipVersion: 6, protocol: ICMPv6, icmp: {type: 128}}'],
  ['ingress', '{action: Allow, protocol: UDPLite}'],
  ['ingress', '{action: Allow, protocol: SCTP, destination: {ports: [3868]}}'],
  ['ingress', '{action: Allow, protocol: 6, destination: {ports: [80]}}'],
  ['ingress', '{action: Allow, protocol: "17", destination: {ports: [53]}}'],
  ['ingress', '{action: Allow, protocol: 255}'],
  ['ingress', '{action: Allow, notProtocol: 50}'],
  ['ingress', '{action: Allow, protocol: ICMP, icmp: {}}'],
  ['ingress', '{action: Allow, protocol: 1, icmp: {type: 0, code: 255}}'],
  ['ingress', '{action: Deny, notICMP: {type: 8}}'],
  ['ingress', '{action: Allow, destination: {ports: [http]}}'],
  ['ingress', '{action: Allow, source: {ports: []}, destination: {notPorts: []}}'],
  ['ingress', '{action: Allow, source: {nets: [10.0.0.0/8, 192.168.1.1/32], notNets: [10.1.0.0/16]}}'],
  ['ingress', '{action: Allow, source: {nets: [0.0.0.0/0]}}'],
  ['ingress', '{action: Allow, source: {nets: ["::/0"]}, ipVersion: 6}'],
  ['ingress', '{action: Allow, source: {nets: ["FD00:0::/48"]}}'],
  ['ingress', '{action: Allow, source: {selector: "all()", namespaceSelector: "all()"}}'],
  ['ingress', '{action: Allow, source: {namespaceSelector: " global() "}}'],
  ['ingress', '{action: Allow, source: {selector: "name == \'a global() label\'"}}'],
  ['ingress', '{action: Allow, source: {selector: "a in {\'x\'} && !has(b) || c not in {}"}}'],
  ['ingress', '{action: Allow, protocol: TCP, http: {methods: [GET]}}'],
  ['ingress', '{action: Allow, http: {}}'],
  ['ingress', '{action: Allow, source: {services: {name: web}, serviceAccounts: null}}'],
  ['egress', '{action: Deny, destination: {services: {name: web, namespace: shop}, ports: []}}'],
  ['egress', '{action: Allow, source: {serviceAccounts: {}}, metadata: {}}'],
  ['egress', '{action: Allow, protocol: TCP, source: {ports: ["1024:65535"]}, destination: {notPorts: [22, ssh]}}'],
];
