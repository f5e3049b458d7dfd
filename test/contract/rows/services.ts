/** Services as pods reach them: ClusterIPs, who answers, and what becomes of them. */
import type { Bed } from '../bed.ts';
import { clusterIpService, endpointSlices, globalPolicy } from '../objects.ts';
import { lacking, type Family, type Row } from '../row.ts';
import { serviceRow, nowOf, ports, ranges, removed, served, serviceAt } from './service-parts.ts';

/** How many of `count` new connections each pod has answered, by its name. */
async function sharesOf(
  bed: Bed,
  family: Family,
  asked: { readonly from: string; readonly service: string; readonly protocol: 'tcp' | 'udp'; readonly count: number },
  pods: readonly string[],
): Promise<Readonly<Record<string, number>>> {
  const from = await bed.peer(asked.from);
  const host = bed.addresses(family)[asked.service] ?? '';
  const shares: Record<string, number> = Object.fromEntries(pods.map((pod) => [pod, 0]));
  const names = new Map(await Promise.all(pods.map(async (pod) => [(await bed.peer(pod)).name, pod] as const)));
  for (let left = asked.count; left > 0; left -= 20) {
    const some = Array.from({ length: Math.min(left, 20) }, () =>
      from.probe(host, { protocol: asked.protocol, port: 88, timeoutMs: 800 }),
    );
    for (const { verdict, answeredBy } of await Promise.all(some)) {
      const who = names.get(answeredBy ?? '') ?? answeredBy ?? verdict;
      shares[who] = (shares[who] ?? 0) + 1;
    }
  }
  return shares;
}

/** New connections of client to shop are for all of these, and for nobody else. */
const shared =
  (protocol: 'tcp' | 'udp', ...pods: string[]) =>
  async (bed: Bed, family: Family): Promise<string | undefined> => {
    const shares = await sharesOf(bed, family, { from: 'client', service: 'shop', protocol, count: 40 }, pods);
    const isRight = Object.keys(shares).length === pods.length && Object.values(shares).every((share) => share > 0);
    return isRight ? undefined : JSON.stringify(shares);
  };

/** Of 200 connections everybody gets a share: its distance from the mean, which chance exceeds once in a million times. */
const fair =
  (protocol: 'tcp' | 'udp', ...pods: string[]) =>
  async (bed: Bed, family: Family): Promise<string | undefined> => {
    const count = 200;
    const mean = count / pods.length;
    const shares = await sharesOf(bed, family, { from: 'client', service: 'shop', protocol, count }, pods);
    const isRight = pods.every((pod) => Math.abs((shares[pod] ?? 0) - mean) <= 5 * Math.sqrt(mean));
    return isRight ? undefined : JSON.stringify(shares);
  };

/** Packets to the address of `shop` that node1 has sent by its stack. */
const countLeaving = (action: '-I' | '-D') =>
  `$IPTABLES -t mangle ${action} POSTROUTING -d $SHOP4; $IP6TABLES -t mangle ${action} POSTROUTING -d $SHOP6`;

async function leaving(bed: Bed, family: Family): Promise<string | undefined> {
  const program = family === 'IPv4' ? bed.combination.iptables : bed.combination.iptables.replace('ip', 'ip6');
  const rules = await bed.node('node1').exec(program, '-t', 'mangle', '-nvxL', 'POSTROUTING');
  const line = rules.split('\n').find((rule) => rule.includes(bed.addresses(family)['shop'] ?? '-'));
  return /^\s*0\s/.test(line ?? '') ? undefined : `the counter says: ${line}`;
}

export const services: readonly Row[] = [
  serviceRow({
    name: "a ClusterIP is answered by the Service's pod, on the client's node and on another, which sees the client's own address",
    source: ['cilium 1', 'cilium 4', 'cilium 33'],
    given: (v4, v6) => [ranges, ...served('shop', [v4, v6], ['web']), ...served('mart', [v4, v6], ['web2'])],
    phases: [
      {
        expect: {
          reaches: [
            'client,blue,far,red > web@shop tcp,udp 88',
            'client,blue,far,red > web2@mart tcp,udp 88',
            'client,far > web@shop sctp 5000',
            'client,far > web2@mart sctp 5000',
            'client,far > web,web2 tcp,udp',
          ],
        },
      },
    ],
  }),
  serviceRow({
    name: 'every pod of a Service gets its share of the connections',
    source: ['cilium 3'],
    given: (v4, v6) => served('shop', [v4, v6], ['web', 'web2', 'blue', 'far']),
    phases: [
      {
        expect: {
          also: {
            'shares of TCP': fair('tcp', 'web', 'web2', 'blue', 'far'),
            'shares of UDP': fair('udp', 'web', 'web2', 'blue', 'far'),
          },
        },
      },
    ],
  }),
  serviceRow({
    name: 'a Service without pods refuses at once, and no packet leaves the node',
    source: ['ebpf 19', 'cilium 9'],
    given: (v4, v6) => served('shop', [v4, v6], []),
    phases: [
      // Once it is known everywhere.
      { expect: { refused: ['client,far > web@shop tcp,udp 88'] } },
      {
        do: [{ shell: countLeaving('-I'), on: 'node1', undo: countLeaving('-D') }],
        expect: { refused: ['client,far > web@shop tcp,udp 88'], also: { 'what leaves': leaving } },
      },
      { do: [nowOf('shop', ['web'])], expect: { reaches: ['client,far > web@shop tcp,udp 88'] } },
      { do: [nowOf('shop', [])], expect: { refused: ['client,far > web@shop tcp,udp 88'] } },
    ],
  }),
  serviceRow({
    name: 'pods of a Service come and go: new connections are for those that are there, established ones go on',
    source: ['ebpf 20', 'cilium 7'],
    given: (v4, v6) => served('shop', [v4, v6], ['web']),
    phases: [
      {
        do: [
          { flow: 'near', line: 'client > web@shop tcp 88' },
          { flow: 'away', line: 'far > web@shop tcp 88' },
        ],
        expect: { flows: { near: 'runs', away: 'runs' } },
      },
      {
        do: [nowOf('shop', ['web2'])],
        expect: { reaches: ['client,far > web2@shop tcp,udp 88'], flows: { near: 'runs', away: 'runs' } },
      },
      {
        do: [nowOf('shop', ['web', 'web2', 'blue'])],
        expect: {
          also: {
            'who answers TCP': shared('tcp', 'web', 'web2', 'blue'),
            'who answers UDP': shared('udp', 'web', 'web2', 'blue'),
          },
          flows: { near: 'runs', away: 'runs' },
        },
      },
      {
        do: [nowOf('shop', [])],
        expect: { refused: ['client,far > web@shop tcp,udp 88'], flows: { near: 'runs', away: 'runs' } },
      },
    ],
  }),
  serviceRow({
    name: 'a pod that ends gets no new connections, unless all end: then those that still serve do',
    source: ['ebpf 20', 'cilium 7', 'cilium 8'],
    given: (v4, v6) => served('shop', [v4, v6], ['web', 'web2']),
    phases: [
      {
        do: [{ flow: 'old', line: 'client > web|web2@shop tcp 88' }],
        expect: { also: { 'who answers': shared('tcp', 'web', 'web2') }, flows: { old: 'runs' } },
      },
      {
        do: [nowOf('shop', ['web', { of: 'web2', conditions: { ready: false, serving: true, terminating: true } }])],
        expect: { also: { 'who answers': shared('tcp', 'web') }, flows: { old: 'runs' } },
      },
      {
        do: [
          nowOf(
            'shop',
            ['web', 'web2'].map((of) => ({ of, conditions: { ready: false, serving: true, terminating: true } })),
          ),
        ],
        expect: { also: { 'who answers': shared('tcp', 'web', 'web2') }, flows: { old: 'runs' } },
      },
      {
        do: [
          nowOf('shop', [
            { of: 'web', conditions: { ready: false, serving: false, terminating: true } },
            { of: 'web2', conditions: { ready: false, serving: false, terminating: false } },
          ]),
        ],
        expect: { refused: ['client,far > web@shop tcp,udp 88'], flows: { old: 'runs' } },
      },
    ],
  }),
  serviceRow({
    name: "internalTrafficPolicy Local: a ClusterIP is answered by pods of the client's node only, and refused where there is none",
    source: ['ebpf 27', 'cilium 19'],
    given: (v4, v6) =>
      served(
        'shop',
        [v4, v6],
        [
          { of: 'web', nodeName: 'node1' },
          { of: 'web2', nodeName: 'node2' },
        ],
        { internalTrafficPolicy: 'Local' },
      ),
    phases: [
      {
        expect: {
          reaches: ['far,red > web2@shop tcp,udp 88'],
          also: { 'who answers client': shared('tcp', 'web') },
        },
      },
      {
        do: [nowOf('shop', [{ of: 'web', nodeName: 'node1' }])],
        expect: { reaches: ['client,blue > web@shop tcp,udp 88'], refused: ['far,red > web@shop tcp,udp 88'] },
      },
      {
        do: [{ apply: (v4, v6) => [serviceAt('shop', [v4, v6])] }],
        expect: { reaches: ['client,far > web@shop tcp,udp 88'] },
      },
    ],
  }),
  serviceRow({
    name: "a Service's port changes, and it is deleted: what it had is no way to anybody any more, established connections go on",
    source: ['ebpf 24', 'cilium 10', 'cilium 21'],
    given: (v4, v6) => [ranges, ...served('shop', [v4, v6], ['web'])],
    phases: [
      {
        do: [{ flow: 'old', line: 'client > web@shop tcp 88' }],
        expect: { reaches: ['client,far > web@shop tcp,udp 88'], nothing: ['client,far > web@shop tcp,udp 7777,89'] },
      },
      {
        do: [
          {
            apply: (v4, v6) => [
              clusterIpService(
                'shop',
                [v4['shop'] ?? '', v6['shop'] ?? ''],
                ports.map((port) => ({ ...port, port: port.protocol === 'SCTP' ? 5000 : 89 })),
              ),
            ],
          },
        ],
        expect: {
          reaches: ['client,far > web@shop tcp,udp 89'],
          nothing: ['client,far > web@shop tcp,udp 88', 'client > web@shop icmp'],
          flows: { old: 'runs' },
        },
      },
      {
        do: [removed('shop')],
        expect: {
          nothing: ['client,far > web@shop tcp,udp 88,89', 'client > web@shop sctp 5000'],
          reaches: ['client,far > web tcp,udp'],
          flows: { old: 'runs' },
        },
      },
    ],
  }),
  serviceRow({
    name: 'two Services have one ClusterIP for a moment: the one that stays has it, whichever that is',
    source: ['ebpf 23'],
    given: (v4, v6) => served('shop', [v4, v6], ['web']),
    phases: [
      { do: [{ apply: (v4, v6) => served('mart', [v4, v6], ['web2'], {}, 'shop') }] },
      { do: [removed('shop')], expect: { reaches: ['client,far > web2@shop tcp,udp 88'] } },
      { do: [{ apply: (v4, v6) => served('shop', [v4, v6], ['web']) }] },
      { do: [removed('shop')], expect: { reaches: ['client,far > web2@shop tcp,udp 88'] } },
      { do: [{ apply: (v4, v6) => served('shop', [v4, v6], ['web']) }] },
      { do: [removed('mart')], expect: { reaches: ['client,far > web@shop tcp,udp 88'] } },
    ],
  }),
  serviceRow({
    name: 'a named target port is the number that each pod gives it',
    source: ['core 26'],
    needs: ['enforcesPolicy'],
    given: (v4, v6) => [
      clusterIpService('shop', [v4['shop'] ?? '', v6['shop'] ?? ''], [{ name: 'web', port: 88, targetPort: 'http' }]),
      ...endpointSlices('shop', [v4, v6], ['web'], [{ name: 'web', port: 8080 }], '-a'),
      ...endpointSlices('shop', [v4, v6], ['web2'], [{ name: 'web', port: 9090 }], '-b'),
      // Nothing else is open there.
      globalPolicy('http', {
        selector: "app == 'web'",
        types: ['Ingress'],
        ingress: [{ action: 'Allow', protocol: 'TCP', destination: { ports: ['http'] } }],
      }),
    ],
    phases: [{ expect: { also: { 'who answers': shared('tcp', 'web', 'web2') } } }],
  }),
  lacking('session affinity', ['ebpf 25', 'cilium 23', 'cilium 24'], 'session affinity'),
  lacking('Maglev', ['ebpf 33', 'cilium 25'], 'Maglev'),
];
