import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { goProgram } from './program.ts';

const module = 'github.com/containernetworking/cni';

/** Path of the reference `cnitool`, of the version that go.mod pins. Throws with Go's words when it can't be built. */
export async function cnitool(): Promise<string> {
  const dir = fileURLToPath(new URL('.', import.meta.url));
  const version = new RegExp(`${module} (v\\S+)`).exec(readFileSync(join(dir, 'go.mod'), 'utf8'))?.[1];
  if (version === undefined) throw new Error(`test/go/go.mod does not name a version of ${module}`);
  return goProgram({ name: 'cnitool', version, dir, target: `${module}/cnitool` });
}
