/** Services as pods reach them: ClusterIPs, and what policy sees of what is sent there. */
import { must } from '#test/lab/exec.ts';
import { tcpReset } from '#test/lab/raw-payloads.ts';
import type { Bed } from '../bed.ts';
import {
  bgpConfiguration,
  clusterIpService,
  endpointSlices,
  globalPolicy,
  kubernetesPolicy,
  networkPolicy,
} from '../objects.ts';
import { lacking, type Family, type Row } from '../row.ts';
import {
  balanced,
  forgotten,
  hostPort,
  marked,
  nowOf,
  ports,
  ranges,
  removed,
  served,
  serviceAt,
  smallUplink,
  targets,
  twoServices,
  whileAgentIsDead,
} from './service-parts.ts';

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

const serviceRow = (row: Omit<Row, 'needs'> & { readonly needs?: Row['needs'] }): Row => ({
  ...row,
  needs: ['translatesServices', ...(row.needs ?? [])],
});

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
  serviceRow({
    name: 'connections from one port to a pod, to its Service, and to another Service of it live side by side',
    source: ['ebpf 31', 'cilium 28'],
    given: (v4, v6) => [...served('shop', [v4, v6], ['web']), ...served('mart', [v4, v6], ['web'])],
    phases: [
      {
        do: ['client', 'far'].flatMap((from) => [
          { flow: `${from}: the pod first`, line: `${from}:43001 > web` },
          { flow: `${from}: then the Service`, line: `${from}:43001 > web@shop tcp 88` },
          { flow: `${from}: then the other`, line: `${from}:43001 > web@mart tcp 88` },
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
    name: 'a reset that the pod ignores ends no connection to it or to its Service',
    source: ['ebpf 38'],
    given: (v4, v6) => served('shop', [v4, v6], ['web']),
    phases: [
      {
        do: [
          { flow: 'direct', line: 'client:43003 > web' },
          { flow: 'service', line: 'client:43004 > web@shop tcp 88' },
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
                await client.sendRaw(version, 6, web, tcpReset({ from, to: web }, 43_003, 7777));
                await client.sendRaw(version, 6, shop, tcpReset({ from, to: shop }, 43_004, 88));
              }
            },
          },
        ],
        expect: { flows: { direct: 'runs', service: 'runs' } },
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
  lacking(
    'the same, the Service first and then the pod',
    ['ebpf 31'],
    'a place for both: a flow is known by its tuple after translation, which the second one has before it (see ebpf-flows.md)',
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
  lacking('session affinity', ['ebpf 25', 'cilium 23', 'cilium 24'], 'session affinity'),
  lacking('Maglev', ['ebpf 33', 'cilium 25'], 'Maglev'),
  lacking(
    "a node port on the node's own loopback, Services of some protocols only for the node, and pods whose sockets are translated before they send",
    ['ebpf 35', 'cilium 2', 'cilium 14'],
    'translation of sockets: packets are translated',
  ),
];
