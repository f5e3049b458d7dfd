/** Connections to Services in trouble: errors, fragments, records that are lost, pods that go, agents that die. */
import { tcpReset } from '#test/lab/raw-payloads.ts';
import { endpointSlices } from '../objects.ts';
import { lacking, type Row } from '../row.ts';
import {
  serviceRow,
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

export const serviceFlows: readonly Row[] = [
  serviceRow({
    name: "an error from a Service's pod reaches the client as the Service's: nobody listens there",
    source: ['ebpf 36', 'cilium 6'],
    given: (v4, v6) => [
      serviceAt('shop', [v4, v6]),
      ...endpointSlices(
        'shop',
        [v4, v6],
        ['web'],
        targets.map((port) => ({ ...port, port: 4444 })),
      ),
    ],
    phases: [{ expect: { refused: ['client,far > web@shop tcp,udp 88', 'web > web@shop tcp,udp 88'] } }],
  }),
  serviceRow({
    name: 'what is too big for the way to a Service is said to the client as of the Service, and it sends less',
    source: ['cilium 31', 'cilium 32', 'ebpf 37'],
    given: (v4, v6) => served('shop', [v4, v6], ['web2']),
    phases: [
      {
        do: [smallUplink('node1'), smallUplink('node2')],
        expect: { reaches: ['client > web2@shop udp 88 of 1400 bytes', 'client > web2@shop tcp 88'] },
      },
    ],
  }),
  serviceRow({
    name: 'datagrams in many fragments reach a Service, and so do the answers',
    source: ['cilium 30', 'ebpf 18'],
    given: (v4, v6) => served('shop', [v4, v6], ['web']),
    phases: [
      {
        expect: {
          reaches: ['client,far > web@shop udp 88 of 4000 bytes', 'client,far > web@shop udp 88 of 16000 bytes'],
        },
      },
    ],
  }),
  serviceRow({
    name: 'connections from one port to a pod, to its Service, and to another Service of it live side by side',
    source: ['ebpf 31', 'cilium 28'],
    given: (v4, v6) => [...served('shop', [v4, v6], ['web']), ...served('mart', [v4, v6], ['web'])],
    phases: [
      {
        do: ['client', 'far'].flatMap((from) => [
          { flow: `${from}: the pod first`, line: `${from}:31001 > web` },
          { flow: `${from}: then the Service`, line: `${from}:31001 > web@shop tcp 88` },
          { flow: `${from}: then the other`, line: `${from}:31001 > web@mart tcp 88` },
        ]),
        expect: {
          flows: Object.fromEntries(
            ['client', 'far'].flatMap((from) => [
              [`${from}: the pod first`, 'runs'],
              [`${from}: then the Service`, 'runs'],
              [`${from}: then the other`, 'runs'],
            ]),
          ),
        },
      },
    ],
  }),
  serviceRow({
    name: 'a connection to a Service that the node has forgotten is no way past its translation: it stands, and new ones work',
    source: ['design 7'],
    given: (v4, v6) => [ranges, ...served('shop', [v4, v6], ['web2'])],
    phases: [
      {
        do: [
          { flow: 'tcp', line: 'client > web2@shop tcp 88' },
          { flow: 'udp', line: 'client > web2@shop udp 88' },
        ],
        expect: { flows: { tcp: 'runs', udp: 'runs' } },
      },
      {
        do: [forgotten('node1', 'client')],
        expect: { flows: { tcp: 'stands', udp: 'runs' }, reaches: ['client > web2@shop tcp,udp 88'] },
      },
    ],
  }),
  serviceRow({
    name: 'who keeps sending datagrams to a Service is answered by another pod when his own goes, on this node and on another',
    source: ['ebpf 34', 'cilium 5'],
    phases: [
      {
        do: [
          {
            act: 'pods for a while',
            run: async (bed) => {
              await Promise.all([bed.addPod('node1', 'brief1'), bed.addPod('node2', 'brief2')]);
            },
          },
          {
            apply: (v4, v6) => [...served('shop', [v4, v6], ['brief1']), ...served('mart', [v4, v6], ['brief2'])],
          },
        ],
        expect: { reaches: ['client > brief1@shop udp 88', 'client > brief2@mart udp 88'] },
      },
      {
        do: [
          { flow: 'near', line: 'client > brief1@shop udp 88' },
          { flow: 'away', line: 'client > brief2@mart udp 88' },
        ],
        expect: { flows: { near: 'runs', away: 'runs' } },
      },
      {
        do: [
          nowOf('shop', ['web']),
          nowOf('mart', ['web']),
          {
            act: 'they go',
            run: async (bed) => {
              await Promise.all([bed.pod('brief1').del(), bed.pod('brief2').del()]);
            },
          },
        ],
        expect: {
          flows: { near: 'runs', away: 'runs' },
          reaches: ['client > web@shop udp 88', 'client > web@mart udp 88'],
        },
      },
    ],
  }),
  serviceRow({
    name: 'who keeps sending datagrams to an address is heard as soon as it is a Service, and again after it was none for a while',
    source: ['ebpf 34'],
    given: [ranges],
    phases: [
      { do: [{ flow: 'udp', line: 'client > web@shop udp 88' }], expect: { flows: { udp: 'stands' } } },
      { do: [{ apply: (v4, v6) => served('shop', [v4, v6], ['web']) }], expect: { flows: { udp: 'runs' } } },
      { do: [removed('shop', 'shop-0', 'shop-1')], expect: { nothing: ['client > web@shop udp 88'] } },
      { do: [forgotten('node1', 'client')], expect: { flows: { udp: 'stands' } } },
      { do: [{ apply: (v4, v6) => served('shop', [v4, v6], ['web2']) }], expect: { flows: { udp: 'runs' } } },
    ],
  }),
  serviceRow({
    name: 'ClusterIPs are answered while the agent is dead, and when it has started; connections go on',
    source: ['cilium 36', 'cilium 37'],
    given: twoServices,
    phases: [
      ...whileAgentIsDead('client'),
      { do: [nowOf('shop', ['web2'])], expect: { reaches: ['client > web2@shop tcp,udp 88'] } },
    ],
  }),
  serviceRow({
    name: 'a reset that the pod ignores ends no connection to it or to its Service',
    source: ['ebpf 38'],
    given: (v4, v6) => served('shop', [v4, v6], ['web']),
    phases: [
      {
        do: [
          { flow: 'direct', line: 'client:31003 > web' },
          { flow: 'service', line: 'client:31004 > web@shop tcp 88' },
        ],
        expect: { flows: { direct: 'runs', service: 'runs' } },
      },
      {
        do: [
          {
            act: 'resets that fit no window',
            run: async (bed) => {
              const client = await bed.peer('client');
              for (const family of ['IPv4', 'IPv6'] as const) {
                const { client: from = '', web = '', shop = '' } = bed.addresses(family);
                const version = family === 'IPv4' ? 4 : 6;
                await client.sendRaw(version, 6, web, tcpReset({ from, to: web }, 31_003, 7777));
                await client.sendRaw(version, 6, shop, tcpReset({ from, to: shop }, 31_004, 88));
              }
            },
          },
        ],
        expect: { flows: { direct: 'runs', service: 'runs' } },
      },
    ],
  }),
  lacking(
    'the same, the Service first and then the pod',
    ['ebpf 31'],
    'a place for both: a flow is known by its tuple after translation, which the second one has before it (see ebpf-flows.md)',
  ),
];
