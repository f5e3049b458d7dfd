/** Host endpoints: the hosts' own traffic, what they forward, and the places before connection tracking and translation. */
import { bgpConfiguration, globalPolicy, hostEndpoint } from '../objects.ts';
import { policyRow, type Manifest, type Row } from '../row.ts';

const uplink = hostEndpoint('uplink', { node: 'node1', interfaceName: 'uplink' }, { host: 'one' });
const onHost = (name: string, spec: object): Manifest => globalPolicy(name, { selector: "host == 'one'", ...spec });

/** What node1 forwards. */
const forwarded = {
  reaches: [
    'client,web > far,red tcp,udp,icmp',
    'far,red > client,web tcp,udp,icmp',
    'client > web',
    'outside > web tcp,udp',
    'client > outside tcp,udp as node1',
  ],
};

/** The node's and the fabric's memory of each other is empty. */
const forgetNeighbours = { shell: 'ip neigh flush dev uplink; ip -6 neigh flush dev uplink', on: 'node1' } as const;

const nodePort = (action: '-A' | '-D'): string =>
  [
    `$IPTABLES -t nat ${action} PREROUTING -p tcp --dport 30080 -j DNAT --to-destination $WEB4:7777`,
    `$IP6TABLES -t nat ${action} PREROUTING -p tcp --dport 30080 -j DNAT --to-destination "[$WEB6]:7777"`,
  ].join('; ');

export const hosts: readonly Row[] = [
  policyRow({
    name: "a host endpoint without policy closes the host's own ports, and leaves the failsafe ports and all that is forwarded",
    source: ['core 32', 'core 29', 'ebpf 8'],
    given: [uplink],
    phases: [
      {
        do: [forgetNeighbours],
        expect: {
          nothing: [
            'outside,node2,far > node1 tcp 7777,8080',
            'outside,node2 > node1 udp,icmp',
            'node1 > outside,node2 tcp,udp,icmp',
          ],
          refused: ['outside,node2 > node1 tcp 22,179,2379,5473,6443,6667', 'node1 > outside tcp 179,2379,6443'],
          reaches: [...forwarded.reaches, 'client,web > node1 tcp,udp,icmp', 'node1 > client,web tcp,udp,icmp'],
        },
      },
    ],
  }),
  policyRow({
    name: 'a host endpoint with a policy has open what that allows, both ways; a profile allows the rest',
    source: ['core 32'],
    given: [
      uplink,
      onHost('host', {
        types: ['Ingress', 'Egress'],
        ingress: [{ action: 'Allow', protocol: 'TCP', destination: { ports: [8080] } }],
        egress: [{ action: 'Allow', protocol: 'UDP' }],
      }),
    ],
    phases: [
      {
        expect: {
          reaches: ['outside,node2 > node1 tcp 8080', 'node1 > outside,node2 udp', ...forwarded.reaches],
          nothing: ['outside,node2 > node1 tcp 7777', 'outside > node1 udp 8080', 'node1 > outside,node2 tcp'],
          refused: ['outside > node1 tcp 22'],
        },
      },
      {
        do: [
          {
            apply: [
              hostEndpoint(
                'uplink',
                { node: 'node1', interfaceName: 'uplink', profiles: ['projectcalico-default-allow'] },
                { host: 'other' },
              ),
            ],
          },
        ],
        expect: { reaches: ['outside,node2 > node1 tcp,udp,icmp', 'node1 > outside,node2 tcp,udp,icmp'] },
      },
    ],
  }),
  policyRow({
    name: "host endpoints are found by the device's addresses, and one for all devices leaves the host its own pods",
    source: ['core 32'],
    given: (v4, v6) => [
      hostEndpoint('by-address', { node: 'node1', expectedIPs: [v4['node1'], v6['node1']] }, { host: 'one' }),
    ],
    phases: [
      {
        expect: {
          nothing: ['outside,node2 > node1 tcp,udp'],
          refused: ['outside > node1 tcp 22'],
          reaches: ['node1 > client,web'],
        },
      },
      {
        do: [
          { remove: ['by-address'] },
          { apply: [hostEndpoint('all', { node: 'node1', interfaceName: '*' }, { host: 'one' })] },
        ],
        expect: {
          nothing: ['outside,node2 > node1 tcp,udp', 'node1 > outside tcp'],
          refused: ['outside > node1 tcp 22'],
          reaches: [...forwarded.reaches, 'node1 > client,web tcp,udp'],
        },
      },
    ],
  }),
  policyRow({
    name: 'failsafe ports are what the configuration says',
    source: ['core 32'],
    given: [uplink],
    phases: [
      {
        do: [
          {
            configure: {
              failsafeInboundHostPorts: [
                { protocol: 'tcp', port: 9090 },
                { protocol: 'udp', port: 8080 },
              ],
            },
          },
        ],
        expect: {
          reaches: ['outside,node2 > node1 tcp 9090', 'outside > node1 udp 8080'],
          nothing: ['outside,node2 > node1 tcp 22,7777', 'outside > node1 udp 9090'],
        },
      },
    ],
  }),
  policyRow({
    name: 'what is forwarded meets applyOnForward policies only, in both directions',
    source: ['core 32'],
    given: [
      uplink,
      onHost('forward', {
        applyOnForward: true,
        types: ['Ingress', 'Egress'],
        ingress: [{ action: 'Deny', protocol: 'TCP', destination: { ports: [9090] } }, { action: 'Allow' }],
        egress: [{ action: 'Deny', protocol: 'TCP', destination: { ports: [8080] } }, { action: 'Allow' }],
      }),
      onHost('host-only', {
        order: 1,
        types: ['Ingress', 'Egress'],
        ingress: [{ action: 'Deny' }],
        egress: [{ action: 'Deny' }],
      }),
    ],
    phases: [
      {
        expect: {
          nothing: ['far,outside > web tcp 9090', 'client > far,outside tcp 8080', 'outside > node1 tcp 7777'],
          reaches: [
            'far,outside > web tcp 8080',
            'client > far tcp 9090',
            'client > outside tcp 9090 as node1',
            'client > web tcp 8080,9090',
          ],
        },
      },
    ],
  }),
  policyRow({
    name: "a preDNAT policy judges what was asked for, before others' translation, and the pod itself stays open",
    source: ['core 32'],
    given: [uplink],
    phases: [
      {
        do: [{ shell: nodePort('-A'), on: 'node1', undo: nodePort('-D') }],
        expect: { reaches: ['outside > node1 tcp 30080', 'outside > web'] },
      },
      {
        do: [
          {
            apply: [
              onHost('node-ports', {
                preDNAT: true,
                applyOnForward: true,
                types: ['Ingress'],
                ingress: [{ action: 'Deny', protocol: 'TCP', destination: { ports: ['30000:32767'] } }],
              }),
            ],
          },
        ],
        expect: { nothing: ['outside > node1 tcp 30080'], reaches: ['outside > web', ...forwarded.reaches] },
      },
    ],
  }),
  policyRow({
    name: 'a doNotTrack policy decides before connection tracking, which has no entry of what it allows',
    source: ['core 32'],
    given: [
      uplink,
      onHost('untracked', {
        doNotTrack: true,
        applyOnForward: true,
        types: ['Ingress', 'Egress'],
        ingress: [
          { action: 'Allow', protocol: 'TCP', destination: { ports: [8080] } },
          { action: 'Deny', protocol: 'TCP', destination: { ports: [22, 9090] } },
        ],
        egress: [{ action: 'Allow', protocol: 'TCP', source: { ports: [8080] } }],
      }),
      onHost('tracked', { types: ['Ingress'], ingress: [{ action: 'Allow', protocol: 'TCP' }] }),
    ],
    phases: [
      {
        do: [{ shell: 'conntrack -F 2>/dev/null', on: 'node1' }],
        expect: {
          reaches: ['outside,node2 > node1 tcp 8080,7777', ...forwarded.reaches],
          nothing: ['outside,node2 > node1 tcp 9090'],
          // Failsafe ports come before everything.
          refused: ['outside > node1 tcp 22'],
          also: {
            'connection tracking': async (bed, family) => {
              const of = family === 'IPv4' ? 'ipv4' : 'ipv6';
              const table = await bed.node('node1').exec('conntrack', '-L', '-f', of, '-p', 'tcp', '--dport', '8080');
              const entries = table
                .split('\n')
                .filter((line) => line.includes(`dst=${bed.addresses(family)['node1']} `));
              return entries.length === 0 ? undefined : entries.join('\n');
            },
          },
        },
      },
    ],
  }),
  policyRow({
    name: 'what a pod sends to its node meets the endpoint-to-host action after its egress policy',
    source: ['ebpf 3'],
    phases: [
      { expect: { reaches: ['client > node1 tcp,udp,icmp'] } },
      {
        do: [{ configure: { defaultEndpointToHostAction: 'Drop' } }],
        expect: {
          nothing: ['client > node1 tcp,udp,icmp'],
          reaches: ['client > web,far', 'node1 > client tcp,udp,icmp'],
        },
      },
      {
        do: [{ configure: { defaultEndpointToHostAction: 'Return' } }],
        expect: { reaches: ['client > node1 tcp,udp,icmp', 'client > web,far'] },
      },
      {
        do: [
          { configure: { defaultEndpointToHostAction: 'Accept' } },
          {
            apply: [
              globalPolicy('sparing', {
                selector: "color == 'azure'",
                types: ['Egress'],
                egress: [{ action: 'Allow', protocol: 'TCP', destination: { ports: [8080] } }],
              }),
            ],
          },
        ],
        expect: {
          reaches: ['client > node1 tcp 8080'],
          nothing: ['client > node1 tcp 7777', 'client > node1 udp,icmp'],
        },
      },
    ],
  }),
  policyRow({
    name: "what is sent to the services' ranges and that nobody has translated does not leave the node",
    source: ['core 32'],
    phases: [
      { expect: { reaches: ['client > outside@vip as node1'] } },
      {
        do: [
          {
            apply: [
              bgpConfiguration({ serviceClusterIPs: [{ cidr: '198.51.100.192/26' }, { cidr: '2001:db8:1::c0/122' }] }),
            ],
          },
        ],
        expect: {
          nothing: ['client > outside@vip'],
          reaches: ['client > outside as node1', 'client > outside@edge16 as node1'],
        },
      },
    ],
  }),
];
