/** Where Services' addresses and netfilter meet: other proxies', host ports, load balancers, who comes from outside. */
import { must } from '#test/lab/exec.ts';
import { bgpConfiguration, endpointSlices } from '../objects.ts';
import { lacking, type Row } from '../row.ts';
import { balanced, serviceRow, hostPort, marked, ranges, served, serviceAt, targets } from './service-parts.ts';

export const serviceOutside: readonly Row[] = [
  serviceRow({
    name: "Services of another proxy, or that are to be left alone, are not translated: the address may be the node's",
    source: ['ebpf 32'],
    given: (v4, v6) => [
      ...served('shop', [v4, v6], ['web']),
      marked(serviceAt('mart', [v4, v6]), { labels: { 'service.kubernetes.io/service-proxy-name': 'other' } }),
      ...endpointSlices('mart', [v4, v6], ['web'], targets),
    ],
    phases: [
      {
        do: [
          {
            shell: 'ip addr add $MART4/32 dev lo; ip addr add $MART6/128 dev lo nodad',
            on: 'node1',
            undo: 'ip addr del $MART4/32 dev lo; ip addr del $MART6/128 dev lo',
          },
        ],
        expect: {
          reaches: ['client > node1@mart tcp 7777', 'client > web@shop tcp,udp 88'],
          refused: ['client > node1@mart tcp 88'],
        },
      },
      {
        do: [
          {
            apply: (v4, v6) => [
              marked(serviceAt('mart', [v4, v6]), { annotations: { 'projectcalico.org/natExcludeService': 'true' } }),
            ],
          },
        ],
        expect: { reaches: ['client > node1@mart tcp 7777'], refused: ['client > node1@mart tcp 88'] },
      },
      {
        do: [{ apply: (v4, v6) => [serviceAt('mart', [v4, v6])] }],
        expect: { reaches: ['client > web@mart tcp,udp 88'] },
      },
    ],
  }),
  serviceRow({
    name: 'a ClusterIP is no address for who comes from outside the cluster',
    source: ['cilium 20'],
    given: (v4, v6) => [ranges, ...served('shop', [v4, v6], ['web'])],
    phases: [
      {
        do: [
          {
            act: 'outside is told the way',
            run: async (bed) => {
              const node = bed.node('node1');
              for (const [family, via] of [
                ['IPv4', node.ipv4],
                ['IPv6', node.ipv6],
              ] as const) {
                const route = ['route', 'replace', bed.addresses(family)['shop'] ?? '', 'via', via];
                await must('ip', '-n', bed.lab.fabric, ...route);
                bed.onRowEnd(() => must('ip', '-n', bed.lab.fabric, 'route', 'del', ...route.slice(2)));
              }
            },
          },
        ],
        expect: { reaches: ['client,far > web@shop tcp,udp 88'], nothing: ['outside > web@shop tcp,udp 88,7777'] },
      },
    ],
  }),
  lacking(
    'a Service of other types: node ports, external addresses, load balancers, their sources, health checks, and changes between types',
    [
      'ebpf 19',
      'ebpf 21',
      'ebpf 22',
      'ebpf 26',
      'ebpf 36',
      'cilium 13',
      'cilium 14',
      'cilium 17',
      'cilium 18',
      'cilium 22',
      'cilium 27',
    ],
    "NodePort and LoadBalancer are kube-proxy's",
  ),
  lacking(
    'a node port is answered by a pod of another node, which sees the client or the node, however many clients there are',
    ['ebpf 17', 'ebpf 28', 'ebpf 29', 'ebpf 37', 'cilium 15', 'cilium 16', 'cilium 29'],
    "NodePort is kube-proxy's: no SNAT, no DSR",
  ),
  {
    name: 'a host port leads to its pod from everywhere, also from pods of its node, and from the pod itself, while connections go on',
    source: ['cilium 26', 'design 7'],
    phases: [
      {
        do: [
          { shell: hostPort('-A'), on: 'node1', undo: hostPort('-D') },
          { flow: 'of this node', line: 'client > node1 tcp 30080' },
          { flow: 'of another node', line: 'far > node1 tcp 30080' },
          { flow: 'datagrams', line: 'client > node1 udp 30080' },
          { flow: 'directly', line: 'client > web' },
        ],
        expect: {
          reaches: [
            'client,blue,outside > node1 tcp,udp 30080',
            'far,red > node1 tcp,udp 30080 as node2',
            'web > node1 tcp,udp 30080 as node1',
          ],
          flows: { 'of this node': 'runs', 'of another node': 'runs', datagrams: 'runs', directly: 'runs' },
        },
      },
    ],
  },
  {
    name: "a load balancer's address in the ranges that BGPConfiguration has is kube-proxy's: its pods are reached by it, on both nodes",
    source: ['design 7'],
    given: [
      bgpConfiguration({ serviceLoadBalancerIPs: [{ cidr: '198.51.100.192/26' }, { cidr: '2001:db8:1::c0/122' }] }),
    ],
    phases: [
      {
        do: [
          { shell: balanced('-A'), on: 'node1', undo: balanced('-D') },
          { flow: 'near', line: 'client > web@vip tcp 88' },
          { flow: 'away', line: 'client > web2@vip tcp 89' },
          { flow: 'datagrams', line: 'client > web@vip udp 88' },
          // kube-proxy leaves the sender its address where externalTrafficPolicy is Local.
          { flow: 'datagrams away', line: 'client > web2@vip udp 89' },
        ],
        expect: {
          reaches: ['client,blue > web@vip tcp,udp 88', 'client,web > web2@vip tcp,udp 89'],
          flows: { near: 'runs', away: 'runs', datagrams: 'runs', 'datagrams away': 'runs' },
        },
      },
    ],
  },
  lacking('hostIP', ['cilium 26'], "portmap's: an address in the rules above"),
  lacking(
    "a node port on the node's own loopback, Services of some protocols only for the node, and pods whose sockets are translated before they send",
    ['ebpf 35', 'cilium 2', 'cilium 14'],
    'translation of sockets: packets are translated',
  ),
];
