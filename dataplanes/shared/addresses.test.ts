import { expect, test } from '@jest/globals';
import { contains, parseCidr } from './addresses.ts';

test.each([
  ['10.0.0.0/8', '10.255.0.1', true],
  ['10.0.0.0/9', '10.128.0.1', false],
  ['192.0.2.4/30', '192.0.2.7', true],
  ['192.0.2.4/30', '192.0.2.8', false],
  ['0.0.0.0/0', '203.0.113.9', true],
  ['0.0.0.0/0', '2001:db8::1', false],
  ['2001:db8::/33', '2001:db8:7fff::1', true],
  ['2001:db8::/33', '2001:db8:8000::1', false],
  ['2001:db8::1/128', '2001:db8::1', true],
  ['::/0', 'fe80::1', true],
])('%s contains %s: %s', (cidr, address, expected) => {
  expect(contains(parseCidr(cidr), parseCidr(address))).toBe(expected);
});
