import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { Jump } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { u32Key } from '#dataplanes/ebpf/keys.ts';
import { type Case, check } from './bpf-flow-walk.ts';
import { NetBed } from './bpf-net-bed.ts';

/*
 * What the node itself asks of Services: at the uplink by which it would leave, since that is where the route to `front` leads.
 *
 *   node --[net out]--> front:80 = two:8080 | away:8080 | node:8080 | nobody
 */
let bed: NetBed;

beforeAll(async () => {
  bed = await NetBed.create();
});
afterAll(async () => await (bed as NetBed | undefined)?.[Symbol.asyncDispose]());
beforeEach(async () => await bed.reset());

type Step = (it: NetBed) => void;
const step =
  (change: Step): Case['way'][number] =>
  (it) =>
    change(it as NetBed);

describe.each([4, 6] as const)('IPv%i', (version) => {
  const service =
    (backends: readonly string[], protocol = 6): Case['way'][number] =>
    (it) =>
      it.service(version, protocol, 80, backends);

  test.each<[string, Case]>([
    [
      'a pod of this node answers: whatever its policy says, it is reached by its own node',
      {
        legs: { 'two ingress': 'deny' },
        way: [
          service(['two:8080']),
          'net out tcp S node:5 > front:80 -> pod two: tcp S node:5 > two:8080',
          'two gets from node tcp S node:5 > two:8080 -> passed',
          step((it) => it.podSends(version, 'two', 'tcp SA two:8080 > node:5')),
          'net in tcp SA front:80 > node:5 -> stack',
          'net out tcp A node:5 > front:80 -> pod two: tcp A node:5 > two:8080',
          'two gets from node tcp A node:5 > two:8080 -> passed',
          // The same backend, though there is another one by now.
          service(['one:8080']),
          'net out tcp S node:5 > front:80 -> pod two: tcp S node:5 > two:8080',
          'net out tcp S node:6 > front:80 -> pod one: tcp S node:6 > one:8080',
        ],
      },
    ],
    [
      'a packet with an address that isn’t the node’s is judged by the pod’s policy',
      {
        legs: { 'two ingress': 'deny' },
        way: [
          service(['two:8080']),
          'net out unmarked tcp S away:5 > front:80 -> pod two: tcp S away:5 > two:8080',
          'two gets tcp S away:5 > two:8080 -> dropped: policy',
        ],
        records: ['new away:5 > two:8080 viaStack destination ofHost'],
      },
    ],
    [
      'a pod elsewhere answers',
      {
        way: [
          service(['away:8080']),
          'net out tcp S node:5 > front:80 -> net: tcp S node:5 > away:8080',
          // Again by this uplink, as what it has become.
          'net out tcp S node:5 > away:8080 -> on',
          'net in tcp SA away:8080 > node:5 -> stack: tcp SA front:80 > node:5',
          'net out tcp A node:5 > front:80 -> net: tcp A node:5 > away:8080',
          'net out tcp A node:5 > away:8080 -> on',
          'net in tcp FA away:8080 > node:5 -> stack: tcp FA front:80 > node:5',
          'net out tcp FA node:5 > front:80 -> net: tcp FA node:5 > away:8080',
        ],
        records: ['answered node:5 > away:8080 answered established finOpener finOther viaStack destination ofHost'],
      },
    ],
    [
      'datagrams',
      {
        way: [
          service(['away:8080'], 17),
          'net out udp node:5 > front:80 -> net: udp node:5 > away:8080',
          'net out udp node:5 > front:80 -> net: udp node:5 > away:8080',
          'net in udp away:8080 > node:5 -> stack: udp front:80 > node:5',
          'net out error node > front about udp front:80 > node:5 -> net: error node > away about udp away:8080 > node:5',
          'net out udp first=3 node:5 > front:80 -> net: udp node:5 > away:8080',
          'net out udp later=3 node:5 > front:80 -> net: udp node > away',
        ],
      },
    ],
    [
      'a process of the node answers: it sees the Service’s address, and its answers are led back',
      {
        way: [
          service(['node:8080']),
          'net out tcp S node:5 > front:80 -> node: tcp S front:5 > node:8080',
          'net in given tcp S front:5 > node:8080 -> stack',
          'net out tcp SA node:8080 > front:5 -> node: tcp SA front:80 > node:5',
          'net in given tcp SA front:80 > node:5 -> stack',
          'net out tcp A node:5 > front:80 -> node: tcp A front:5 > node:8080',
          'net out tcp A node:8080 > front:5 -> node: tcp A front:80 > node:5',
        ],
      },
    ],
    [
      'nobody answers: refused at once',
      {
        way: [
          service([]),
          'net out tcp S node:5 > front:80 -> back (no-backend): tcp RA front:80 > node:5',
          service([], 17),
          'net out udp node:5 > front:80 -> back (no-backend): error front > node about udp node:5 > front:80',
        ],
        records: [],
      },
    ],
    [
      'what isn’t asked of a Service goes on',
      {
        way: [
          service(['away:8080']),
          'net out tcp S node:5 > away:443 -> on',
          'net out tcp A node:5 > away:443 -> on',
          'net out udp node:5 > away:53 -> on',
          'net out ping 7 node > front -> on',
          'net out error node > away about tcp S away:5 > node:80 -> on',
          // In the midst of a flow that somebody else has begun.
          'net out tcp A node:5 > front:80 -> on',
          // Of others: their programs have judged and translated it.
          'net out from one tcp S one:5 > front:80 -> on',
          'net out from side tcp S away:5 > front:80 -> on',
        ],
        records: [],
      },
    ],
    [
      'a pod’s datagrams that netfilter has translated: what answers them is the stack’s, which translates it back',
      {
        way: [
          'net out from one udp one:5 > away:53 -> on',
          'net out from one udp one:5 > away:53 -> on',
          'net in udp away:53 > one:5 -> stack',
          'net out from one sctp one:5 > away:53 -> on',
          'net in sctp away:53 > one:5 -> stack',
          // A connection's answers are told by their flags; what is masqueraded is the node's, and others' is theirs.
          'net out from one tcp S one:6 > away:443 -> on',
          'net out from one udp node:7 > away:53 -> on',
          'net out from side udp away:5 > router:53 -> on',
        ],
        records: ['new one:5 > away:53 viaStack forwardOk', 'new one:5 > away:53 viaStack forwardOk'],
      },
    ],
    [
      'nothing is noted while flows are taken over: those have been allowed',
      {
        way: [
          (it) => it.runState({ adopting: 1 }),
          'net out from one udp one:5 > away:53 -> on',
          (it) => it.runState({ adopting: 0 }),
        ],
        records: [],
      },
    ],
    [
      'policy is asked when the pod sends there itself: that netfilter led it there allows nothing',
      {
        legs: { 'one egress': 'deny' },
        way: [
          'net out from one udp one:5 > away:53 -> on',
          'one sends udp one:5 > away:53 -> dropped: policy',
          'net out from one udp one:5 > away:53 -> on',
          'net in udp away:53 > one:5 -> stack',
          (it) => it.policy({ 'one egress': 'allow' }),
          'one sends udp one:5 > away:53 -> stack',
        ],
        records: ['new one:5 > away:53 egressOk viaStack forwardOk'],
      },
    ],
    [
      'who answers is reached by no uplink: nothing is changed',
      {
        way: [
          step((it) => it.uplink('side', {}, false)),
          service(['router:8080']),
          'net out tcp S node:5 > front:80 -> on',
          step((it) => it.uplink('side')),
          'net out tcp S node:5 > front:80 -> net: tcp S node:5 > router:8080',
        ],
      },
    ],
    [
      'the device is no uplink',
      {
        way: [
          step((it) => it.uplink('uplink', {}, false)),
          service(['two:8080']),
          'net out tcp S node:5 > front:80 -> on',
        ],
      },
    ],
    [
      'a connection to the backend itself has the ports: this one gets another',
      {
        way: [
          service(['two:8080']),
          'two gets from node tcp S node:5 > two:8080 -> passed',
          'net out tcp S node:5 > front:80 -> pod two: tcp S node:any > two:8080',
        ],
      },
    ],
    [
      'one that is over, and begins again',
      {
        way: [
          service(['away:8080']),
          'net out tcp S node:5 > front:80 -> net: tcp S node:5 > away:8080',
          'net in tcp RA away:8080 > node:5 -> stack: tcp RA front:80 > node:5',
          service(['two:8080']),
          'net out tcp S node:5 > front:80 -> pod two: tcp S node:5 > two:8080',
        ],
      },
    ],
    [
      'what is too long for who answers',
      {
        way: [
          service(['away:8080'], 17),
          'net out udp size=1600 node:5 > front:80 -> back (fragment): error front > node about udp node:5 > front:80',
        ],
      },
    ],
  ])('%s', async (_, way) => await check(bed, version, way));

  test('a packet is counted once on its way through the node', async () => {
    bed.service(version, 6, 80, ['two:8080']);
    bed.run(version, 'net out tcp S node:5 > front:80');
    bed.run(version, 'two gets from node tcp S node:5 > two:8080');
    bed.podSends(version, 'two', 'tcp SA two:8080 > node:5');
    bed.run(version, 'net in tcp SA front:80 > node:5');
    bed.run(version, 'net out tcp A node:5 > front:80');
    bed.run(version, 'two gets from node tcp A node:5 > two:8080');
    const [local] = await bed.records(version);
    expect(local?.packets).toEqual([2, 1]);
    await bed.reset();
    bed.uplink('uplink', { in: 'allow', out: 'allow' });
    bed.service(version, 6, 80, ['away:8080']);
    bed.run(version, 'net out tcp S node:5 > front:80');
    bed.run(version, 'uplink out tcp S node:5 > away:8080');
    bed.run(version, 'uplink in tcp SA away:8080 > node:5');
    bed.run(version, 'net in tcp SA away:8080 > node:5');
    bed.run(version, 'net out tcp A node:5 > front:80');
    bed.run(version, 'uplink out tcp A node:5 > away:8080');
    const [there] = await bed.records(version);
    expect(there?.packets).toEqual([2, 1]);
    expect(there?.text).toContain('hostEgress');
  });

  test('host endpoints judge what it has become', async () => {
    bed.uplink('uplink', { out: 'deny 80', in: 'deny' });
    bed.service(version, 6, 80, ['away:8080', 'away:8080']);
    expect(bed.run(version, 'net out tcp S node:5 > front:80')).toBe('net: tcp S node:5 > away:8080');
    expect(bed.run(version, 'uplink out tcp S node:5 > away:8080')).toBe('passed');
    expect(bed.run(version, 'uplink in tcp SA away:8080 > node:5')).toBe('local');
    bed.service(version, 6, 80, ['away:80']);
    expect(bed.run(version, 'net out tcp S node:6 > front:80')).toBe('net: tcp S node:6 > away:80');
    expect(bed.run(version, 'uplink out tcp S node:6 > away:80')).toBe('dropped: policy');
  });

  test('the answer of a pod here passes a host endpoint that lets nothing in', async () => {
    bed.uplink('uplink', { in: 'deny', out: 'deny', preDnat: 'deny' });
    bed.service(version, 6, 80, ['two:8080']);
    bed.run(version, 'net out tcp S node:5 > front:80');
    bed.podSends(version, 'two', 'tcp SA two:8080 > node:5');
    expect(bed.run(version, 'uplink in tcp SA front:80 > node:5')).toBe('local');
  });

  test('what netfilter has translated for a pod passes one that lets nothing in, and stays noted, as often as it is answered', async () => {
    bed.uplink('uplink', { in: 'deny', 'forward in': 'deny', preDnat: 'deny' });
    bed.run(version, 'net out from one udp one:5 > away:53');
    expect(bed.run(version, 'uplink out from one udp one:5 > away:53')).toBe('passed');
    for (let answer = 0; answer < 3; answer++) {
      expect(bed.run(version, 'net in udp away:53 > one:5')).toBe('stack');
      expect(bed.run(version, 'uplink in udp away:53 > one:5')).toBe('not local');
    }
    expect(bed.run(version, 'uplink in udp away:54 > one:5')).toBe('dropped: policy');
  });

  test('host endpoints’ programs go on with the uplinks’, and these with theirs', async () => {
    const jump = bed.hostPrograms.map('tortie_jump');
    jump.set(u32Key(Jump.netIn), u32Key(bed.netPrograms.program('tortie_net_in').fd));
    const jumpOut = bed.netPrograms.map('tortie_jump');
    jumpOut.set(u32Key(Jump.hostOut), u32Key(bed.hostPrograms.program('tortie_host_out').fd));
    try {
      bed.uplink('uplink', { in: 'deny', preDnat: 'allow 80', out: 'deny' });
      expect(bed.through(version, 'in', 'tcp S away:5 > one:80')).toBe('redirected');
      expect(bed.through(version, 'in', 'tcp S away:5 > node:22')).toBe('passed');
      bed.uplink('uplink', { preDnat: 'deny' });
      expect(bed.through(version, 'in', 'tcp S away:5 > two:80')).toBe('dropped');
      bed.service(version, 6, 80, ['two:8080']);
      bed.uplink('uplink', { out: 'deny' });
      expect(bed.through(version, 'out', 'tcp S node:5 > front:80')).toBe('redirected');
      expect(bed.through(version, 'out', 'tcp S node:5 > away:80')).toBe('dropped');
      expect(bed.through(version, 'out', 'tcp S node:5 > front:81')).toBe('dropped');
    } finally {
      jump.delete(u32Key(Jump.netIn));
      jumpOut.delete(u32Key(Jump.hostOut));
    }
  });
});
