import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
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
}

/**
 * Path of the program. Built once, into the user's cache, because it takes up to a minute or two; a long version is hashed.
 * Throws with Go's words when it can't be built.
 */
export async function goProgram({ name, version, dir, target }: GoProgram): Promise<string> {
  const cache = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'tortie');
  const short = version.length > 40 ? createHash('sha256').update(version).digest('hex').slice(0, 16) : version;
  const program = join(cache, `${name}-${short}`);
  if (existsSync(program)) return program;
  mkdirSync(cache, { recursive: true });
  const made = `${program}.${process.pid}`;
  const built = await exec('go', ['build', '-C', dir, '-trimpath', '-o', made, target], {
    env: { CGO_ENABLED: '0', GOFLAGS: '-mod=mod' },
    timeoutMs: 600_000,
  });
  if (built.status !== 0) throw new Error(`${name} ${short} could not be built: ${built.stderr}`);
  renameSync(made, program);
  return program;
}
