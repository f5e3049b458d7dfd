import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { Peer } from '#test/lab/peer-client.ts';
import { type Case, check } from './bpf-flow-walk.ts';
import { hopInPool, MasqueradeBed, NAT_PORT } from './bpf-masquerade-bed.ts';

/*
 * What leaves the pools by an uplink has the node's address, and one of the ports that are kept for that.
 *
 *   one --[tortie_pod_out: one -> node]--> net --> away --[tortie_net_in: node -> one]--> one        (`router` is in a pool)
 */
const PORT = NAT_PORT;

let bed: MasqueradeBed;
beforeAll(async () => {
  bed = await MasqueradeBed.create();
});
afterAll(async () => await (bed as MasqueradeBed | undefined)?.[Symbol.asyncDispose]());
beforeEach(async () => await bed.reset());

const tcp = 6;
const on =
  (change: (it: MasqueradeBed) => void): Case['way'][number] =>
  (it) =>
    change(it as MasqueradeBed);

describe.each([4, 6] as const)('IPv%i', (version) => {
  test.each<[string, Case]>([
    [
      'a connection, there and back',
      {
        legs: { 'one ingress': 'deny' },
        way: [
          'one sends tcp S one:5 > away:80 -> net: tcp S node:any > away:80',
          'one sends tcp S one:5 > away:80 -> net: tcp S node:any > away:80',
          `net in tcp SA away:80 > node:${PORT} -> pod one: tcp SA away:80 > one:5`,
          'one sends tcp A one:5 > away:80 -> net: tcp A node:any > away:80',
          `net in tcp PA away:80 > node:${PORT} -> pod one: tcp PA away:80 > one:5`,
          `net in tcp PA away:81 > node:${PORT} -> stack`,
          'one sends tcp R one:5 > away:80 -> net: tcp R node:any > away:80',
        ],
      },
    ],
    [
      'where others have programs at the uplink’s ingress: netfilter masquerades what is new, and flows that only we can translate go on',
      {
        way: [
          'one sends tcp S one:5 > away:80 -> net: tcp S node:any > away:80',
          on((it) => it.shared('uplink')),
          on((it) => it.masquerades('uplink')),
          `net in tcp SA away:80 > node:${PORT} -> stack: tcp SA away:80 > one:5`,
          'one sends tcp A one:5 > away:80 -> net: tcp A node:any > away:80',
          `net in tcp PA away:80 > node:${PORT} -> stack: tcp PA away:80 > one:5`,
          'one sends tcp S one:6 > away:81 -> stack',
        ],
      },
    ],
    [
      'datagrams: the record has both ends, and is found from both',
      {
        way: [
          'one sends udp one:5 > away:53 -> net: udp node:any > away:53',
          `net in udp away:53 > node:${PORT} -> pod one: udp away:53 > one:5`,
          'one sends udp one:5 > away:53 -> net: udp node:any > away:53',
        ],
        records: ['answered node:any > away:53 egressOk answered source byNet'],
      },
    ],
    [
      'echoes get another identifier, whichever address is the smaller one',
      {
        way: [
          `one sends ping 7 one > away -> net: ping ${PORT} node > away`,
          `net in pong ${PORT} away > node -> pod one: pong 7 away > one`,
          `one sends ping 7 one > away -> net: ping ${PORT} node > away`,
          `net in pong 7 away > node -> stack`,
          // Between one and node: the order of the ends changes with the translation.
          async (it) => await it.reset(),
          on((it) => it.address(version, 'router', { class: 0, hop: 0 })),
          `one sends ping 9 one > router -> net: ping ${PORT} node > router`,
          `net in at side pong ${PORT} router > node -> pod one: pong 9 router > one`,
          on((it) => it.address(version, 'router', { class: 0, hop: 20 })),
        ],
      },
    ],
    [
      'nobody is masqueraded towards a pool, nor who isn’t said to be',
      {
        way: [
          'one sends tcp S one:5 > router:80 -> net',
          on((it) => it.pod('one', hopInPool)),
          'one sends tcp S one:5 > away:80 -> net',
        ],
        records: ['new one:5 > away:80 egressOk byNet', 'new one:5 > router:80 egressOk byNet'],
      },
    ],
    [
      'netfilter masquerades where there is no address, no port, or a protocol without ports that may change',
      {
        way: [
          on((it) => it.masquerades('uplink', false)),
          'one sends tcp S one:5 > away:80 -> stack',
          on((it) => it.masquerades('uplink')),
          on((it) => it.ports(0, 0)),
          'one sends tcp S one:6 > away:80 -> stack',
          on((it) => it.ports(PORT, PORT)),
          'one sends gre one > away -> stack',
          'one sends sctp one:7 > away:80 -> stack',
          'one sends tcp S one:8 > away:80 -> net: tcp S node:any > away:80',
        ],
        records: [
          'new node:any > away:80 egressOk source byNet',
          'new one:0 > away:0 egressOk viaStack',
          'new one:5 > away:80 egressOk viaStack',
          'new one:6 > away:80 egressOk viaStack',
          'new one:7 > away:80 egressOk viaStack',
        ],
      },
    ],
    [
      'a port that is taken: netfilter’s, if none is left; to somebody else it isn’t taken',
      {
        way: [
          'one sends udp one:5 > away:53 -> net: udp node:any > away:53',
          'two sends udp two:5 > away:53 -> stack',
          'two sends udp two:5 > away:54 -> net: udp node:any > away:54',
          on((it) => it.ports(PORT, PORT + 999)),
          'two sends udp two:6 > away:53 -> net: udp node:any > away:53',
        ],
      },
    ],
    [
      'a Service whose backend is beyond the pools: both ends are translated',
      {
        way: [
          on((it) => it.service(version, tcp, 443, ['away:6443'])),
          'one sends tcp S one:5 > front:443 -> net: tcp S node:any > away:6443',
          `net in tcp SA away:6443 > node:${PORT} -> pod one: tcp SA front:443 > one:5`,
          'one sends tcp A one:5 > front:443 -> net: tcp A node:any > away:6443',
          'one sends tcp PA one:5 > front:443 size=1600 -> stack: tcp PA one:5 > away:6443',
        ],
        records: ['answered node:any > away:6443 egressOk answered established destination source byNet'],
      },
    ],
    [
      'ICMP errors: a router’s, the other end’s, the pod’s own',
      {
        way: [
          'one sends udp one:5 > away:53 -> net: udp node:any > away:53',
          `net in error router > node about udp node:${PORT} > away:53 -> pod one: error router > one about udp one:5 > away:53`,
          `net in error away > node about udp node:${PORT} > away:53 -> pod one: error away > one about udp one:5 > away:53`,
          'one sends error one > away about udp away:53 > one:5 -> net: error node > away about udp away:53 > node:any',
          `one sends ping 7 one > away -> net: ping ${PORT} node > away`,
          `net in error router > node about ping ${PORT} node > away -> pod one: error router > one about ping 7 one > away`,
        ],
      },
    ],
    [
      'exceptions: fragments and options go out translated, what is too long is netfilter’s',
      {
        way: [
          'one sends udp one:5 > away:53 -> net: udp node:any > away:53',
          'one sends udp one:5 > away:53 first=7 -> net: udp node:any > away:53',
          'one sends udp one > away later=7 -> net: udp node > away',
          'one sends udp one:5 > away:53 options -> net: udp node:any > away:53',
          'one sends udp one:5 > away:53 size=1600 -> stack',
          'one sends udp one:5 > away:53 -> net: udp node:any > away:53',
        ],
        records: ['new node:any > away:53 egressOk source byNet'],
      },
    ],
    [
      'another device without programs: netfilter’s, untranslated',
      {
        way: [
          'one sends udp one:5 > away:53 -> net: udp node:any > away:53',
          on((it) => it.uplink('uplink', {}, false)),
          'one sends udp one:5 > away:53 -> stack',
        ],
      },
    ],
    [
      'refused by policy, which knows the pod by its own address',
      {
        legs: { 'one egress': 'deny' },
        way: ['one sends tcp S one:5 > away:80 -> dropped: policy'],
        records: [],
      },
    ],
    [
      'after the connection is closed a SYN gets a port anew',
      {
        way: [
          'one sends tcp S one:5 > away:80 -> net: tcp S node:any > away:80',
          'one sends tcp R one:5 > away:80 -> net: tcp R node:any > away:80',
          'one sends tcp S one:5 > away:80 -> net: tcp S node:any > away:80',
        ],
        records: ['new node:any > away:80 egressOk source byNet'],
      },
    ],
  ])('%s', async (_, what) => await check(bed, version, what));

  test.each(['tcp S', 'udp'])('%s: a port that the node listens on is none to masquerade with', async (protocol) => {
    const step = `one sends ${protocol} one:5 > away:80`;
    {
      await using _ = await Peer.start(bed.netns.path, [PORT]);
      expect(bed.run(version, step)).toBe('stack');
    }
    await bed.reset();
    expect(bed.run(version, step)).toBe(`net: ${protocol} node:any > away:80`);
  });

  test('ports are those of the range, and each is another flow’s', async () => {
    bed.ports(PORT, PORT + 3);
    const outcomes = Array.from({ length: 40 }, (_, i) => bed.run(version, `one sends udp one:${100 + i} > away:53`));
    const known = await bed.portsOf(version);
    expect([...known].every((port) => port >= PORT && port <= PORT + 3)).toBe(true);
    expect(outcomes.filter((outcome) => outcome.startsWith('net'))).toHaveLength(known.length);
    expect(new Set(known).size).toBe(known.length);
    expect(known.length).toBeGreaterThan(1);
  });
});
