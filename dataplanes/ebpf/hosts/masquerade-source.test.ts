import { expect, test } from '@jest/globals';
import type { Address } from '#native/types.ts';
import { masqueradeSources, type MasqueradeSettings, type MasqueradeSources } from './masquerade-source.ts';

const none: MasqueradeSettings = { address: undefined, node: {} };
const of = (ip: string, more: Partial<Address> = {}): readonly [string, Address] => [
  ip,
  { linkIndex: 2, family: ip.includes(':') ? 6 : 4, address: `${ip}/24`, scope: 'global', flags: [], ...more },
];

test.each<[string, readonly (readonly [string, Address])[], MasqueradeSettings, MasqueradeSources]>([
  ['nobody, where there is none', [of('fe80::1', { scope: 'link' })], none, { 4: undefined, 6: undefined }],
  [
    'the first of each family',
    [of('192.0.2.1'), of('192.0.2.2'), of('2001:db8::1')],
    none,
    { 4: '192.0.2.1', 6: '2001:db8::1' },
  ],
  [
    "the node's, wherever it stands",
    [of('192.0.2.1'), of('192.0.2.2')],
    { address: undefined, node: { ipv4: '192.0.2.2' } },
    { 4: '192.0.2.2', 6: undefined },
  ],
  [
    'none that the kernel would not choose',
    [
      of('192.0.2.1', { flags: ['secondary'] }),
      of('2001:db8::1', { flags: ['tentative'] }),
      of('2001:db8::2', { flags: ['deprecated'] }),
      of('2001:db8::3'),
    ],
    { address: undefined, node: { ipv6: '2001:db8::1' } },
    { 4: undefined, 6: '2001:db8::3' },
  ],
  [
    'nobody, where the kernel chooses by the destination',
    [of('2001:db8::1'), of('fd00::1')],
    none,
    { 4: undefined, 6: undefined },
  ],
  ['a unique local one alone', [of('fd00::1'), of('fc00::2')], none, { 4: undefined, 6: 'fd00::1' }],
  [
    'what is set',
    [of('192.0.2.1'), of('2001:db8::1')],
    { ...none, address: '192.0.2.9' },
    { 4: '192.0.2.9', 6: '2001:db8::1' },
  ],
])('the source of what is masqueraded is %s', (_, addresses, settings, expected) => {
  expect(masqueradeSources(new Map(addresses), settings)).toEqual(expected);
});
