import { describe, expect, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import { bootstrapSettings } from '../config/bootstrap.ts';
import { version } from '../version.ts';
import { table } from './command.ts';
import { sizeText } from './ipam-command.ts';
import { runCommandLine } from './run.ts';

async function run(...args: string[]) {
  const out: string[] = [];
  const err: string[] = [];
  const status = await runCommandLine(args, {}, { out: (text) => out.push(text), err: (text) => err.push(text) });
  return { status, out: out.join('\n'), err: err.join('\n') };
}

describe('the command line', () => {
  test('help names every command and setting', async () => {
    const { status, out } = await run('help');
    expect(status).toBe(0);
    for (const command of ['agent', 'status', 'endpoints', 'policy', 'explain', 'ipam', 'diags', 'cleanup'])
      expect(out).toContain(`tortie ${command}`);
    for (const { flag, env } of Object.values(bootstrapSettings))
      expect(out).toMatch(new RegExp(`--${flag}\\s+${env}`));
  });

  test('the version is that of package.json', async () => {
    const { version: packaged } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
      version: string;
    };
    expect(version).toBe(packaged);
    expect((await run('version')).out).toBe(packaged);
  });

  test.each([
    [['frobnicate'], 2, 'no command frobnicate; there are agent, status'],
    [['status', '--nonsense'], 1, "Unknown option '--nonsense'"],
    [['status', '--run-dir=/nowhere'], 1, "can't ask the agent at /nowhere/admin.sock"],
    [['status', '-o', 'yaml', '--run-dir=/nowhere'], 1, 'the only format besides the default is json'],
    [['endpoints', '--run-dir=relative'], 1, '--run-dir (TORTIE_RUN_DIR) must be an absolute path'],
    [['policy', 'show'], 1, 'use: tortie policy show [NAMESPACE/]POD'],
    [['policy', 'frob', 'web'], 1, 'use: tortie policy show'],
    [['explain', 'a', 'b'], 1, 'use: tortie explain SRC DST PROTO [PORT]'],
    [['explain', 'a', 'b', 'tcp', '80', '--family', '5'], 1, '--family "5": 4 or 6'],
    [['diags', 'a', 'b'], 1, 'use: tortie diags [DIRECTORY]'],
    [['ipam'], 1, 'Is it running on this node?'],
    [['ipam', 'show', '--datastore=files:/nowhere/at/all'], 1, '/nowhere/at/all'],
    [['ipam', '-o', 'yaml'], 1, 'the only format besides the default is json'],
  ])('tortie %j ends with %i and says why', async (args, status, message) => {
    const result = await run(...args);
    expect(result).toMatchObject({ status });
    expect(result.err).toContain(message);
    expect(result.out).toBe('');
  });

  test.each([
    [64, '64'],
    [2 ** 52, '4503599627370496'],
    [2 ** 80, '2^80'],
  ])('a pool of %d addresses is said to have %s', (size, text) => {
    expect(sizeText(size)).toBe(text);
  });

  test('a table has its columns aligned and no trailing blanks', () => {
    expect(
      table(
        ['A', 'LONG'],
        [
          ['value', ''],
          ['x', 'y'],
        ],
      ),
    ).toBe('A      LONG\nvalue\nx      y');
  });
});
