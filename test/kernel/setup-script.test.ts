/** The set-up as a whole: the real script, with apt, dpkg and npm replaced on PATH by small ones that write down how they are called. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';

const STRANGER = 65534;
const RUNTIME = `node_modules/node-linux-${process.arch}`;
let top = '';
const project = () => join(top, 'project');
const calls = () => (existsSync(join(top, 'calls')) ? readFileSync(join(top, 'calls'), 'utf8').trim().split('\n') : []);

beforeEach(() => {
  top = mkdtempSync(join(tmpdir(), `tt${process.pid}-setup-`));
  mkdirSync(join(top, 'bin'));
  mkdirSync(project());
  cpSync('scripts', join(project(), 'scripts'), { recursive: true });
  const locked = { version: '26.0.0', integrity: 'sha512-x', optional: true, os: 'linux', cpu: process.arch };
  writeFileSync(join(project(), 'package-lock.json'), JSON.stringify({ packages: { '': {}, [RUNTIME]: locked } }));
  command('go', 'echo go version go1.26.8 linux/amd64');
  // What it was asked for is installed, except what the file `absent` lists.
  command('dpkg-query', `shift 2; for p; do grep -qxs "$p" '${top}/absent' || echo "$p installed"; done`);
  command('apt-get', `echo "apt-get $*" >>'${top}/calls'; case "$*" in *' install '*) rm -f '${top}/absent' ;; esac`);
  command(
    'npm',
    `echo "npm $*" >>'${top}/calls'; mkdir -p ${RUNTIME}/bin; echo x >${RUNTIME}/bin/node; cp package-lock.json node_modules/.package-lock.json`,
  );
  if (process.geteuid?.() !== 0) throw new Error('root is needed');
  setup();
  rmSync(join(top, 'calls'));
});

afterEach(() => rmSync(top, { recursive: true }));

function command(name: string, script: string) {
  writeFileSync(join(top, 'bin', name), `#!/bin/sh\n${script}\n`);
  chmodSync(join(top, 'bin', name), 0o755);
}

function setup(prefix: readonly string[] = [], args: readonly string[] = ['--for-tests']) {
  const [program, ...rest] = [...prefix, process.execPath, join(project(), 'scripts/setup.mjs'), ...args];
  const env = {
    PATH: `${join(top, 'bin')}:${process.env['PATH']}`,
    HOME: top,
    npm_config_user_agent: 'npm/11.0.0 node/v20',
  };
  const run = spawnSync(program ?? '', rest, { env, encoding: 'utf8' });
  return { status: run.status, stdout: run.stdout, stderr: run.stderr };
}

test('with nothing missing it asks neither apt nor npm for anything, and needs no network', () => {
  const run = setup(['unshare', '--net']);
  expect(run).toMatchObject({ status: 0, stderr: '' });
  expect(run.stdout).toMatch(/packages: all \d+ there\nsetup: node_modules: as locked\n$/);
  expect(calls()).toEqual([]);
});

test('a missing package is installed without what it only recommends, and nothing else', () => {
  writeFileSync(join(top, 'absent'), 'libmnl-dev\nclang-19\n');
  const run = setup();
  expect(run).toMatchObject({ status: 0, stderr: '' });
  expect(run.stdout).toMatch(/2 of \d+ missing; installing libmnl-dev clang-19\n/);
  expect(calls().at(-1)).toMatch(/^apt-get .*install -y --no-install-recommends libmnl-dev clang-19$/);
});

test('the emulator of other kernels is installed only when it is asked for, and needs no Go', () => {
  writeFileSync(join(top, 'absent'), 'qemu-system-x86\nipset\n');
  command('go', 'exit 1');
  expect(setup([], ['--for-kernels'])).toMatchObject({ status: 0, stderr: '' });
  expect(calls().at(-1)).toMatch(/ install -y --no-install-recommends qemu-system-x86$/);
});

test('the tests do not need the emulator', () => {
  writeFileSync(join(top, 'absent'), 'qemu-system-x86\nbusybox-static\nbusybox\n');
  expect(setup([], ['--for-tests'])).toMatchObject({ status: 0, stderr: '' });
  expect(calls()).toEqual([]);
});

test('old package lists: one update, one more try', () => {
  writeFileSync(join(top, 'absent'), 'make\n');
  command(
    'apt-get',
    `echo "$*" >>'${top}/calls'
     case "$*" in
       *' update') touch '${top}/updated' ;;
       *) [ -e '${top}/updated' ] || { echo 'E: Failed to fetch make.deb  404  Not Found' >&2; exit 100; }; rm '${top}/absent' ;;
     esac`,
  );
  expect(setup()).toMatchObject({ status: 0 });
  expect(
    calls()
      .map((call) => /install|update/.exec(call)?.[0])
      .slice(-2),
  ).toEqual(['update', 'install']);
});

test("a package that apt can't install ends it with apt's own words", () => {
  writeFileSync(join(top, 'absent'), 'make\n');
  command('apt-get', `case "$*" in *' install '*) echo 'E: Unable to locate package make' >&2; exit 100 ;; esac`);
  const run = setup();
  expect(run.status).toBe(1);
  expect(run.stderr).toBe('setup: apt-get install failed (status 100):\nE: Unable to locate package make\n');
});

test('a changed lockfile means npm ci, without the scripts of packages', () => {
  const path = join(project(), 'package-lock.json');
  writeFileSync(path, readFileSync(path, 'utf8').replace('26.0.0', '26.0.1'));
  expect(setup().stdout).toContain(`node_modules: ${RUNTIME} is 26.0.0, not 26.0.1 as locked; running npm ci`);
  expect(calls()).toEqual([expect.stringMatching(/^npm ci --ignore-scripts /)]);
});

test("in another user's folder, node_modules belongs to that user", () => {
  chownSync(project(), STRANGER, STRANGER);
  rmSync(join(project(), 'node_modules'), { recursive: true });
  expect(setup()).toMatchObject({ status: 0 });
  for (const entry of ['node_modules', 'node_modules/.package-lock.json', `${RUNTIME}/bin/node`]) {
    expect([entry, statSync(join(project(), entry)).uid]).toEqual([entry, STRANGER]);
  }
});

test("with another user's HOME, npm's cache is root's own", () => {
  rmSync(join(project(), 'node_modules'), { recursive: true });
  command('npm', `echo "cache $npm_config_cache" >>'${top}/calls'; mkdir node_modules`);
  expect(setup()).toMatchObject({ status: 0 });
  chownSync(top, STRANGER, STRANGER);
  rmSync(join(project(), 'node_modules'), { recursive: true });
  mkdirSync(join(top, '.npm'));
  expect(setup()).toMatchObject({ status: 0 });
  expect(calls()).toEqual(['cache ', `cache ${join(userInfo().homedir, '.npm')}`]);
});

test('on a machine that is not supported it names all that is missing, and changes nothing', () => {
  rmSync(join(project(), 'node_modules'), { recursive: true });
  command('go', 'exit 1');
  writeFileSync(join(top, 'absent'), 'make\n');
  const before = readdirSync(top, { recursive: true });
  const run = setup(['setpriv', '--bounding-set=-net_raw,-bpf', '--inh-caps=-net_raw,-bpf']);
  expect(run).toMatchObject({ status: 1, stdout: '' });
  expect(run.stderr.split('\n')).toEqual([
    expect.stringContaining('nothing was changed'),
    expect.stringMatching(/^ {2}- CAP_NET_RAW, CAP_BPF: this root lacks them/),
    expect.stringMatching(/^ {2}- Go 1\.26 or newer, for the tests/),
    '',
  ]);
  expect(readdirSync(top, { recursive: true })).toEqual(before);
});

test('an argument that it does not know changes nothing', () => {
  expect(setup([], ['--for-test'])).toMatchObject({
    status: 2,
    stdout: '',
    stderr: expect.stringContaining('usage: npm run setup'),
  });
  expect(calls()).toEqual([]);
});
