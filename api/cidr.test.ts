import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import {
  addressCount,
  compareIps,
  containsCidr,
  containsIp,
  familyOf,
  firstIp,
  hostCidr,
  ipAt,
  isLinkLocal,
  networkOf,
  ordinalOf,
  overlaps,
  parseCidr,
  parseIp,
  subnetAt,
  subnetCount,
  tryParseCidr,
  tryParseIp,
  tryParseIpInNetwork,
  tryParseNet,
  withoutPrefix,
  type Ip,
} from './cidr.ts';

const seed = Date.now() & 0x7fffffff;
const bounded = { seed, interruptAfterTimeLimit: 2000, numRuns: 2000 };

describe('an address', () => {
  test.each([
    ['0.0.0.0', 4, 0n, '0.0.0.0'],
    ['10.65.0.1', 4, 0x0a410001n, '10.65.0.1'],
    ['255.255.255.255', 4, 0xffffffffn, '255.255.255.255'],
    ['::', 6, 0n, '::'],
    ['::1', 6, 1n, '::1'],
    ['FD00:0010::000A', 6, (0xfd000010n << 96n) + 10n, 'fd00:10::a'],
    ['1:0:0:2:0:0:0:3', 6, undefined, '1:0:0:2::3'],
    ['1:2:3:4:5:6:0:8', 6, undefined, '1:2:3:4:5:6:0:8'],
    ['ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 6, (1n << 128n) - 1n, 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
  ])('%s is of family %d, with canonical text', (text, family, value, canonical) => {
    const ip = parseIp(text);
    expect(ip.family).toBe(family);
    expect(ip.text).toBe(canonical);
    expect(familyOf(text)).toBe(family);
    if (value !== undefined) {
      expect(BigInt(ip.value)).toBe(value);
    }
  });

  test.each([
    '',
    '1',
    '1.2.3',
    '1.2.3.4.5',
    '256.0.0.1',
    '01.2.3.4',
    '0x1.2.3.4',
    '1.2.3.-4',
    '1.2.3.4 ',
    '1.2.3.4/32',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '12345::',
    'fe80::1%eth0',
    '::ffff:1.2.3.4',
    'fd00::1/64',
    'localhost',
  ])('is not %j', (text) => {
    expect(tryParseIp(text)).toBeUndefined();
    expect(() => parseIp(text)).toThrow(expect.objectContaining({ code: 'bad-address' }));
  });

  test('sorts by family, then by value', () => {
    const sorted = ['10.0.0.9', '10.0.0.10', '200.0.0.1', '::9', '::10', 'fd00::'];
    expect(
      [...sorted]
        .reverse()
        .map(parseIp)
        .sort(compareIps)
        .map(({ text }) => text),
    ).toEqual(sorted);
    expect(compareIps(parseIp('::1'), parseIp('::1'))).toBe(0);
  });
});

describe('a network', () => {
  test.each([
    ['10.65.0.0/16', '10.65.0.0/16'],
    ['0.0.0.0/0', '0.0.0.0/0'],
    ['255.255.255.255/32', '255.255.255.255/32'],
    ['128.0.0.0/1', '128.0.0.0/1'],
    ['FD00:0::/48', 'fd00::/48'],
    ['::/0', '::/0'],
    ['::1/128', '::1/128'],
  ])('%s is %s', (text, canonical) => {
    expect(parseCidr(text).text).toBe(canonical);
  });

  test.each([
    '10.65.0.1/16',
    '10.0.0.0',
    '10.0.0.0/33',
    '10.0.0.0/',
    '10.0.0.0/08',
    '10.0.0.0/-1',
    'fd00::1/64',
    'fd00::/129',
    '/8',
    'x/8',
  ])('is not %j', (text) => {
    expect(tryParseCidr(text)).toBeUndefined();
    expect(() => parseCidr(text)).toThrow(expect.objectContaining({ code: 'bad-address' }));
  });

  test('has a text from which the prefix length can be taken, if there is one', () => {
    expect(['10.65.0.3/32', 'fd00::3/128', '10.65.0.3'].map(withoutPrefix)).toEqual([
      '10.65.0.3',
      'fd00::3',
      '10.65.0.3',
    ]);
  });

  test('may come with an address of it', () => {
    const parsed = tryParseIpInNetwork('192.168.1.5/24');
    expect(parsed?.ip.text).toBe('192.168.1.5');
    expect(parsed?.network.text).toBe('192.168.1.0/24');
    expect(tryParseIpInNetwork('192.168.1.5')).toBeUndefined();
  });

  test('may be given as one address, or with host bits, where that is allowed', () => {
    expect(tryParseNet('10.0.0.1')?.text).toBe('10.0.0.1/32');
    expect(tryParseNet('fd00::1')?.text).toBe('fd00::1/128');
    expect(tryParseNet('10.0.0.1/8')?.text).toBe('10.0.0.0/8');
    expect(tryParseNet('ten')).toBeUndefined();
  });

  test.each([
    ['10.0.0.0/8', '10.255.255.255', true],
    ['10.0.0.0/8', '11.0.0.0', false],
    ['0.0.0.0/0', '255.255.255.255', true],
    ['0.0.0.0/0', '::1', false],
    ['::/0', '1.2.3.4', false],
    ['fd00::/8', 'fdff::1', true],
    ['fd00::/8', 'fe00::1', false],
    ['192.168.1.1/32', '192.168.1.1', true],
    ['192.168.1.1/32', '192.168.1.2', false],
  ])('%s holds %s: %p', (cidr, ip, expected) => {
    expect(containsIp(parseCidr(cidr), parseIp(ip))).toBe(expected);
  });

  test.each([
    ['10.0.0.0/8', '10.1.0.0/16', true, true],
    ['10.1.0.0/16', '10.0.0.0/8', false, true],
    ['10.0.0.0/16', '10.1.0.0/16', false, false],
    ['10.0.0.0/16', '10.0.0.0/16', true, true],
    ['fd00::/8', '10.0.0.0/8', false, false],
  ])('%s contains %s: %p, overlaps it: %p', (a, b, contains, overlap) => {
    expect(containsCidr(parseCidr(a), parseCidr(b))).toBe(contains);
    expect(overlaps(parseCidr(a), parseCidr(b))).toBe(overlap);
  });

  test.each([
    ['169.254.1.0/24', true],
    ['0.0.0.0/0', true],
    ['169.253.0.0/16', false],
    ['fe80::/64', true],
    ['febf::/16', true],
    ['fec0::/16', false],
  ])('%s meets the link-local range: %p', (text, expected) => {
    expect(isLinkLocal(parseCidr(text))).toBe(expected);
  });
});

describe('a block', () => {
  test('counts every address, the first and the last as well', () => {
    const block = parseCidr('10.65.0.64/26');
    expect(addressCount(block)).toBe(64);
    expect(ipAt(block, 0).text).toBe('10.65.0.64');
    expect(ipAt(block, 63).text).toBe('10.65.0.127');
    expect(ordinalOf(block, parseIp('10.65.0.127'))).toBe(63);
    expect(ipAt(parseCidr('255.255.255.255/32'), 0).text).toBe('255.255.255.255');
    expect(ipAt(parseCidr('fd00::ffc0/122'), 63).text).toBe('fd00::ffff');
  });

  test('has no address beyond its end', () => {
    const block = parseCidr('10.65.0.64/26');
    expect(() => ipAt(block, 64)).toThrow(RangeError);
    expect(() => ipAt(block, -1)).toThrow(RangeError);
    expect(() => ipAt(block, 0.5)).toThrow(RangeError);
    expect(() => ordinalOf(block, parseIp('10.65.0.128'))).toThrow(RangeError);
    expect(() => ordinalOf(block, parseIp('fd00::1'))).toThrow(RangeError);
  });

  test('is one of the blocks of its pool, numbered from 0', () => {
    const pool = parseCidr('10.65.0.0/16');
    expect(subnetCount(pool, 26)).toBe(1024n);
    expect(subnetAt(pool, 26, 1023n).text).toBe('10.65.255.192/26');
    expect(subnetCount(pool, 12)).toBe(0n);
    expect(() => subnetAt(pool, 26, 1024n)).toThrow(RangeError);
    const pool6 = parseCidr('fd00::/48');
    expect(subnetCount(pool6, 122)).toBe(1n << 74n);
    expect(subnetAt(pool6, 122, (1n << 74n) - 1n).text).toBe('fd00::ffff:ffff:ffff:ffff:ffc0/122');
    expect(subnetCount(parseCidr('0.0.0.0/0'), 32)).toBe(1n << 32n);
    expect(subnetAt(parseCidr('0.0.0.0/0'), 32, (1n << 32n) - 1n).text).toBe('255.255.255.255/32');
  });
});

const anyIp: fc.Arbitrary<Ip> = fc.oneof(
  fc.ipV4().map(parseIp),
  fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }).map((value) => ipAt6(value)),
);

/** An IPv6 address by its value, written without this module: eight groups. */
function ipAt6(value: bigint): Ip {
  const hex = value.toString(16).padStart(32, '0');
  return parseIp(hex.match(/.{4}/g)!.join(':'));
}

describe(`addresses and networks (seed ${seed})`, () => {
  test('text and value say the same, whatever the address', () => {
    fc.assert(
      fc.property(anyIp, (ip) => {
        expect(parseIp(ip.text)).toEqual(ip);
        expect(hostCidr(ip).text).toBe(`${ip.text}/${ip.family === 4 ? 32 : 128}`);
      }),
      bounded,
    );
  });

  test('the network of an address holds it, starts where its bits say, and reads back', () => {
    fc.assert(
      fc.property(anyIp, fc.nat(128), (ip, length) => {
        const bits = ip.family === 4 ? 32 : 128;
        const prefix = Math.min(length, bits);
        const network = networkOf(ip, prefix);
        expect(containsIp(network, ip)).toBe(true);
        expect(parseCidr(network.text)).toEqual(network);
        const binary = BigInt(ip.value).toString(2).padStart(bits, '0');
        expect(BigInt(network.first)).toBe(BigInt(`0b${binary.slice(0, prefix).padEnd(bits, '0')}`));
        expect(firstIp(network).value).toBe(network.first);
      }),
      bounded,
    );
  });

  test("ordinal and address of a block are each other's inverse", () => {
    fc.assert(
      fc.property(anyIp, fc.nat(12), fc.nat(), (ip, hostBits, any) => {
        const block = networkOf(ip, (ip.family === 4 ? 32 : 128) - hostBits);
        const ordinal = any % addressCount(block);
        expect(ordinalOf(block, ipAt(block, ordinal))).toBe(ordinal);
        expect(ipAt(block, ordinalOf(block, ip))).toEqual(ip);
      }),
      bounded,
    );
  });

  test('arbitrary text is an address or nothing', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ maxLength: 50 }), fc.stringMatching(/^[0-9a-f:./%]{0,45}$/)), (text) => {
        const ip = tryParseIp(text);
        expect(ip === undefined || parseIp(ip.text).text === ip.text).toBe(true);
        expect(() => tryParseNet(text)).not.toThrow();
      }),
      bounded,
    );
  });
});
