import { describe, expect, test } from '@jest/globals';
import type { RuleInfo } from '../../policy.ts';
import { context, peer, ruleInfo } from './everything-for-tests.ts';
import { ruleMatch } from './match.ts';
import { policySetName } from './names.ts';

const set = (id: string, family: 4 | 6 = 4): string => policySetName(family, id);
const port = (n: number): { min: number; max: number } => ({ min: n, max: n });
const singles = (count: number): { min: number; max: number }[] => Array.from({ length: count }, (_, n) => port(n + 1));
const list = (from: number, to: number): string => Array.from({ length: to - from + 1 }, (_, n) => n + from).join(',');

/** What stands before the deciding rule, then its matches; `undefined`: nothing is rendered. Marks: scratch0 0x40000, scratch1 0x80000. */
interface Case {
  readonly what: string;
  readonly rule: Partial<RuleInfo>;
  readonly v4?: readonly string[];
  readonly v6?: readonly string[];
}

const both = (...lines: string[]) => ({ v4: lines, v6: lines });

const cases: readonly Case[] = [
  { what: 'nothing asked: every packet', rule: {}, ...both('') },
  { what: 'a family', rule: { ipVersion: 6 }, v6: [''] },
  { what: 'a protocol', rule: { protocol: 6 }, ...both('-p 6') },
  { what: 'a protocol excepted', rule: { notProtocol: 17 }, ...both('! -p 17') },
  { what: 'a protocol, another excepted', rule: { protocol: 6, notProtocol: 17 }, ...both('-p 6') },
  { what: 'a protocol that is excepted itself', rule: { protocol: 6, notProtocol: 6 } },
  { what: 'an ICMP type', rule: { protocol: 1, icmp: { type: 8 } }, v4: ['-p 1 -m icmp --icmp-type 8'] },
  {
    what: 'an ICMP type and code, one excepted',
    rule: { protocol: 1, icmp: { type: 3, code: 1 }, notIcmp: { type: 8 } },
    v4: ['-p 1 -m icmp --icmp-type 3/1 -m icmp ! --icmp-type 8'],
  },
  {
    what: 'an ICMPv6 type excepted',
    rule: { protocol: 58, notIcmp: { type: 128, code: 0 } },
    v6: ['-p 58 -m icmp6 ! --icmpv6-type 128/0'],
  },
  { what: 'ICMP without a type', rule: { protocol: 1 }, ...both('-p 1') },
  { what: 'an ICMP type without its protocol', rule: { icmp: { type: 8 } } },
  {
    what: 'one network an end',
    rule: { source: peer({ net: '10.0.0.0/8' }), destination: peer({ notNet: '10.1.0.0/16' }) },
    v4: ['-s 10.0.0.0/8 ! -d 10.1.0.0/16'],
  },
  {
    what: 'networks of two families',
    rule: { source: peer({ net: '10.0.0.0/8' }), destination: peer({ notNet: 'fd00::/8' }) },
  },
  { what: 'all of a family', rule: { source: peer({ net: '::/0' }) }, v6: [''] },
  { what: 'none of a family', rule: { source: peer({ notNet: '0.0.0.0/0' }) } },
  {
    what: 'a network with an exception in it',
    rule: { protocol: 6, destination: peer({ net: 'fd00::/8', notNet: 'fd00:1::/32' }) },
    v6: [
      '-j MARK --set-xmark 0x80000/0x80000',
      '-d fd00:1::/32 -j MARK --set-xmark 0x0/0x80000',
      '-p 6 -m mark --mark 0x80000/0x80000 -d fd00::/8',
    ],
  },
  {
    what: 'sets: a family of its own each',
    rule: { source: peer({ sets: ['s:a', 's:b'] }), destination: peer({ notSets: ['s:c'] }) },
    v4: [
      `-m set --match-set ${set('s:a')} src -m set --match-set ${set('s:b')} src -m set ! --match-set ${set('s:c')} dst`,
    ],
    v6: [
      `-m set --match-set ${set('s:a', 6)} src -m set --match-set ${set('s:b', 6)} src -m set ! --match-set ${set('s:c', 6)} dst`,
    ],
  },
  {
    what: 'a service, as a destination',
    rule: { destination: peer({ ipPortSets: ['svc:x'] }) },
    v4: [`-m set --match-set ${set('svc:x')} dst,dst`],
    v6: [`-m set --match-set ${set('svc:x', 6)} dst,dst`],
  },
  {
    what: 'ports of both ends',
    rule: {
      protocol: 17,
      source: peer({ ports: [port(53)] }),
      destination: peer({ ports: [{ min: 1000, max: 2000 }, port(80)] }),
    },
    ...both('-p 17 -m multiport --sports 53 -m multiport --dports 1000:2000,80'),
  },
  {
    what: 'as many ports as one match takes',
    rule: { protocol: 6, destination: peer({ ports: singles(15) }) },
    ...both(`-p 6 -m multiport --dports ${list(1, 15)}`),
  },
  {
    what: 'more ports than one match takes: any of the chunks',
    rule: { protocol: 6, destination: peer({ ports: singles(16), net: '10.0.0.0/8' }) },
    v4: [
      '-j MARK --set-xmark 0x0/0x80000',
      `-p 6 -m multiport --dports ${list(1, 15)} -j MARK --set-xmark 0x80000/0x80000`,
      '-p 6 -m multiport --dports 16 -j MARK --set-xmark 0x80000/0x80000',
      '-p 6 -m mark --mark 0x80000/0x80000 -d 10.0.0.0/8',
    ],
  },
  {
    what: 'ranges take two of the 15 places',
    rule: {
      protocol: 6,
      source: peer({ notPorts: Array.from({ length: 8 }, (_, n) => ({ min: 10 * n, max: 10 * n + 1 })) }),
    },
    ...both('-p 6 -m multiport ! --sports 0:1,10:11,20:21,30:31,40:41,50:51,60:61 -m multiport ! --sports 70:71'),
  },
  {
    what: 'a named port or a number, at both ends',
    rule: {
      protocol: 6,
      source: peer({ ports: [port(1)], portSets: ['n:a'] }),
      destination: peer({ ports: [port(2)], portSets: ['n:b'] }),
    },
    v4: [
      '-j MARK --set-xmark 0x0/0xc0000',
      '-p 6 -m multiport --sports 1 -j MARK --set-xmark 0x40000/0x40000',
      `-m set --match-set ${set('n:a')} src,src -j MARK --set-xmark 0x40000/0x40000`,
      '-p 6 -m multiport --dports 2 -j MARK --set-xmark 0x80000/0x80000',
      `-m set --match-set ${set('n:b')} dst,dst -j MARK --set-xmark 0x80000/0x80000`,
      '-p 6 -m mark --mark 0xc0000/0xc0000',
    ],
    v6: [
      '-j MARK --set-xmark 0x0/0xc0000',
      '-p 6 -m multiport --sports 1 -j MARK --set-xmark 0x40000/0x40000',
      `-m set --match-set ${set('n:a', 6)} src,src -j MARK --set-xmark 0x40000/0x40000`,
      '-p 6 -m multiport --dports 2 -j MARK --set-xmark 0x80000/0x80000',
      `-m set --match-set ${set('n:b', 6)} dst,dst -j MARK --set-xmark 0x80000/0x80000`,
      '-p 6 -m mark --mark 0xc0000/0xc0000',
    ],
  },
  {
    what: 'one named port, another excepted, without a protocol',
    rule: { destination: peer({ portSets: ['n:a'], notPortSets: ['n:b'] }) },
    v4: [`-m set --match-set ${set('n:a')} dst,dst -m set ! --match-set ${set('n:b')} dst,dst`],
    v6: [`-m set --match-set ${set('n:a', 6)} dst,dst -m set ! --match-set ${set('n:b', 6)} dst,dst`],
  },
  {
    what: 'ports of a protocol that has none',
    rule: { protocol: 47, destination: peer({ ports: [port(80)] }) },
  },
  {
    what: 'ports excepted of a protocol that has none',
    rule: { protocol: 47, destination: peer({ notPorts: [port(80)] }) },
    ...both('-p 47'),
  },
  {
    what: 'ports of whatever protocol has them',
    rule: { destination: peer({ ports: [port(80)], notPorts: [port(81)] }) },
    ...both(
      '-j MARK --set-xmark 0x0/0x80000',
      ...[6, 17, 33, 132, 136].map((p) => `-p ${p} -m multiport --dports 80 -j MARK --set-xmark 0x80000/0x80000`),
      ...[6, 17, 33, 132, 136].map((p) => `-p ${p} -m multiport --dports 81 -j MARK --set-xmark 0x0/0x80000`),
      '-m mark --mark 0x80000/0x80000',
    ),
  },
];

describe.each(cases)('$what', ({ rule, v4, v6 }) => {
  test.each([
    { family: 4, expected: v4 },
    { family: 6, expected: v6 },
  ] as const)('IPv$family', ({ family, expected }) => {
    const found = ruleMatch(ruleInfo(rule), context(family));
    expect(found && [...found.before, found.match]).toEqual(expected);
  });
});
