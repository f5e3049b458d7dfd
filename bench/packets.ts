/**
 * `make bench-packets`: what the pods' programs spend on a packet of a flow that is known, by BPF_PROG_TEST_RUN: the least of many runs of 200
 * packets each, the test run itself (the first line) included. Prints a table, and writes build/bench/packets.json. Needs root.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { FlowBed } from '../test/kernel/bpf-flow-bed.ts';
import type { Version } from '../test/kernel/classifier-bed.ts';
import { machine, printTable } from './lib/report.ts';

const repeat = 200;
const rounds = 200;
const versions = [4, 6] as const;

/** What makes the flow known, and the packet that is measured. `size` lets a hop limit of 255 last for all runs. */
const cases: readonly { readonly name: string; readonly before: readonly string[]; readonly packet: string }[] = [
  {
    name: 'refused at once: a stranger on the link',
    before: [],
    packet: 'one sends tcp A one:40000 > two:80 stranger ttl=255',
  },
  {
    name: 'pod to pod, TCP, opener',
    before: ['one sends tcp S one:40000 > two:80', 'two sends tcp SA two:80 > one:40000'],
    packet: 'one sends tcp A one:40000 > two:80 ttl=255',
  },
  {
    name: 'pod to pod, TCP, answer',
    before: ['one sends tcp S one:40001 > two:80', 'two sends tcp SA two:80 > one:40001'],
    packet: 'two sends tcp A two:80 > one:40001 ttl=255',
  },
  {
    name: 'pod to pod, UDP, opener',
    before: ['one sends udp one:40000 > two:80', 'two sends udp two:80 > one:40000'],
    packet: 'one sends udp one:40000 > two:80 ttl=255',
  },
  {
    name: 'to the stack, TCP, opener',
    before: ['one sends tcp S one:40003 > away:80', 'one gets tcp SA away:80 > one:40003'],
    packet: 'one sends tcp A one:40003 > away:80 ttl=255',
  },
  {
    name: 'from the stack, TCP, answer',
    before: ['one sends tcp S one:40004 > away:80', 'one gets tcp SA away:80 > one:40004'],
    packet: 'one gets tcp A away:80 > one:40004 ttl=255',
  },
];

await using bed = await FlowBed.create();
const nanoseconds: Record<string, number> = {};
for (const version of versions) {
  await bed.reset();
  bed.service(version, 6, 80, ['two:8080']);
  for (const { before, packet } of cases) {
    for (const step of before) bed.run(version, step);
    // Twice, for what the first one notes.
    for (let i = 0; i < 2; i += 1) bed.cost(version, packet, 1);
  }
  for (let round = 0; round < rounds; round += 1)
    for (const { name, packet } of cases) {
      const key = keyOf(version, name);
      nanoseconds[key] = Math.min(nanoseconds[key] ?? Infinity, bed.cost(version, packet, repeat));
    }
}
const results = { machine: machine(), nanoseconds };
console.log(results.machine);
printTable([
  ['ns of one packet', ...versions.map((version) => `IPv${version}`)],
  ...cases.map(({ name }) => [name, ...versions.map((version) => String(nanoseconds[keyOf(version, name)]))]),
]);
mkdirSync('build/bench', { recursive: true });
writeFileSync('build/bench/packets.json', `${JSON.stringify(results, undefined, 2)}\n`);

function keyOf(version: Version, name: string): string {
  return `IPv${version} ${name}`;
}
