import { afterAll, beforeAll, beforeEach, describe, test } from '@jest/globals';
import { type Case, check } from './bpf-flow-walk.ts';
import { MasqueradeBed, NAT_PORT } from './bpf-masquerade-bed.ts';

/*
 * What somebody beyond the uplink may try who knows a flow's ends, and what the node does on ports that pods' flows were given.
 * `router` is in a pool, and the way to it is `side`; `away` is beyond the pools.
 */
const PORT = NAT_PORT;

let bed: MasqueradeBed;
beforeAll(async () => {
  bed = await MasqueradeBed.create();
});
afterAll(async () => await (bed as MasqueradeBed | undefined)?.[Symbol.asyncDispose]());
beforeEach(async () => await bed.reset());

const on =
  (change: (it: MasqueradeBed) => void): Case['way'][number] =>
  (it) =>
    change(it as MasqueradeBed);

describe.each([4, 6] as const)('IPv%i', (version) => {
  test.each<[string, Case]>([
    [
      'a source that is reached by another uplink is the stack’s, which has its filter of reverse paths',
      {
        way: ['net in tcp S router:5 > one:80 -> stack', 'net in at side tcp S router:5 > one:80 -> pod one'],
        records: ['new router:5 > one:80 ingressOk byNet'],
      },
    ],
    [
      'a source that is no host’s is the stack’s',
      { way: ['net in udp nobody:5 > one:53 -> stack', 'net in udp self:5 > one:53 -> stack'], records: [] },
    ],
    [
      'a RST and a SYN that are made up don’t end a masqueraded connection',
      {
        way: [
          'one sends tcp S one:5 > away:80 -> net: tcp S node:any > away:80',
          `net in tcp SA away:80 > node:${PORT} -> pod one: tcp SA away:80 > one:5`,
          'one sends tcp A one:5 > away:80 -> net: tcp A node:any > away:80',
          `net in tcp R away:80 > node:${PORT} -> pod one: tcp R away:80 > one:5`,
          `net in tcp S away:80 > node:${PORT} -> stack`,
          'one sends tcp PA one:5 > away:80 -> net: tcp PA node:any > away:80',
          `net in tcp PA away:80 > node:${PORT} -> pod one: tcp PA away:80 > one:5`,
        ],
      },
    ],
    [
      'nor any other one of the pod’s, whose policy doesn’t let the SYN in',
      {
        legs: { 'one ingress': 'deny' },
        way: [
          'one sends tcp S one:5 > router:80 -> net',
          'net in at side tcp SA router:80 > one:5 -> pod one',
          'one sends tcp A one:5 > router:80 -> net',
          'net in at side tcp R router:80 > one:5 -> pod one',
          'net in at side tcp S router:80 > one:5 -> one refuses: policy',
          'one sends tcp PA one:5 > router:80 -> net',
          'net in at side tcp PA router:80 > one:5 -> pod one',
        ],
        records: ['answered one:5 > router:80 egressOk answered established byNet'],
      },
    ],
    [
      'nor one by the stack, to a Service',
      {
        way: [
          on((it) => it.uplink('side', {}, false)),
          on((it) => it.service(version, 6, 80, ['router:8080'])),
          'one sends tcp S one:5 > front:80 -> stack: tcp S one:5 > router:8080',
          'one gets from side tcp SA router:8080 > one:5 -> passed: tcp SA front:80 > one:5',
          'one sends tcp A one:5 > front:80 -> stack: tcp A one:5 > router:8080',
          'one gets from side tcp R router:8080 > one:5 -> passed: tcp R front:80 > one:5',
          'one gets from side tcp S router:8080 > one:5 -> passed',
          on((it) => it.policy({ 'one ingress': 'deny' })),
          'one gets from side tcp S router:8080 > one:5 -> dropped: policy',
          'one sends tcp PA one:5 > front:80 -> stack: tcp PA one:5 > router:8080',
          'one gets from side tcp PA router:8080 > one:5 -> passed: tcp PA front:80 > one:5',
        ],
      },
    ],
    [
      'nor where a host endpoint’s program sees both',
      {
        way: [
          'one sends tcp S one:5 > away:80 -> net: tcp S node:any > away:80',
          `net in tcp SA away:80 > node:${PORT} -> pod one: tcp SA away:80 > one:5`,
          on((it) => it.uplink('uplink', { in: 'deny' })),
          `uplink in tcp R away:80 > node:${PORT} -> not local`,
          `uplink in tcp S away:80 > node:${PORT} -> not local`,
          `net in tcp PA away:80 > node:${PORT} -> pod one: tcp PA away:80 > one:5`,
        ],
      },
    ],
    [
      'nor a SYN alone, where a host endpoint’s program sees it first',
      {
        way: [
          'one sends tcp S one:5 > away:80 -> net: tcp S node:any > away:80',
          `net in tcp SA away:80 > node:${PORT} -> pod one: tcp SA away:80 > one:5`,
          'one sends tcp A one:5 > away:80 -> net: tcp A node:any > away:80',
          on((it) => it.uplink('uplink', { in: 'deny' })),
          `uplink in tcp S away:80 > node:${PORT} -> not local`,
          'one sends tcp PA one:5 > away:80 -> net: tcp PA node:any > away:80',
          `net in tcp PA away:80 > node:${PORT} -> pod one: tcp PA away:80 > one:5`,
        ],
      },
    ],
    [
      'where a host endpoint’s program sees them first, nothing that is made up changes what is known of a pod’s flow',
      {
        way: [
          'net in tcp S away:5 > one:80 -> pod one',
          'one sends tcp SA one:80 > away:5 -> net',
          'net in tcp A away:5 > one:80 -> pod one',
          on((it) => it.uplink('uplink', { in: 'deny' })),
          'uplink in tcp F away:5 > one:80 -> not local',
          'uplink in tcp R away:5 > one:80 -> not local',
          'uplink in tcp S away:5 > one:80 -> not local',
          'uplink in tcp FA one:80 > away:5 -> not local',
          'uplink in tcp RA one:80 > away:5 -> not local',
          'uplink in tcp S one:80 > away:5 -> not local',
          'uplink in udp one:80 > away:5 -> not local',
        ],
        records: ['answered away:5 > one:80 ingressOk answered established byNet', 'new one:80 > away:5 viaStack'],
      },
    ],
    [
      'nor is a flow answered by it',
      {
        way: [
          'net in udp away:5 > one:53 -> pod one',
          'net in udp router:5 > one:53 -> stack',
          on((it) => it.uplink('uplink', { in: 'deny' })),
          'uplink in udp one:53 > away:5 -> not local',
        ],
        records: ['new away:5 > one:53 ingressOk byNet'],
      },
    ],
    [
      'a SYN to the port from which the pod has asked is judged as it comes',
      {
        legs: { 'one ingress': 'deny' },
        way: [
          'one sends tcp S one:5 > router:80 -> net',
          'net in at side tcp SA router:80 > one:5 -> pod one',
          'net in at side tcp S router:80 > one:5 -> one refuses: policy',
          'one sends tcp A one:5 > router:80 -> net',
        ],
      },
    ],
    [
      'a connection that is over makes place for the next one',
      {
        way: [
          'net in tcp S away:5 > one:80 -> pod one',
          'one sends tcp SA one:80 > away:5 -> net',
          'net in tcp FA away:5 > one:80 -> pod one',
          'one sends tcp FA one:80 > away:5 -> net',
          'net in tcp S away:5 > one:80 -> pod one',
        ],
        records: ['new away:5 > one:80 ingressOk byNet'],
      },
    ],
    [
      'of TCP only a SYN opens a flow past the stack',
      {
        way: [
          'net in tcp SA away:5 > one:80 -> stack',
          'net in tcp R away:5 > one:80 -> stack',
          'net in tcp FA away:5 > one:80 -> stack',
        ],
        records: [],
      },
    ],
    [
      'who pretends to be from here changes nothing of what is known of a flow',
      {
        way: [
          'one sends tcp S one:5 > two:80 -> pod two',
          'two sends tcp SA two:80 > one:5 -> pod one',
          'one sends tcp A one:5 > two:80 -> pod two',
          'net in tcp FA one:5 > two:80 -> stack',
          'net in tcp FA two:80 > one:5 -> stack',
          'net in tcp R two:80 > one:5 -> stack',
        ],
        records: ['answered one:5 > two:80 egressOk ingressOk answered established'],
      },
    ],
    [
      'the node itself takes a port that a flow of a pod’s has: the answers are its own',
      {
        way: [
          'one sends udp one:5 > away:53 -> net: udp node:any > away:53',
          `net in udp away:53 > node:${PORT} -> pod one: udp away:53 > one:5`,
          `net out udp node:${PORT} > away:53 -> on`,
          `net in udp away:53 > node:${PORT} -> stack`,
          'one sends tcp S one:5 > away:80 -> net: tcp S node:any > away:80',
          `net in tcp SA away:80 > node:${PORT} -> pod one: tcp SA away:80 > one:5`,
          `net out tcp S node:${PORT} > away:80 -> on`,
          `net in tcp SA away:80 > node:${PORT} -> stack`,
        ],
        records: [],
      },
    ],
    [
      'what goes on in the midst of a connection is none of the flow’s that got its port and has no answer yet',
      {
        way: [
          'one sends tcp S one:5 > away:80 -> net: tcp S node:any > away:80',
          `net in tcp A away:80 > node:${PORT} -> stack`,
          `net in tcp FA away:80 > node:${PORT} -> stack`,
          `net in tcp SA away:80 > node:${PORT} -> pod one: tcp SA away:80 > one:5`,
        ],
      },
    ],
    [
      'what the node says of a pod’s flow, or forwards, takes nothing',
      {
        way: [
          'one sends tcp S one:5 > away:80 -> net: tcp S node:any > away:80',
          `net out tcp R node:${PORT} > away:80 -> on`,
          `net out from one tcp S node:${PORT} > away:80 -> on`,
          `net in tcp SA away:80 > node:${PORT} -> pod one: tcp SA away:80 > one:5`,
        ],
      },
    ],
    [
      'an answer to a masqueraded pod that is longer than its device takes',
      {
        way: [
          'one sends udp one:5 > away:53 -> net: udp node:any > away:53',
          // Who may be cut is cut by the stack.
          `net in udp size=1600 away:53 > node:${PORT} -> ${
            version === 4
              ? 'stack: udp away:53 > one:5'
              : 'back (fragment): error node > away about udp away:53 > node:any'
          }`,
          `net in udp size=1600 whole away:53 > node:${PORT} -> back (fragment): error node > away about udp away:53 > node:any`,
        ],
      },
    ],
  ])('%s', async (_, what) => await check(bed, version, what));
});
