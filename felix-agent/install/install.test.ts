import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { confFileName, confRecordName } from '../cni-conf/conflist.ts';
import { installPlugins } from './install.ts';
import { PlacedFiles } from './placed-files.ts';
import { removeFromRuntime } from './remove.ts';

let dir: string;
let plan: Parameters<typeof installPlugins>[0];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), `tt${process.pid}-install-`));
  plan = { distDir: join(dir, 'dist'), binDir: join(dir, 'bin'), stateDir: join(dir, 'state') };
  for (const name of ['dist/cni', 'dist/plugins', 'bin', 'net.d', 'state'])
    mkdirSync(join(dir, name), { recursive: true });
  ship('1');
});
afterEach(() => rmSync(dir, { recursive: true }));

function ship(version: string): void {
  writeFileSync(join(dir, 'dist/cni/tortie'), `tortie ${version}`);
  for (const name of ['portmap', 'loopback']) writeFileSync(join(dir, 'dist/plugins', name), `${name} ${version}`);
}

const did = () => Object.fromEntries(installPlugins(plan).map(({ path, did }) => [path.replace(/.*\//, ''), did]));
const bin = () =>
  Object.fromEntries(readdirSync(plan.binDir).map((name) => [name, readFileSync(join(plan.binDir, name), 'utf8')]));
const dirs = () => ({ confDir: join(dir, 'net.d'), binDir: plan.binDir });

describe('install', () => {
  test('puts all there where the node has none, and changes nothing the second time', () => {
    expect(did()).toEqual({ tortie: 'installed', portmap: 'installed', loopback: 'installed' });
    expect(did()).toEqual({ tortie: 'unchanged', portmap: 'unchanged', loopback: 'unchanged' });
  });

  test("keeps the node's own portmap, but tortie is ours whoever put it there", () => {
    writeFileSync(join(plan.binDir, 'portmap'), "the node's");
    writeFileSync(join(plan.binDir, 'tortie'), 'of an unpacked dist');
    expect(did()).toEqual({ tortie: 'replaced', portmap: 'kept', loopback: 'installed' });
    expect(bin()).toEqual({ tortie: 'tortie 1', portmap: "the node's", loopback: 'loopback 1' });
  });

  test('an upgrade replaces what an earlier version put there, and nothing that was changed since', () => {
    did();
    writeFileSync(join(plan.binDir, 'portmap'), "a package's, since");
    ship('2');
    expect(did()).toEqual({ tortie: 'replaced', portmap: 'kept', loopback: 'replaced' });
    expect(bin()).toEqual({ tortie: 'tortie 2', portmap: "a package's, since", loopback: 'loopback 2' });
  });

  test('a plugin that somebody removed comes back', () => {
    did();
    rmSync(join(plan.binDir, 'loopback'));
    expect(did()).toEqual({ tortie: 'unchanged', portmap: 'unchanged', loopback: 'installed' });
  });

  test('without a directory of plugins beside it only tortie is installed', () => {
    rmSync(join(dir, 'dist/plugins'), { recursive: true });
    expect(did()).toEqual({ tortie: 'installed' });
  });

  test.each([
    ['no plugin directory', 'bin', 'bin is no directory'],
    ['nothing to install', 'dist/cni', 'dist/cni/tortie, which is to be installed: ENOENT'],
  ])('%s is an error that names it', (_what, missing, words) => {
    rmSync(join(dir, missing), { recursive: true });
    expect(did).toThrow(expect.objectContaining({ code: 'ENOENT', message: expect.stringContaining(words) }));
  });
});

describe('removal', () => {
  const conf = () => join(dir, 'net.d', confFileName);
  const placeConf = (text: string) => new PlacedFiles(join(plan.stateDir, confRecordName)).place(conf(), text, 0o644);

  test('takes everything that was put there, and the records', () => {
    did();
    placeConf('{}');
    expect(removeFromRuntime(plan.stateDir, { confDir: undefined, binDir: undefined })).toEqual([]);
    expect([readdirSync(plan.binDir), readdirSync(join(dir, 'net.d')), readdirSync(plan.stateDir)]).toEqual([
      [],
      [],
      [],
    ]);
  });

  test("leaves the node's own plugins and what was replaced since, and names the latter", () => {
    writeFileSync(join(plan.binDir, 'portmap'), "the node's");
    did();
    writeFileSync(join(plan.binDir, 'loopback'), "a package's, since");
    expect(removeFromRuntime(plan.stateDir, dirs())).toEqual([join(plan.binDir, 'loopback')]);
    expect(bin()).toEqual({ portmap: "the node's", loopback: "a package's, since" });
  });

  test('takes our own two files also by name: the state dir may be lost, the configuration edited', () => {
    did();
    placeConf('{}');
    writeFileSync(conf(), '{"edited": true}');
    writeFileSync(join(dir, 'net.d/87-other.conflist'), '{}');
    rmSync(plan.stateDir, { recursive: true });
    expect(removeFromRuntime(plan.stateDir, dirs())).toEqual([]);
    expect(readdirSync(join(dir, 'net.d'))).toEqual(['87-other.conflist']);
    expect(Object.keys(bin())).toEqual(['loopback', 'portmap']);
  });

  test('of nothing is success', () => {
    expect(removeFromRuntime(plan.stateDir, dirs())).toEqual([]);
  });
});
