import { afterAll, afterEach, beforeAll, describe, test } from '@jest/globals';
import { scheduler } from 'node:timers/promises';
import { flowConstants } from '#dataplanes/ebpf/bpf-types.gen.ts';
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

/** All that is remembered was seen two minutes ago and a bit; nothing is older than the machine's start. */
async function longAgo(on: FlowBed, version: 4 | 6): Promise<void> {
  const ns = BigInt(flowConstants.handshakeSeconds + 1) * 1_000_000_000n;
  while (process.hrtime.bigint() < ns) await scheduler.wait(1000);
  await on.patchRecords(version, ({ lastSeen }) => ({ lastSeen: lastSeen - ns }));
}

describe.each([4, 6] as const)('through the stack, IPv%i', (version) => {
  test.each<[string, Case]>([
    [
      'a connection to elsewhere: only egress is judged, and the answer comes in by it',
      {
        legs: { 'one ingress': 'deny' },
        way: [
          'one sends tcp S one:40000 > away:80 -> stack',
          'one gets tcp SA away:80 > one:40000 -> passed',
          'one sends tcp A one:40000 > away:80 -> stack',
        ],
        records: ['answered one:40000 > away:80 egressOk answered established viaStack'],
      },
    ],
    [
      'a connection from elsewhere: only ingress is judged',
      {
        legs: { 'one egress': 'deny' },
        way: [
          'one gets tcp S away:40000 > one:80 -> passed',
          'one sends tcp SA one:80 > away:40000 -> stack',
          'one gets tcp A away:40000 > one:80 -> passed',
        ],
        records: ['answered away:40000 > one:80 ingressOk answered established viaStack'],
      },
    ],
    [
      'refused',
      {
        legs: { 'one egress': 'deny', 'one ingress': 'deny' },
        way: [
          'one sends tcp S one:40000 > away:80 -> dropped: policy',
          'one gets tcp S away:40000 > one:80 -> dropped: policy',
        ],
        records: [],
      },
    ],
    [
      'packets that the end of a tunnel would unpack',
      {
        way: [
          'one sends udp one:5000 > away:4789 -> dropped: encapsulation',
          'one sends udp one:5000 > two:4789 -> dropped: encapsulation',
          'one sends ipip one > away -> dropped: encapsulation',
          'one sends tcp S one:40000 > away:4789 -> stack',
          'one sends gre one > away -> stack',
          'one gets udp away:5000 > one:4789 -> passed',
          'one sends udp one:4789 > away:5000 -> stack',
        ],
        records: [
          'answered away:5000 > one:4789 ingressOk answered viaStack',
          'new one:0 > away:0 egressOk viaStack',
          'new one:40000 > away:4789 egressOk viaStack',
        ],
      },
    ],
    [
      "what was sent here doesn't let the other's own flow in",
      {
        legs: { 'one ingress': 'deny' },
        way: [
          'one sends udp one:5000 > away:53 -> stack',
          'one gets udp away:53 > one:5000 -> passed',
          'one gets udp away:54 > one:5000 -> dropped: policy',
        ],
      },
    ],
    [
      'a pod reaches its node, and is answered',
      {
        legs: { 'one ingress': 'deny' },
        way: [
          'one sends tcp S one:40000 > node:22 -> stack',
          'one gets from node tcp SA node:22 > one:40000 -> passed',
          'one sends tcp A one:40000 > node:22 -> stack',
        ],
        records: ['answered one:40000 > node:22 egressOk answered established viaStack'],
      },
    ],
    [
      'the node reaches its pods, whatever policy says; by its mark, not by its address',
      {
        legs: { 'one ingress': 'deny', 'one egress': 'deny' },
        way: [
          'one gets tcp S node:40000 > one:80 -> dropped: policy',
          'one gets from node tcp S node:40000 > one:80 -> passed',
          'one sends tcp SA one:80 > node:40000 -> stack',
          'one gets from node tcp S node:40000 > one:80 -> passed',
        ],
        records: ['new node:40000 > one:80 ingressOk answered viaStack ofHost'],
      },
    ],
    [
      'who says nothing to the answer, resets it or goes on after a refusal takes no place of those who talk',
      {
        way: [
          'one gets tcp S away:5 > one:80 -> passed',
          'one sends tcp SA one:80 > away:5 -> stack',
          'one sends tcp SA one:80 > away:5 -> stack',
          'one gets tcp S away:6 > one:80 -> passed',
          'one sends tcp SA one:80 > away:6 -> stack',
          'one gets tcp R away:6 > one:80 -> passed',
          'one gets tcp S away:7 > one:80 -> passed',
          'one sends tcp RA one:80 > away:7 -> stack',
          'one gets tcp A away:7 > one:80 -> passed',
          'one gets tcp S away:8 > one:80 -> passed',
          'one sends tcp SA one:80 > away:8 -> stack',
          'one gets tcp A away:8 > one:80 -> passed',
        ],
        records: [
          'new away:5 > one:80 ingressOk answered viaStack',
          'new away:6 > one:80 ingressOk answered resetOpener viaStack',
          'new away:7 > one:80 ingressOk answered established viaStack resetOther',
          'answered away:8 > one:80 ingressOk answered established viaStack',
        ],
      },
    ],
    [
      'a handshake that nobody has gone on with for two minutes: policy is asked again, and the tuple is free',
      {
        way: [
          'one gets tcp S away:5 > one:80 -> passed',
          'one sends tcp SA one:80 > away:5 -> stack',
          'one gets tcp S away:6 > one:80 -> passed',
          'one sends tcp SA one:80 > away:6 -> stack',
          async (on) => await longAgo(on, version),
          (on) => on.policy({ 'one ingress': 'deny' }),
          'one gets tcp A away:5 > one:80 -> dropped: policy',
          (on) => on.policy(),
          'one gets tcp S away:6 > one:80 -> passed',
          'one sends tcp SA one:80 > away:6 -> stack',
          'one gets tcp A away:6 > one:80 -> passed',
        ],
        records: ['answered away:6 > one:80 ingressOk answered established viaStack'],
      },
    ],
    [
      "of a flow that goes by the stack each program judges its pod's leg",
      {
        legs: { 'two ingress': 'two:80' },
        way: [
          // Multicast is not for one pod, whoever has the address.
          (on) => on.address(version, 'two', { class: 2, hop: 0 }),
          'one sends tcp S one:40000 > two:80 -> stack',
          'two gets tcp S one:40000 > two:80 -> passed',
          'two sends tcp SA two:80 > one:40000 -> stack',
          'one gets tcp SA two:80 > one:40000 -> passed',
          'one sends tcp A one:40000 > two:80 -> stack',
          'one sends tcp S one:40000 > two:81 -> stack',
          'two gets tcp S one:40000 > two:81 -> dropped: policy',
          (on) => on.address(version, 'two', { class: 2, hop: 2 }),
        ],
        records: [
          'answered one:40000 > two:80 egressOk ingressOk answered established viaStack',
          'new one:40000 > two:81 egressOk viaStack',
        ],
      },
    ],
    [
      'who was refused at its end is no opener: the other direction is a flow of its own',
      {
        legs: { 'two ingress': 'deny', 'one ingress': 'deny' },
        way: [
          (on) => on.address(version, 'two', { class: 2, hop: 0 }),
          (on) => on.address(version, 'one', { class: 1, hop: 0 }),
          'one sends udp one:5000 > two:53 -> stack',
          'two gets udp one:5000 > two:53 -> dropped: policy',
          'two sends udp two:53 > one:5000 -> stack',
          'one gets udp two:53 > one:5000 -> dropped: policy',
          (on) => on.address(version, 'two', { class: 2, hop: 2 }),
          (on) => on.address(version, 'one', { class: 1, hop: 1 }),
        ],
        records: ['new two:53 > one:5000 egressOk viaStack'],
      },
    ],
    [
      'an ICMP error by a router on the way',
      {
        legs: { 'one ingress': 'deny' },
        way: [
          'one sends udp one:5000 > away:53 -> stack',
          'one gets error router > one about udp one:5000 > away:53 -> passed',
          'one gets error router > one about udp one:5001 > away:53 -> dropped: unrelated-icmp',
          'one gets from node error node > one about udp one:5001 > away:53 -> passed',
        ],
      },
    ],
    [
      'fragments that come in',
      {
        way: [
          'one gets udp away > one later=7 -> dropped: fragment',
          'one gets udp away:53 > one:5000 first=7 -> passed',
          'one gets udp away > one later=7 -> passed',
        ],
      },
    ],
    [
      'multicast is for the stack',
      { way: ['one sends udp one:5353 > all:5353 -> stack'], records: ['new one:5353 > all:5353 egressOk viaStack'] },
    ],
    ['an answer to no ping', { way: ['one gets pong 5 away > one -> dropped: unrelated-icmp'], records: [] }],
  ])('%s', async (_, what) => await check(bed, version, what));
});
