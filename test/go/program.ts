import { createHash } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { exec } from '../lab/exec.ts';

/** A Go program that tests run. */
export interface GoProgram {
  readonly name: string;
  /** What tells one build from another: a version, or all that it is made of. */
  readonly version: string;
  /** Directory of its go.mod. */
  readonly dir: string;
  /** What to build there: an import path, or `.`. */
  readonly target: string;
  /** For Go's linker: what a release writes into its programs. */
  readonly ldflags?: string;
  /** A folder of the cache for this program and others of its version; it then has its plain name there. */
  readonly folder?: string;
}

/** Where programs that take long to build are kept between clones and runs. */
export const cacheDir = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'tortie');

/** Builds unless another process did while this one waited for the lock, which the kernel frees when its holder dies. */
const buildOnce = `test -x "$1" || { CGO_ENABLED=0 go build -C "$2" -trimpath -ldflags "$3" -o "$1.part" "$4" && mv "$1.part" "$1"; }`;

/** Path of the program in the cache, built or not; a long version is hashed. */
export function programPath({ name, version, folder }: GoProgram): string {
  if (folder !== undefined) return join(cacheDir, folder, name);
  const short = version.length > 40 ? createHash('sha256').update(version).digest('hex').slice(0, 16) : version;
  return join(cacheDir, `${name}-${short}`);
}

/**
 * Path of the program. Built once, into the user's cache, because it takes up to a minute or two; processes that want the same one at
 * the same time build it once. Throws with Go's words when it can't be built.
 */
export async function goProgram(wanted: GoProgram): Promise<string> {
  const program = programPath(wanted);
  if (existsSync(program)) return program;
  mkdirSync(dirname(program), { recursive: true });
  const { dir, ldflags = '', target } = wanted;
  const built = await exec('flock', [`${program}.lock`, 'sh', '-c', buildOnce, 'sh', program, dir, ldflags, target], {
    env: { GOFLAGS: '-mod=mod' },
    timeoutMs: 1_200_000,
  });
  if (built.status !== 0) throw new Error(`${program} could not be built: ${built.stderr}`);
  return program;
}
