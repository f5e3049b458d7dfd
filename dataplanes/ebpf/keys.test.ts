import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { SourceKey } from './bpf-types.gen.ts';
import { readSourceKey, readU32, sourceKey, u32Key } from './keys.ts';

describe('source keys', () => {
  test.each([
    ['10.65.0.3/32', 64 + 32, 4, [10, 65, 0, 3]],
    ['192.0.2.0/24', 64 + 24, 4, [192, 0, 2, 0]],
    ['192.0.2.255/25', 64 + 25, 4, [192, 0, 2, 128]],
    ['0.0.0.0/0', 64, 4, [0, 0, 0, 0]],
    ['fd65::3/128', 64 + 128, 6, [0xfd, 0x65, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]],
    ['fd65::3/16', 64 + 16, 6, [0xfd, 0x65]],
  ])('%s is %i bits of family %i', (cidr, prefixLen, family, start) => {
    const address = new Uint8Array(16);
    address.set(start);
    expect(SourceKey.read(new DataView(sourceKey(7, cidr).buffer))).toEqual({ prefixLen, ifindex: 7, family, address });
  });

  test('text that is no prefix is refused', () => {
    for (const text of ['10.65.0.3', '10.65.0.3/33', '::ffff:10.65.0.3/128', 'pod', ''])
      expect(() => sourceKey(1, text)).toThrow();
  });

  test('what was written is read back, whatever the prefix', () => {
    const prefix = fc.oneof(
      fc.tuple(fc.ipV4(), fc.integer({ min: 0, max: 32 })),
      fc.tuple(
        fc.ipV6().filter((address) => !address.includes('.')),
        fc.integer({ min: 0, max: 128 }),
      ),
    );
    fc.assert(
      fc.property(prefix, fc.integer({ min: 1, max: 2 ** 31 - 1 }), ([address, length], ifindex) => {
        const key = sourceKey(ifindex, `${address}/${length}`);
        const read = readSourceKey(key);
        expect(read.ifindex).toBe(ifindex);
        expect(sourceKey(ifindex, read.cidr)).toEqual(key);
      }),
    );
  });
});

test('a u32 survives the way there and back', () => {
  for (const value of [0, 1, 256, 2 ** 31 - 1, 2 ** 32 - 1]) expect(readU32(u32Key(value))).toBe(value);
});
