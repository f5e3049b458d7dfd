import { afterAll, afterEach, beforeAll, describe, test } from '@jest/globals';
import { FlowBed } from './bpf-flow-bed.ts';
import { type Case, check } from './bpf-flow-walk.ts';

/*
 * Which way packets go, and what is remembered of them. A line is a packet at one device of the node and what becomes of it:
 *
 *     pod one --- [sends: tortie_pod_out]          [tortie_pod_out: sends] --- pod two
 *              \- [gets:  tortie_pod_in ]   stack  [tortie_pod_in :  gets] -/
 *                                             |
 *                                     away (front, node)
 */
let bed: FlowBed;
beforeAll(async () => {
  bed = await FlowBed.create();
});
afterAll(async () => await (bed as FlowBed | undefined)?.[Symbol.asyncDispose]());
afterEach(async () => await bed.reset());

const policy = (legs: Case['legs']) => (on: FlowBed) => on.policy(legs);
const synAck = [
  'one sends tcp S one:40000 > two:80 -> pod two',
  'two sends tcp SA two:80 > one:40000 -> pod one',
] as const;
const nobody = { 'one egress': 'deny', 'one ingress': 'deny', 'two egress': 'deny', 'two ingress': 'deny' } as const;

describe.each([4, 6] as const)('between two pods of the node, IPv%i', (version) => {
  test.each<[string, Case]>([
    [
      'a connection: opened, used, ended by both',
      {
        way: [
          ...synAck,
          'one sends tcp A one:40000 > two:80 -> pod two',
          'two sends tcp PA two:80 > one:40000 -> pod one',
          'one sends tcp FA one:40000 > two:80 -> pod two',
          'two sends tcp FA two:80 > one:40000 -> pod one',
          'one sends tcp A one:40000 > two:80 -> pod two',
        ],
        records: ['answered one:40000 > two:80 egressOk ingressOk answered established finOpener finOther'],
      },
    ],
    [
      'UDP, and nobody answers',
      {
        way: ['one sends udp one:5000 > two:53 -> pod two', 'one sends udp one:5000 > two:53 -> pod two'],
        records: ['new one:5000 > two:53 egressOk ingressOk'],
      },
    ],
    [
      'UDP that nobody answers for 3 s is kept as if somebody had',
      {
        way: [
          'one sends udp one:5000 > two:53 -> pod two',
          async (on) => await on.patchRecords(version, ({ created }) => ({ created: created - 3_100_000_000n })),
          'one sends udp one:5000 > two:53 -> pod two',
        ],
        records: ['answered one:5000 > two:53 egressOk ingressOk oneWay'],
      },
    ],
    [
      'SCTP, GRE',
      {
        way: [
          'one sends sctp one:5000 > two:38412 -> pod two',
          'two sends sctp two:38412 > one:5000 -> pod one',
          'one sends gre one > two -> pod two',
          'two sends gre two > one -> pod one',
        ],
        records: [
          'answered one:0 > two:0 egressOk ingressOk answered',
          'answered one:5000 > two:38412 egressOk ingressOk answered',
        ],
      },
    ],
    [
      "the opener's egress refuses",
      {
        legs: { 'one egress': 'deny' },
        way: ['one sends tcp S one:40000 > two:80 -> dropped: policy'],
        records: [],
      },
    ],
    [
      "the other's ingress refuses; that is counted there, and leaves no record",
      {
        legs: { 'two ingress': 'deny' },
        way: ['one sends udp one:5000 > two:53 -> two refuses: policy'],
        records: [],
      },
    ],
    [
      "who was refused doesn't stand in the way of the other direction",
      {
        legs: { 'two ingress': 'deny' },
        way: [
          'one sends udp one:5000 > two:53 -> two refuses: policy',
          'two sends udp two:53 > one:5000 -> pod one',
          'one sends udp one:5000 > two:53 -> pod two',
        ],
        records: ['answered two:53 > one:5000 egressOk ingressOk answered'],
      },
    ],
    [
      'answers need no policy of their own',
      { legs: { 'two egress': 'deny', 'one ingress': 'deny' }, way: [...synAck] },
    ],
    [
      'what is established outlives a change of policy; a new flow does not',
      {
        way: [
          ...synAck,
          policy(nobody),
          'one sends tcp A one:40000 > two:80 -> pod two',
          'two sends tcp A two:80 > one:40000 -> pod one',
          'one sends tcp S one:40001 > two:80 -> dropped: policy',
        ],
      },
    ],
    [
      'a SYN on a live record is judged again, and changes nothing',
      {
        way: [
          ...synAck,
          'one sends tcp A one:40000 > two:80 -> pod two',
          'one sends tcp S one:40000 > two:80 -> pod two',
          'two sends tcp S two:80 > one:40000 -> pod one',
          policy({ 'two ingress': 'deny' }),
          'one sends tcp S one:40000 > two:80 -> two refuses: policy',
          policy({ 'one egress': 'deny' }),
          'one sends tcp S one:40000 > two:80 -> dropped: policy',
          'one sends tcp A one:40000 > two:80 -> pod two',
        ],
        records: ['answered one:40000 > two:80 egressOk ingressOk answered established'],
      },
    ],
    [
      'a SYN on a closed record is a new flow',
      {
        way: [
          ...synAck,
          'one sends tcp FA one:40000 > two:80 -> pod two',
          'two sends tcp FA two:80 > one:40000 -> pod one',
          'two sends tcp S two:80 > one:40000 -> pod one',
        ],
        records: ['new two:80 > one:40000 egressOk ingressOk'],
      },
    ],
    [
      'after a reset, too; and it may be refused',
      {
        way: [
          ...synAck,
          'two sends tcp R two:80 > one:40000 -> pod one',
          policy({ 'two ingress': 'deny' }),
          'one sends tcp S one:40000 > two:80 -> two refuses: policy',
        ],
        records: [],
      },
    ],
    [
      'who is answered by a reset is not among the answered',
      {
        way: ['one sends tcp S one:40000 > two:81 -> pod two', 'two sends tcp RA two:81 > one:40000 -> pod one'],
        records: ['new one:40000 > two:81 egressOk ingressOk answered resetOther'],
      },
    ],
    [
      'TCP in the midst of a flow of which nothing is known is judged as new',
      {
        legs: { 'two egress': 'deny' },
        way: ['one sends tcp A one:40000 > two:80 -> pod two', 'two sends tcp A two:81 > one:40001 -> dropped: policy'],
        records: ['new one:40000 > two:80 egressOk ingressOk'],
      },
    ],
    [
      'echoes of both directions with one identifier are two flows',
      {
        legs: { 'one ingress': 'deny' },
        way: [
          'one sends ping 5 one > two -> pod two',
          'two sends ping 5 two > one -> one refuses: policy',
          'two sends pong 5 two > one -> pod one',
          'two sends pong 6 two > one -> dropped: unrelated-icmp',
          policy({}),
          'two sends ping 5 two > one -> pod one',
          'one sends pong 5 one > two -> pod two',
        ],
        records: [
          `answered one:5 > two:${version === 4 ? 16 : 256} egressOk ingressOk answered`,
          // Who opened it is in the key, too.
          `answered two:${version === 4 ? 17 : 257} > one:5 egressOk ingressOk answered`,
        ],
      },
    ],
    [
      'an ICMP message without a flow is judged each time',
      {
        way: [
          `one sends icmp ${version === 4 ? 9 : 140} one > two -> pod two`,
          policy({ 'two ingress': 'deny' }),
          `one sends icmp ${version === 4 ? 9 : 140} one > two -> two refuses: policy`,
        ],
        records: [],
      },
    ],
    [
      'an ICMP error about a packet of a flow needs no policy',
      {
        legs: { 'two egress': 'deny', 'one ingress': 'deny' },
        way: [
          'one sends udp one:5000 > two:53 -> pod two',
          'two sends error two > one about udp one:5000 > two:53 -> pod one',
          'one sends error one > two about udp two:53 > one:5000 -> pod two',
        ],
        records: ['new one:5000 > two:53 egressOk ingressOk'],
      },
    ],
    [
      'an ICMP error about anything else is dropped',
      {
        way: [
          'one sends udp one:5000 > two:53 -> pod two',
          'two sends error two > one about udp one:5001 > two:53 -> dropped: unrelated-icmp',
          'two sends error two > away about udp one:5000 > two:53 -> dropped: unrelated-icmp',
        ],
      },
    ],
    [
      'fragments: the first says whose the others are',
      {
        way: [
          'one sends udp one > two later=7 -> dropped: fragment',
          `one sends udp one:5000 > two:53 first=7 -> pod two`,
          'one sends udp one > two later=7 -> pod two',
          'one sends udp one > two later=8 -> dropped: fragment',
        ],
        records: ['new one:5000 > two:53 egressOk ingressOk'],
      },
    ],
    [
      'a refused first fragment leaves nothing for the others',
      {
        legs: { 'two ingress': 'deny' },
        way: [
          'one sends udp one:5000 > two:53 first=9 -> two refuses: policy',
          'one sends udp one > two later=9 -> dropped: fragment',
        ],
      },
    ],
    [
      'the receiver is closed, or gone: to the stack, whose routes and filters drop it, whatever the record says',
      {
        way: [
          ...synAck,
          (on) => on.announce('two', false),
          'one sends tcp A one:40000 > two:80 -> stack',
          (on) => on.announce('two'),
          'one sends tcp A one:40000 > two:80 -> pod two',
        ],
        records: ['answered one:40000 > two:80 egressOk ingressOk answered established'],
      },
    ],
    [
      'the hop limit ends here; the sender is told',
      {
        way: [
          'one sends udp one:5000 > two:53 ttl=1 -> back (hop-limit): error two > one about udp one:5000 > two:53',
          'one sends udp one:5000 > two:53 ttl=2 -> pod two',
        ],
      },
    ],
    [
      'headers that a router looks at, and what is too long for the device, are for the stack; both legs were judged',
      {
        legs: { 'two egress': 'deny' },
        way: [
          'one sends udp one:5000 > two:53 options -> stack',
          'two gets udp one:5000 > two:53 options -> passed',
          'one sends udp one:5000 > two:53 size=1480 -> stack',
          'two sends udp two:53 > one:5000 -> pod one',
        ],
        records: ['answered one:5000 > two:53 egressOk ingressOk answered'],
      },
    ],
    [
      "a frame for another host's MAC is dropped",
      { way: ['one sends udp one:1 > two:2 stranger -> dropped: other-host'] },
    ],
    ["another pod's address is spoofed", { way: ['one sends udp two:1 > one:2 -> dropped: spoofed-source'] }],
    [
      'a pod without a slot is nobody',
      {
        way: [
          (on) => on.patchSlot('two', { ifindex: 999 }),
          'one sends udp one:1 > two:2 -> two refuses: policy',
          'two sends udp two:1 > one:2 -> dropped: policy',
        ],
      },
    ],
    [
      'unit 0 refuses',
      {
        way: [
          (on) => on.patchSlot('two', { unit: [0, 0, 0, 0] }),
          'two sends udp two:1 > one:2 -> dropped: policy',
          'one sends udp one:1 > two:2 -> two refuses: policy',
        ],
      },
    ],
  ])('%s', async (_, what) => await check(bed, version, what));
});
