import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import {
  classifierConstants,
  type Decision,
  DecisionReason,
  Dimension,
  PortTable,
  RuleAction,
  RuleHits,
} from '#dataplanes/ebpf/bpf-types.gen.ts';
import { ClassifierBed, icmpIndex } from './classifier-bed.ts';
import { ipv4, ipv6 } from '#test/lab/packets.ts';
import type { Packet } from '#test/oracle/policy-model.ts';
import { HandTables, type HandUnit, word } from './classifier-tables.ts';

const { ruleIndexNone, unitChunks } = classifierConstants;
const { allow, deny, pass, log, undecided } = RuleAction;
const { source, destination, service, sourcePort } = Dimension;
const tcp = 6;
const sizes = { tortie_rowtab: 8192, tortie_chunks: 8192, tortie_rules: 131_072, tortie_hits: 131_072 };
const unit = 7;
/** Of `mark` in `struct __sk_buff`. */
const markOffset = 8;

/** Both families: two addresses that are known by themselves, one by a network, one not at all. */
const families = [
  {
    family: 'IPv4',
    frame: ipv4,
    one: '10.65.0.3',
    two: '10.65.0.4',
    net: '192.0.2.0',
    bits: 24,
    inNet: '192.0.2.77',
    stranger: '198.51.100.9',
    icmp: 1,
    otherIcmp: 58,
    icmpTable: PortTable.icmp,
  },
  {
    family: 'IPv6',
    frame: ipv6,
    one: 'fd65::3',
    two: 'fd65::4',
    net: '2001:db8:1::',
    bits: 48,
    inNet: '2001:db8:1:2::77',
    stranger: '2001:db8:9::9',
    icmp: 58,
    otherIcmp: 1,
    icmpTable: PortTable.icmpv6,
  },
] as const;

let bed: ClassifierBed;
let tables: HandTables;

beforeAll(async () => {
  bed = await ClassifierBed.load(sizes);
  tables = new HandTables(bed);
});
afterAll(() => (bed as ClassifierBed | undefined)?.[Symbol.dispose]());

function hitsOf(rule: number): RuleHits {
  const { buffer, byteOffset } = bed.array('tortie_hits').value(rule);
  return RuleHits.read(new DataView(buffer, byteOffset));
}

describe.each(families)('in $family', ({ frame, one, two, net, bits, inNet, stranger, icmp, otherIcmp, icmpTable }) => {
  const packet: Required<Omit<Packet, 'icmp'>> = { from: one, to: two, protocol: tcp, sourcePort: 40_000, port: 80 };
  const by = (decision: Decision, first: number) => ({
    action: decision.action,
    reason: decision.reason,
    rule: decision.rule === ruleIndexNone ? undefined : decision.rule - first,
    chunk: decision.chunk,
  });
  const judged = (made: HandUnit, what: Partial<Packet> = {}) => {
    const first = tables.unit(unit, made);
    return by(bed.judge(unit, { ...packet, ...what }), first);
  };
  const ruled = (action: RuleAction, rule: number) => ({
    action,
    reason: DecisionReason.rule,
    rule,
    chunk: Math.floor(rule / 512),
  });

  beforeEach(() => {
    tables.address(one, { class: 1, hop: 11 });
    tables.address(two, { class: 2, hop: 12 });
    tables.address(net, { class: 3, hop: 13 }, bits);
  });

  test('a unit that was never published denies', () => {
    expect(bed.judge(4000, packet)).toMatchObject({ action: deny, reason: DecisionReason.noUnit, rule: ruleIndexNone });
  });

  test('a unit beyond the table denies', () => {
    expect(bed.judge(0xffff_fff0, packet)).toMatchObject({ action: deny, reason: DecisionReason.noUnit });
  });

  test('a unit that looks at nothing has its first rule', () => {
    expect(judged({ chunks: 1, rules: { 0: word(allow) } })).toEqual(ruled(allow, 0));
  });

  test('a unit without any chunk denies', () => {
    expect(judged({ chunks: 0, rules: {} })).toMatchObject({ action: deny, reason: DecisionReason.noRule });
  });

  test.each(Array.from({ length: 64 }, (_, i) => (i * 8 + (i >> 3)) % 512))('bit %i is found', (bit) => {
    const bits512 = [bit, ...(bit < 511 ? [511] : [])];
    expect(
      judged({ chunks: 1, rules: { [bit]: word(allow) }, rows: { [source]: { default: [], 1: bits512 } } }),
    ).toEqual(ruled(allow, bit));
  });

  test.each<[string, Partial<Packet>, number]>([
    ['its own class', {}, 1],
    ["its network's", { from: inNet }, 3],
    ['none', { from: stranger }, 0],
  ])('a source has %s', (_, what, cls) => {
    const rows = { default: [9], 1: [1], 3: [3] };
    const rules = { 1: word(allow), 3: word(allow), 9: word(deny) };
    expect(judged({ chunks: 1, rules, rows: { [source]: rows } }, what)).toEqual(
      ruled(cls === 0 ? deny : allow, cls || 9),
    );
    expect(bed.judge(unit, { ...packet, ...what }).source).toEqual({ class: cls, hop: cls === 0 ? 0 : 10 + cls });
  });

  test("the destination's class and next hop are told, whatever the unit looks at", () => {
    expect(judged({ chunks: 1, rules: { 0: word(allow) } })).toEqual(ruled(allow, 0));
    expect(bed.judge(unit, packet).destination).toEqual({ class: 2, hop: 12 });
    expect(bed.judge(unit, { ...packet, to: inNet }).destination).toEqual({ class: 3, hop: 13 });
    expect(bed.judge(4000, packet).destination).toEqual({ class: 2, hop: 12 });
    expect(bed.judge(unit, packet).source).toEqual({ class: 0, hop: 0 });
  });

  test.each<
    [
      string,
      { protocol: number; port?: number; sourcePort?: number; icmp?: { type: number; code: number } },
      PortTable,
      number,
    ]
  >([
    ['TCP port', { protocol: 6, port: 443 }, PortTable.tcp, 443],
    ['UDP port', { protocol: 17, port: 65_535 }, PortTable.udp, 65_535],
    ['SCTP port', { protocol: 132, port: 0 }, PortTable.sctp, 0],
    ['ICMP type and code', { protocol: icmp, icmp: { type: 3, code: 4 } }, icmpTable, icmpIndex({ type: 3, code: 4 })],
    ["the other family's ICMP as any protocol", { protocol: otherIcmp }, PortTable.other, otherIcmp],
    ['protocol without ports', { protocol: 47 }, PortTable.other, 47],
  ])('a service by %s', (_, what, table, index) => {
    tables.port(table, index, 5);
    const rules = { 5: word(allow), 9: word(deny) };
    const made = { chunks: 1, rules, rows: { [service]: { default: [9], 5: [5] } } };
    expect(judged(made, what)).toEqual(ruled(allow, 5));
    tables.port(table, index, 0);
    expect(judged(made, what)).toEqual(ruled(deny, 9));
  });

  test.each<[string, number, PortTable | undefined]>([
    ['TCP', 6, PortTable.sourceTcp],
    ['UDP', 17, PortTable.sourceUdp],
    ['SCTP', 132, PortTable.sourceSctp],
    ['a protocol without ports', 47, undefined],
  ])('a source port of %s', (_, protocol, table) => {
    if (table !== undefined) tables.port(table, 40_000, 6);
    const rules = { 6: word(allow), 9: word(deny) };
    const made = { chunks: 1, rules, rows: { [sourcePort]: { default: [9], 6: [6] } } };
    expect(judged(made, { protocol })).toEqual(table === undefined ? ruled(deny, 9) : ruled(allow, 6));
    if (table !== undefined) tables.port(table, 40_000, 0);
  });

  test.each<[string, readonly Dimension[], Partial<Packet>, number]>([
    ['is asked first', [service, sourcePort], {}, 7],
    ['is not asked where the unit needs none', [], {}, 5],
    ['is of one protocol', [service], { protocol: 17 }, 9],
    ['is of one port', [service], { port: 81 }, 9],
    ['is of one address', [service], { to: inNet }, 5],
    ['is of a protocol with ports', [service], { protocol: 47, port: 0 }, 9],
  ])('a named tuple %s', (_, named, what, rule) => {
    tables.named(two, tcp, 80, 70_000);
    tables.named(two, 47, 0, 70_000);
    tables.port(PortTable.tcp, 80, 5);
    const rules = { 5: word(deny), 7: word(allow), 9: word(deny) };
    const rows = { [service]: { default: [9], 5: [5], 70_000: [7] } };
    expect(judged({ chunks: 1, rules, rows, named }, what)).toEqual(ruled(rule === 7 ? allow : deny, rule));
  });

  test("a source's named tuple is found by the source's address and port", () => {
    tables.named(one, tcp, 40_000, 70_001);
    const rows = { [sourcePort]: { default: [9], 70_001: [8] } };
    expect(judged({ chunks: 1, rules: { 8: word(allow), 9: word(deny) }, rows, named: [sourcePort] })).toEqual(
      ruled(allow, 8),
    );
  });

  test('the first rule that all four dimensions agree on decides', () => {
    tables.port(PortTable.tcp, 80, 5);
    tables.port(PortTable.sourceTcp, 40_000, 6);
    const rules = { 1: word(deny), 2: word(deny), 3: word(deny), 4: word(deny), 500: word(allow), 511: word(deny) };
    const rows = {
      [source]: { default: [], 1: [2, 3, 4, 500, 511] },
      [destination]: { default: [], 2: [1, 3, 4, 500, 511] },
      [service]: { default: [], 5: [1, 2, 4, 500, 511] },
      [sourcePort]: { default: [], 6: [1, 2, 3, 500, 511] },
    };
    expect(judged({ chunks: 1, rules, rows })).toEqual(ruled(allow, 500));
  });

  test('chunks that are empty in any dimension, or match in no rule, are passed over', () => {
    const rows = {
      [source]: { default: [], 1: [5, 600, 1600, 1601] },
      [destination]: { default: [], 2: [6, 1601] },
    };
    expect(judged({ chunks: 4, rules: { 1601: word(allow) }, rows })).toEqual(ruled(allow, 1601));
  });

  test('nothing matches: denied, and the search went through all chunks', () => {
    expect(judged({ chunks: 3, rules: {}, rows: { [source]: { default: [] } } })).toMatchObject({
      action: deny,
      reason: DecisionReason.noRule,
      rule: undefined,
    });
  });

  test('the last chunk that a unit may have is searched', () => {
    const rows = { [source]: { default: [unitChunks * 512 - 1] } };
    const first = tables.unit(unit, { chunks: unitChunks, rules: {}, rows });
    // Its rule's word is beyond this test's table, which is why it denies; the rule is the right one.
    expect(bed.judge(unit, packet)).toMatchObject({
      action: deny,
      reason: DecisionReason.broken,
      rule: first + unitChunks * 512 - 1,
      chunk: unitChunks - 1,
    });
  });

  test('pass goes on with its chunk, and leaves out those between', () => {
    const rows = { [source]: { default: 'all' as const } };
    const rules = { 0: word(pass, 2), 512: word(allow), 1024: word(deny) };
    expect(judged({ chunks: 3, rules, rows })).toEqual(ruled(deny, 1024));
  });

  test.each([0, 1])('pass never goes back or stays: to chunk %i out of chunk 1 denies', (target) => {
    const rules = { 0: word(pass, 1), 512: word(pass, target) };
    expect(judged({ chunks: 3, rules })).toEqual({ ...ruled(deny, 512), reason: DecisionReason.broken });
  });

  test('pass beyond the last chunk denies', () => {
    expect(judged({ chunks: 2, rules: { 0: word(pass, 9) } })).toMatchObject({
      action: deny,
      reason: DecisionReason.noRule,
    });
  });

  test('log goes on with the next chunk, and is told; a decision names four, and counts all', () => {
    const rules = Object.fromEntries([
      ...Array.from({ length: 6 }, (_, i) => [i * 512 + i, word(log)] as const),
      [6 * 512, word(allow)],
    ]);
    const rows = { [source]: { default: [0, 513, 1026, 1539, 2052, 2565, 3072] } };
    const first = tables.unit(unit, { chunks: 7, rules, rows });
    const decision = bed.judge(unit, packet);
    expect(by(decision, first)).toEqual(ruled(allow, 3072));
    expect(decision.logs).toBe(6);
    expect(decision.logged.map((rule) => rule - first)).toEqual([0, 513, 1026, 1539]);
  });

  test('a unit may leave it undecided', () => {
    expect(judged({ chunks: 1, rules: { 0: word(undecided) } })).toEqual(ruled(undecided, 0));
  });

  test.each([0, 6, 255])('action %i is none, and denies', (action) => {
    expect(judged({ chunks: 1, rules: { 0: action } })).toEqual({
      ...ruled(deny, 0),
      reason: DecisionReason.broken,
    });
  });

  test('each rule that was met counts the packet', () => {
    const rules = { 0: word(log), 512: word(pass, 2), 1024: word(allow) };
    const first = tables.unit(unit, { chunks: 3, rules });
    const met = [0, 512, 1024].map((rule) => first + rule);
    const before = met.map(hitsOf);
    bed.judge(unit, packet, 60);
    bed.judge(unit, packet, 1500);
    expect(met.map(hitsOf)).toEqual(
      before.map(({ packets, bytes }) => ({ packets: packets + 2n, bytes: bytes + 1560n })),
    );
    expect(hitsOf(first + 1)).toEqual({ packets: 0n, bytes: 0n });
  });

  describe('what is broken denies, also where a rule behind it allows:', () => {
    const made: HandUnit = {
      chunks: 2,
      rules: { 0: word(deny), 512: word(allow) },
      rows: { [source]: { default: [0, 512] } },
    };
    const broken = { action: deny, reason: DecisionReason.broken };

    test('more chunks than a unit may have', () => {
      tables.unit(unit, made);
      tables.patch({ chunks: unitChunks + 1 });
      expect(bed.judge(unit, packet)).toMatchObject(broken);
    });

    test.each([
      ['beyond its table', 8192],
      ['that wraps around', 0xffff_ffff],
    ])('a row %s', (_, row) => {
      tables.unit(unit, made);
      tables.patch({ defaultRow: [row, 0, 0, 0] });
      expect(bed.judge(unit, packet)).toMatchObject(broken);
    });

    test('a chunk beyond its table', () => {
      const row = tables.nextRow;
      tables.unit(unit, made);
      tables.patchRow(row, 8192);
      expect(bed.judge(unit, packet)).toMatchObject(broken);
    });

    test('rule words beyond their table', () => {
      tables.unit(unit, made);
      tables.patch({ firstRule: sizes.tortie_rules });
      expect(bed.judge(unit, packet)).toMatchObject(broken);
    });

    test('a record beyond its table', () => {
      tables.publish(unit, 0xffff_ffff);
      expect(bed.judge(unit, packet)).toMatchObject({ action: deny, reason: DecisionReason.noUnit });
    });
  });

  test('a frame is judged by what its headers say', () => {
    tables.port(PortTable.udp, 7777, 4);
    const rules = { 0: word(allow), 1: word(deny) };
    const rows = { [source]: { default: [1], 1: [0, 1] }, [service]: { default: [1], 4: [0, 1] } };
    tables.unit(unit, { chunks: 1, rules, rows });
    const context = new Uint8Array(192);
    new DataView(context.buffer).setUint32(markOffset, unit, true);
    const run = (data: Uint8Array) =>
      bed
        .object(one.includes(':') ? 6 : 4)
        .program('judge_packet')
        .testRun({ data, context }).returned;
    expect(run(frame({ from: one, to: two }))).toBe(-1);
    expect(run(frame({ from: two, to: one }))).toBe(2);
    tables.port(PortTable.udp, 7777, 0);
    expect(run(frame({ from: one, to: two }))).toBe(2);
  });
});
