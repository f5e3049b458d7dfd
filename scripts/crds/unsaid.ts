/**
 * What our validator refuses and a definition can't: the API server takes such an object, and the agent then treats it as invalid (a policy
 * fails closed) and says so in `tortie status`. Tests hold that each row is true and that there is nothing else.
 */
import type { KindName } from '#api/kinds.ts';

/** Something that only our validator refuses. */
export interface Unsaid {
  /** What our validator says. */
  readonly message: RegExp;
  readonly reason: string;
  /** An object's kind and `spec` that the API server takes and our validator doesn't. */
  readonly kind: KindName;
  readonly spec: object;
  readonly labels?: Readonly<Record<string, string>>;
}

const grammar = 'selectors nest: no pattern can say their grammar, and CEL has no recursion';
const cost = "the API server refuses the cost of a rule for each of a rule's networks";
const unlimited = 'these lists have no limits, so the API server refuses the cost of any rule in them';
const programs = 'only programs write it, and often: a rule would cost the API server at every write';
const noNumbers = 'a number in a text: patterns compare no numbers';
const listInText = 'a list in a text';

const block = { cidr: '10.65.0.0/30', allocations: [null, 0, null, null], unallocated: [0], attributes: [{}] };
const endpoint = { orchestrator: 'k8s', node: 'node-1', endpoint: 'eth0', interfaceName: 'cali0123456789a' };

function ingress(rule: object): object {
  return { ingress: [{ action: 'Allow', ...rule }] };
}

function subject(matchExpressions: object): object {
  return { tier: 'Admin', priority: 1, subject: { namespaces: matchExpressions } };
}

function peer(entry: object): object {
  return { ingress: [{ from: [entry] }] };
}

function ports(entry: object): object {
  return { ingress: [{ ports: [entry] }] };
}

// A row a line, however long: it is read as a table.
// oxfmt-ignore
export const unsaid: readonly Unsaid[] = [
  { message: /^selector: /, reason: grammar, kind: 'NetworkPolicy', spec: { selector: 'a ==' } },
  { message: /^must not use global\(\)/, reason: grammar, kind: 'NetworkPolicy', spec: { selector: '!global()' } },
  { message: /^must have global\(\) alone/, reason: grammar, kind: 'NetworkPolicy', spec: ingress({ source: { namespaceSelector: 'has(a) || global()' } }) },
  { message: /^must be a network address/, reason: cost, kind: 'NetworkPolicy', spec: ingress({ source: { nets: ['10.0.0.1/8'] } }) },
  { message: /^must be IPv[46], as/, reason: cost, kind: 'NetworkPolicy', spec: ingress({ source: { notNets: ['10.0.0.0/8', 'fd00::/8'] } }) },
  { message: /^must be a port from 1 to 65535, a range/, reason: noNumbers, kind: 'NetworkPolicy', spec: ingress({ protocol: 'TCP', source: { ports: ['90:80'] } }) },
  { message: /^must not have a method twice/, reason: unlimited, kind: 'NetworkPolicy', spec: ingress({ http: { methods: ['GET', 'GET'] } }) },
  { message: /^must be the key of a label/, reason: unlimited, kind: 'ClusterNetworkPolicy', spec: subject({ matchLabels: { '-': 'a' } }) },
  { message: /^must be a label's value/, reason: unlimited, kind: 'ClusterNetworkPolicy', spec: subject({ matchLabels: { a: '-' } }) },
  { message: /^must (not )?be empty with/, reason: unlimited, kind: 'ClusterNetworkPolicy', spec: subject({ matchExpressions: [{ key: 'a', operator: 'In' }] }) },
  { message: /^must be a smaller network inside of/, reason: unlimited, kind: 'StagedKubernetesNetworkPolicy', spec: peer({ ipBlock: { cidr: '10.0.0.0/8', except: ['11.0.0.0/8'] } }) },
  { message: /^must be a network with its prefix length/, reason: unlimited, kind: 'StagedKubernetesNetworkPolicy', spec: peer({ ipBlock: { cidr: ':::/8' } }) },
  { message: /^must have podSelector, /, reason: unlimited, kind: 'StagedKubernetesNetworkPolicy', spec: peer({}) },
  { message: /^must stand alone/, reason: unlimited, kind: 'StagedKubernetesNetworkPolicy', spec: peer({ podSelector: {}, ipBlock: { cidr: '10.0.0.0/8' } }) },
  { message: /^must not be given unless port is a number/, reason: unlimited, kind: 'StagedKubernetesNetworkPolicy', spec: ports({ endPort: 80 }) },
  { message: /^must not be less than port/, reason: unlimited, kind: 'StagedKubernetesNetworkPolicy', spec: ports({ port: 80, endPort: 79 }) },
  { message: /^must not be given when stagedAction is Delete/, reason: unlimited, kind: 'StagedKubernetesNetworkPolicy', spec: { stagedAction: 'Delete', podSelector: { matchLabels: { a: 'b' } } } },
  { message: /^must not have projectcalico.org\/namespace/, reason: 'CEL sees no labels of an object', kind: 'NetworkSet', spec: {}, labels: { 'projectcalico.org/namespace': 'a' } },
  { message: /^must be host:<node>/, reason: programs, kind: 'IPAMBlock', spec: { ...block, affinity: 'node-1' } },
  { message: /^must have a prefix length from/, reason: programs, kind: 'IPAMBlock', spec: { ...block, cidr: '10.0.0.0/19' } },
  { message: /^must have \d+ entries, one for each/, reason: programs, kind: 'IPAMBlock', spec: { ...block, allocations: [] } },
  { message: /^must be less than/, reason: programs, kind: 'IPAMBlock', spec: { ...block, unallocated: [4] } },
  { message: /^must not be an ordinal that is allocated/, reason: programs, kind: 'IPAMBlock', spec: { ...block, unallocated: [1] } },
  { message: /^must not be twice in the list/, reason: programs, kind: 'IPAMBlock', spec: { ...block, unallocated: [0, 0] } },
  { message: /^must be an index in attributes/, reason: programs, kind: 'IPAMBlock', spec: { ...block, attributes: [] } },
  { message: /^the key must be a network address/, reason: programs, kind: 'IPAMHandle', spec: { handleID: 'a', block: { a: 1 } } },
  { message: /^must be one address, with \/32/, reason: programs, kind: 'WorkloadEndpoint', spec: { ...endpoint, ipNetworks: ['10.0.0.0/8'] } },
  { message: /^must be an IP(v[46])? address( |$)/, reason: programs, kind: 'WorkloadEndpoint', spec: { ...endpoint, ipv4Gateway: 'fd00::1' } },
  { message: /^must be a port or a range of ports/, reason: noNumbers, kind: 'FelixConfiguration', spec: { natPortRange: '2:1' } },
  { message: /^must be a list of ports and ranges/, reason: noNumbers, kind: 'FelixConfiguration', spec: { kubeNodePortRanges: ['2:1'] } },
  { message: /^must be a range of routing tables/, reason: noNumbers, kind: 'FelixConfiguration', spec: { routeTableRange: { min: 2, max: 1 } } },
  { message: /^must be a list of ranges of routing tables/, reason: noNumbers, kind: 'FelixConfiguration', spec: { routeTableRanges: [{ min: 2, max: 1 }] } },
  { message: /^must be a 32-bit mask/, reason: noNumbers, kind: 'FelixConfiguration', spec: { iptablesMarkMask: '0x1' } },
  { message: /^must be a DSCP value/, reason: noNumbers, kind: 'FelixConfiguration', spec: { istioDSCPMark: '64' } },
  { message: /^must be interface name prefixes/, reason: listInText, kind: 'FelixConfiguration', spec: { interfacePrefix: 'a,/' } },
  { message: /^must be interface names, or regular/, reason: listInText, kind: 'FelixConfiguration', spec: { interfaceExclude: '/' } },
  { message: /^must be a list of interface names/, reason: unlimited, kind: 'FelixConfiguration', spec: { bpfForceTrackPacketsFromIfaces: ['/'] } },
  { message: /^must be key=value pairs/, reason: listInText, kind: 'FelixConfiguration', spec: { featureGates: 'a' } },
  { message: /^must be a list of names with durations/, reason: unlimited, kind: 'FelixConfiguration', spec: { healthTimeoutOverrides: [{ name: 'a', timeout: 'b' }] } },
  { message: /^must be durations or Auto/, reason: unlimited, kind: 'FelixConfiguration', spec: { bpfConntrackTimeouts: { a: 'b' } } },
  { message: /^must be a regular expression/, reason: "JavaScript's regular expressions are not RE2's", kind: 'FelixConfiguration', spec: { bpfDataIfacePattern: '(' } },
  { message: /^must be (a host name|an interface name|text on one line|a path|letters, digits|a DNS label|a rate)/, reason: 'a pattern can say what text is like, but not that it is any but none', kind: 'FelixConfiguration', spec: { healthHost: 'none' } },
];
