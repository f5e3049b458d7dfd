/** What holds without any policy: reachability, sources, what a pod has. */
import { createHash } from 'node:crypto';
import { must } from '#test/lab/exec.ts';
import type { Bed } from '../bed.ts';
import { pool } from '../objects.ts';
import type { Family, Row } from '../row.ts';

const everybody = 'client,web,blue,far,web2,red';

/** What `ip -j` prints in a pod. */
const inPod = async <T>(bed: Bed, name: string, ...args: string[]): Promise<T> =>
  JSON.parse(await must('ip', '-n', bed.pod(name).netns, '-j', ...args)) as T;

const flag = (family: Family): string => (family === 'IPv4' ? '-4' : '-6');

export const basics: readonly Row[] = [
  {
    name: 'without policies every pod reaches every other one, on its node and on others, and is seen with its own address',
    source: ['core 1'],
    phases: [
      {
        expect: {
          reaches: [
            `${everybody} > ${everybody} tcp,udp,icmp`,
            'client > web,far sctp,udplite 5000',
            'client > web,far proto 99',
          ],
        },
      },
    ],
  },
  {
    name: 'hosts and pods reach each other, and outside',
    source: ['core 1', 'ebpf 2'],
    phases: [
      {
        expect: {
          reaches: [
            `node1,node2 > ${everybody} tcp,udp,icmp`,
            // Nodes are outside the pools: from one to the other natOutgoing holds.
            'client,web,blue > node1 tcp,udp,icmp',
            'client,web,blue > node2 tcp,udp,icmp as node1',
            'far,web2,red > node2 tcp,udp,icmp',
            'far,web2,red > node1 tcp,udp,icmp as node2',
            `outside > ${everybody} tcp,udp,icmp`,
            'node1,node2 > outside tcp,udp,icmp',
          ],
        },
      },
    ],
  },
  {
    name: "a pod has one whole address, its default route leads to the node's end, whose MAC is ee:ee:ee:ee:ee:ee and which has no IPv4 address",
    source: ['core 2'],
    phases: [
      {
        do: [
          {
            act: 'the pod talks',
            run: async (bed) => void (await (await bed.peer('client')).probe(bed.pod('web').ipv4)),
          },
        ],
        expect: {
          also: {
            'in the pod': async (bed, family) => {
              type Addresses = { addr_info: { local: string; prefixlen: number; scope: string }[] }[];
              const [link] = await inPod<Addresses>(bed, 'client', flag(family), 'addr', 'show', 'eth0');
              const whole = (link?.addr_info ?? []).filter(({ scope }) => scope === 'global');
              const routes = await inPod<{ gateway?: string }[]>(
                bed,
                'client',
                flag(family),
                'route',
                'show',
                'default',
              );
              type Neighbours = { dst: string; lladdr?: string }[];
              const neighbours = await inPod<Neighbours>(bed, 'client', flag(family), 'neigh');
              const gateway = routes[0]?.gateway;
              const seen = {
                whole: whole.map(({ local, prefixlen }) => `${local}/${prefixlen}`).join(),
                gateways: routes.length,
                isLocal: family === 'IPv4' ? gateway === '169.254.1.1' : gateway?.startsWith('fe80::'),
                mac: neighbours.find(({ dst }) => dst === gateway)?.lladdr ?? 'ee:ee:ee:ee:ee:ee',
              };
              const bits = family === 'IPv4' ? 32 : 128;
              const whom = bed.addresses(family)['client'];
              const right = { whole: `${whom}/${bits}`, gateways: 1, isLocal: true, mac: 'ee:ee:ee:ee:ee:ee' };
              return JSON.stringify(seen) === JSON.stringify(right) ? undefined : JSON.stringify(seen);
            },
            'on the node': async (bed) => {
              const device = `cali${createHash('sha1').update('default.client').digest('hex').slice(0, 11)}`;
              const addresses = await bed.node('node1').exec('ip', '-4', '-o', 'addr', 'show', 'dev', device);
              return addresses === '' ? undefined : addresses;
            },
          },
        },
      },
    ],
  },
  {
    name: 'what a pod sends from an address that nobody gave it arrives nowhere',
    source: ['core 33', 'ebpf 15'],
    phases: [
      { expect: { reaches: ['client > web,far,node1 tcp,udp'] } },
      {
        do: [{ address: 'client', of: 'stranger' }],
        expect: {
          nothing: ['client@stranger > web,far,node1 tcp,udp,icmp'],
          reaches: ['client > web,far,node1 tcp,udp'],
        },
      },
    ],
  },
  {
    name: "what a pod sends from another pod's address arrives nowhere, not even within that pod's live flow, which goes on",
    source: ['core 33', 'ebpf 15', 'ebpf 16'],
    phases: [
      {
        do: [
          { flow: 'udp', line: 'client:41000 > far udp' },
          { flow: 'tcp', line: 'client:41001 > far' },
        ],
        expect: { flows: { udp: 'runs', tcp: 'runs' } },
      },
      {
        do: [{ address: 'blue', of: 'client' }],
        expect: {
          nothing: ['blue@client > far tcp,udp,icmp', 'blue@client:41000 > far udp', 'blue@client:41001 > far'],
          reaches: ['blue > far tcp,udp'],
          flows: { udp: 'runs', tcp: 'runs' },
        },
      },
    ],
  },
  {
    name: 'a pod may send from its allowed source prefixes only where the configuration says so',
    source: ['core 33'],
    phases: [
      {
        do: [
          {
            act: 'a pod with allowedSourcePrefixes',
            run: async (bed) => {
              const prefixes = JSON.stringify([bed.addresses('IPv4')['nobody'], bed.addresses('IPv6')['nobody']]);
              await bed.addPod('node1', 'spoofer', {
                annotations: { 'cni.projectcalico.org/allowedSourcePrefixes': prefixes },
              });
            },
          },
          { address: 'spoofer', of: 'nobody' },
        ],
        expect: { nothing: ['spoofer@nobody > far,web udp'], reaches: ['spoofer > far,web udp'] },
      },
      {
        do: [{ configure: { workloadSourceSpoofing: 'Any' } }],
        expect: {
          also: {
            'far hears it': async (bed, family) => {
              const [spoofer, far] = await Promise.all([bed.peer('spoofer'), bed.peer('far')]);
              const { far: host = '', nobody: from = '' } = bed.addresses(family);
              const before = (await far.heard())[from] ?? 0;
              await spoofer.probe(host, { protocol: 'udp', from, timeoutMs: 100 });
              return ((await far.heard())[from] ?? 0) > before ? undefined : 'it does not';
            },
          },
        },
      },
      { do: [{ configure: {} }], expect: { nothing: ['spoofer@nobody > far,web udp'] } },
    ],
  },
  {
    name: "outside sees a pod of a natOutgoing pool with its node's address, and pods see it with its own",
    source: ['core 34', 'ebpf 9'],
    phases: [
      {
        expect: {
          reaches: [
            'client,web,blue > outside tcp,udp,icmp as node1',
            'far,web2,red > outside tcp,udp,icmp as node2',
            'client > far,web tcp,udp',
          ],
        },
      },
    ],
  },
  {
    name: 'outside sees a pod of a pool without natOutgoing with its own address',
    source: ['core 34'],
    given: [
      pool('plain-v4', { cidr: '10.66.0.0/24', natOutgoing: false, nodeSelector: "nobody == 'here'" }),
      pool('plain-v6', { cidr: 'fd66::/112', natOutgoing: false, nodeSelector: "nobody == 'here'" }),
    ],
    phases: [
      {
        do: [
          {
            act: 'a pod of these pools',
            run: async (bed) => {
              const annotations = {
                'cni.projectcalico.org/ipv4pools': '["plain-v4"]',
                'cni.projectcalico.org/ipv6pools': '["plain-v6"]',
              };
              await bed.addPod('node1', 'plain', { annotations });
            },
          },
        ],
        expect: {
          reaches: ['plain > outside tcp,udp', 'plain > far,web tcp,udp', 'client > outside tcp,udp as node1'],
        },
      },
    ],
  },
  {
    name: 'datagrams in many fragments arrive: pod to pod, and out',
    source: ['ebpf 18'],
    phases: [
      {
        expect: {
          reaches: [
            'client > web,far udp of 4000 bytes',
            'client > web,far udp of 16000 bytes',
            'client > outside udp of 4000 bytes as node1',
            'outside > web udp of 16000 bytes',
          ],
        },
      },
    ],
  },
];
