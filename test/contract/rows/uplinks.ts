/** What pods send to the world and are sent from there, by the node's uplinks. */
import { must } from '#test/lab/exec.ts';
import { pool } from '../objects.ts';
import type { Action, Row } from '../row.ts';
import { smallUplink } from './service-parts.ts';

/** The fabric's own packets fit through uplinks that were made small. */
const smallOutside: Action = {
  act: 'outside sends less at once',
  run: async (bed) => {
    const setMtu = (mtu: string) => must('ip', '-n', bed.lab.fabric, 'link', 'set', 'br0', 'mtu', mtu);
    bed.onRowEnd(() => setMtu('1500'));
    await setMtu('1300');
  },
};

/** Pools that a pod has to ask for. */
const askedFor = (natOutgoing: boolean) => [
  pool('asked-v4', { cidr: '10.66.0.0/24', natOutgoing, nodeSelector: "nobody == 'here'" }),
  pool('asked-v6', { cidr: 'fd66::/112', natOutgoing, nodeSelector: "nobody == 'here'" }),
];

export const uplinks: readonly Row[] = [
  {
    name: 'connections of two pods and of the node, from one port to one place outside, live side by side',
    source: ['cilium 29', 'core 34'],
    phases: [
      {
        do: [
          { flow: 'one pod', line: 'client:31031 > outside' },
          { flow: 'the other', line: 'web:31031 > outside' },
          { flow: 'the node', line: 'node1:31031 > outside' },
          { flow: 'datagrams of one pod', line: 'client:31031 > outside udp' },
          { flow: 'datagrams of the other', line: 'web:31031 > outside udp' },
          { flow: 'datagrams of the node', line: 'node1:31031 > outside udp' },
        ],
        expect: {
          flows: {
            'one pod': 'runs',
            'the other': 'runs',
            'the node': 'runs',
            'datagrams of one pod': 'runs',
            'datagrams of the other': 'runs',
            'datagrams of the node': 'runs',
          },
          reaches: ['client,web > outside tcp,udp,icmp as node1', 'node1 > outside tcp,udp,icmp'],
        },
      },
    ],
  },
  {
    name: "a pod hears it when nobody listens outside, though outside knows only the node's address",
    source: ['ebpf 36', 'core 34'],
    phases: [{ expect: { refused: ['client,far > outside tcp,udp 4444', 'outside > web,far tcp,udp 4444'] } }],
  },
  {
    name: 'what is too big for the way out of the node, or into it, is said to the sender, and it sends less',
    source: ['cilium 32', 'ebpf 37'],
    phases: [
      {
        do: [smallUplink('node1'), smallUplink('node2'), smallOutside],
        expect: {
          reaches: [
            'client > far udp of 1400 bytes',
            'client > outside udp of 1400 bytes as node1',
            'outside > web udp of 1400 bytes',
            'client > far tcp',
            'client > outside tcp as node1',
          ],
        },
      },
    ],
  },
  {
    name: 'connections out and in go on while the agent is dead and when it has started, and new ones are made',
    source: ['cilium 36', 'cilium 37'],
    phases: [
      {
        do: [
          { flow: 'out', line: 'client > outside' },
          { flow: 'datagrams out', line: 'client > outside udp' },
          { flow: 'in', line: 'outside > web' },
          { flow: 'across', line: 'far > web' },
          { kill: 'node1' },
        ],
        expect: {
          flows: { out: 'runs', 'datagrams out': 'runs', in: 'runs', across: 'runs' },
          reaches: ['client > outside tcp,udp,icmp as node1', 'outside,far > web tcp,udp,icmp'],
        },
      },
      {
        do: [{ start: 'node1' }],
        expect: {
          flows: { out: 'runs', 'datagrams out': 'runs', in: 'runs', across: 'runs' },
          reaches: ['client > outside tcp,udp,icmp as node1', 'outside,far > web tcp,udp,icmp'],
        },
      },
    ],
  },
  {
    name: "a pool's natOutgoing changes: new connections follow, established ones go on",
    source: ['core 34'],
    given: askedFor(true),
    phases: [
      {
        do: [
          {
            act: 'a pod of these pools',
            run: async (bed) => {
              const annotations = {
                'cni.projectcalico.org/ipv4pools': '["asked-v4"]',
                'cni.projectcalico.org/ipv6pools': '["asked-v6"]',
              };
              await bed.addPod('node1', 'asker', { annotations });
            },
          },
          { flow: 'masqueraded', line: 'asker > outside' },
        ],
        expect: { reaches: ['asker > outside tcp,udp as node1'], flows: { masqueraded: 'runs' } },
      },
      {
        do: [{ apply: askedFor(false) }, { flow: 'as it is', line: 'asker > outside' }],
        expect: {
          reaches: ['asker > outside tcp,udp', 'asker > far tcp,udp'],
          flows: { masqueraded: 'runs', 'as it is': 'runs' },
        },
      },
      {
        do: [{ apply: askedFor(true) }],
        expect: {
          reaches: ['asker > outside tcp,udp as node1'],
          flows: { masqueraded: 'runs', 'as it is': 'runs' },
        },
      },
    ],
  },
];
