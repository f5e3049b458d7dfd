/** Policy objects that Calico (or Kubernetes) refuses, for tests, and what we say of them. */

/** Single rules of a NetworkPolicy: direction, rule, and the problem: its path below the rule, and a part of its message. */
export type InvalidRule = readonly ['ingress' | 'egress', rule: string, path: string, message: string];

const selectors = "'has(a) &&'";

export const invalidRules: readonly InvalidRule[] = [
  ['ingress', '{}', '.action', 'is missing'],
  ['ingress', '{action: allow}', '.action', 'must be one of Allow, Deny, Log, Pass'],
  ['ingress', '{action: Accept}', '.action', 'must be one of'],
  ['ingress', '{action: Allow, ipVersion: 5}', '.ipVersion', 'must be one of 4, 6 (is 5)'],
  [
    'ingress',
    '{action: Allow, protocol: tcp}',
    '.protocol',
    'must be TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255 (is tcp)',
  ],
  ['ingress', '{action: Allow, protocol: any}', '.protocol', 'must be TCP'],
  ['ingress', '{action: Allow, protocol: 0}', '.protocol', 'must be at least 1'],
  ['ingress', '{action: Allow, protocol: 256}', '.protocol', 'must be at most 255'],
  ['ingress', '{action: Allow, protocol: "0"}', '.protocol', 'a number from 1 to 255'],
  ['ingress', '{action: Allow, protocol: {name: TCP}}', '.protocol', 'must be TCP'],
  ['ingress', '{action: Allow, notProtocol: TCPv6}', '.notProtocol', 'must be TCP'],
  [
    'ingress',
    '{action: Allow, destination: {ports: [80]}}',
    '.destination.ports',
    "unless the rule's protocol is TCP, UDP or SCTP (names of ports can do without)",
  ],
  ['ingress', '{action: Allow, source: {notPorts: ["1:2", http]}}', '.source.notPorts', "unless the rule's protocol"],
  [
    'ingress',
    '{action: Allow, protocol: ICMP, destination: {ports: [http]}}',
    '.destination.ports',
    "unless the rule's protocol is TCP, UDP or SCTP (is",
  ],
  [
    'ingress',
    '{action: Allow, protocol: UDPLite, source: {ports: [80]}}',
    '.source.ports',
    "unless the rule's protocol",
  ],
  [
    'ingress',
    '{action: Allow, notProtocol: UDP, destination: {notPorts: [53]}}',
    '.destination.notPorts',
    "unless the rule's protocol",
  ],
  [
    'ingress',
    '{action: Allow, protocol: TCP, destination: {ports: [0]}}',
    '.destination.ports[0]',
    'must be at least 1',
  ],
  [
    'ingress',
    '{action: Allow, protocol: TCP, destination: {ports: [65536]}}',
    '.destination.ports[0]',
    'must be at most 65535',
  ],
  [
    'ingress',
    '{action: Allow, protocol: TCP, destination: {ports: ["0"]}}',
    '.destination.ports[0]',
    'must be a port from 1 to 65535',
  ],
  [
    'ingress',
    '{action: Allow, protocol: TCP, destination: {ports: ["9000:8000"]}}',
    '.destination.ports[0]',
    'a range such as 1000:2000',
  ],
  [
    'ingress',
    '{action: Allow, protocol: TCP, destination: {ports: ["80-90"]}}',
    '.destination.ports[0]',
    'a range such as 1000:2000',
  ],
  [
    'ingress',
    '{action: Allow, protocol: TCP, destination: {ports: ["a b"]}}',
    '.destination.ports[0]',
    'the name of a port',
  ],
  ['ingress', '{action: Allow, protocol: TCP, destination: {ports: [1.5]}}', '.destination.ports[0]', 'must be a'],
  [
    'ingress',
    `{action: Allow, protocol: TCP, destination: {ports: [${'1, '.repeat(51)}]}}`,
    '.destination.ports',
    'must have at most 50 entries',
  ],
  [
    'ingress',
    `{action: Allow, source: {notNets: [${'10.0.0.0/8, '.repeat(257)}]}}`,
    '.source.notNets',
    'must have at most 256 entries',
  ],
  ['ingress', '{action: Allow, source: {nets: [10.0.0.1/8]}}', '.source.nets[0]', 'must be a network address'],
  ['ingress', '{action: Allow, source: {nets: [10.0.0.1]}}', '.source.nets[0]', 'must be a network address'],
  ['ingress', '{action: Allow, source: {nets: [10.0.0.0/33]}}', '.source.nets[0]', 'must be a network address'],
  [
    'ingress',
    '{action: Allow, source: {nets: [10.0.0.0/8, "fd00::/8"]}}',
    '.source.nets[1]',
    "must be IPv4, as the rule's other networks",
  ],
  [
    'ingress',
    '{action: Allow, source: {nets: [10.0.0.0/8]}, destination: {notNets: ["fd00::/8"]}}',
    '.destination.notNets[0]',
    'must be IPv4',
  ],
  [
    'ingress',
    '{action: Allow, ipVersion: 6, source: {nets: [10.0.0.0/8]}}',
    '.source.nets[0]',
    'must be IPv6, as ipVersion says',
  ],
  [
    'ingress',
    '{action: Allow, source: {notNets: [0.0.0.0/0]}}',
    '.source.notNets[0]',
    'must not be the whole of a family',
  ],
  [
    'egress',
    '{action: Allow, destination: {notNets: ["::/0"]}}',
    '.destination.notNets[0]',
    'must not be the whole of a family',
  ],
  ['ingress', '{action: Allow, icmp: {type: 8}}', '.icmp', "unless the rule's protocol is ICMP or ICMPv6"],
  ['ingress', '{action: Allow, protocol: TCP, icmp: {type: 8}}', '.icmp', "unless the rule's protocol"],
  ['ingress', '{action: Allow, protocol: ICMP, icmp: {code: 1}}', '.icmp.type', 'must be given with a code'],
  ['ingress', '{action: Allow, protocol: ICMP, icmp: {type: 255}}', '.icmp.type', 'must be at most 254'],
  ['ingress', '{action: Allow, protocol: ICMP, notICMP: {type: 1, code: 256}}', '.notICMP.code', 'must be at most 255'],
  ['ingress', '{action: Allow, protocol: ICMP, ipVersion: 6}', '.ipVersion', 'must be 4 with the protocol ICMP'],
  ['ingress', '{action: Allow, notProtocol: 58, ipVersion: 4}', '.ipVersion', 'must be 6 with the protocol ICMPv6'],
  ['ingress', `{action: Allow, source: {selector: ${selectors}}}`, '.source.selector', 'selector: expected'],
  ['ingress', `{action: Allow, source: {notSelector: ${selectors}}}`, '.source.notSelector', 'selector: expected'],
  [
    'ingress',
    `{action: Allow, source: {namespaceSelector: ${selectors}}}`,
    '.source.namespaceSelector',
    'selector: expected',
  ],
  [
    'ingress',
    `{action: Allow, source: {serviceAccounts: {selector: ${selectors}}}}`,
    '.source.serviceAccounts.selector',
    'selector: expected',
  ],
  ['ingress', '{action: Allow, source: {selector: global()}}', '.source.selector', 'must not use global()'],
  [
    'ingress',
    '{action: Allow, source: {namespaceSelector: "global() || has(a)"}}',
    '.source.namespaceSelector',
    'must have global() alone',
  ],
  [
    'ingress',
    '{action: Allow, source: {namespaceSelector: "!global()"}}',
    '.source.namespaceSelector',
    'must have global() alone',
  ],
  ['ingress', '{action: Allow, source: {services: {}}}', '.source.services.name', 'must name a Service'],
  [
    'ingress',
    '{action: Allow, source: {services: {name: "", namespace: a}}}',
    '.source.services.name',
    'must name a Service',
  ],
  [
    'ingress',
    '{action: Allow, source: {services: {name: a}, selector: has(x)}}',
    '.source.selector',
    'must not be given with services',
  ],
  [
    'ingress',
    '{action: Allow, source: {services: {name: a}, notSelector: has(x)}}',
    '.source.notSelector',
    'must not be given with services',
  ],
  [
    'ingress',
    '{action: Allow, source: {services: {name: a}, namespaceSelector: has(x)}}',
    '.source.namespaceSelector',
    'must not be given with services',
  ],
  [
    'ingress',
    '{action: Allow, source: {services: {name: a}, nets: [10.0.0.0/8]}}',
    '.source.nets',
    'must not be given with services',
  ],
  [
    'ingress',
    '{action: Allow, source: {services: {name: a}, notNets: [10.0.0.0/8]}}',
    '.source.notNets',
    'must not be given with services',
  ],
  [
    'ingress',
    '{action: Allow, source: {services: {name: a}, serviceAccounts: {names: [x]}}}',
    '.source.serviceAccounts',
    'must not be given with services',
  ],
  [
    'egress',
    '{action: Allow, protocol: TCP, destination: {services: {name: a}, ports: [80]}}',
    '.destination.ports',
    'must not be given with services, which have ports',
  ],
  [
    'ingress',
    '{action: Allow, destination: {services: {name: a}}}',
    '.destination.services',
    'in ingress rules a Service is the source',
  ],
  [
    'egress',
    '{action: Allow, source: {services: {name: a}}}',
    '.source.services',
    'in egress rules a Service is the destination',
  ],
  ['ingress', '{action: Deny, http: {methods: [GET]}}', '.http', 'unless the action is Allow'],
  ['ingress', '{action: Allow, protocol: UDP, http: {}}', '.protocol', 'must be TCP (or absent) with http'],
  ['egress', '{action: Allow, http: {methods: [GET]}}', '.http', 'must not be given in egress rules'],
  ['ingress', '{action: Allow, http: {methods: [GET, GET]}}', '.http.methods', 'must not have a method twice'],
  [
    'ingress',
    '{action: Allow, http: {paths: [{exact: /a, prefix: /b}]}}',
    '.http.paths[0]',
    'must have either exact or prefix',
  ],
  ['ingress', '{action: Allow, http: {paths: [{}]}}', '.http.paths[0]', 'must have either exact or prefix'],
  [
    'ingress',
    '{action: Allow, http: {paths: [{exact: a}]}}',
    '.http.paths[0]',
    "must have a path that starts with '/'",
  ],
  ['ingress', '{action: Allow, http: {paths: [{prefix: "/a?b"}]}}', '.http.paths[0]', "without '?'"],
];

const v3 = (kind: string, rest: string): string =>
  `apiVersion: projectcalico.org/v3\nkind: ${kind}\nmetadata: {name: a}\n${rest}\n`;
const kubernetes = (spec: string): string =>
  `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a}\nspec: ${spec}\n`;
const cluster = (spec: string): string =>
  `apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {name: a}\nspec: ${spec}\n`;
const subject = 'subject: {namespaces: {}}';

/** Whole objects: YAML, and the problem: its path, and a part of its message. */
export const invalidDocuments: readonly (readonly [yaml: string, path: string, message: string])[] = [
  [v3('NetworkPolicy', ''), 'spec', 'is missing'],
  [v3('GlobalNetworkPolicy', 'spec: []'), 'spec', 'must be an object'],
  [v3('NetworkPolicy', 'spec: {tier: Security}'), 'spec.tier', 'must be a DNS subdomain'],
  [v3('NetworkPolicy', 'spec: {order: first}'), 'spec.order', 'must be a number'],
  [v3('NetworkPolicy', 'spec: {order: .inf}'), 'spec.order', 'must be a number'],
  [v3('NetworkPolicy', 'spec: {types: [ingress]}'), 'spec.types[0]', 'must be one of Ingress, Egress'],
  [v3('NetworkPolicy', 'spec: {types: [Ingress, Ingress]}'), 'spec.types', 'must not have a direction twice'],
  [v3('NetworkPolicy', 'spec: {selector: "a = 1"}'), 'spec.selector', 'selector: expected'],
  [v3('NetworkPolicy', 'spec: {selector: "global() && has(a)"}'), 'spec.selector', 'must not use global()'],
  [
    v3('NetworkPolicy', 'spec: {serviceAccountSelector: global()}'),
    'spec.serviceAccountSelector',
    'must not use global()',
  ],
  [
    v3('GlobalNetworkPolicy', 'spec: {namespaceSelector: "!global()"}'),
    'spec.namespaceSelector',
    'must not use global()',
  ],
  [
    v3('NetworkPolicy', `spec: {selector: "${'has(a) && '.repeat(110)}has(b)"}`),
    'spec.selector',
    'must have at most 1024 characters',
  ],
  [
    v3('NetworkPolicy', `spec: {ingress: [${'{action: Allow}, '.repeat(1025)}]}`),
    'spec.ingress',
    'must have at most 1024 entries',
  ],
  [
    v3('NetworkPolicy', 'spec: {performanceHints: [Fast]}'),
    'spec.performanceHints[0]',
    'must be AssumeNeededOnEveryNode',
  ],
  [
    v3('GlobalNetworkPolicy', 'spec: {doNotTrack: true, preDNAT: true, applyOnForward: true}'),
    'spec.preDNAT',
    'must not be true with doNotTrack',
  ],
  [v3('GlobalNetworkPolicy', 'spec: {doNotTrack: true}'), 'spec.applyOnForward', 'must be true with doNotTrack'],
  [v3('GlobalNetworkPolicy', 'spec: {preDNAT: true}'), 'spec.applyOnForward', 'must be true with preDNAT'],
  [
    v3('GlobalNetworkPolicy', 'spec: {preDNAT: true, applyOnForward: true, egress: [{action: Deny}]}'),
    'spec.egress',
    'must have no rules with preDNAT',
  ],
  [
    v3('GlobalNetworkPolicy', 'spec: {preDNAT: true, applyOnForward: true, types: [Ingress, Egress]}'),
    'spec.types',
    'must not have Egress with preDNAT',
  ],
  [
    v3('GlobalNetworkPolicy', 'spec: {egress: [{action: Allow, destination: {services: {name: a}}}]}'),
    'spec.egress[0].destination.services.namespace',
    'must be given',
  ],
  [
    v3('GlobalNetworkPolicy', 'spec: {ingress: [{action: Allow, source: {services: {name: a}}}]}'),
    'spec.ingress[0].source.services.namespace',
    'must be given',
  ],
  [
    v3('StagedNetworkPolicy', 'spec: {stagedAction: Remove}'),
    'spec.stagedAction',
    'must be one of Set, Delete, Learn, Ignore',
  ],
  [
    v3('StagedNetworkPolicy', 'spec: {stagedAction: Delete, ingress: [{action: Allow}]}'),
    'spec.ingress',
    'must not be given when stagedAction is Delete',
  ],
  [
    v3('StagedGlobalNetworkPolicy', 'spec: {stagedAction: Delete, order: 7}'),
    'spec.order',
    'must not be given when stagedAction is Delete',
  ],
  [v3('StagedGlobalNetworkPolicy', 'spec: {preDNAT: true}'), 'spec.applyOnForward', 'must be true with preDNAT'],
  [
    v3('StagedKubernetesNetworkPolicy', 'spec: {stagedAction: Delete, policyTypes: [Ingress]}'),
    'spec.policyTypes',
    'must not be given when stagedAction is Delete',
  ],
  ['apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: a.b}\n', 'metadata.name', 'must be a DNS label'],
  [
    'apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: default}\nspec: {order: 5}\n',
    'spec.order',
    'must be 1000000 in the tier default',
  ],
  [
    'apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: default}\nspec: {defaultAction: Pass}\n',
    'spec.defaultAction',
    'must be Deny in the tier default',
  ],
  [
    'apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: kube-admin}\nspec: {defaultAction: Deny}\n',
    'spec.defaultAction',
    'must be Pass in the tier kube-admin',
  ],
  [v3('Tier', 'spec: {defaultAction: Allow}'), 'spec.defaultAction', 'must be one of Deny, Pass'],
  [v3('GlobalNetworkSet', 'spec: {nets: [example.com]}'), 'spec.nets[0]', 'must be an IP address or a network'],
  [
    'apiVersion: projectcalico.org/v3\nkind: NetworkSet\nmetadata: {name: a, labels: {projectcalico.org/namespace: x}}\n',
    'metadata.labels',
    'must not have projectcalico.org/namespace',
  ],
  [v3('HostEndpoint', 'spec: {node: n}'), 'spec.interfaceName', 'must be given, or expectedIPs must'],
  [v3('HostEndpoint', 'spec: {interfaceName: eth0}'), 'spec.node', 'is missing'],
  [v3('HostEndpoint', 'spec: {node: "", interfaceName: eth0}'), 'spec.node', 'must be a DNS subdomain'],
  [
    v3('HostEndpoint', 'spec: {node: n, interfaceName: averyveryverylongname}'),
    'spec.interfaceName',
    'must be an interface name',
  ],
  [v3('HostEndpoint', 'spec: {node: n, expectedIPs: [10.0.0.0/8]}'), 'spec.expectedIPs[0]', 'must be an IP address'],
  [
    v3('HostEndpoint', 'spec: {node: n, interfaceName: eth0, ports: [{name: a, port: 1, protocol: ICMP}]}'),
    'spec.ports[0].protocol',
    'must be TCP, UDP or SCTP',
  ],
  [
    v3('HostEndpoint', 'spec: {node: n, interfaceName: eth0, ports: [{name: "80", port: 80, protocol: TCP}]}'),
    'spec.ports[0].name',
    'must be a port name',
  ],
  [
    v3('BGPConfiguration', 'spec: {serviceClusterIPs: [{cidr: ten}]}'),
    'spec.serviceClusterIPs[0].cidr',
    'must be an IP address or a network',
  ],
  [v3('Profile', 'spec: {ingress: [{action: Drop}]}'), 'spec.ingress[0].action', 'must be one of'],
  [
    kubernetes('{podSelector: {matchExpressions: [{key: a, operator: In}]}}'),
    'spec.podSelector.matchExpressions[0].values',
    'must not be empty with In',
  ],
  [
    kubernetes('{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}'),
    'spec.podSelector.matchExpressions[0].values',
    'must be empty with Exists',
  ],
  [
    kubernetes('{podSelector: {matchExpressions: [{key: a, operator: Has}]}}'),
    'spec.podSelector.matchExpressions[0].operator',
    'must be one of',
  ],
  [
    kubernetes('{podSelector: {matchExpressions: [{key: a b, operator: Exists}]}}'),
    'spec.podSelector.matchExpressions[0].key',
    'must be the key of a label',
  ],
  [
    kubernetes('{podSelector: {matchLabels: {a/b/c: d}}}'),
    'spec.podSelector.matchLabels',
    'must be the key of a label',
  ],
  [kubernetes('{podSelector: {matchLabels: {a: "b c"}}}'), 'spec.podSelector.matchLabels.a', "must be a label's value"],
  [kubernetes('{podSelector: {matchLabels: {a: 1}}}'), 'spec.podSelector.matchLabels.a', 'must be text'],
  [kubernetes('{policyTypes: [Both]}'), 'spec.policyTypes[0]', 'must be one of Ingress, Egress'],
  [
    kubernetes('{ingress: [{from: [{}]}]}'),
    'spec.ingress[0].from[0]',
    'must have podSelector, namespaceSelector or ipBlock',
  ],
  [
    kubernetes('{ingress: [{from: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]}'),
    'spec.ingress[0].from[0].ipBlock',
    'must stand alone',
  ],
  [
    kubernetes('{ingress: [{from: [{ipBlock: {cidr: 10.0.0.1}}]}]}'),
    'spec.ingress[0].from[0].ipBlock.cidr',
    'must be a network with its prefix length',
  ],
  [
    kubernetes('{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]}'),
    'spec.egress[0].to[0].ipBlock.except[0]',
    'must be a smaller network inside of 10.0.0.0/8',
  ],
  [
    kubernetes('{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]}'),
    'spec.egress[0].to[0].ipBlock.except[0]',
    'must be a smaller network',
  ],
  [
    kubernetes('{ingress: [{ports: [{protocol: ICMP}]}]}'),
    'spec.ingress[0].ports[0].protocol',
    'must be one of TCP, UDP, SCTP',
  ],
  [kubernetes('{ingress: [{ports: [{port: 0}]}]}'), 'spec.ingress[0].ports[0].port', 'must be at least 1'],
  [
    kubernetes('{ingress: [{ports: [{port: Not_A_Name}]}]}'),
    'spec.ingress[0].ports[0].port',
    'must be a port from 1 to 65535 or the name of one',
  ],
  [
    kubernetes('{ingress: [{ports: [{port: "80"}]}]}'),
    'spec.ingress[0].ports[0].port',
    'must be a port from 1 to 65535 or the name of one',
  ],
  [kubernetes('{ingress: [{ports: [{endPort: 90}]}]}'), 'spec.ingress[0].ports[0].endPort', 'unless port is a number'],
  [
    kubernetes('{ingress: [{ports: [{port: http, endPort: 90}]}]}'),
    'spec.ingress[0].ports[0].endPort',
    'unless port is a number',
  ],
  [
    kubernetes('{ingress: [{ports: [{port: 91, endPort: 90}]}]}'),
    'spec.ingress[0].ports[0].endPort',
    'must not be less than port',
  ],
  [cluster(`{tier: Default, priority: 1, ${subject}}`), 'spec.tier', 'must be one of Admin, Baseline'],
  [cluster(`{tier: Admin, priority: 1001, ${subject}}`), 'spec.priority', 'must be at most 1000'],
  [cluster(`{tier: Admin, ${subject}}`), 'spec.priority', 'is missing'],
  [cluster('{tier: Admin, priority: 1, subject: {}}'), 'spec.subject', 'must have one field that selects something'],
  [
    cluster('{tier: Admin, priority: 1, subject: {namespaces: {}, pods: {podSelector: {}}}}'),
    'spec.subject.pods',
    'must not be given with namespaces',
  ],
  [
    cluster(`{tier: Admin, priority: 1, ${subject}, ingress: [{action: Allow, from: [{namespaces: {}}]}]}`),
    'spec.ingress[0].action',
    'must be one of Accept, Deny, Pass',
  ],
  [
    cluster(`{tier: Admin, priority: 1, ${subject}, ingress: [{action: Deny, from: []}]}`),
    'spec.ingress[0].from',
    'must not be empty',
  ],
  [cluster(`{tier: Admin, priority: 1, ${subject}, ingress: [{action: Deny}]}`), 'spec.ingress[0].from', 'is missing'],
  [
    cluster(
      `{tier: Admin, priority: 1, ${subject}, ingress: [${'{action: Deny, from: [{namespaces: {}}]}, '.repeat(26)}]}`,
    ),
    'spec.ingress',
    'must have at most 25 entries',
  ],
  [
    cluster(
      `{tier: Admin, priority: 1, ${subject}, egress: [{action: Deny, to: [{namespaces: {}, networks: [10.0.0.0/8]}]}]}`,
    ),
    'spec.egress[0].to[0].networks',
    'must not be given with namespaces',
  ],
  [
    cluster(`{tier: Admin, priority: 1, ${subject}, egress: [{action: Deny, to: [{networks: [10.0.0.0]}]}]}`),
    'spec.egress[0].to[0].networks[0]',
    'must be a network with its prefix length',
  ],
  [
    cluster(`{tier: Admin, priority: 1, ${subject}, egress: [{action: Accept, to: [{domainNames: ['a*.b']}]}]}`),
    'spec.egress[0].to[0].domainNames[0]',
    "must be a domain's name",
  ],
  [
    cluster(
      `{tier: Admin, priority: 1, ${subject}, egress: [{action: Deny, to: [{networks: [10.0.0.0/8]}], protocols: [{destinationNamedPort: a}]}]}`,
    ),
    'spec.egress[0].protocols[0].destinationNamedPort',
    'must not be given with networks',
  ],
  [
    cluster(
      `{tier: Admin, priority: 1, ${subject}, egress: [{action: Deny, to: [{nodes: {}}], protocols: [{tcp: {destinationPort: {range: {start: 2, end: 2}}}}]}]}`,
    ),
    'spec.egress[0].protocols[0].tcp.destinationPort.range.end',
    'must be greater than start',
  ],
  [
    cluster(
      `{tier: Admin, priority: 1, ${subject}, egress: [{action: Deny, to: [{nodes: {}}], protocols: [{tcp: {}, udp: {}}]}]}`,
    ),
    'spec.egress[0].protocols[0].udp',
    'must not be given with tcp',
  ],
];
