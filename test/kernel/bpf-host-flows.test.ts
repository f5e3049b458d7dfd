import { afterAll, beforeAll, beforeEach, describe, test } from '@jest/globals';
import { type Case, check } from './bpf-flow-walk.ts';
import { HostBed, type HostPolicy } from './bpf-host-bed.ts';

/*
 * A node with two devices that may have host endpoints, uplink and side, and two pods. What each program says of packets one after the other.
 *
 *   away --[in]--> uplink --> the node, or on by side or to one --[out]--> side
 */
let bed: HostBed;

beforeAll(async () => {
  bed = await HostBed.create();
});
afterAll(async () => await (bed as HostBed | undefined)?.[Symbol.asyncDispose]());
beforeEach(async () => await bed.reset());

interface HostCase extends Case {
  readonly uplink?: HostPolicy;
  readonly side?: HostPolicy;
  /** Some host endpoint has policy for what is forwarded. */
  readonly forwards?: boolean;
}

describe.each([4, 6] as const)('IPv%i', (version) => {
  const walk = async (what: HostCase): Promise<void> => {
    if (what.uplink !== undefined) bed.host('uplink', what.uplink);
    if (what.side !== undefined) bed.host('side', what.side);
    if (what.forwards === true) bed.runState({ forwardIngress: 1 });
    await check(bed, version, what);
  };

  test.each<[string, HostCase]>([
    [
      'without a host endpoint nothing is asked, and nothing remembered',
      {
        way: ['uplink in tcp S away:1 > node:22 -> pass', 'uplink out tcp S node:1 > away:22 -> pass'],
        records: [],
      },
    ],
    [
      'to the node, refused: it may be forwarded, and not be for the node',
      {
        uplink: { in: 'deny', out: 'deny' },
        way: [
          'uplink in tcp S away:1 > node:80 -> not local',
          'uplink in udp away:1 > node:53 -> not local',
          'uplink in ping 7 away > node -> not local',
          'uplink in gre away > node -> not local',
        ],
      },
    ],
    [
      'to the node, allowed, and its answers',
      {
        uplink: { in: 'allow 80', out: 'deny' },
        way: [
          'uplink in tcp S away:1 > node:80 -> local',
          'uplink out tcp SA node:80 > away:1 -> passed',
          'uplink in tcp A away:1 > node:80 -> local',
          'uplink out tcp P node:80 > away:1 -> passed',
          'uplink out tcp S node:80 > away:2 -> dropped: policy',
        ],
        records: ['answered away:1 > node:80 answered established viaStack hostIngress'],
      },
    ],
    [
      'from the node, refused and allowed, and answers',
      {
        uplink: { in: 'deny', out: 'allow 80' },
        way: [
          'uplink out tcp S node:1000 > away:80 -> passed',
          'uplink in tcp SA away:80 > node:1000 -> local',
          'uplink out tcp A node:1000 > away:80 -> passed',
          'uplink out ping 7 node > away -> passed',
        ],
      },
    ],
    [
      'from the node, denied',
      {
        uplink: { out: 'deny' },
        way: [
          'uplink out tcp S node:1000 > away:80 -> dropped: policy',
          'uplink out udp node:1000 > away:53 -> dropped: policy',
          'uplink out ping 7 node > away -> dropped: policy',
          'uplink in tcp SA away:80 > node:1000 -> local',
        ],
      },
    ],
    [
      'a refused flow is judged again: what is allowed now comes through',
      {
        uplink: { in: 'deny' },
        way: [
          'uplink in udp away:1 > node:80 -> not local',
          (on) => (on as HostBed).host('uplink', { in: 'allow' }),
          'uplink in udp away:1 > node:80 -> local',
          (on) => (on as HostBed).host('uplink', { in: 'deny' }),
          'uplink in udp away:1 > node:80 -> local',
          'uplink in tcp S away:1 > node:80 -> not local',
        ],
      },
    ],
    [
      'a SYN on a flow that lives is judged again, its other packets are not',
      {
        uplink: { in: 'allow' },
        way: [
          'uplink in tcp S away:1 > node:80 -> local',
          'uplink out tcp SA node:80 > away:1 -> passed',
          (on) => (on as HostBed).host('uplink', { in: 'deny' }),
          'uplink in tcp A away:1 > node:80 -> local',
          'uplink in tcp S away:1 > node:80 -> not local',
        ],
      },
    ],
    [
      'a SYN of who was asked, perhaps made up, is judged as one that asks, and takes nothing from the flow',
      {
        uplink: { in: 'deny', out: 'allow 80' },
        way: [
          'uplink out tcp S node:1000 > away:80 -> passed',
          'uplink in tcp SA away:80 > node:1000 -> local',
          'uplink out tcp A node:1000 > away:80 -> passed',
          'uplink in tcp S away:80 > node:1000 -> not local',
          'uplink in tcp PA away:80 > node:1000 -> local',
          'uplink in tcp R away:80 > node:1000 -> local',
          'uplink in tcp S away:80 > node:1000 -> not local',
          'uplink in tcp PA away:80 > node:1000 -> local',
        ],
        records: ['answered node:1000 > away:80 answered established viaStack ofHost hostEgress'],
      },
    ],
    [
      'where policy lets it in, a flow that is over makes place for it',
      {
        uplink: { in: 'allow', out: 'allow' },
        way: [
          'uplink out tcp S node:1000 > away:80 -> passed',
          'uplink in tcp RA away:80 > node:1000 -> local',
          'uplink in tcp S away:80 > node:1000 -> local',
        ],
        records: ['new away:80 > node:1000 viaStack hostIngress'],
      },
    ],
    [
      'an answer of ping without a request',
      { uplink: { in: 'deny' }, way: ['uplink in pong 7 away > node -> not local'], records: [] },
    ],
    [
      'pings in both directions',
      {
        uplink: { in: 'allow', out: 'deny' },
        way: [
          'uplink in ping 7 away > node -> local',
          'uplink out pong 7 node > away -> passed',
          'uplink out ping 8 node > away -> dropped: policy',
        ],
      },
    ],
    [
      'for a pod: ordinary policy has nothing to say, preDNAT policy has',
      {
        uplink: { in: 'deny', preDnat: 'deny 80' },
        way: ['uplink in tcp S away:1 > one:22 -> not local', 'uplink in tcp S away:1 > one:80 -> dropped: policy'],
        records: [],
      },
    ],
    [
      'preDNAT policy allows: it is for the node, whatever ordinary policy says',
      {
        uplink: { in: 'deny', preDnat: 'allow 80' },
        way: [
          'uplink in tcp S away:1 > node:80 -> pre-accepted',
          'uplink in tcp S away:1 > node:22 -> not local',
          'uplink out tcp SA node:80 > away:1 -> passed',
          'uplink in tcp A away:1 > node:80 -> pre-accepted',
        ],
      },
    ],
    [
      'preDNAT policy denies, and spares what is known',
      {
        uplink: { preDnat: 'silent' },
        way: [
          'uplink in udp away:1 > node:80 -> local',
          'uplink out udp node:80 > away:1 -> passed',
          (on) => (on as HostBed).host('uplink', { preDnat: 'deny' }),
          'uplink in udp away:1 > node:80 -> local',
          'uplink in udp away:2 > node:80 -> dropped: policy',
        ],
      },
    ],
    [
      'untracked policy: nothing else is asked, and nothing is remembered',
      {
        uplink: { 'untracked in': 'allow 80', in: 'deny', preDnat: 'deny', 'untracked out': 'allow', out: 'deny' },
        way: [
          'uplink in tcp S away:1 > node:80 -> untracked',
          'uplink out tcp SA node:80 > away:1 -> passed',
          'uplink in tcp S away:1 > node:22 -> dropped: policy',
        ],
        records: [],
      },
    ],
    [
      'untracked policy denies every packet, known or not',
      {
        uplink: { in: 'allow' },
        way: [
          'uplink in tcp S away:1 > node:80 -> local',
          (on) => (on as HostBed).host('uplink', { in: 'allow', 'untracked in': 'deny 80', 'untracked out': 'deny' }),
          'uplink in tcp A away:1 > node:80 -> dropped: policy',
          'uplink in tcp A away:1 > node:81 -> local',
          'uplink out tcp A node:80 > away:1 -> dropped: policy',
        ],
      },
    ],
    [
      'failsafe ports of the node',
      {
        uplink: { in: 'deny', out: 'deny', preDnat: 'deny', 'untracked in': 'deny', 'untracked out': 'deny' },
        way: [
          (on) => (on as HostBed).failsafe(version, 'in', 6, 22),
          (on) => (on as HostBed).failsafe(version, 'in', 6, 179, 'router'),
          'uplink in tcp S away:1 > node:22 -> local',
          'uplink out tcp SA node:22 > away:1 -> passed',
          'uplink in udp away:1 > node:22 -> dropped: policy',
          'uplink in tcp S away:1 > node:179 -> dropped: policy',
          'uplink in tcp S router:1 > node:179 -> local',
          'uplink in tcp S away:22 > node:80 -> dropped: policy',
          'uplink out tcp S node:1 > away:22 -> dropped: policy',
        ],
      },
    ],
    [
      'failsafe ports elsewhere',
      {
        uplink: { in: 'deny', out: 'deny', preDnat: 'deny', 'untracked in': 'deny', 'untracked out': 'deny' },
        way: [
          (on) => (on as HostBed).failsafe(version, 'out', 17, 53, 'router'),
          'uplink out udp node:1 > router:53 -> passed',
          'uplink in udp router:53 > node:1 -> local',
          'uplink out udp node:1 > away:53 -> dropped: policy',
          'uplink out tcp S node:1 > router:53 -> dropped: policy',
        ],
      },
    ],
    [
      'an ICMP error about what the node has sent, and one about nothing',
      {
        uplink: { in: 'deny', out: 'allow' },
        way: [
          'uplink out udp node:1 > away:53 -> passed',
          'uplink in error router > node about udp node:1 > away:53 -> local',
          'uplink in error router > node about udp node:2 > away:53 -> not local',
          'uplink in error away > node about udp node:1 > away:53 -> local',
          'uplink in error away > router about udp node:1 > away:53 -> not local',
        ],
      },
    ],
    [
      'an ICMP error that the node sends about what it got',
      {
        uplink: { in: 'allow', out: 'deny' },
        way: [
          'uplink in udp away:1 > node:53 -> local',
          'uplink out error node > away about udp away:1 > node:53 -> passed',
          'uplink out error node > away about udp away:2 > node:53 -> dropped: policy',
        ],
      },
    ],
    [
      'fragments that come in: the first one is judged',
      {
        uplink: { in: 'deny', 'untracked in': 'deny 80' },
        way: [
          'uplink in udp away > node later=7 -> local',
          'uplink in udp away:1 > node:80 first=8 -> dropped: policy',
          'uplink in udp away:1 > node:53 first=9 -> not local',
        ],
      },
    ],
    [
      'fragments that go out: those behind the first follow it',
      {
        uplink: { out: 'allow 80', 'untracked out': 'deny 80' },
        way: [
          'uplink out udp node > away later=7 -> dropped: fragment',
          'uplink out udp node:1 > away:53 first=7 -> passed',
          'uplink out udp node > away later=7 -> passed',
          'uplink out udp node:1 > away:80 first=8 -> dropped: policy',
          'uplink out udp node > away later=8 -> dropped: fragment',
          'uplink out from side udp router > away later=9 -> passed',
        ],
      },
    ],
    [
      'forwarded by nobody’s program: both devices are asked, and answers are not',
      {
        uplink: { in: 'deny', out: 'deny', 'forward in': 'allow 80' },
        side: { in: 'deny', out: 'deny', 'forward out': 'deny 80' },
        way: [
          'uplink in tcp S away:1 > router:80 -> not local',
          'side out from uplink tcp S away:1 > router:80 -> dropped: policy',
          (on) => (on as HostBed).host('side', { in: 'deny', 'forward out': 'allow 80', preDnat: 'deny' }),
          'uplink in tcp S away:1 > router:80 -> not local',
          'side out from uplink tcp S away:1 > router:80 -> passed',
          'side in tcp SA router:80 > away:1 -> not local',
          'uplink out from side tcp SA router:80 > away:1 -> passed',
        ],
      },
    ],
    [
      'forwarded in by a device that denies',
      {
        uplink: { 'forward in': 'deny' },
        side: {},
        way: [
          'side out from uplink tcp S away:1 > router:80 -> dropped: policy',
          'side out from uplink pre-accepted tcp S away:1 > router:80 -> passed',
          'uplink out from side tcp S router:2 > away:80 -> passed',
        ],
      },
    ],
    [
      'answers of what was never let through are no answers',
      {
        uplink: { 'forward in': 'deny', 'forward out': 'deny' },
        side: { in: 'deny' },
        way: [
          'uplink in udp away:1 > router:80 -> local',
          'side out from uplink udp away:1 > router:80 -> dropped: policy',
          'side in udp router:80 > away:1 -> not local',
          'uplink out from side udp router:80 > away:1 -> dropped: policy',
        ],
      },
    ],
    [
      'what netfilter has translated: the answer of the node’s address, and of a Service’s',
      {
        uplink: { in: 'deny', 'forward out': 'deny', preDnat: 'silent' },
        side: {},
        way: [
          'uplink in tcp S away:1 > node:30080 -> not local',
          'uplink out from side tcp SA node:30080 > away:1 -> passed',
          'uplink in tcp A away:1 > node:30080 -> not local',
          (on) => on.service(version, 6, 80, []),
          'uplink in tcp S away:2 > front:80 -> not local',
          'uplink out from side tcp SA front:80 > away:2 -> passed',
          'uplink in tcp S away:3 > front:81 -> not local',
          'uplink out from side tcp SA front:81 > away:3 -> dropped: policy',
        ],
      },
    ],
    [
      'a NodePort of a pod here: preDNAT policy is asked until it is answered',
      {
        uplink: { in: 'deny', preDnat: 'silent' },
        way: [
          'uplink in tcp S away:1 > node:30080 -> not local',
          'uplink out from one tcp SA node:30080 > away:1 -> passed',
          (on) => (on as HostBed).host('uplink', { in: 'deny', preDnat: 'deny' }),
          'uplink in tcp A away:1 > node:30080 -> not local',
          'uplink in tcp S away:2 > node:30080 -> dropped: policy',
        ],
      },
    ],
    [
      'what a pod sends, masqueraded: its answers are known',
      {
        uplink: { in: 'deny', out: 'deny', 'forward out': 'deny', preDnat: 'deny' },
        way: [
          'uplink out from one tcp S node:5000 > away:80 -> passed',
          'uplink in tcp SA away:80 > node:5000 -> not local',
          'uplink out from one tcp A node:5000 > away:80 -> passed',
          'uplink in tcp SA away:80 > node:5001 -> dropped: policy',
        ],
      },
    ],
    [
      'what a pod sends, not masqueraded, and what is sent to it',
      {
        uplink: { in: 'deny', out: 'deny', preDnat: 'deny 80' },
        way: [
          'one sends tcp S one:5000 > away:80 -> stack',
          'uplink out from one tcp S one:5000 > away:80 -> passed',
          'uplink in tcp SA away:80 > one:5000 -> not local',
          'one gets from uplink tcp SA away:80 > one:5000 -> passed',
          'uplink in tcp S away:1 > one:90 -> not local',
          'one gets from uplink tcp S away:1 > one:90 -> passed',
          'one sends tcp SA one:90 > away:1 -> stack',
          'uplink out from one tcp SA one:90 > away:1 -> passed',
          'uplink in tcp A away:1 > one:90 -> not local',
        ],
      },
    ],
    [
      'a host endpoint that comes later cuts no flow of a pod',
      {
        way: [
          'one sends udp one:5000 > away:80 -> stack',
          'one gets from uplink udp away:1 > one:90 -> passed',
          (on) => (on as HostBed).host('uplink', { in: 'deny', out: 'deny', preDnat: 'deny' }),
          'uplink in udp away:80 > one:5000 -> not local',
          'uplink in udp away:1 > one:90 -> not local',
        ],
      },
    ],
    [
      'forwarded to a pod: the device that it comes in by is asked, then the pod',
      {
        uplink: { 'forward in': 'allow 80' },
        forwards: true,
        legs: { 'two ingress': 'deny' },
        way: [
          'one gets from uplink tcp S away:1 > one:80 -> passed',
          (on) => (on as HostBed).host('uplink', { 'forward in': 'deny' }),
          'one gets from uplink tcp A away:1 > one:80 -> passed',
          'one gets from uplink tcp S away:2 > one:80 -> dropped: policy',
          'one gets from uplink pre-accepted tcp S away:2 > one:80 -> passed',
          'one gets from side tcp S away:3 > one:80 -> passed',
          'two gets from uplink pre-accepted tcp S away:2 > two:80 -> dropped: policy',
          'one gets from node tcp S node:3 > one:80 -> passed',
        ],
      },
    ],
    [
      'a pod’s own legs are no word of a host endpoint, nor the other way round',
      {
        uplink: { in: 'allow' },
        legs: { 'one ingress': 'deny' },
        way: [
          'uplink in tcp S away:1 > one:80 -> not local',
          'one gets from uplink tcp S away:1 > one:80 -> dropped: policy',
          'uplink in tcp S away:1 > one:80 -> not local',
          'one gets from uplink tcp A away:1 > one:80 -> dropped: policy',
        ],
        records: [],
      },
    ],
    [
      'a reset closes a flow, and the next one is judged',
      {
        uplink: { in: 'allow' },
        way: [
          'uplink in tcp S away:1 > node:80 -> local',
          'uplink out tcp RA node:80 > away:1 -> passed',
          (on) => (on as HostBed).host('uplink', { in: 'deny' }),
          'uplink in tcp S away:1 > node:80 -> not local',
        ],
      },
    ],
    [
      'a tunnel’s packet is the node’s, whatever it carries',
      {
        uplink: { out: 'deny', 'forward out': 'allow' },
        way: [
          'uplink out from tunnel gre node > away -> dropped: policy',
          'uplink out from one gre node > away -> passed',
        ],
      },
    ],
    [
      "what isn't for this host, by its address on the link",
      { uplink: { in: 'deny' }, way: ['uplink in tcp S away:1 > node:80 stranger -> pass'], records: [] },
    ],
  ])('%s', async (_, what) => await walk(what));
});
