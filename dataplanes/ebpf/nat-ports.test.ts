import { expect, test } from '@jest/globals';
import { natPorts } from './nat-ports.ts';

test.each<[string, Parameters<typeof natPorts>[0], string | undefined, ReturnType<typeof natPorts>]>([
  [
    "the node's own range is the usual one",
    { natOutgoingExclusions: 'IPPoolsOnly' },
    '32768\t60999\n',
    { first: 61_000, last: 65_535 },
  ],
  ['nobody can say', { natOutgoingExclusions: 'IPPoolsOnly' }, undefined, { first: 61_000, last: 65_535 }],
  ['it ends higher', { natOutgoingExclusions: 'IPPoolsOnly' }, '1024 63000', { first: 63_001, last: 65_535 }],
  ['it ends lower', { natOutgoingExclusions: 'IPPoolsOnly' }, '1024 50000', { first: 61_000, last: 65_535 }],
  ['it leaves nothing', { natOutgoingExclusions: 'IPPoolsOnly' }, '1024 65535', undefined],
  [
    'a range is set',
    { natOutgoingExclusions: 'IPPoolsOnly', natPortRange: { min: 40_000, max: 41_000 } },
    '1024 65535',
    { first: 40_000, last: 41_000 },
  ],
  ['only netfilter knows what is excluded', { natOutgoingExclusions: 'IPPoolsAndHostIPs' }, undefined, undefined],
])('ports of masqueraded flows where %s', (_, config, sysctl, expected) => {
  expect(natPorts(config, (path) => (path === 'net/ipv4/ip_local_port_range' ? sysctl : undefined))).toEqual(expected);
});
