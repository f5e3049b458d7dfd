import { describe, expect, test } from '@jest/globals';
import { tier } from './everything-for-tests.ts';
import { parseMarks } from './marks.ts';
import {
  hostChainName,
  policyChainName,
  policySetName,
  profileChainName,
  unitChainName,
  unitOf,
  unitSetName,
} from './names.ts';

const LONG = 'GlobalNetworkPolicy '.padEnd(280, 'x');

test('names fit the kernel: chains 28 bytes, sets 31 also under their temporary name', () => {
  const unit = unitOf({ tiers: [tier([LONG])], profiles: [LONG] });
  const chains = [
    policyChainName('ingress', LONG),
    profileChainName('egress', LONG),
    unitChainName('ingress', unit.id),
    ...(['fh', 'th', 'fhfw', 'thfw'] as const).flatMap((purpose) => [
      hostChainName(purpose, '*'),
      hostChainName(purpose, 'a23456789012345'),
    ]),
  ];
  for (const name of chains) expect(name).toMatch(/^cali-[\w.:@-]{1,23}$/);
  for (const name of [policySetName(4, LONG), unitSetName(6, unit.id)]) expect(name).toMatch(/^cali[46]0[\w-]{1,24}$/);
});

test('ids that differ only beyond what the kernel takes stay different', () => {
  const ids = [`${LONG}a`, `${LONG}b`, 's:a', 's:b'];
  expect(new Set(ids.map((id) => policySetName(4, id))).size).toBe(ids.length);
  expect(new Set(ids.map((id) => policyChainName('ingress', id))).size).toBe(ids.length);
});

describe('units', () => {
  const lists = { tiers: [tier(['a', 'b'])], profiles: ['p', 'q'] };

  test('equal lists are one unit', () => {
    expect(unitOf(structuredClone(lists)).id).toBe(unitOf(lists).id);
  });

  test.each([
    { tiers: [tier(['b', 'a'])], profiles: lists.profiles },
    { tiers: [tier(['a']), tier(['b'])], profiles: lists.profiles },
    { tiers: [tier(['a,b'])], profiles: lists.profiles },
    { tiers: [tier(['a', 'b'], { egress: ['a'] })], profiles: lists.profiles },
    { tiers: [tier(['a', 'b'], { defaultAction: 'pass' })], profiles: lists.profiles },
    { tiers: [tier(['a', 'b'], { name: 'other' })], profiles: lists.profiles },
    { tiers: lists.tiers, profiles: ['q', 'p'] },
    { tiers: [], profiles: [] },
  ])('other lists are another unit: %j', (other) => {
    expect(unitOf(other).id).not.toBe(unitOf(lists).id);
  });
});

test.each(['eth0+', 'a b', 'x"y', '!eth0', '', 'a234567890123456'])('the device %j is refused', (device) => {
  expect(() => hostChainName('fh', device)).toThrow(expect.objectContaining({ code: 'E_DEVICE_NAME' }));
});

describe('marks', () => {
  test.each([
    { mask: 0xffff0000, bits: [0x10000, 0x20000, 0x40000, 0x80000, 0x100000] },
    { mask: 0xf8000000, bits: [0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x80000000] },
    { mask: 0x80010111, bits: [0x1, 0x10, 0x100, 0x10000, 0x80000000] },
  ])('$mask: accept, pass, scratch0, scratch1, received from its lowest bit up', ({ mask, bits }) => {
    const { accept, pass, scratch0, scratch1, received } = parseMarks(mask);
    expect([accept, pass, scratch0, scratch1, received]).toEqual(bits);
  });

  test('a mask with too few bits is refused by the name of the setting', () => {
    expect(() => parseMarks(0xf0000)).toThrow(
      expect.objectContaining({
        code: 'E_MARK_BITS',
        message: expect.stringMatching(
          /^iptablesMarkMask \(FELIX_IPTABLESMARKMASK\) is 0xf0000, which has 4 bits: at least 5 are needed/,
        ),
      }),
    );
  });
});
