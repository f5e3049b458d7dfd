/** What rows about Services are made of. */
import { bgpConfiguration, clusterIpService, endpointSlices, type SliceEndpoint } from '../objects.ts';
import type { Action, AddressBook, Manifest, Phase, Row } from '../row.ts';

/** What the rows' Services have, on ports of their own that nobody serves; SCTP's must be the pods' own (see ebpf-flows.md). */
export const ports = [
  { name: 'tcp', protocol: 'TCP', port: 88 },
  { name: 'udp', protocol: 'UDP', port: 88 },
  { name: 'sctp', protocol: 'SCTP', port: 5000 },
] as const;
/** The same as their pods have them. */
export const targets = ports.map((port) => ({ ...port, port: port.protocol === 'SCTP' ? 5000 : 7777 }));

type Books = readonly [v4: AddressBook, v6: AddressBook];

/** A Service that has these, with the ClusterIPs that the bed has for `ips`. */
export const serviceAt = (name: string, [v4, v6]: Books, spec: object = {}, ips = name): Manifest =>
  clusterIpService(name, [v4[ips] ?? '', v6[ips] ?? ''], ports, { ...spec });
/** A Service and its endpoints. */
export const served = (
  name: string,
  books: Books,
  endpoints: readonly SliceEndpoint[],
  spec: object = {},
  ips = name,
) => [serviceAt(name, books, spec, ips), ...endpointSlices(name, books, endpoints, targets)];
/** The same object with labels or annotations. */
export const marked = (object: Manifest, more: object): Manifest => ({
  ...object,
  metadata: { ...object.metadata, ...more },
});
/** Other endpoints from now on. */
export const nowOf = (name: string, endpoints: readonly SliceEndpoint[]): Action => ({
  apply: (v4, v6) => endpointSlices(name, [v4, v6], endpoints, targets),
});

export const removed = (...names: string[]): Action => ({ remove: names.map((name) => `default/${name}`) });

/** What is in the Services' ranges and nobody has translated doesn't leave the node. */
export const ranges = bgpConfiguration({ serviceClusterIPs: [{ cidr: '10.96.0.0/24' }, { cidr: 'fd96::/112' }] });

/** The agent forgets what it knows of flows that have this address. */
export const forgotten = (node: string, name: string): Action => ({
  act: `${node} forgets the flows of ${name}`,
  run: async (bed) => {
    for (const family of ['IPv4', 'IPv6'] as const) {
      const address = bed.addresses(family)[name] ?? '';
      const { status, stderr } = await bed.node(node).tortieAsFound('conntrack', 'delete', '--address', address);
      if (status !== 0) throw new Error(`tortie conntrack delete: ${stderr}`);
    }
  },
});

export const smallUplink = (node: string): Action => ({
  shell: 'ip link set uplink mtu 1300',
  on: node,
  undo: 'ip link set uplink mtu 1500',
});

/** What both Services of `whileAgentIsDead` need: one has a pod on node1, one a pod on node2. */
export const twoServices = (v4: AddressBook, v6: AddressBook): readonly Manifest[] => [
  ...served('shop', [v4, v6], ['web']),
  ...served('mart', [v4, v6], ['web2']),
];

/** Somebody on node1 asks `twoServices` while its agent is dead, and when it has started; what he began before goes on. */
export function whileAgentIsDead(opener: string): readonly Phase[] {
  const expect: Phase['expect'] = {
    reaches: [`${opener} > web@shop tcp,udp 88`, `${opener} > web2@mart tcp,udp 88`],
    flows: { near: 'runs', away: 'runs', datagrams: 'runs' },
  };
  return [
    {
      do: [
        { flow: 'near', line: `${opener} > web@shop tcp 88` },
        { flow: 'away', line: `${opener} > web2@mart tcp 88` },
        { flow: 'datagrams', line: `${opener} > web2@mart udp 88` },
        { kill: 'node1' },
      ],
      expect,
    },
    { do: [{ start: 'node1' }], expect },
  ];
}

/** What portmap does for a host port 30080 of web's, TCP and UDP, on its node: translation, and masquerade of what the pod sends to itself. */
export function hostPort(action: '-A' | '-D'): string {
  const rules = (program: string, to: string, pod: string): string[] => [
    ...['tcp', 'udp'].flatMap((protocol) =>
      ['PREROUTING', 'OUTPUT'].map(
        (chain) =>
          `${program} -t nat ${action} ${chain} -p ${protocol} --dport 30080 -m addrtype --dst-type LOCAL -j DNAT --to-destination "${to}"`,
      ),
    ),
    `${program} -t nat ${action} POSTROUTING -s ${pod} -d ${pod} -j MASQUERADE`,
  ];
  return [...rules('$IPTABLES', '$WEB4:7777', '$WEB4'), ...rules('$IP6TABLES', '[$WEB6]:7777', '$WEB6')].join('; ');
}

/** What kube-proxy does for the bed's `vip` as a load balancer's address: port 88 is web's, 89 web2's. */
export function balanced(action: '-A' | '-D'): string {
  const rules = (program: string, vip: string, to: (pod: string) => string): string[] =>
    ['tcp', 'udp'].flatMap((protocol) =>
      [
        ['88', 'WEB'],
        ['89', 'WEB2'],
      ].map(
        ([port = '', pod = '']) =>
          `${program} -t nat ${action} PREROUTING -d ${vip} -p ${protocol} --dport ${port} -j DNAT --to-destination "${to(pod)}"`,
      ),
    );
  return [
    ...rules('$IPTABLES', '198.51.100.200', (pod) => `$${pod}4:7777`),
    ...rules('$IP6TABLES', '2001:db8:1::c8', (pod) => `[$${pod}6]:7777`),
  ].join('; ');
}

/** A row for dataplanes that translate Services for pods. */
export const serviceRow = (row: Omit<Row, 'needs'> & { readonly needs?: Row['needs'] }): Row => ({
  ...row,
  needs: ['translatesServices', ...(row.needs ?? [])],
});
