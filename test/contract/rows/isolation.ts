/** What it means that a policy selects a pod, and what becomes of flows that exist. */
import { clusterPolicy, globalPolicy, kubernetesPolicy, networkPolicy } from '../objects.ts';
import { policyRow, type Row } from '../row.ts';

const webs = { matchLabels: { app: 'web' } };
const ofClients = { podSelector: { matchLabels: { app: 'client' } } };
const isolateWeb = kubernetesPolicy('isolate', { podSelector: webs, policyTypes: ['Ingress'] });
const allowClients = kubernetesPolicy('allow-clients', {
  podSelector: webs,
  policyTypes: ['Ingress'],
  ingress: [{ from: [ofClients] }],
});
const others = 'client,blue,far,red';

export const isolation: readonly Row[] = [
  policyRow({
    name: 'a Kubernetes policy without rules isolates the pods it selects: silence for all but their own nodes',
    source: ['core 18', 'ebpf 2'],
    given: [isolateWeb],
    phases: [
      {
        expect: {
          nothing: [
            `${others},outside > web,web2 tcp,udp,icmp`,
            'node2 > web tcp,udp,icmp',
            'node1 > web2 tcp,udp,icmp',
          ],
          reaches: [
            'node1 > web tcp,udp,icmp',
            'node2 > web2 tcp,udp,icmp',
            `web,web2 > ${others} tcp,udp,icmp`,
            'web > node1 tcp,udp,icmp',
            'web2 > node2 tcp,udp,icmp',
            `${others} > client,far tcp,udp,icmp`,
          ],
        },
      },
    ],
  }),
  policyRow({
    name: 'an egress policy without rules keeps a pod from sending, to its own node too, and not from being reached',
    source: ['core 18'],
    given: [kubernetesPolicy('mute', { podSelector: { matchLabels: { color: 'azure' } }, policyTypes: ['Egress'] })],
    phases: [
      {
        expect: {
          nothing: ['client > web,far,blue,node1,node2,outside tcp,udp,icmp'],
          reaches: ['web,far,blue,node1,node2,outside > client tcp,udp,icmp'],
        },
      },
    ],
  }),
  policyRow({
    name: "both ends are asked: the source's egress and the destination's ingress, also on one node",
    source: ['core 18'],
    given: [
      kubernetesPolicy('mute', {
        podSelector: { matchLabels: { color: 'azure' } },
        policyTypes: ['Egress'],
        egress: [{ to: [{ podSelector: webs }], ports: [{ port: 7777 }, { port: 8080 }] }],
      }),
      kubernetesPolicy('deaf', {
        podSelector: webs,
        policyTypes: ['Ingress'],
        ingress: [{ ports: [{ port: 8080 }, { port: 9090 }] }],
      }),
    ],
    phases: [
      {
        expect: {
          reaches: ['client > web,web2 tcp 8080', 'far > web,web2 tcp 8080,9090'],
          nothing: ['client > web,web2 tcp 7777,9090', 'far > web,web2 tcp 7777', 'client > far tcp 7777'],
        },
      },
    ],
  }),
  policyRow({
    name: 'an allowing policy opens, its removal closes for what is new, and established flows go on',
    source: ['core 19'],
    given: [isolateWeb],
    phases: [
      { expect: { nothing: ['client > web,web2 tcp,udp'] } },
      {
        do: [{ apply: [allowClients] }],
        expect: { reaches: ['client,far > web,web2 tcp,udp'], nothing: ['blue,red > web,web2 tcp,udp', 'web > web2'] },
      },
      {
        do: [
          { flow: 'near tcp', line: 'client > web' },
          { flow: 'near udp', line: 'client > web udp' },
          { flow: 'far tcp', line: 'client > web2' },
          { flow: 'far udp', line: 'client > web2 udp' },
        ],
        expect: { flows: { 'near tcp': 'runs', 'near udp': 'runs', 'far tcp': 'runs', 'far udp': 'runs' } },
      },
      {
        do: [{ remove: ['default/allow-clients'] }],
        expect: {
          nothing: ['client,far > web,web2 tcp,udp'],
          flows: { 'near tcp': 'runs', 'near udp': 'runs', 'far tcp': 'runs', 'far udp': 'runs' },
        },
      },
    ],
  }),
  policyRow({
    name: 'a denial with a lower order cuts new flows, not the established ones; its removal restores',
    source: ['ebpf 4', 'core 20'],
    given: [
      globalPolicy('allow', {
        selector: "app == 'web'",
        order: 100,
        types: ['Ingress'],
        ingress: [{ action: 'Allow' }],
      }),
    ],
    phases: [
      {
        do: [{ flow: 'old', line: 'client > web' }],
        expect: { reaches: ['client,far > web'], flows: { old: 'runs' } },
      },
      {
        do: [
          {
            apply: [
              globalPolicy('deny', {
                selector: "app == 'web'",
                order: 1,
                types: ['Ingress'],
                ingress: [{ action: 'Deny', source: { selector: "app == 'client'" } }],
              }),
            ],
          },
        ],
        expect: { nothing: ['client,far > web tcp,udp'], reaches: ['web2 > web'], flows: { old: 'runs' } },
      },
      { do: [{ remove: ['deny'] }], expect: { reaches: ['client,far > web tcp,udp'], flows: { old: 'runs' } } },
    ],
  }),
  policyRow({
    name: 'a new connection from the ports of an ended one is judged again',
    source: ['ebpf 4', 'ebpf 7'],
    phases: [
      { expect: { reaches: ['client:31000 > web', 'far:31001 > web'] } },
      {
        do: [{ apply: [isolateWeb] }],
        expect: { nothing: ['client:31000 > web', 'far:31001 > web', 'client:31002 > web'] },
      },
    ],
  }),
  policyRow({
    name: 'a policy has only the directions of its types',
    source: ['core 18'],
    given: [
      networkPolicy('egress-only', {
        selector: "app == 'web'",
        types: ['Egress'],
        egress: [{ action: 'Allow', protocol: 'UDP' }],
      }),
    ],
    phases: [
      { expect: { reaches: ['client,far > web tcp,udp', 'web > client,far udp'], nothing: ['web > client,far tcp'] } },
    ],
  }),
  policyRow({
    name: 'without types a policy has the directions of its rules, and Ingress when it has none',
    source: ['core 18'],
    given: [
      networkPolicy('nothing', { selector: "color == 'green'" }),
      networkPolicy('sends', {
        selector: "color == 'azure'",
        egress: [{ action: 'Deny', protocol: 'UDP' }, { action: 'Allow' }],
      }),
    ],
    phases: [
      {
        expect: {
          nothing: ['client,far > web tcp', 'client > far udp'],
          reaches: ['web > far tcp,udp', 'client > far tcp', 'far > client tcp,udp'],
        },
      },
    ],
  }),
  policyRow({
    name: "a Kubernetes policy's peers: pods, namespaces, both, networks with exceptions; ports, their ranges and protocols",
    source: ['core 18', 'core 27'],
    given: (v4, v6) => [
      kubernetesPolicy('peers', {
        podSelector: webs,
        ingress: [
          { from: [ofClients], ports: [{ port: 2001 }] },
          { from: [{ namespaceSelector: { matchLabels: { team: 'blue' } } }], ports: [{ port: 2002 }] },
          {
            from: [
              {
                namespaceSelector: {},
                podSelector: { matchExpressions: [{ key: 'color', operator: 'In', values: ['red', 'azalea'] }] },
              },
            ],
            ports: [{ port: 2003 }],
          },
          {
            from: [
              { ipBlock: { cidr: '10.65.0.0/16', except: [`${v4['client']}/32`] } },
              { ipBlock: { cidr: 'fd65::/48', except: [`${v6['client']}/128`] } },
            ],
            ports: [{ port: 2004 }],
          },
          { ports: [{ port: 2010, endPort: 2012 }] },
          {
            from: [ofClients, { namespaceSelector: { matchLabels: { team: 'red' } } }],
            ports: [{ protocol: 'UDP', port: 8080 }],
          },
        ],
      }),
    ],
    phases: [
      {
        expect: {
          refused: [
            'client,far > web,web2 tcp 2001',
            'blue > web,web2 tcp 2002',
            'red,far > web,web2 tcp 2003',
            'blue,far,red > web,web2 tcp 2004',
            'client,blue,outside > web,web2 tcp 2010,2011,2012',
          ],
          reaches: ['client,far,red > web,web2 udp 8080'],
          nothing: [
            'blue,red,outside > web tcp 2001',
            'client,far,red > web tcp 2002',
            'client,blue > web tcp 2003',
            'client,outside > web tcp 2004',
            'client > web tcp 2009,2013',
            'blue > web udp 8080',
            'client > web tcp 8080',
            'client > web icmp',
          ],
        },
      },
    ],
  }),
  policyRow({
    name: 'ClusterNetworkPolicy: Admin before NetworkPolicy, Pass leaves it to them, Baseline comes after all',
    source: ['core 21'],
    given: [
      clusterPolicy('admin', {
        tier: 'Admin',
        priority: 10,
        subject: { pods: { podSelector: webs } },
        ingress: [
          { action: 'Deny', from: [{ namespaces: { matchLabels: { team: 'red' } } }] },
          {
            action: 'Accept',
            from: [{ namespaces: { matchLabels: { team: 'blue' } } }],
            protocols: [
              { tcp: { destinationPort: { number: 8080 } } },
              { tcp: { destinationPort: { range: { start: 2000, end: 2002 } } } },
            ],
          },
          { action: 'Pass', from: [{ namespaces: {} }] },
        ],
      }),
      clusterPolicy('baseline', {
        tier: 'Baseline',
        priority: 5,
        subject: { pods: { podSelector: webs } },
        ingress: [{ action: 'Deny', from: [{ namespaces: { matchLabels: { team: 'blue' } } }] }],
      }),
      kubernetesPolicy('only-far', {
        podSelector: { matchLabels: { color: 'green' } },
        ingress: [
          { from: [{ podSelector: { matchLabels: { color: 'azalea' } } }] },
          { from: [{ namespaceSelector: { matchLabels: { team: 'red' } } }] },
        ],
      }),
    ],
    phases: [
      {
        expect: {
          // web has a NetworkPolicy of its own, web2 only the cluster's.
          reaches: ['blue > web,web2 tcp 8080', 'far > web,web2 tcp,udp', 'client > web2 tcp,udp'],
          refused: ['blue > web,web2 tcp 2000,2002'],
          nothing: ['red > web,web2 tcp,udp', 'blue > web,web2 tcp 7777,2003', 'client > web tcp,udp'],
        },
      },
    ],
  }),
];
