/**
 * `make bench-classify`: what a verdict costs in the kernel, by BPF_PROG_TEST_RUN: a UDP packet's headers, both ends' classes, and a unit of 10
 * to 10,000 rules that looks at all four dimensions, with 100,000 addresses and 10,000 prefixes in the maps. Prints a table, and writes
 * build/bench/classify.json. Needs root.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { Dimension, PortTable, RuleAction } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { ipv4, ipv6 } from '#test/lab/packets.ts';
import { ClassifierBed, type Version } from '../test/kernel/classifier-bed.ts';
import { HandTables, word } from '../test/kernel/classifier-tables.ts';
import { machine, median, printTable } from './lib/report.ts';

const sizes = [10, 1000, 10_000] as const;
const addresses = 100_000;
const prefixes = 10_000;
const repeat = 100_000;
const rounds = 9;
/** Of `mark` in `struct __sk_buff`, which says the unit. */
const context = (unit: number): Uint8Array => {
  const bytes = new Uint8Array(192);
  new DataView(bytes.buffer).setUint32(8, unit, true);
  return bytes;
};

const ends = {
  4: {
    frame: ipv4,
    known: '10.65.0.3',
    inNet: '100.64.5.9',
    to: '10.65.0.4',
    address: (i: number) => `10.${66 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`,
    net: (i: number) => [`100.${64 + (i >> 8)}.${i & 255}.0`, 24] as const,
  },
  6: {
    frame: ipv6,
    known: 'fd65::3',
    inNet: 'fd70:5::9',
    to: 'fd65::4',
    address: (i: number) => `fd66::${(i >> 16).toString(16)}:${(i & 65_535).toString(16)}`,
    net: (i: number) => [`fd70:${i.toString(16)}::`, 32] as const,
  },
} as const;

type Layout = 'sparse' | 'dense' | 'first';
interface Case {
  readonly rules: number;
  readonly layout: Layout;
  readonly lookup: 'hash' | 'LPM';
  readonly unit: number;
}

/**
 * Which rules each dimension allows. `sparse`: only the last, so that chunks before it are empty; `dense`: in every chunk half of the rules in
 * one dimension and the others in the next, so that each chunk is read and only the last rule is in all; `first`: the first rule.
 */
function rowsOf(rules: number, layout: Layout): readonly (readonly number[])[] {
  if (layout === 'first') return [[0], [0], [0], [0]];
  const last = rules - 1;
  if (layout === 'sparse') return [[last], [last], [last], [last]];
  const those = (odd: number) => [...Array.from({ length: rules }, (_, i) => i).filter((i) => i % 2 === odd), last];
  return [0, 1, 0, 1].map((odd) => [...new Set(those(odd))]);
}

function makeUnit(tables: HandTables, { rules, layout, unit }: Case): void {
  const [source = [], destination = [], service = [], sourcePort = []] = rowsOf(rules, layout);
  const words = Object.fromEntries(Array.from({ length: rules }, (_, i) => [i, word(RuleAction.allow)]));
  tables.unit(unit, {
    chunks: Math.ceil(rules / 512),
    rules: words,
    rows: {
      [Dimension.source]: { default: [], 1: source },
      [Dimension.destination]: { default: [], 2: destination },
      [Dimension.service]: { default: [], 3: service },
      [Dimension.sourcePort]: { default: [], 4: sourcePort },
    },
  });
}

/** Addresses and prefixes of no interest, and those of the packets. */
function fill(tables: HandTables, version: Version): void {
  const { known, inNet, to, address, net } = ends[version];
  for (let i = 0; i < addresses; i += 1) tables.address(address(i), { class: 5, hop: 0 });
  for (let i = 0; i < prefixes; i += 1) tables.address(net(i)[0], { class: 6, hop: 0 }, net(i)[1]);
  tables.address(known, { class: 1, hop: 0 });
  tables.address(to, { class: 2, hop: 0 });
  // Inside one of the prefixes, which hasn't its class.
  tables.address(inNet, { class: 1, hop: 0 }, version === 4 ? 30 : 64);
}

const bed = await ClassifierBed.load();
try {
  const tables = new HandTables(bed);
  tables.port(PortTable.udp, 7777, 3);
  tables.port(PortTable.sourceUdp, 40_000, 4);
  const cases: Case[] = [];
  for (const rules of sizes)
    for (const layout of ['first', 'sparse', 'dense'] as const)
      for (const lookup of ['hash', 'LPM'] as const) {
        const unit = cases.length + 1;
        cases.push({ rules, layout, lookup, unit });
        makeUnit(tables, { rules, layout, lookup, unit });
      }
  const versions = [4, 6] as const;
  for (const version of versions) fill(tables, version);
  const samples = new Map<string, number[]>();
  const take = (
    key: string,
    version: Version,
    program: string,
    lookup: Case['lookup'],
    unit: number,
    expected: number,
  ) => {
    const { frame, known, inNet, to } = ends[version];
    const data = frame({ from: lookup === 'hash' ? known : inNet, to });
    const run = bed
      .object(version)
      .program(program)
      .testRun({ data, context: context(unit), repeat });
    if (run.returned !== expected) throw new Error(`${key}: ${program} returned ${run.returned}`);
    samples.set(key, [...(samples.get(key) ?? []), run.nanoseconds]);
  };
  const keyOf = (version: Version, { rules, layout, lookup }: Case) => `IPv${version} ${rules} ${layout} ${lookup}`;
  for (let round = 0; round < rounds; round += 1) {
    for (const version of versions) {
      take(`IPv${version} headers`, version, 'parse_packet', 'hash', 0, -1);
      for (const each of cases) take(keyOf(version, each), version, 'judge_packet', each.lookup, each.unit, -1);
    }
  }
  const figure = (key: string) => median(samples.get(key) ?? []);
  const results = {
    machine: machine(),
    nanoseconds: Object.fromEntries([...samples.keys()].map((key) => [key, figure(key)])),
  };
  console.log(results.machine);
  console.log('ns of one packet, headers and the test run itself (the first line) included; medians');
  printTable([
    ['rules', 'which decides', ...versions.flatMap((version) => [`IPv${version} hash`, `IPv${version} LPM`])],
    ['-', 'headers alone', ...versions.flatMap((version) => [figure(`IPv${version} headers`).toFixed(0), ''])],
    ...cases
      .filter(({ lookup }) => lookup === 'hash')
      .map((each) => [
        String(each.rules),
        { first: 'the first', sparse: 'the last, sparse rows', dense: 'the last, dense rows' }[each.layout],
        ...versions.flatMap((version) =>
          (['hash', 'LPM'] as const).map((lookup) => figure(keyOf(version, { ...each, lookup })).toFixed(0)),
        ),
      ]),
  ]);
  mkdirSync('build/bench', { recursive: true });
  writeFileSync('build/bench/classify.json', `${JSON.stringify(results, undefined, 2)}\n`);
} finally {
  bed[Symbol.dispose]();
}
