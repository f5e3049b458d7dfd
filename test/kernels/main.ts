/**
 * `make test-kernels`: the tests of the BPF programs on the kernels of Debian's releases, in QEMU. Arguments are Jest's; without any, all
 * test/kernel/bpf-*.test.ts. KERNEL=6.1 in the environment: only that one. How: docs/design/test-kernels.md.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cacheDir } from '../go/program.ts';
import { type DebianKernel, kernelPackage } from './debian-kernel.ts';
import { layOutTree, packMachine } from './guest-tree.ts';
import { type Outcome, outcomeOf, sumOf, type Total } from './outcome.ts';
import { VirtualMachine } from './virtual-machine.ts';

const KERNELS: readonly DebianKernel[] = [
  { suite: 'bookworm', series: '6.1' },
  { suite: 'trixie', series: '6.12' },
];
const BPF_TESTS = ['test/kernel/bpf-'];
const BOOT_LIMIT_MS = 60_000;
const RUN_LIMIT_MS = 1_800_000;
/** Lines of a console that are shown after a failure. */
const CONSOLE_LINES = 80;

const project = join(import.meta.dirname, '../..');
const logs = join(project, 'build/test-kernels');
const interruption = new AbortController();
const begun = Date.now();
const say = (line: string): void => console.log(`[${((Date.now() - begun) / 1000).toFixed(1).padStart(6)} s] ${line}`);

/** Boots one kernel and runs the tests on it; what fails is in the outcome. */
async function test(kernel: DebianKernel, tree: string, work: string): Promise<Outcome> {
  const { signal } = interruption;
  const name = `Debian's ${kernel.series}`;
  const consoleFile = join(logs, `console-${kernel.series}.log`);
  mkdirSync(work);
  try {
    const deb = await kernelPackage(kernel, join(cacheDir, 'kernels'), say, signal);
    const machine = await packMachine(tree, deb, work, signal);
    say(`${name}: booting ${machine.kernel.slice(machine.kernel.lastIndexOf('/') + 1)}`);
    const lines: string[] = [];
    const onLine = (raw: string): void => {
      const line = raw.trimEnd();
      lines.push(line);
      if (line !== '') say(`${kernel.series.padEnd(4)} | ${line}`);
    };
    const limits = { bootLimitMs: BOOT_LIMIT_MS, runLimitMs: RUN_LIMIT_MS };
    const ending = await new VirtualMachine().run({ ...machine, ...limits, consoleFile }, onLine, signal);
    const outcome = outcomeOf(lines, ending, `${kernel.series}.`);
    if (outcome.problem !== undefined) showConsole(consoleFile);
    return outcome;
  } catch (error) {
    signal.throwIfAborted();
    return { passed: 0, failed: 1, skipped: 0, problem: error instanceof Error ? error.message : String(error) };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function showConsole(file: string): void {
  if (!existsSync(file)) return;
  const lines = readFileSync(file, 'utf8').trimEnd().split(/\r*\n/);
  console.log(`\nThe console's last lines; all of it is in ${file}:`);
  for (const line of lines.slice(-CONSOLE_LINES)) console.log(`  ${line}`);
}

function inWords({ passed, failed, skipped }: Total): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}

async function main(args: readonly string[]): Promise<number> {
  const series = process.env['KERNEL'] ?? '';
  const kernels = KERNELS.filter((kernel) => series === '' || kernel.series === series);
  if (kernels.length === 0)
    throw new Error(`KERNEL=${series}: only ${KERNELS.map((known) => known.series).join(', ')}`);
  if (process.arch !== 'x64') {
    console.error(`tortie: make test-kernels is for amd64 so far; on ${process.arch} nothing is proved`);
    return 1;
  }
  mkdirSync(logs, { recursive: true });
  // In the project, not in /tmp, which may be a part of the memory: it is some 700 MB.
  const work = mkdtempSync(join(project, 'build/kernels-'));
  const outcomes: [DebianKernel, Outcome][] = [];
  try {
    const tree = join(work, 'tree');
    say("laying out the machines' files");
    await layOutTree(project, tree, args.length > 0 ? args : BPF_TESTS, interruption.signal);
    for (const kernel of kernels) outcomes.push([kernel, await test(kernel, tree, join(work, kernel.suite))]);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  console.log('');
  for (const [{ series, suite }, outcome] of outcomes) {
    const why = outcome.problem === undefined ? '' : ` (${outcome.problem})`;
    console.log(`${series.padEnd(4)} (${suite}): ${inWords(outcome)}${why}`);
  }
  const sum = sumOf(outcomes.map(([, outcome]) => outcome));
  console.log(`\n${inWords(sum)}`);
  return sum.failed === 0 ? 0 : 1;
}

const numbers = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;
for (const name of Object.keys(numbers) as (keyof typeof numbers)[]) {
  process.once(name, () => {
    process.exitCode = numbers[name];
    interruption.abort(new Error(`ended by ${name}`));
  });
}

try {
  const status = await main(process.argv.slice(2));
  process.exitCode ??= status;
} catch (error) {
  console.error(`tortie: test-kernels: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode ??= 1;
}
