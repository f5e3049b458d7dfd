/** What policy sees of what is sent to a Service. */
import { globalPolicy, kubernetesPolicy, networkPolicy } from '../objects.ts';
import { type Row } from '../row.ts';
import { serviceRow, nowOf, served } from './service-parts.ts';

export const servicePolicy: readonly Row[] = [
  serviceRow({
    name: "a pod reaches itself by its own Service, and sees its node's address; policy sees the pod",
    source: ['ebpf 30', 'cilium 11'],
    given: (v4, v6) => served('shop', [v4, v6], ['web']),
    phases: [
      {
        do: [{ flow: 'self', line: 'web > web@shop tcp 88' }],
        expect: {
          reaches: [
            'web > web@shop tcp,udp 88 as node1',
            'web > web@shop sctp 5000',
            'web > web@shop udp 88 of 4000 bytes as node1',
          ],
          flows: { self: 'runs' },
        },
      },
      {
        do: [
          {
            apply: [
              networkPolicy('greens', {
                selector: "app == 'web'",
                types: ['Ingress'],
                ingress: [{ action: 'Allow', source: { selector: "color == 'green'" } }],
              }),
            ],
          },
        ],
        expect: {
          reaches: ['web > web@shop tcp,udp 88 as node1'],
          nothing: ['client,far > web@shop tcp,udp 88'],
          flows: { self: 'runs' },
        },
      },
      {
        do: [{ apply: [networkPolicy('greens', { selector: "app == 'web'", types: ['Egress'], egress: [] })] }],
        expect: { nothing: ['web > web@shop tcp,udp 88'], flows: { self: 'runs' } },
      },
    ],
  }),
  serviceRow({
    name: "a client's egress is judged by the pod and port that answer, not by the Service's",
    source: ['cilium 35'],
    needs: ['enforcesPolicy'],
    given: (v4, v6) => [
      ...served('shop', [v4, v6], ['web']),
      ...served('mart', [v4, v6], ['far']),
      globalPolicy('to-pods', {
        selector: "color == 'azure'",
        types: ['Egress'],
        egress: [
          { action: 'Allow', protocol: 'TCP', destination: { selector: "app == 'web'", ports: [7777] } },
          { action: 'Allow', protocol: 'SCTP', destination: { selector: "app == 'web'" } },
        ],
      }),
    ],
    phases: [
      {
        expect: {
          reaches: ['client > web@shop tcp 88', 'client > web@shop sctp 5000'],
          nothing: ['client > web@shop udp 88', 'client > far@mart tcp,udp 88'],
        },
      },
      {
        do: [
          {
            apply: (v4, v6) => [
              globalPolicy('to-pods', {
                selector: "color == 'azure'",
                types: ['Egress'],
                egress: [v4, v6].map((book) => ({
                  action: 'Allow',
                  destination: { nets: [`${book['shop']}/${book === v4 ? 32 : 128}`] },
                })),
              }),
            ],
          },
        ],
        expect: { nothing: ['client > web@shop tcp,udp 88'] },
      },
      {
        do: [
          { remove: ['to-pods'] },
          {
            apply: [
              networkPolicy('to-shop', {
                selector: "color == 'azure'",
                types: ['Egress'],
                egress: [{ action: 'Allow', destination: { services: { name: 'shop', namespace: 'default' } } }],
              }),
            ],
          },
        ],
        expect: {
          reaches: ['client > web@shop tcp,udp 88', 'client > web tcp,udp 7777'],
          nothing: ['client > web tcp,udp 8080', 'client > far@mart tcp,udp 88', 'client > far tcp,udp'],
        },
      },
      {
        do: [nowOf('shop', ['web2'])],
        expect: { reaches: ['client > web2@shop tcp,udp 88'], nothing: ['client > web tcp,udp 7777'] },
      },
    ],
  }),
  serviceRow({
    name: "a pod's ingress is judged by the client that asks the Service, and an established connection outlives a denial",
    source: ['cilium 34', 'cilium 35'],
    needs: ['enforcesPolicy'],
    given: (v4, v6) => [
      ...served('shop', [v4, v6], ['web']),
      kubernetesPolicy('clients', {
        podSelector: { matchLabels: { app: 'web' } },
        ingress: [{ from: [{ podSelector: { matchLabels: { app: 'client' } } }], ports: [{ port: 7777 }] }],
      }),
    ],
    phases: [
      {
        do: [
          { flow: 'near', line: 'client > web@shop tcp 88' },
          { flow: 'away', line: 'far > web@shop tcp 88' },
        ],
        expect: {
          reaches: ['client,far > web@shop tcp 88'],
          nothing: ['blue,red,web2 > web@shop tcp,udp 88', 'client,far > web@shop udp 88'],
          flows: { near: 'runs', away: 'runs' },
        },
      },
      {
        do: [{ apply: [kubernetesPolicy('clients', { podSelector: { matchLabels: { app: 'web' } }, ingress: [] })] }],
        expect: { nothing: ['client,far,blue > web@shop tcp,udp 88'], flows: { near: 'runs', away: 'runs' } },
      },
    ],
  }),
];
