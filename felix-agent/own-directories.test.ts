import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeOwnDirectories, removeOwnDirectories } from './own-directories.ts';

let dir: string;
let settings: { readonly runDir: string; readonly stateDir: string };
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tortie-own-'));
  settings = { runDir: join(dir, 'run'), stateDir: join(dir, 'state') };
});
afterEach(() => rmSync(dir, { recursive: true }));

const modeOf = (path: string) => statSync(path).mode & 0o7777;
/** A directory of that mode, whatever the umask is, with files. */
function make(path: string, mode: number, ...files: readonly string[]): void {
  mkdirSync(path);
  chmodSync(path, mode);
  for (const name of files) writeFileSync(join(path, name), '');
}

describe('run and state directory', () => {
  test('are made for root alone', () => {
    makeOwnDirectories(settings);
    expect([modeOf(settings.runDir), modeOf(settings.stateDir)]).toEqual([0o700, 0o700]);
  });

  test("become root's alone when a kubelet has made them for a mount, and the installation has written into one", () => {
    make(settings.runDir, 0o755);
    make(settings.stateDir, 0o755, 'installed-plugins.json');
    makeOwnDirectories(settings);
    expect([modeOf(settings.runDir), modeOf(settings.stateDir)]).toEqual([0o700, 0o700]);
  });

  test.each([
    ['that holds something else', 0o755, ['agent.lock', 'other.pid']],
    ['that somebody has given another mode', 0o1777, []],
    ['that somebody lets a group read', 0o750, ['agent.lock']],
  ])('a directory %s keeps its mode', (_what, mode, files) => {
    make(settings.runDir, mode, ...files);
    makeOwnDirectories(settings);
    expect(modeOf(settings.runDir)).toBe(mode);
  });

  test('go with all that is ours, also what was cut off half-written', () => {
    make(settings.runDir, 0o700, 'agent.lock', 'cni.sock', 'admin.sock');
    const half = ['dataplane.json.tmp', 'ipam.journal.new', 'host-sysctls.json.tmp', '.cni-conf.json.tortie-tmp'];
    make(settings.stateDir, 0o700, 'ipam.journal', 'dataplane.json', 'cni-conf.json', ...half);
    mkdirSync(join(settings.stateDir, 'endpoints'));
    writeFileSync(join(settings.stateDir, 'endpoints', 'x.json.broken'), '');
    removeOwnDirectories(settings);
    expect(readdirSync(dir)).toEqual([]);
    removeOwnDirectories(settings);
  });

  test('stay with what is not ours; what is ours in the one only stays in the other', () => {
    make(settings.runDir, 0o755, 'agent.lock', 'endpoints', 'other.pid');
    removeOwnDirectories({ ...settings, stateDir: join(dir, 'never') });
    expect(readdirSync(settings.runDir).toSorted()).toEqual(['endpoints', 'other.pid']);
  });

  test('may be one', () => {
    const one = { runDir: join(dir, 'one'), stateDir: join(dir, 'one') };
    make(one.runDir, 0o755, 'cni.sock', 'ipam.journal');
    makeOwnDirectories(one);
    expect(modeOf(one.runDir)).toBe(0o700);
    removeOwnDirectories(one);
    expect(existsSync(one.runDir)).toBe(false);
  });
});
