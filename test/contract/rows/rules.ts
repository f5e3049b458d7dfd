/** What a rule can ask of a packet. */
import { must } from '#test/lab/exec.ts';
import type { Bed } from '../bed.ts';
import { endpointSlices, globalNetworkSet, globalPolicy, networkPolicy, service } from '../objects.ts';
import { policyRow, type AddressBook, type Manifest, type Row } from '../row.ts';

const web = { selector: "color == 'green'", types: ['Ingress'] };
const client = { selector: "color == 'azure'", types: ['Egress'] };

/** One rule a family: a rule can't name networks of both. */
const ofBoth = (v4: AddressBook, v6: AddressBook, rule: (book: AddressBook, is4: boolean) => object) => [
  rule(v4, true),
  rule(v6, false),
];

/** Networks that hold none of the lab's addresses; of different lengths, some within others. */
function strangeNets(is4: boolean, count: number): readonly string[] {
  return Array.from({ length: count }, (_, i) => {
    const [high, low] = [Math.floor(i / 250), (i % 250) + 1];
    if (is4) return i % 7 === 0 ? `203.${high}.${low}.0/24` : `203.${high}.${low}.${(i * 13) % 256}/32`;
    return i % 7 === 0 ? `2001:db8:${high + 2}:${low}::/64` : `2001:db8:${high + 2}:${low}::${(i * 13) % 9999}/128`;
  });
}

const singles = Array.from({ length: 20 }, (_, i) => 6000 + 2 * i);

/** A Service's slices, one a family, with these endpoints and a port. */
const shop = (v4: AddressBook, v6: AddressBook, pods: readonly string[], port = 8080): readonly Manifest[] =>
  endpointSlices('shop', [v4, v6], pods, [{ name: 'http', port, protocol: 'TCP' }]);

/** Connects all the time while something is done; throws when one connection failed. */
async function whileConnecting(bed: Bed, from: string, to: string, deed: () => Promise<void>): Promise<void> {
  const state = { done: false };
  const asking = ['IPv4', 'IPv6'].map(async (family) => {
    const [peer, host] = [await bed.peer(from), bed.addresses(family === 'IPv4' ? 'IPv4' : 'IPv6')[to] ?? ''];
    for (let asked = 1; !state.done; asked++) {
      const { verdict } = await peer.probe(host, { timeoutMs: 2_000 });
      if (verdict !== 'reaches') throw new Error(`connection ${asked} from ${from} to ${to}: ${verdict}`);
    }
  });
  await Promise.all([deed().finally(() => (state.done = true)), ...asking]);
}

export const rules: readonly Row[] = [
  policyRow({
    name: 'a named port is the number that each pod gives it',
    source: ['core 26'],
    given: [
      globalPolicy('http', {
        selector: "app == 'web'",
        types: ['Ingress'],
        ingress: [
          { action: 'Allow', protocol: 'TCP', destination: { ports: ['http'] } },
          { action: 'Allow', protocol: 'UDP', destination: { ports: ['dns'] } },
        ],
      }),
    ],
    phases: [
      {
        expect: {
          reaches: ['client,far > web tcp 8080', 'client,far > web2 tcp 9090', 'client,far > web udp 5353'],
          nothing: [
            'client,far > web tcp 9090,7777,5353',
            'client,far > web2 tcp 8080,7777',
            'client > web udp 8080',
            'client > web2 udp 5353',
          ],
        },
      },
    ],
  }),
  policyRow({
    name: 'in egress a named port is looked up at each destination, and a negated one leaves out just that',
    source: ['core 26'],
    given: [
      globalPolicy('to-http', {
        ...client,
        egress: [
          { action: 'Allow', protocol: 'TCP', destination: { selector: "app == 'web'", ports: ['http', 7777] } },
          { action: 'Allow', protocol: 'UDP', destination: { notPorts: ['dns'] } },
        ],
      }),
    ],
    phases: [
      {
        expect: {
          reaches: [
            'client > web tcp 8080,7777',
            'client > web2 tcp 9090,7777',
            'client > web udp 8080',
            'client > web2,far udp 5353',
          ],
          nothing: [
            'client > web tcp 9090',
            'client > web2 tcp 8080',
            'client > far tcp 7777',
            'client > web udp 5353',
          ],
        },
      },
    ],
  }),
  policyRow({
    name: 'ports, ranges and more than fifteen of them match exactly at their edges',
    source: ['core 27'],
    given: [
      networkPolicy('ports', {
        ...web,
        ingress: [
          { action: 'Allow', protocol: 'TCP', destination: { ports: ['5000:5010', ...singles, '65535'] } },
          { action: 'Allow', protocol: 'UDP', destination: { ports: [8080, '9089:9090'] } },
        ],
      }),
    ],
    phases: [
      {
        expect: {
          refused: [`client,far > web tcp 5000,5005,5010,65535,${singles.join()}`],
          reaches: ['client,far > web udp 8080,9090'],
          nothing: [
            `client,far > web tcp 4999,5011,65534,${singles.map((port) => port + 1).join()}`,
            'client > web tcp 8080',
            'client > web udp 7777,5353',
          ],
        },
      },
    ],
  }),
  policyRow({
    name: 'negated ports, of the source too, match exactly at their edges',
    source: ['core 27'],
    // The source's are below those that the kernel chooses: one of these might have the same.
    given: [
      networkPolicy('not-ports', {
        ...web,
        ingress: [
          { action: 'Deny', protocol: 'TCP', source: { ports: ['31000:31001'] } },
          { action: 'Allow', protocol: 'TCP', destination: { notPorts: ['5000:5010', ...singles] } },
        ],
      }),
    ],
    phases: [
      {
        expect: {
          refused: ['client,far > web tcp 4999,5011,6001,65535'],
          reaches: ['client,far > web tcp 7777', 'client:30999 > web', 'far:31002 > web'],
          nothing: [
            `client,far > web tcp 5000,5005,5010,${singles.join()}`,
            'client:31000 > web',
            'far:31001 > web',
            'client > web udp',
          ],
        },
      },
    ],
  }),
  policyRow({
    name: 'a hundred networks and their exceptions match exactly at their edges',
    source: ['core 27'],
    given: (v4, v6) => [
      networkPolicy('nets', {
        ...client,
        egress: ofBoth(v4, v6, (book, is4) => ({
          action: 'Allow',
          destination: {
            nets: [
              is4 ? '198.51.100.16/28' : '2001:db8:1::10/124',
              `${book['far']}/${is4 ? 32 : 128}`,
              ...strangeNets(is4, 150),
            ],
          },
        })),
      }),
    ],
    phases: [
      {
        expect: {
          reaches: ['client > outside@edge16 as node1', 'client > outside@edge31 as node1', 'client > far tcp,udp'],
          nothing: ['client > outside@edge15', 'client > outside@edge32', 'client > web', 'client > outside'],
        },
      },
      {
        do: [
          {
            apply: (v4, v6) => [
              networkPolicy('nets', {
                ...client,
                egress: ofBoth(v4, v6, (book, is4) => ({
                  action: 'Allow',
                  destination: {
                    nets: [is4 ? '0.0.0.0/0' : '::/0'],
                    notNets: [
                      is4 ? '198.51.100.16/28' : '2001:db8:1::10/124',
                      `${book['far']}/${is4 ? 32 : 128}`,
                      ...strangeNets(is4, 150),
                    ],
                  },
                })),
              }),
            ],
          },
        ],
        expect: {
          nothing: ['client > outside@edge16', 'client > outside@edge31', 'client > far tcp,udp'],
          reaches: [
            'client > outside@edge15 as node1',
            'client > outside@edge32 as node1',
            'client > web',
            'client > outside as node1',
          ],
        },
      },
    ],
  }),
  policyRow({
    name: "egress to a Service is to its endpoints' addresses and ports, and follows them",
    source: ['core 28'],
    given: (v4, v6) => [
      service('shop', [{ name: 'http', port: 80, targetPort: 8080 }]),
      ...shop(v4, v6, ['web']),
      networkPolicy('to-shop', {
        ...client,
        egress: [{ action: 'Allow', destination: { services: { name: 'shop', namespace: 'default' } } }],
      }),
    ],
    phases: [
      {
        expect: {
          reaches: ['client > web tcp 8080'],
          nothing: ['client > web tcp 7777,80', 'client > web udp 8080', 'client > web2,far tcp 8080'],
        },
      },
      {
        do: [{ apply: (v4, v6) => shop(v4, v6, ['web2', 'far'], 9090) }],
        expect: {
          reaches: ['client > web2,far tcp 9090'],
          nothing: ['client > web tcp 8080,9090', 'client > web2 tcp 8080'],
        },
      },
      {
        do: [{ remove: ['default/shop-0', 'default/shop-1'] }],
        expect: { nothing: ['client > web,web2,far tcp 8080,9090'] },
      },
    ],
  }),
  policyRow({
    name: "ingress from a Service is from its endpoints' addresses, from any port",
    source: ['core 28'],
    given: (v4, v6) => [
      service('shop', [{ name: 'http', port: 80 }]),
      ...shop(v4, v6, ['far']),
      networkPolicy('from-shop', {
        ...web,
        ingress: [{ action: 'Allow', source: { services: { name: 'shop', namespace: 'default' } } }],
      }),
    ],
    phases: [
      { expect: { reaches: ['far > web tcp,udp'], nothing: ['client,blue > web tcp,udp'] } },
      {
        do: [{ apply: (v4, v6) => shop(v4, v6, ['client', 'blue']) }],
        expect: { reaches: ['client,blue > web tcp,udp'], nothing: ['far > web tcp,udp'] },
      },
    ],
  }),
  policyRow({
    name: 'ICMP types: echo is allowed, others are not',
    source: ['core 29'],
    given: [
      globalPolicy('echo', {
        ...web,
        ingress: [
          { action: 'Allow', protocol: 'ICMP', icmp: { type: 8, code: 0 } },
          { action: 'Allow', protocol: 'ICMPv6', icmp: { type: 128 } },
        ],
      }),
    ],
    phases: [
      {
        expect: (family) => ({
          reaches: ['client,far > web icmp'],
          nothing: [`client,far > web icmp ${family === 'IPv4' ? 13 : 139}`, 'client > web tcp,udp'],
        }),
      },
      {
        do: [
          {
            apply: [
              globalPolicy('echo', {
                ...web,
                ingress: [
                  { action: 'Allow', protocol: 'ICMP', notICMP: { type: 8 } },
                  { action: 'Allow', protocol: 'ICMPv6', notICMP: { type: 128 } },
                ],
              }),
            ],
          },
        ],
        expect: (family) => ({
          reaches: [`client,far > web icmp ${family === 'IPv4' ? 13 : 139}`],
          nothing: ['client,far > web icmp', 'client > web tcp,udp'],
        }),
      },
    ],
  }),
  policyRow({
    name: 'no policy keeps neighbours from being found',
    source: ['core 29'],
    given: [
      globalPolicy('tight', {
        selector: "color in {'azure', 'green'}",
        types: ['Ingress', 'Egress'],
        ingress: [{ action: 'Allow', protocol: 'TCP' }],
        egress: [{ action: 'Allow', protocol: 'TCP' }],
      }),
    ],
    phases: [
      {
        do: [
          {
            act: 'pods forget their neighbours',
            run: async (bed) => {
              for (const name of ['client', 'web']) {
                for (const flag of ['-4', '-6'])
                  await must('ip', '-n', bed.pod(name).netns, flag, 'neigh', 'flush', 'all');
              }
            },
          },
        ],
        expect: { reaches: ['client > web,node1', 'web > client'], nothing: ['client > web udp,icmp'] },
      },
    ],
  }),
  policyRow({
    name: 'protocols by name and number, SCTP and UDP-Lite with ports',
    source: ['core 30'],
    given: [
      globalPolicy('protocols', {
        ...web,
        ingress: [
          { action: 'Allow', protocol: 'SCTP', destination: { ports: [5000] } },
          { action: 'Allow', protocol: 'UDPLite' },
          { action: 'Allow', protocol: 99 },
        ],
      }),
    ],
    phases: [
      {
        expect: {
          reaches: ['client,far > web sctp 5000', 'client,far > web udplite 5000', 'client,far > web proto 99'],
          nothing: ['client,far > web sctp 5001', 'client,far > web proto 98', 'client > web tcp,udp,icmp'],
        },
      },
      {
        do: [{ apply: [globalPolicy('protocols', { ...web, ingress: [{ action: 'Allow', notProtocol: 'TCP' }] })] }],
        expect: {
          reaches: ['client,far > web sctp 5001', 'client,far > web proto 98', 'client,far > web udp,icmp'],
          nothing: ['client,far > web tcp'],
        },
      },
    ],
  }),
  policyRow({
    name: 'ipVersion limits a rule to one family',
    source: ['core 30'],
    given: [globalPolicy('version', { ...web, ingress: [{ action: 'Allow', ipVersion: 4 }] })],
    phases: [
      {
        expect: (family) =>
          family === 'IPv4'
            ? { reaches: ['client,far > web tcp,udp,icmp'] }
            : { nothing: ['client,far > web tcp,udp,icmp'] },
      },
      {
        do: [{ apply: [globalPolicy('version', { ...web, ingress: [{ action: 'Allow', ipVersion: 6 }] })] }],
        expect: (family) =>
          family === 'IPv6'
            ? { reaches: ['client,far > web tcp,udp,icmp'] }
            : { nothing: ['client,far > web tcp,udp,icmp'] },
      },
    ],
  }),
  policyRow({
    name: 'a network set of ten thousand networks changes without a moment in which what stays in it does not match',
    source: ['core 31'],
    given: (v4, v6) => [
      globalNetworkSet('many', manyNets(v4, v6, 0), { from: 'many' }),
      globalPolicy('from-many', { ...web, ingress: [{ action: 'Allow', source: { selector: "from == 'many'" } }] }),
    ],
    phases: [
      { expect: { reaches: ['outside > web tcp,udp'], nothing: ['client,far > web tcp,udp'] } },
      {
        do: [
          {
            act: 'the set changes again and again',
            run: (bed) =>
              whileConnecting(bed, 'outside', 'web', async () => {
                const [v4, v6] = [bed.addresses('IPv4'), bed.addresses('IPv6')];
                for (const round of [1, 2, 3]) {
                  bed.inForce.change([globalNetworkSet('many', manyNets(v4, v6, round), { from: 'many' })]);
                  await bed.inForce.reached();
                }
              }),
          },
        ],
        expect: { reaches: ['outside > web tcp,udp'], nothing: ['client,far > web tcp,udp'] },
      },
      {
        do: [
          {
            apply: (v4, v6) => [
              globalNetworkSet('many', [`${v4['far']}/32`, `${v6['far']}/128`, ...strangeNets(true, 5_000)], {
                from: 'many',
              }),
            ],
          },
        ],
        expect: { reaches: ['far > web tcp,udp'], nothing: ['outside > web tcp,udp'] },
      },
    ],
  }),
];

/** Ten thousand networks, half of which are others in the next round, and the outside's address. */
function manyNets(v4: AddressBook, v6: AddressBook, round: number): readonly string[] {
  const from = round * 2_500;
  return [
    `${v4['outside']}/32`,
    `${v6['outside']}/128`,
    ...strangeNets(true, from + 5_000).slice(from),
    ...strangeNets(false, from + 5_000).slice(from),
  ];
}
