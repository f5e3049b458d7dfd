import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execFile } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const root = join(import.meta.dirname, '../..');
const folders: string[] = [];
let loader: string;

beforeAll(() => {
  loader = stripTypeScriptTypes(readFileSync(join(root, 'native/addon.ts'), 'utf8'));
});
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

/** A folder as dist/ is installed on a node: the loader in a bundle's place, with a last line that uses it. */
function install(bundle: string, lastLine: string): { folder: string; file: string } {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'tt-addon-')));
  folders.push(folder);
  const file = join(folder, bundle);
  mkdirSync(join(file, '..'), { recursive: true });
  writeFileSync(file, `${loader}\n${lastLine}`);
  return { folder, file };
}

const run = async (file: string): Promise<unknown> =>
  JSON.parse((await promisify(execFile)(process.execPath, [file], { cwd: '/', env: {}, timeout: 60_000 })).stdout);

const showError = 'try { loadAddon(); } catch ({ code, message }) { console.log(JSON.stringify({ code, message })); }';

describe('addon', () => {
  test.each(['lib/tortie.mjs', 'cni/tortie.mjs'])(
    'loads for dist/%s from a copied dist/ alone, with the libraries beside it',
    async (bundle) => {
      const { folder, file } = install(
        bundle,
        `import { readFileSync } from 'node:fs';
       const inode = loadAddon().netnsInode();
       const files = new Set(readFileSync('/proc/self/maps', 'utf8').match(/\\/\\S+(\\.node|lib(mnl|bpf|elf|z)\\.so)\\S*/g));
       console.log(JSON.stringify({ inode, files: [...files] }));`,
      );
      cpSync(join(root, 'dist/lib'), join(folder, 'lib'), {
        recursive: true,
        filter: (source) => !source.endsWith('.mjs'),
      });
      const { inode, files } = (await run(file)) as { inode: number; files: string[] };
      expect(inode).toBeGreaterThan(0);
      expect(files).toEqual(
        expect.arrayContaining([expect.stringContaining('tortie_native.node'), expect.stringContaining('libmnl.so')]),
      );
      for (const loaded of files) expect(loaded).toMatch(new RegExp(`^${folder}/lib/`));
    },
  );

  test('one that was not built is an error that says how to get it', async () => {
    const { file } = install('lib/tortie.mjs', showError);
    expect(await run(file)).toEqual({
      code: 'ERR_ADDON_MISSING',
      message: expect.stringMatching(/missing .*npm run setup.*make native/),
    });
  });

  test('one that can not be loaded is an error with the loader’s words', async () => {
    const { folder, file } = install('lib/tortie.mjs', showError);
    copyFileSync('/etc/passwd', join(folder, 'lib/tortie_native.node'));
    expect(await run(file)).toEqual({ code: 'ERR_ADDON_UNUSABLE', message: expect.stringMatching(/ELF.*make native/) });
  });
});
