import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { until } from './until.ts';

const exec = promisify(execFile);

// Jest loads this file anew for every test file of a worker: counting starts anywhere, so that one file's leftovers don't fail the next.
let made = Math.floor(Math.random() * 90_000);

/** A name that no other process uses: `tt<pid>-<n>`. Short enough for a device's name, too. */
export function uniqueName(): string {
  made += 1;
  return `tt${process.pid}-${made}`;
}

/**
 * Resolves when the kernel has seen the carrier of a device that is up, some milliseconds after its other end: then it gives it its link-local address, and
 * what is compared later changes no more. `exec` runs a command in its namespace.
 */
export async function carrierIsSeen(exec: TestNetns['exec'], device: string): Promise<void> {
  await until(async () => (await exec('ip', '-o', '-6', 'addr', 'show', 'dev', device)).includes('scope link'));
}

/** A named network namespace of a test; disposing of it removes it with all that is in it. */
export interface TestNetns extends AsyncDisposable {
  readonly name: string;
  /** Under /run/netns, as a NetnsRef takes it. */
  readonly path: string;
  /** Runs a command in it and returns what it printed; rejects, with its stderr, when it fails. */
  exec(file: string, ...args: string[]): Promise<string>;
  /** `ip -j ...` in it, parsed. */
  ip<Result = Record<string, unknown>[]>(...args: string[]): Promise<Result>;
}

/** Makes a named namespace, with its loopback device down as the kernel leaves it. */
export async function createNetns(name: string = uniqueName()): Promise<TestNetns> {
  await exec('ip', ['netns', 'add', name]);
  const run = async (file: string, ...args: string[]): Promise<string> =>
    (await exec('ip', ['netns', 'exec', name, file, ...args], { maxBuffer: 64 << 20 })).stdout;
  return {
    name,
    path: `/run/netns/${name}`,
    exec: run,
    ip: async (...args) =>
      JSON.parse((await exec('ip', ['-n', name, '-j', ...args], { maxBuffer: 64 << 20 })).stdout || '[]'),
    [Symbol.asyncDispose]: async () => {
      await exec('ip', ['netns', 'del', name]);
    },
  };
}
