import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { decodeConntrackMessages } from '#native/conntrack-rows.ts';
import type { ConntrackEntry } from '#native/conntrack-types.ts';

/** A netlink attribute (linux/netlink.h, struct nlattr): type, then bytes, or attributes within it. */
type Attribute = readonly [type: number, value: readonly number[] | readonly Attribute[]];

const nested = 0x8000;
const newMessage = 0x100;
const deleteMessage = 0x102;
const createFlags = 0x600;

const isNest = (value: Attribute[1]): value is readonly Attribute[] => Array.isArray(value[0]);

function encode([type, value]: Attribute): number[] {
  const payload = isNest(value) ? value.flatMap(encode) : [...value];
  const header = new Uint8Array(new Uint16Array([payload.length + 4, isNest(value) ? type | nested : type]).buffer);
  return [...header, ...payload, ...Array<number>(-payload.length & 3).fill(0)];
}

/** A whole message of ctnetlink: nlmsghdr, nfgenmsg, attributes. */
function message(attributes: readonly Attribute[], { type = newMessage, flags = 0, family = 2 } = {}): Uint8Array {
  const payload = [family, 0, 0, 0, ...attributes.flatMap(encode)];
  const header = new Uint8Array(16);
  const view = new DataView(header.buffer);
  view.setUint32(0, 16 + payload.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags, true);
  return Uint8Array.from([...header, ...payload]);
}

/** Numbers of linux/netfilter/nfnetlink_conntrack.h, written down once more so that the decoder's are checked. */
const tuple = (type: number, from: number[], to: number[], proto: Attribute[], zone?: number[]): Attribute => [
  type,
  [
    [
      1,
      from.length === 4
        ? [
            [1, from],
            [2, to],
          ]
        : [
            [3, from],
            [4, to],
          ],
    ],
    [2, proto],
    ...(zone ? ([[3, zone]] as const) : []),
  ],
];

const ports = (protocol: number, source: number[], destination: number[]): Attribute[] => [
  [1, [protocol]],
  [2, source],
  [3, destination],
];

const here = [10, 0, 0, 1];
const service = [10, 96, 0, 1];
const pod = [10, 0, 0, 9];
const node = [192, 0, 2, 1];

const tcp = message(
  [
    tuple(1, here, service, ports(6, [0x9c, 0x40], [0, 80])),
    tuple(2, pod, node, ports(6, [0x1f, 0x90], [0xc3, 0x50])),
    [3, [0, 0, 0x01, 0xbe]],
    [
      4,
      [
        [
          1,
          [
            [1, [3]],
            [2, [7]],
            [3, [8]],
            [4, [0x09, 0]],
            [5, [0x80, 0]],
          ],
        ],
      ],
    ],
    [7, [0, 0, 2, 88]],
    [8, [0xde, 0xad, 0xbe, 0xef]],
    [12, [0xff, 0, 0, 1]],
    [18, [0, 7]],
    [5, [[1, [0x66, 0x74, 0x70, 0]]]],
  ],
  { flags: createFlags },
);

const address6 = (last: number): number[] => [0xfd, 0x65, ...Array<number>(13).fill(0), last];

const ping6 = message(
  [
    tuple(
      1,
      address6(1),
      address6(2),
      [
        [1, [58]],
        [7, [0, 5]],
        [8, [128]],
        [9, [0]],
      ],
      [0, 9],
    ),
    tuple(2, address6(2), address6(1), [
      [1, [58]],
      [7, [0, 6]],
      [8, [129]],
      [9, [0]],
    ]),
  ],
  { type: deleteMessage, family: 10 },
);

const sctp = message([
  tuple(1, here, pod, ports(132, [0, 1], [0, 2])),
  tuple(2, pod, here, ports(132, [0, 2], [0, 1]), [0, 4]),
  [
    4,
    [
      [
        3,
        [
          [1, [4]],
          [2, [0, 0, 0, 1]],
          [3, [255, 255, 255, 255]],
        ],
      ],
    ],
  ],
]);

const esp = message([tuple(1, here, pod, [[1, [50]]]), tuple(2, node, here, [[1, [50]]])]);

const all = [tcp, ping6, sctp, esp];

const concat = (parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(parts.flatMap((part) => [...part]));

function withLength(bytes: Uint8Array, length: number): Uint8Array {
  const changed = Uint8Array.from(bytes);
  new DataView(changed.buffer).setUint32(0, length, true);
  return changed;
}

/** What every entry holds, whatever the bytes. */
function isWhole({ family, original, reply, zone, mark, status, id, zoneDirection }: ConntrackEntry): boolean {
  const texts = [original, reply].flatMap(({ source, destination }) => [source, destination]);
  return (
    texts.every((text) => text.includes(family === 4 ? '.' : ':')) &&
    [zone, mark, id, original.protocol, reply.protocol].every((number) => Number.isInteger(number) && number >= 0) &&
    Array.isArray(status) &&
    ['both', 'original', 'reply'].includes(zoneDirection)
  );
}

describe('messages of connection tracking', () => {
  test('become entries, with every field in its place', () => {
    expect(decodeConntrackMessages(concat(all))).toEqual([
      {
        type: 'new',
        entry: {
          family: 4,
          original: {
            source: '10.0.0.1',
            destination: '10.96.0.1',
            protocol: 6,
            sourcePort: 40_000,
            destinationPort: 80,
          },
          reply: {
            source: '10.0.0.9',
            destination: '192.0.2.1',
            protocol: 6,
            sourcePort: 8080,
            destinationPort: 50_000,
          },
          zone: 7,
          zoneDirection: 'both',
          mark: 0xdeadbeef,
          status: ['seen-reply', 'assured', 'confirmed', 'src-nat', 'dst-nat', 'src-nat-done', 'dst-nat-done'],
          timeoutSeconds: 600,
          id: 0xff000001,
          nat: { source: { address: '192.0.2.1', port: 50_000 }, destination: { address: '10.0.0.9', port: 8080 } },
          tcp: {
            state: 'established',
            original: { flags: ['window-scale', 'be-liberal'], windowScale: 7 },
            reply: { flags: ['simultaneous-open'], windowScale: 8 },
          },
          helper: 'ftp',
        },
      },
      {
        type: 'destroy',
        entry: {
          family: 6,
          original: { source: 'fd65::1', destination: 'fd65::2', protocol: 58, icmp: { id: 5, type: 128, code: 0 } },
          reply: { source: 'fd65::2', destination: 'fd65::1', protocol: 58, icmp: { id: 6, type: 129, code: 0 } },
          zone: 9,
          zoneDirection: 'original',
          mark: 0,
          status: [],
          id: 0,
          nat: { source: { address: 'fd65::1', port: 6 } },
        },
      },
      {
        type: 'update',
        entry: {
          family: 4,
          original: { source: '10.0.0.1', destination: '10.0.0.9', protocol: 132, sourcePort: 1, destinationPort: 2 },
          reply: { source: '10.0.0.9', destination: '10.0.0.1', protocol: 132, sourcePort: 2, destinationPort: 1 },
          zone: 4,
          zoneDirection: 'reply',
          mark: 0,
          status: [],
          id: 0,
          sctp: { state: 'established', originalTag: 1, replyTag: 0xffffffff },
        },
      },
      {
        type: 'update',
        entry: {
          family: 4,
          original: { source: '10.0.0.1', destination: '10.0.0.9', protocol: 50 },
          reply: { source: '192.0.2.1', destination: '10.0.0.1', protocol: 50 },
          zone: 0,
          zoneDirection: 'both',
          mark: 0,
          status: [],
          id: 0,
          nat: { destination: { address: '192.0.2.1' } },
        },
      },
    ]);
  });

  test.each([
    ['of another family', message([tuple(1, here, pod, [[1, [50]]]), tuple(2, pod, here, [[1, [50]]])], { family: 7 })],
    [
      'of another subsystem',
      message([tuple(1, here, pod, [[1, [50]]]), tuple(2, pod, here, [[1, [50]]])], { type: 0x200 }),
    ],
    ['of expectations', message([tuple(1, here, pod, [[1, [50]]]), tuple(2, pod, here, [[1, [50]]])], { type: 0x101 })],
    ['without a reply', message([tuple(1, here, pod, [[1, [50]]])])],
    ['without ports', message([tuple(1, here, pod, [[1, [6]]]), tuple(2, pod, here, [[1, [6]]])])],
    ['with half an address', message([tuple(1, [10, 0], [1, 1], [[1, [50]]]), tuple(2, pod, here, [[1, [50]]])])],
    // libmnl's check takes this length for a negative one.
    ['of 2 GiB', withLength(tcp, 0x8000_0010)],
    ['of nothing', new Uint8Array()],
  ])('%s are left out', (_, bytes) => {
    expect(decodeConntrackMessages(bytes)).toEqual([]);
  });

  test('that are cut short give no half entries, and those before them all the same', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: concat(all).length }), (length) => {
        const found = decodeConntrackMessages(concat(all).subarray(0, length));
        let whole = 0;
        for (let end = 0; whole < all.length; whole += 1) {
          end += all[whole]!.length;
          if (end > length) break;
        }
        expect(found).toHaveLength(whole);
      }),
      { interruptAfterTimeLimit: 1_000 },
    );
  });

  test('with any bytes changed never fail, and what comes out is whole', () => {
    const bytes = concat(all);
    const change = fc.record({ at: fc.nat(bytes.length - 1), to: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 12 }), (changes) => {
        const changed = Uint8Array.from(bytes);
        for (const { at, to } of changes) changed[at] = to;
        expect(decodeConntrackMessages(changed).every(({ entry }) => isWhole(entry))).toBe(true);
      }),
      { numRuns: 20_000, interruptAfterTimeLimit: 1_500 },
    );
  });

  test('of any bytes at all never fail', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        expect(decodeConntrackMessages(message([], { flags: createFlags }))).toEqual([]);
        const whole = concat([message([]).subarray(0, 20), bytes]);
        new DataView(whole.buffer).setUint32(0, whole.length, true);
        expect(decodeConntrackMessages(whole).every(({ entry }) => isWhole(entry))).toBe(true);
      }),
      { numRuns: 5_000, interruptAfterTimeLimit: 500 },
    );
  });

  test.each([[undefined], ['bytes'], [new Uint16Array(4)], [[1, 2]]])('%s is not bytes, and refused', (bad) => {
    expect(() => decodeConntrackMessages(bad as unknown as Uint8Array)).toThrow(
      expect.objectContaining({ code: 'EINVAL', syscall: 'encode' }),
    );
  });
});
