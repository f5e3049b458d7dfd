import { afterAll, afterEach, beforeAll, describe, test } from '@jest/globals';
import { FlowBed } from './bpf-flow-bed.ts';
import { type Case, check } from './bpf-flow-walk.ts';

/*
 * Services: `front:80` is what pods ask for, and two:8080 or away:8080 who answers. In the lines stands what is changed in a packet:
 *
 *     one --- [tortie_pod_out: front -> backend] --- redirected: [tortie_pod_out of the backend: backend -> front] --- one
 *                                               \--- by the stack, away --- [tortie_pod_in of one: backend -> front] --- one
 */
let bed: FlowBed;
beforeAll(async () => {
  bed = await FlowBed.create();
});
afterAll(async () => await (bed as FlowBed | undefined)?.[Symbol.asyncDispose]());
afterEach(async () => await bed.reset());

const tcp = 6;
const udp = 17;
const sctp = 132;

describe.each([4, 6] as const)('IPv%i', (version) => {
  const front =
    (protocol: number, port: number, ...backends: string[]) =>
    (on: FlowBed) =>
      on.service(version, protocol, port, backends);
  test.each<[string, Case]>([
    [
      'a backend on this node, there and back',
      {
        legs: { 'two egress': 'deny', 'one ingress': 'deny' },
        way: [
          front(tcp, 80, 'two:8080'),
          'one sends tcp S one:40000 > front:80 -> pod two: tcp S one:40000 > two:8080',
          'two sends tcp SA two:8080 > one:40000 -> pod one: tcp SA front:80 > one:40000',
          'one sends tcp A one:40000 > front:80 -> pod two: tcp A one:40000 > two:8080',
          'one sends tcp PA one:40000 > front:80 -> pod two: tcp PA one:40000 > two:8080',
        ],
        records: ['answered one:40000 > two:8080 egressOk ingressOk answered established destination'],
      },
    ],
    [
      'a backend elsewhere, there and back',
      {
        legs: { 'one ingress': 'deny' },
        way: [
          front(udp, 53, 'away:5353'),
          'one sends udp one:5000 > front:53 -> stack: udp one:5000 > away:5353',
          'one gets udp away:5353 > one:5000 -> passed: udp front:53 > one:5000',
          'one sends udp one:5000 > front:53 -> stack: udp one:5000 > away:5353',
        ],
        records: ['answered one:5000 > away:5353 egressOk answered viaStack destination'],
      },
    ],
    [
      'who has a backend keeps it, also when there is another now',
      {
        way: [
          front(udp, 53, 'two:53'),
          'one sends udp one:5000 > front:53 -> pod two: udp one:5000 > two:53',
          front(udp, 53, 'away:5353'),
          'one sends udp one:5000 > front:53 -> pod two: udp one:5000 > two:53',
          'one sends udp one:5001 > front:53 -> stack: udp one:5001 > away:5353',
          front(udp, 53),
          'one sends udp one:5000 > front:53 -> pod two: udp one:5000 > two:53',
          'two sends udp two:53 > one:5000 -> pod one: udp front:53 > one:5000',
        ],
      },
    ],
    [
      'after the connection is closed, a SYN chooses anew',
      {
        way: [
          front(tcp, 80, 'two:8080'),
          'one sends tcp S one:40000 > front:80 -> pod two: tcp S one:40000 > two:8080',
          front(tcp, 80, 'away:8081'),
          'one sends tcp S one:40000 > front:80 -> pod two: tcp S one:40000 > two:8080',
          'one sends tcp R one:40000 > front:80 -> pod two: tcp R one:40000 > two:8080',
          'one sends tcp S one:40000 > front:80 -> stack: tcp S one:40000 > away:8081',
        ],
        records: ['new one:40000 > away:8081 egressOk viaStack destination'],
      },
    ],
    [
      'policy is asked about the backend, on both legs',
      {
        legs: { 'one egress': 'two:80' },
        way: [
          front(tcp, 443, 'two:80'),
          front(tcp, 80, 'two:81'),
          'one sends tcp S one:40000 > front:80 -> dropped: policy',
          'one sends tcp S one:40000 > front:443 -> pod two: tcp S one:40000 > two:80',
          (on) => on.policy({ 'two ingress': 'two:80' }),
          'one sends tcp S one:40001 > front:80 -> two refuses: policy',
          'one sends tcp S one:40001 > front:443 -> pod two: tcp S one:40001 > two:80',
        ],
      },
    ],
    [
      'nobody answers: refused at once',
      {
        way: [
          front(tcp, 80),
          front(udp, 53),
          'one sends tcp S one:40000 > front:80 -> back (no-backend): tcp RA front:80 > one:40000',
          'one sends udp one:5000 > front:53 -> back (no-backend): error front > one about udp one:5000 > front:53',
        ],
        records: [],
      },
    ],
    [
      'in the midst of a connection of which nothing is known',
      {
        way: [
          front(tcp, 80, 'two:8080'),
          'one sends tcp A one:40000 > front:80 -> back (mid-flow): tcp R front:80 > one:40000',
          (on) => on.runState({ adopting: 1 }),
          'one sends tcp A one:40000 > front:80 -> stack',
          'one sends tcp S one:40001 > front:80 -> pod two: tcp S one:40001 > two:8080',
        ],
        records: ['new one:40001 > two:8080 egressOk ingressOk destination'],
      },
    ],
    [
      'another port of the address is nobody',
      { way: [front(tcp, 80, 'two:8080'), 'one sends tcp S one:40000 > front:81 -> stack'] },
    ],
    [
      'SCTP keeps its port, or is refused',
      {
        way: [
          front(sctp, 38412, 'two:38412'),
          front(sctp, 5000, 'two:5001'),
          'one sends sctp one:6000 > front:38412 -> pod two: sctp one:6000 > two:38412',
          'two sends sctp two:38412 > one:6000 -> pod one: sctp front:38412 > one:6000',
          'one sends sctp one:6000 > front:5000 -> dropped: sctp-port',
        ],
      },
    ],
    [
      'a pod that is its own backend meets the node there, and the Service here',
      {
        way: [
          front(tcp, 80, 'one:8080'),
          'one sends tcp S one:40000 > front:80 -> pod one: tcp S node:40000 > one:8080',
          'one sends tcp SA one:8080 > node:40000 -> pod one: tcp SA front:80 > one:40000',
          'one sends tcp A one:40000 > front:80 -> pod one: tcp A node:40000 > one:8080',
          (on) => on.policy({ 'one ingress': 'deny' }),
          'one sends tcp S one:40001 > front:80 -> one refuses: policy',
        ],
        records: ['answered node:40000 > one:8080 egressOk ingressOk answered established destination source'],
      },
    ],
    [
      'a port that is taken: another one',
      {
        way: [
          front(udp, 53, 'two:53'),
          'one sends udp one:5000 > two:53 -> pod two',
          'one sends udp one:5000 > front:53 -> pod two: udp one:any > two:53',
          'one sends udp one:5000 > front:53 -> pod two: udp one:any > two:53',
          'one sends udp one:5000 > two:53 -> pod two',
          'two sends udp two:53 > one:5000 -> pod one',
        ],
        records: [
          'answered one:5000 > two:53 egressOk ingressOk answered',
          'new one:any > two:53 egressOk ingressOk destination source',
        ],
      },
    ],
    [
      'ICMP errors of both ends, and what they quote',
      {
        way: [
          front(udp, 53, 'two:5353'),
          'one sends udp one:5000 > front:53 -> pod two: udp one:5000 > two:5353',
          'two sends error two > one about udp one:5000 > two:5353 -> pod one: error front > one about udp one:5000 > front:53',
          'one sends error one > front about udp front:53 > one:5000 -> pod two: error one > two about udp two:5353 > one:5000',
        ],
        records: ['new one:5000 > two:5353 egressOk ingressOk destination'],
      },
    ],
    [
      "a router's ICMP error about what went elsewhere",
      {
        way: [
          front(udp, 53, 'away:5353'),
          'one sends udp one:5000 > front:53 -> stack: udp one:5000 > away:5353',
          'one gets error router > one about udp one:5000 > away:5353 -> passed: error router > one about udp one:5000 > front:53',
          'one gets error away > one about udp one:5000 > away:5353 -> passed: error front > one about udp one:5000 > front:53',
        ],
      },
    ],
    [
      'fragments are translated, too',
      {
        way: [
          front(udp, 53, 'two:5353'),
          'one sends udp one:5000 > front:53 first=7 -> pod two: udp one:5000 > two:5353',
          'one sends udp one > front later=7 -> pod two: udp one > two',
          'two sends udp two:5353 > one:5000 first=8 -> pod one: udp front:53 > one:5000',
          'two sends udp two > one later=8 -> pod one: udp front > one',
        ],
        records: ['answered one:5000 > two:5353 egressOk ingressOk answered destination'],
      },
    ],
    [
      'a later fragment for a frontend alone',
      { way: [front(udp, 53, 'two:5353'), 'one sends udp one > front later=7 -> dropped: fragment'] },
    ],
    [
      'a pointer whose record is gone is a miss, and makes room',
      {
        way: [
          front(udp, 53, 'two:5353'),
          'one sends udp one:5000 > front:53 -> pod two: udp one:5000 > two:5353',
          async (on) => await on.dropRecords(version),
          front(udp, 53, 'two:5354'),
          'one sends udp one:5000 > front:53 -> pod two: udp one:5000 > two:5354',
          'two sends udp two:5354 > one:5000 -> pod one: udp front:53 > one:5000',
        ],
        records: ['answered one:5000 > two:5354 egressOk ingressOk answered destination'],
      },
    ],
    [
      'nor is that of an answered flow in anybody’s way: the next one with its tuple, once the Service has gone, too',
      {
        way: [
          front(udp, 53, 'two:5353'),
          'one sends udp one:5000 > front:53 -> pod two: udp one:5000 > two:5353',
          'two sends udp two:5353 > one:5000 -> pod one: udp front:53 > one:5000',
          async (on) => await on.dropRecords(version),
          front(udp, 53, 'two:5354'),
          'one sends udp one:5000 > front:53 -> pod two: udp one:5000 > two:5354',
          'two sends udp two:5354 > one:5000 -> pod one: udp front:53 > one:5000',
          'one sends udp one:5000 > front:53 -> pod two: udp one:5000 > two:5354',
          async (on) => await on.dropRecords(version),
          async (on) => {
            const map = on.map(`tortie_front${version}`);
            await map.deleteMany((await map.entries()).map(({ key }) => key));
          },
          'one sends udp one:5000 > front:53 -> stack',
        ],
      },
    ],
    [
      "a pointer doesn't lead to another flow with the same tuple",
      {
        way: [
          front(udp, 53, 'two:5353'),
          'one sends udp one:5000 > front:53 -> pod two: udp one:5000 > two:5353',
          async (on) => await on.dropRecords(version),
          'one sends udp one:5000 > two:5353 -> pod two',
          'two sends udp two:5353 > one:5000 -> pod one',
          'one sends udp one:5000 > front:53 -> pod two: udp one:any > two:5353',
        ],
      },
    ],
  ])('%s', async (_, what) => await check(bed, version, what));
});
