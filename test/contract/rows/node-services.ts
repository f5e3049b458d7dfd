/** Services as the node's own processes reach them. */
import { clusterIpService, endpointSlices, globalPolicy, hostEndpoint, networkPolicy } from '../objects.ts';
import { lacking, type Row } from '../row.ts';
import {
  forgotten,
  nowOf,
  ranges,
  removed,
  served,
  serviceAt,
  smallUplink,
  targets,
  twoServices,
  whileAgentIsDead,
} from './service-parts.ts';

const nodeRow = (row: Omit<Row, 'needs'> & { readonly needs?: Row['needs'] }): Row => ({
  ...row,
  needs: ['translatesForNode', ...(row.needs ?? [])],
});

export const nodeServices: readonly Row[] = [
  nodeRow({
    name: "a ClusterIP answers the node's own processes by a pod of this node and by one of another, which sees the node's address",
    source: ['cilium 12', 'cilium 33'],
    given: (v4, v6) => [ranges, ...served('shop', [v4, v6], ['web']), ...served('mart', [v4, v6], ['web2'])],
    phases: [
      {
        expect: {
          reaches: [
            'node1,node2 > web@shop tcp,udp 88',
            'node1,node2 > web2@mart tcp,udp 88',
            // Pods are led there as before.
            'client,far > web@shop tcp,udp 88',
            'client,far > web2@mart tcp,udp 88',
            'node1,node2 > web,web2 tcp,udp,icmp',
          ],
        },
      },
    ],
  }),
  nodeRow({
    name: "a Service without pods refuses the node's own processes at once, as soon as it has none",
    source: ['cilium 9', 'cilium 12'],
    given: (v4, v6) => [ranges, ...served('shop', [v4, v6], [])],
    phases: [
      { expect: { refused: ['node1,node2 > web@shop tcp,udp 88'] } },
      { do: [nowOf('shop', ['web'])], expect: { reaches: ['node1,node2 > web@shop tcp,udp 88'] } },
      { do: [nowOf('shop', [])], expect: { refused: ['node1,node2 > web@shop tcp,udp 88'] } },
    ],
  }),
  nodeRow({
    name: "an error from a Service's pod reaches the node's own process as the Service's: nobody listens there",
    source: ['ebpf 36', 'cilium 12'],
    given: (v4, v6) => [
      serviceAt('shop', [v4, v6]),
      ...endpointSlices(
        'shop',
        [v4, v6],
        ['web'],
        targets.map((port) => ({ ...port, port: 4444 })),
      ),
    ],
    phases: [{ expect: { refused: ['node1,node2 > web@shop tcp,udp 88'] } }],
  }),
  nodeRow({
    name: "pods of a Service come and go, and it does: the node's new connections follow, established ones go on",
    source: ['ebpf 20', 'ebpf 24', 'cilium 7', 'cilium 12'],
    given: (v4, v6) => [ranges, ...served('shop', [v4, v6], ['web'])],
    phases: [
      {
        do: [
          { flow: 'near', line: 'node1 > web@shop tcp 88' },
          { flow: 'away', line: 'node2 > web@shop tcp 88' },
        ],
        expect: { flows: { near: 'runs', away: 'runs' } },
      },
      {
        do: [nowOf('shop', ['web2'])],
        expect: { reaches: ['node1,node2 > web2@shop tcp,udp 88'], flows: { near: 'runs', away: 'runs' } },
      },
      {
        do: [
          {
            apply: (v4, v6) => [
              clusterIpService('shop', [v4['shop'] ?? '', v6['shop'] ?? ''], [{ name: 'tcp', port: 89 }]),
            ],
          },
        ],
        expect: {
          reaches: ['node1,node2 > web2@shop tcp 89'],
          nothing: ['node1,node2 > web2@shop tcp,udp 88'],
          flows: { near: 'runs', away: 'runs' },
        },
      },
      {
        do: [removed('shop')],
        expect: { nothing: ['node1,node2 > web2@shop tcp 89'], flows: { near: 'runs', away: 'runs' } },
      },
    ],
  }),
  nodeRow({
    name: 'connections of the node from one port to its own pod, to its Service, and to another Service of it live side by side',
    source: ['ebpf 31', 'cilium 28'],
    given: (v4, v6) => [...served('shop', [v4, v6], ['web']), ...served('mart', [v4, v6], ['web'])],
    phases: [
      {
        do: [
          { flow: 'the pod first', line: 'node1:31021 > web' },
          { flow: 'then the Service', line: 'node1:31021 > web@shop tcp 88' },
          { flow: 'then the other', line: 'node1:31021 > web@mart tcp 88' },
        ],
        expect: { flows: { 'the pod first': 'runs', 'then the Service': 'runs', 'then the other': 'runs' } },
      },
    ],
  }),
  lacking(
    "the same with a pod of another node, whose direct connection is not among the node's flows",
    ['ebpf 31'],
    "another source port where the node's own socket has the translated tuple already",
  ),
  nodeRow({
    name: "the node's own datagrams in fragments, and what is too big for the way, reach a Service, and so do the answers",
    source: ['cilium 30', 'cilium 31', 'cilium 12'],
    given: (v4, v6) => [...served('shop', [v4, v6], ['web']), ...served('mart', [v4, v6], ['web2'])],
    phases: [
      {
        expect: {
          reaches: ['node1,node2 > web@shop udp 88 of 4000 bytes', 'node1,node2 > web2@mart udp 88 of 16000 bytes'],
        },
      },
      {
        do: [smallUplink('node1'), smallUplink('node2')],
        expect: { reaches: ['node1,node2 > web@shop udp 88 of 1400 bytes', 'node1,node2 > web@shop tcp 88'] },
      },
    ],
  }),
  nodeRow({
    name: "the pod that answers is judged: its own node is never refused, another is by the pod's policy",
    source: ['ebpf 2', 'cilium 12'],
    needs: ['enforcesPolicy'],
    given: (v4, v6) => [
      ...served('shop', [v4, v6], ['web']),
      networkPolicy('closed', { selector: "app == 'web'", types: ['Ingress'], ingress: [] }),
    ],
    phases: [
      {
        expect: { reaches: ['node1 > web@shop tcp,udp 88'], nothing: ['node2,client,far > web@shop tcp,udp 88'] },
      },
      {
        do: [
          {
            apply: (v4, v6) => [
              networkPolicy('closed', {
                selector: "app == 'web'",
                types: ['Ingress'],
                ingress: [v4, v6].map((book) => ({
                  action: 'Allow',
                  protocol: 'TCP',
                  source: { nets: [`${book['node2']}/${book === v4 ? 32 : 128}`] },
                  destination: { ports: [7777] },
                })),
              }),
            ],
          },
        ],
        expect: {
          reaches: ['node1 > web@shop tcp,udp 88', 'node2 > web@shop tcp 88'],
          nothing: ['node2 > web@shop udp 88', 'client,far > web@shop tcp,udp 88'],
        },
      },
    ],
  }),
  nodeRow({
    name: "a host endpoint's egress policy sees the pod and port that answer the node, not the Service's",
    source: ['cilium 35', 'cilium 12'],
    needs: ['enforcesPolicy'],
    given: (v4, v6) => [
      ...served('mart', [v4, v6], ['web2']),
      hostEndpoint('uplink', { node: 'node1', interfaceName: 'uplink' }, { host: 'one' }),
      globalPolicy('host', {
        selector: "host == 'one'",
        types: ['Egress'],
        egress: [
          { action: 'Allow', protocol: 'TCP', destination: { selector: "app == 'web'", ports: [7777] } },
          { action: 'Allow', protocol: 'ICMPv6' },
        ],
      }),
    ],
    phases: [
      { expect: { reaches: ['node1 > web2@mart tcp 88'], nothing: ['node1 > web2@mart udp 88'] } },
      {
        do: [
          {
            apply: (v4, v6) => [
              globalPolicy('host', {
                selector: "host == 'one'",
                types: ['Egress'],
                egress: [
                  ...[v4, v6].map((book) => ({
                    action: 'Allow',
                    destination: { nets: [`${book['mart']}/${book === v4 ? 32 : 128}`] },
                  })),
                  { action: 'Allow', protocol: 'ICMPv6' },
                ],
              }),
            ],
          },
        ],
        expect: { nothing: ['node1 > web2@mart tcp,udp 88'] },
      },
    ],
  }),
  nodeRow({
    name: "the node's own processes reach ClusterIPs while its agent is dead, and when it has started; connections go on",
    source: ['cilium 36', 'cilium 37', 'cilium 12'],
    given: twoServices,
    phases: whileAgentIsDead('node1'),
  }),
  nodeRow({
    name: "a connection of the node's to a Service that has been forgotten stands, and new ones work",
    source: ['design 7', 'cilium 12'],
    given: (v4, v6) => [ranges, ...served('mart', [v4, v6], ['web2'])],
    phases: [
      {
        do: [
          { flow: 'tcp', line: 'node1 > web2@mart tcp 88' },
          { flow: 'udp', line: 'node1 > web2@mart udp 88' },
        ],
        expect: { flows: { tcp: 'runs', udp: 'runs' } },
      },
      {
        do: [forgotten('node1', 'web2')],
        expect: { flows: { tcp: 'stands', udp: 'runs' }, reaches: ['node1 > web2@mart tcp,udp 88'] },
      },
    ],
  }),
];
