import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { exec } from '../lab/exec.ts';

const module = 'github.com/containernetworking/cni';

/**
 * Path of the reference `cnitool`, of the version that go.mod pins. Built once, into the user's cache, because it takes half a minute.
 * Throws with Go's words when it can't be built.
 */
export async function cnitool(): Promise<string> {
  const dir = fileURLToPath(new URL('.', import.meta.url));
  const version = new RegExp(`${module} (v\\S+)`).exec(readFileSync(join(dir, 'go.mod'), 'utf8'))?.[1];
  if (version === undefined) throw new Error(`test/go/go.mod does not name a version of ${module}`);
  const cache = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'tortie');
  const tool = join(cache, `cnitool-${version}`);
  if (existsSync(tool)) return tool;
  mkdirSync(cache, { recursive: true });
  const made = `${tool}.${process.pid}`;
  const built = await exec('go', ['build', '-C', dir, '-trimpath', '-o', made, `${module}/cnitool`], {
    env: { CGO_ENABLED: '0', GOFLAGS: '-mod=mod' },
    timeoutMs: 300_000,
  });
  if (built.status !== 0) throw new Error(`cnitool ${version} could not be built: ${built.stderr}`);
  renameSync(made, tool);
  return tool;
}
