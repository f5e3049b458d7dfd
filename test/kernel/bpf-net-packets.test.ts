import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { FlowFlag, flowConstants, type Hop, HopKind } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { type Case, check } from './bpf-flow-walk.ts';
import { NetBed } from './bpf-net-bed.ts';

/*
 * What comes by an uplink.
 *
 *   away --[net in]--> one            (by uplink; `router` is behind side)
 */
let bed: NetBed;

beforeAll(async () => {
  bed = await NetBed.create();
});
afterAll(async () => await (bed as NetBed | undefined)?.[Symbol.asyncDispose]());
beforeEach(async () => await bed.reset());

const TCP = 6;
const byNet = FlowFlag.byNet | FlowFlag.egressOk;
const hosts = FlowFlag.ofHost | FlowFlag.viaStack;
/** `one` to `away:443`, with the node's address. */
const masqueraded =
  (version: 4 | 6, protocol = TCP) =>
  (it: NetBed): void =>
    it.translated(version, protocol, ['node:61000', 'away:443'], { opener: 'one:5' }, byNet);
/** The node to `front:80`, answered by `away:8080` or so. */
const asked =
  (version: 4 | 6, other = 'away:8080', flags = 0) =>
  (it: NetBed): void =>
    it.translated(version, TCP, ['node:5', other], { other: 'front:80' }, hosts | flags);
type Step = (it: NetBed) => void;
const step =
  (change: Step): Case['way'][number] =>
  (it) =>
    change(it as NetBed);

describe.each([4, 6] as const)('IPv%i', (version) => {
  test.each<[string, Case]>([
    [
      'a connection to a pod goes past the stack',
      {
        way: [
          'net in tcp S away:5 > one:80 -> pod one',
          step((it) => it.podSends(version, 'one', 'tcp SA one:80 > away:5')),
          'net in tcp A away:5 > one:80 -> pod one',
          'net in tcp PA away:5 > one:80 -> pod one',
          'net in tcp FA away:5 > one:80 -> pod one',
        ],
        records: ['answered away:5 > one:80 ingressOk answered established finOpener byNet'],
      },
    ],
    [
      'datagrams, echoes and what has no ports, too',
      {
        way: [
          'net in udp away:5 > one:53 -> pod one',
          'net in udp away:5 > one:53 -> pod one',
          'net in ping 7 away > one -> pod one',
          'net in gre away > one -> pod one',
        ],
      },
    ],
    [
      "the pod's policy refuses it",
      {
        legs: { 'one ingress': 'deny' },
        way: ['net in tcp S away:5 > one:80 -> one refuses: policy'],
        records: [],
      },
    ],
    [
      'a SYN is judged each time',
      {
        way: [
          'net in tcp S away:5 > one:80 -> pod one',
          (it) => it.policy({ 'one ingress': 'deny' }),
          'net in tcp S away:5 > one:80 -> one refuses: policy',
        ],
      },
    ],
    [
      'what is nobody’s here is the stack’s',
      {
        way: [
          'net in tcp S away:5 > node:22 -> stack',
          'net in tcp A away:5 > node:22 -> stack',
          'net in udp away:5 > node:22 -> stack',
          'net in tcp S away:5 > router:22 -> stack',
          'net in ping 7 away > node -> stack',
          'net in tcp S stranger away:5 > one:80 -> stack',
          // In the midst of a flow, or an answer to nothing.
          'net in tcp A away:5 > one:80 -> stack',
          'net in pong 7 away > one -> stack',
        ],
        records: [],
      },
    ],
    [
      'sources that are of this node, or nobody’s, are the stack’s, which knows better',
      {
        way: [
          'net in tcp S two:5 > one:80 -> stack',
          'net in tcp S node:5 > one:80 -> stack',
          // Nor does a router send on what comes from a group, or from a link.
          'net in udp all:5 > one:80 -> stack',
        ],
        records: [],
      },
    ],
    [
      'fragments, options, what may go no further and what is too long are the stack’s',
      {
        way: [
          'net in udp first=9 away:5 > one:53 -> stack',
          'net in udp later=9 away:5 > one:53 -> stack',
          'net in tcp S options away:5 > one:80 -> stack',
          async (it) => expect(await it.records(version)).toEqual([]),
          'net in udp away:5 > one:53 -> pod one',
          'net in udp ttl=1 away:5 > one:53 -> stack',
          'net in udp size=1600 away:5 > one:53 -> stack',
          'net in udp options away:5 > one:53 -> stack',
        ],
      },
    ],
    [
      'what the way back doesn’t leave by an uplink is the stack’s',
      {
        way: [
          step((it) => it.uplink('side', {}, false)),
          'net in at side tcp S router:5 > one:80 -> stack',
          step((it) => it.uplink('side')),
          'net in at side tcp S router:5 > one:80 -> pod one',
          step((it) => it.uplink('uplink', {}, false)),
          'net in tcp S away:5 > one:80 -> stack',
        ],
      },
    ],
    [
      'untracked packets, a closed device, and while flows are taken over',
      {
        way: [
          'net in untracked tcp S away:5 > one:80 -> stack',
          (it) => it.announce('one', false),
          'net in tcp S away:5 > one:80 -> stack',
          (it) => it.announce('one'),
          (it) => it.runState({ adopting: 1 }),
          'net in tcp S away:5 > one:80 -> stack',
        ],
        records: [],
      },
    ],
    [
      'a flow that is the stack’s stays the stack’s',
      {
        way: [
          'one gets from uplink tcp S away:5 > one:80 -> passed',
          'net in tcp S away:5 > one:80 -> stack',
          'one sends tcp SA one:80 > away:5 -> stack',
          'net in tcp A away:5 > one:80 -> stack',
          'one gets from uplink tcp A away:5 > one:80 -> passed',
        ],
        records: ['answered away:5 > one:80 ingressOk answered established viaStack'],
      },
    ],
    [
      'forward policy of the device is asked, and an allowed preDNAT spares it',
      {
        way: [
          step((it) => it.uplink('uplink', { 'forward in': 'deny 80' })),
          (it) => it.runState({ forwardIngress: 1 }),
          'net in tcp S away:5 > one:80 -> one refuses: policy',
          'net in tcp S away:5 > one:81 -> pod one',
          'net in pre-accepted tcp S away:5 > one:80 -> pod one',
        ],
      },
    ],
    [
      'errors about a connection of the pod’s',
      {
        way: [
          'net in tcp S away:5 > one:80 -> pod one',
          'net in error router > one about tcp SA one:80 > away:5 -> pod one',
          'net in error router > one about tcp SA one:81 > away:5 -> stack',
        ],
      },
    ],
    [
      'an answer to a masqueraded pod',
      {
        way: [
          step(masqueraded(version)),
          'net in tcp SA away:443 > node:61000 -> pod one: tcp SA away:443 > one:5',
          'net in tcp A away:443 > node:61000 -> pod one: tcp A away:443 > one:5',
          'net in tcp A away:443 > node:61001 -> stack',
          // A header that a router must look at: the stack does.
          'net in tcp A options away:443 > node:61000 -> stack: tcp A away:443 > one:5',
          // The stack would say so of an address that the sender doesn't know.
          'net in tcp A ttl=1 away:443 > node:61000 -> back (hop-limit): error node > away about tcp away:443 > node:any',
        ],
        records: ['answered node:any > away:443 egressOk answered source byNet'],
      },
    ],
    [
      'fragments of an answer to a masqueraded pod',
      {
        way: [
          step(masqueraded(version, 17)),
          'net in udp later=7 away:443 > node:61000 -> stack',
          'net in udp first=7 away:443 > node:61000 -> stack: udp away:443 > one:5',
          'net in udp later=7 away:443 > node:61000 -> stack: udp away > one',
        ],
      },
    ],
    [
      'an error about what a masqueraded pod has sent',
      {
        way: [
          step(masqueraded(version)),
          'net in error router > node about tcp A node:61000 > away:443 -> pod one: error router > one about tcp one:5 > away:443',
          'net in error away > node about tcp A node:61000 > away:443 -> pod one: error away > one about tcp one:5 > away:443',
          'net in error away > node about tcp A node:61001 > away:443 -> stack',
        ],
      },
    ],
    [
      'an answer of a Service to the node',
      {
        way: [
          step(asked(version)),
          'net in tcp SA away:8080 > node:5 -> stack: tcp SA front:80 > node:5',
          'net in tcp A away:8080 > node:5 -> stack: tcp A front:80 > node:5',
          'net in tcp A away:8081 > node:5 -> stack',
          // The node has asked away:8080 itself, or somebody pretends to.
          'net in tcp A node:5 > away:8080 -> stack',
          'net in error router > node about tcp A node:5 > away:8080 -> stack: error router > node about tcp node:5 > front:80',
        ],
        records: ['answered node:5 > away:8080 answered viaStack destination ofHost'],
      },
    ],
    [
      'what untracked policy has allowed is translated all the same',
      {
        way: [
          step(asked(version)),
          'net in untracked tcp SA away:8080 > node:5 -> stack: tcp SA front:80 > node:5',
          'net in untracked tcp A away:8080 > node:5 -> stack: tcp A front:80 > node:5',
          step(masqueraded(version)),
          'net in untracked tcp SA away:443 > node:61000 -> pod one: tcp SA away:443 > one:5',
          'net in tcp S away:6 > one:80 -> pod one',
          'net in untracked tcp S away:6 > one:80 -> stack',
        ],
      },
    ],
    [
      'it comes by another uplink than that by which the node asked',
      {
        way: [
          step(asked(version, 'router:8080')),
          'net in at side tcp SA router:8080 > node:5 -> uplink: tcp SA front:80 > node:5',
          'net in given tcp SA front:80 > node:5 -> stack',
        ],
      },
    ],
    [
      'a pod here has answered: what its program gives to the uplink is as it should be',
      {
        way: [step(asked(version, 'two:8080', FlowFlag.ingressOk)), 'net in tcp SA front:80 > node:5 -> stack'],
      },
    ],
    [
      'where others have programs at the uplink’s ingress, all comes by the stack, translated if only we can',
      {
        way: [
          'net in tcp S away:5 > one:80 -> pod one',
          step((it) => it.podSends(version, 'one', 'tcp SA one:80 > away:5')),
          'net in tcp A away:5 > one:80 -> pod one',
          'net in tcp A away:5 > one:80 -> pod one', // The short way.
          step((it) => it.shared('uplink')),
          'net in tcp A away:5 > one:80 -> stack',
          'net in tcp S away:6 > one:80 -> stack',
          step(masqueraded(version)),
          'net in tcp SA away:443 > node:61000 -> stack: tcp SA away:443 > one:5',
          step(asked(version, 'two:8080', FlowFlag.ingressOk)),
          'net in tcp SA front:80 > node:5 -> stack',
          step((it) => it.uplink('uplink')),
          'net in tcp A away:5 > one:80 -> pod one',
        ],
      },
    ],
    [
      'a pod whose device is shaped gets what comes by the stack',
      {
        way: [
          step((it) => it.shaped('one')),
          'net in tcp S away:5 > one:80 -> stack',
          async (it) => expect(await it.records(version)).toEqual([]),
          step((it) => it.shaped('one', false)),
        ],
      },
    ],
    [
      'but of the flows that were there before the qdisc, which keep their way to the last packet',
      {
        way: [
          'net in tcp S away:5 > one:80 -> pod one',
          step((it) => it.podSends(version, 'one', 'tcp SA one:80 > away:5')),
          'net in tcp A away:5 > one:80 -> pod one',
          step(masqueraded(version)),
          step((it) => it.shaped('one')),
          step((it) => it.patchSlot('one', { flags: flowConstants.podShaped })),
          'net in tcp PA away:5 > one:80 -> pod one',
          'net in tcp FA away:5 > one:80 -> pod one',
          'net in tcp SA away:443 > node:61000 -> pod one: tcp SA away:443 > one:5',
          'net in tcp FA away:443 > node:61000 -> pod one: tcp FA away:443 > one:5',
          step((it) => it.shaped('one', false)),
        ],
      },
    ],
  ])('%s', async (_, way) => await check(bed, version, way));

  test('both ways of handling a known packet do the same', async () => {
    const packets = ['tcp A', 'tcp PA'];
    for (const flags of packets) {
      await bed.reset();
      bed.run(version, 'net in tcp S away:5 > one:80');
      bed.podSends(version, 'one', 'tcp SA one:80 > away:5');
      // The long way notes the slot, then the short one finds it.
      expect(bed.run(version, `net in ${flags} away:5 > one:80`)).toBe('pod one');
      const [before] = await bed.records(version);
      expect(bed.run(version, `net in ${flags} away:5 > one:80`)).toBe('pod one');
      const [after] = await bed.records(version);
      expect(after?.packets).toEqual([(before?.packets[0] ?? 0) + 1, before?.packets[1]]);
      // The short way asks for no next hop.
      bed.address(version, 'one', { class: 1, hop: 0 });
      try {
        expect(bed.run(version, `net in ${flags} away:5 > one:80`)).toBe('pod one');
      } finally {
        bed.address(version, 'one', { class: 1, hop: 1 });
      }
    }
  });
});

test('a hop that names a pod of another node is the stack’s', async () => {
  bed.hop(11, { kind: HopKind.stack, flags: 0, ifindex: 0, slot: 0 } satisfies Hop);
  bed.address(4, 'router', { class: 0, hop: 11 });
  try {
    expect(bed.run(4, 'net in tcp S away:5 > router:80')).toBe('stack');
    expect(await bed.records(4)).toEqual([]);
  } finally {
    bed.address(4, 'router', { class: 0, hop: 0 });
  }
});
