/** The playground, started as `npm start` starts it when the machine is set up: both dataplanes under one connection, and `tortie explain` in each. */
import { beforeAll, describe, expect, it } from '@jest/globals';
import { fileURLToPath } from 'node:url';
import { exec, type Finished } from '#test/lab/exec.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
/** What a slow machine may take, in seconds, and then for taking everything down. */
const limit = { whole: 400, end: 100 } as const;
/** Where a scene begins, in the order in which they come. */
const marks = {
  opened: /^ {2}a connection from \S+ to \S+ is open/m,
  ebpf: /^\* bpfEnabled: true \(every node to ebpf\)/m,
  iptables: /^\* bpfEnabled: false \(every node to iptables\)/m,
  saw: /^ {2}ok {2}the connection saw both switches: (?<sent>\d+) messages, (?<lost>\d+) lost/m,
} as const;

describe('the playground', () => {
  let finished: Finished;
  let shown: string;
  beforeAll(
    async () => {
      // What is built is under test, and other tests run it at this moment: nothing is built anew.
      const make = ['make', '--no-print-directory', '-C', root, '-o', 'build', 'playground'];
      // A group of its own: SIGTERM reaches the playground behind make, which then takes everything down.
      const bounded = [`--kill-after=${limit.end}`, String(limit.whole), ...make];
      finished = await exec('timeout', bounded, { timeoutMs: (limit.whole + 2 * limit.end) * 1000 });
      shown = finished.stdout;
    },
    (limit.whole + 3 * limit.end) * 1000,
  );

  /** What is shown from one scene on, up to another. */
  const between = (from: keyof typeof marks, to: keyof typeof marks): string =>
    shown.slice(shown.search(marks[from]), shown.search(marks[to]));

  it('finds everything as it expects', () => {
    expect({ status: finished.status, problems: shown.match(/^ {2}NOT.*/gm) ?? [], errors: finished.stderr }).toEqual({
      status: 0,
      problems: [],
      errors: '',
    });
    expect(shown).toMatch(/^All as expected, in \d+ s\.$/m);
  });

  it('one connection is open before eBPF comes, and until iptables is back: it loses nothing', () => {
    const at = Object.values(marks).map((mark) => shown.search(mark));
    expect(at).not.toContain(-1);
    expect(at).toEqual(at.toSorted((a, b) => a - b));
    const { sent, lost } = marks.saw.exec(shown)?.groups ?? {};
    process.stdout.write(`playground: ${sent} messages under both switches, ${lost} lost\n`);
    expect(Number(sent)).toBeGreaterThan(0);
    expect(lost).toBe('0');
    expect(shown).toMatch(/^ {2}ok {2}what is denied stayed so: [1-9]\d* tries, none got through$/m);
  });

  it.each([
    ['eBPF', 'ebpf', 'iptables', true],
    ['iptables', 'iptables', 'saw', false],
  ] as const)('under it, in %s, explain says why somebody is denied', (_, from, to, fromKernel) => {
    const scene = between(from, to);
    expect(scene).toMatch(/^ {2}node1# tortie explain \S+ \S+ tcp 80\n {2}DENY /m);
    expect(scene).toMatch(/^ {2}ok {2}explain says deny, and names security\.quarantine$/m);
    // In eBPF it reads the maps that the programs read.
    expect(/^ {2}kernel +\w+ at cali\w+: unit \d+ says deny/m.test(scene)).toBe(fromKernel);
    expect(/^ {2}next hop /m.test(scene)).toBe(fromKernel);
  });
});
