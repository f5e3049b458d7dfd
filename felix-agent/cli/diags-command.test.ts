import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import type { CommandRunner } from '#native/command-runner.ts';
import { diagsCommand } from './diags-command.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tortie-diags-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const runner: CommandRunner = {
  run: (file, args) => {
    if (file === 'bpftool') return Promise.reject(new Error('spawn bpftool ENOENT'));
    const status = file === 'ipset' ? 1 : 0;
    return Promise.resolve({ status, signal: null, stdout: `${file} ${args.join(' ')} says\n`, stderr: '' });
  },
};

async function collect(...args: string[]): Promise<string> {
  const lines: string[] = [];
  const output = { out: (text: string) => lines.push(text), err: (text: string) => lines.push(text) };
  expect(await diagsCommand(runner).run([...args, '--run-dir=/nowhere'], {}, output)).toBe(0);
  return lines.join('\n');
}

test('every piece is a file for root only, and what could not be had is named beside it, never left out', async () => {
  const to = join(dir, 'out');
  const text = await collect(to);
  expect(statSync(to).mode & 0o777).toBe(0o700);
  expect(text).toMatch(/agent-status\.json +agent \/status +can't ask the agent at \/nowhere\/admin\.sock/);
  expect(text).toMatch(/bpftool net +spawn bpftool ENOENT/);
  expect(text).toMatch(/ipset list +ended with status 1/);
  expect(text).toMatch(/ip address +ok/);
  expect(readFileSync(join(to, 'ip_address.txt'), 'utf8')).toBe('$ ip address\nip address says\n');
  // A device may come or go while they are read; lo stays.
  expect(text).toMatch(/sysctls\.txt +\/proc\/sys\/net +\S/);
  expect(readFileSync(join(to, 'sysctls.txt'), 'utf8')).toMatch(
    /^net\.ipv4\.conf\.lo\.forwarding = [01]\nnet\.ipv4\.conf\.lo\.proxy_arp = [01]\nnet\.ipv4\.conf\.lo\.rp_filter = [012]$/m,
  );
  expect(text.split('\n').filter((line) => /\.(txt|json) /.test(line))).toHaveLength(readdirSync(to).length);
});

test('-o json lists the same', async () => {
  const to = join(dir, 'out');
  const { pieces } = JSON.parse(await collect(to, '-o', 'json')) as { pieces: { file: string; outcome: string }[] };
  expect(pieces.map(({ file }) => file).toSorted()).toEqual(readdirSync(to).toSorted());
});
