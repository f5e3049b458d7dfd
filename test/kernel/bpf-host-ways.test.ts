import { afterAll, beforeAll, beforeEach, describe, test } from '@jest/globals';
import type { RunState } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { type Case, check } from './bpf-flow-walk.ts';
import { HostBed, type HostPolicy } from './bpf-host-bed.ts';

/*
 * What pods send, and the host endpoint by whose device it leaves, or that all devices have.
 *
 *   one --[out]--> (route: uplink) --> away
 */
let bed: HostBed;

beforeAll(async () => {
  bed = await HostBed.create();
  const ip = async (...args: string[]) => await bed.netns.exec('ip', ...args);
  for (const device of ['one', 'uplink', 'uplink-far']) await ip('link', 'set', device, 'up');
  await ip('addr', 'add', '192.0.2.2/24', 'dev', 'uplink');
  await ip('addr', 'add', '2001:db8::2/64', 'dev', 'uplink', 'nodad');
  for (const family of ['ipv4', 'ipv6']) await bed.netns.exec('sysctl', '-qw', `net.${family}.conf.all.forwarding=1`);
});
afterAll(async () => await (bed as HostBed | undefined)?.[Symbol.asyncDispose]());
beforeEach(async () => await bed.reset());

interface WayCase extends Case {
  readonly uplink?: HostPolicy;
  readonly pods?: HostPolicy;
  readonly run?: Partial<RunState>;
}

describe.each([4, 6] as const)('IPv%i', (version) => {
  test.each<[string, WayCase]>([
    [
      'the device that a pod’s packet leaves by is asked',
      {
        uplink: { 'forward out': 'deny 80', out: 'deny', in: 'deny', 'forward in': 'deny' },
        run: { forwardEgress: 1 },
        way: [
          'one sends tcp S one:5 > away:80 -> dropped: policy',
          'one sends tcp S one:5 > away:22 -> stack',
          'one sends tcp A one:5 > away:22 -> stack',
          'one sends tcp S one:5 > node:80 -> stack',
          'one sends tcp S one:5 > two:80 -> pod two',
        ],
      },
    ],
    [
      'a known flow goes on, its SYN is judged again',
      {
        uplink: {},
        run: { forwardEgress: 1 },
        way: [
          'one sends tcp S one:5 > away:80 -> stack',
          (on) => (on as HostBed).host('uplink', { 'forward out': 'deny' }),
          'one sends tcp A one:5 > away:80 -> stack',
          'one sends tcp S one:5 > away:80 -> dropped: policy',
        ],
      },
    ],
    [
      'nobody has policy for what is forwarded out: no route is looked up',
      { uplink: { 'forward out': 'deny' }, way: ['one sends tcp S one:5 > away:80 -> stack'] },
    ],
    [
      'all devices: forwarded in by pods’',
      {
        pods: { 'forward in': 'deny 80', in: 'deny', out: 'deny' },
        way: [
          'one sends tcp S one:5 > two:80 -> dropped: policy',
          'one sends tcp S one:5 > away:80 -> dropped: policy',
          'one sends tcp S one:5 > node:80 -> stack',
          'one sends tcp S one:5 > two:22 -> pod two',
          'two sends tcp SA two:22 > one:5 -> pod one',
          'one gets from uplink tcp S away:1 > one:80 -> passed',
        ],
      },
    ],
    [
      'all devices: forwarded out by pods’',
      {
        pods: { 'forward out': 'deny 80' },
        way: [
          'one sends tcp S one:5 > two:80 -> dropped: policy',
          'one sends tcp S one:5 > away:80 -> stack',
          'one gets from uplink tcp S away:1 > one:80 -> dropped: policy',
          'one gets from node tcp S node:1 > one:80 -> passed',
        ],
      },
    ],
    [
      'all devices: what a pod asks for, before it is translated',
      {
        pods: { preDnat: 'deny 80' },
        way: [
          (on) => on.service(version, 6, 80, ['two:8080']),
          'one sends tcp S one:5 > front:80 -> dropped: policy',
          'one sends tcp S one:5 > node:80 -> dropped: policy',
          'one sends tcp S one:5 > two:8080 -> pod two',
          (on) => (on as HostBed).failsafe(version, 'in', 6, 80, 'one'),
          'one sends tcp S one:6 > node:80 -> stack',
        ],
      },
    ],
    [
      'all devices: what preDNAT policy allows is spared what is forwarded in, for as long as it lasts',
      {
        pods: { preDnat: 'allow 80', 'forward in': 'deny' },
        way: [
          (on) => on.service(version, 6, 80, ['two:8080']),
          'one sends tcp S one:5 > two:8080 -> dropped: policy',
          'one sends tcp S one:5 > front:80 -> pod two: tcp S one:5 > two:8080',
          'one sends tcp S one:5 > front:80 -> pod two: tcp S one:5 > two:8080',
        ],
      },
    ],
  ])('%s', async (_, { uplink, pods, run, ...what }) => {
    if (uplink !== undefined) bed.host('uplink', uplink);
    if (pods !== undefined) bed.podsHost(pods);
    if (run !== undefined) bed.runState(run);
    await check(bed, version, what);
  });
});
