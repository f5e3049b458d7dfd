/**
 * Packets judged on a worker while others write what they are judged by: what is true of an address all the time no lookup may miss. Rule
 * counters are the witnesses, since a test run tells only its last packet's verdict.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { AddressInfo, Dimension, NetKey4, NetKey6, RuleAction, RuleHits } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { ipv4, ipv6 } from '#test/lab/packets.ts';
import type { BpfMap } from '#native/bpf.ts';
import { addressBytes, ClassifierBed } from './classifier-bed.ts';
import { HandTables, type HandUnit, word } from './classifier-tables.ts';

const PACKETS = 1_500_000;
/** Of `mark` in `struct __sk_buff`. */
const markOffset = 8;
const unit = 3;
/** Classes: in s, in t, in neither. */
const [inS, inT, inNeither] = [1, 2, 3];
/** Rules, by their number: what is in s, what is in t, everything else. */
const rules: HandUnit = {
  chunks: 1,
  rules: { 0: word(RuleAction.allow), 1: word(RuleAction.allow), 2: word(RuleAction.deny) },
  rows: { [Dimension.source]: { default: [2], [inS]: [0, 2], [inT]: [1, 2] } },
};
const families = [
  {
    family: 4,
    frame: ipv4,
    net: NetKey4,
    x: '10.65.0.3',
    others: ['10.65.0.4', '10.65.0.5'],
  },
  { family: 6, frame: ipv6, net: NetKey6, x: 'fd65::3', others: ['fd65::4', 'fd65::5'], prefix: 'fd65::', bits: 64 },
] as const;

let bed: ClassifierBed;
let tables: HandTables;

beforeAll(async () => {
  bed = await ClassifierBed.load({ tortie_addr4: 1024, tortie_addr6: 1024 });
  tables = new HandTables(bed);
});
afterAll(() => (bed as ClassifierBed | undefined)?.[Symbol.dispose]());

describe.each(families)('in IPv$family', ({ family, frame, net, x, others }) => {
  const hash = () => bed.map(`tortie_addr${family}`);
  const trie = () => bed.map(`tortie_net${family}`);
  const info = (cls: number) => AddressInfo.encode({ class: cls, hop: 0 });
  const element = (address: string, cls: number) => ({ key: addressBytes(address), value: info(cls) });
  const prefixKey = (length: number) => net.encode({ prefixLen: length, address: addressBytes(x) });
  const depth = 8 * addressBytes(x).length - 1;

  beforeEach(async () => {
    for (const map of [hash(), trie()]) for (const { key } of await map.entries()) map.delete(key);
  });

  /** Judges packets from x while `write` is called again and again; how many met each of the rules, and how many none. */
  async function judgedWhile(write: () => Promise<unknown>): Promise<{ readonly by: number[]; readonly none: number }> {
    const first = tables.unit(unit, rules);
    const context = new Uint8Array(192);
    new DataView(context.buffer).setUint32(markOffset, unit, true);
    let isDone = false;
    const run = bed
      .object(family)
      .program('judge_packet')
      .run({ data: frame({ from: x, to: others[0] }), context, repeat: PACKETS })
      .finally(() => (isDone = true));
    try {
      while (!isDone) await write();
    } finally {
      await run;
    }
    const by = [0, 1, 2].map((rule) => {
      const { buffer, byteOffset } = bed.array('tortie_hits').value(first + rule);
      return Number(RuleHits.read(new DataView(buffer, byteOffset)).packets);
    });
    return { by, none: PACKETS - by.reduce((sum, packets) => sum + packets, 0) };
  }

  const setMany = (map: BpfMap, elements: { readonly key: Uint8Array; readonly value: Uint8Array }[]) => () =>
    map.setMany(elements);

  test("an address that goes to and fro between s and t, while others take its old elements, is never another's", async () => {
    hash().set(addressBytes(x), info(inS));
    const round = [
      element(x, inT),
      ...others.map((other) => element(other, inNeither)),
      element(x, inS),
      ...others.map((other) => element(other, inNeither)),
    ];
    const { by, none } = await judgedWhile(setMany(hash(), Array.from({ length: 500 }, () => round).flat()));
    expect(by[2]).toBe(0);
    // Both were met, so there was something to be mistaken about; and to give up is rare even here.
    expect(Math.min(by[0] ?? 0, by[1] ?? 0)).toBeGreaterThan(0);
    expect(none).toBeLessThan(PACKETS / 1000);
  });

  test('an address that is in s by its prefix or by itself is always in s', async () => {
    // The deeper the trie, the more time there is between the two lookups.
    for (let length = 1; length < depth; length++) trie().set(prefixKey(length), info(inNeither));
    trie().set(prefixKey(depth), info(inS));
    const { by, none } = await judgedWhile(async () => {
      for (let count = 0; count < 200; count++) {
        hash().set(addressBytes(x), info(inS));
        trie().set(prefixKey(depth), info(inNeither));
        trie().set(prefixKey(depth), info(inS));
        hash().delete(addressBytes(x));
      }
      await new Promise(setImmediate);
    });
    expect(by).toEqual([PACKETS - none, 0, 0]);
    expect(none).toBeLessThan(PACKETS / 1000);
  });
});
