/**
 * How many instructions the verifier goes through for each program that is installed or will be: what a kernel spends at each load, and
 * how far it is from its limit of a million. Recorded in bpf/instructions.json, by clang and kernel line, because both decide it.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { loadObject } from '#native/bpf.ts';

/** Programs' counts, by `<object>/<program>`. */
export type Counts = Readonly<Record<string, number>>;
/** What is recorded, by `clang <major>, kernel <major.minor>`. */
export type Records = Readonly<Record<string, Counts>>;

const project = new URL('../../', import.meta.url);
/** The committed file. */
export const recordsFile = new URL('bpf/instructions.json', project);

/** The objects: all that are installed, and the classifier, which isn't by itself. */
function objects(): readonly { readonly name: string; readonly bytes: Uint8Array }[] {
  const installed = new URL('dist/bpf/', project);
  const files = readdirSync(installed)
    .filter((file) => file.endsWith('.bpf.o'))
    .sort()
    .map((file) => new URL(file, installed));
  for (const family of [4, 6]) files.push(new URL(`build/bpf/classify${family}.bpf.o`, project));
  return files.map((file) => ({
    name: file.pathname.slice(file.pathname.lastIndexOf('/') + 1).replace(/\.bpf\.o$/, ''),
    bytes: readFileSync(file),
  }));
}

/** Under which name this machine's counts are recorded: the compiler that made the objects, and the kernel. */
export function recordLine(): string {
  const compilers = objects().map(
    ({ bytes }) => /clang version (\d+)/.exec(Buffer.from(bytes).toString('latin1'))?.[1] ?? 'unknown',
  );
  const [kernel = ''] = /^\d+\.\d+/.exec(release()) ?? [];
  return `clang ${[...new Set(compilers)].join(' and ')}, kernel ${kernel}`;
}

/** Loads all of them. Throws a VerifierFailure if one is refused. */
export async function countInstructions(): Promise<Counts> {
  const counts: Record<string, number> = {};
  for (const { name, bytes } of objects()) {
    using object = await loadObject({ name, elf: bytes });
    for (const program of object.programs) counts[`${name}/${program.name}`] = program.verifiedInstructions;
  }
  return counts;
}

/** What is recorded now. */
export function readRecords(): Records {
  return JSON.parse(readFileSync(recordsFile, 'utf8')) as Records;
}

/**
 * What is wrong with the counts beside those recorded, and what is only worth saying. More than 10 % above is wrong, as is a program without
 * a record; a record without a program, or a count more than 10 % below, is told.
 */
export function compareCounts(counts: Counts, recorded: Counts): { readonly wrong: string[]; readonly told: string[] } {
  const wrong: string[] = [];
  const told: string[] = [];
  for (const [program, count] of Object.entries(counts)) {
    const before = recorded[program];
    if (before === undefined) wrong.push(`${program}: ${count} instructions, and nothing is recorded`);
    else if (count > before * 1.1) wrong.push(`${program}: ${count} instructions, recorded are ${before}`);
    else if (count < before * 0.9) told.push(`${program}: only ${count} instructions, recorded are ${before}`);
  }
  for (const program of Object.keys(recorded)) {
    if (counts[program] === undefined) told.push(`${program}: recorded, and no longer there`);
  }
  return { wrong, told };
}
