import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HostSysctlFile } from './host-sysctl-file.ts';

const forward = 'net/ipv4/ip_forward';
let dir: string;
const file = (): string => join(dir, HostSysctlFile.fileName);

function errorOf(use: () => void): unknown {
  try {
    use();
  } catch (error) {
    return error;
  }
  return undefined;
}

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tortie-sysctls-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test('nothing is remembered at first, and no file made', () => {
  expect(new HostSysctlFile(dir).all()).toEqual(new Map());
  new HostSysctlFile(dir).forget();
  expect(readdirSync(dir)).toEqual([]);
});

test('the first value of each sysctl outlives the process, in order', () => {
  new HostSysctlFile(dir).remember('net/ipv6/conf/eth0/accept_ra', '1');
  new HostSysctlFile(dir).remember(forward, '0');
  new HostSysctlFile(dir).remember(forward, '1');
  expect([...new HostSysctlFile(dir).all()]).toEqual([
    ['net/ipv6/conf/eth0/accept_ra', '1'],
    [forward, '0'],
  ]);
});

test('a value that is known already is not written again', () => {
  new HostSysctlFile(dir).remember(forward, '0');
  const before = statSync(file()).ino;
  new HostSysctlFile(dir).remember(forward, '0');
  expect(statSync(file()).ino).toBe(before);
});

test('forgetting removes the file; a write that a crash cut short changes nothing', () => {
  const memory = new HostSysctlFile(dir);
  memory.remember(forward, '0');
  writeFileSync(`${file()}.tmp`, '{"net/ipv4/ip_fo');
  expect(new HostSysctlFile(dir).all()).toEqual(new Map([[forward, '0']]));
  memory.remember('net/ipv6/conf/all/forwarding', '0');
  expect(readdirSync(dir)).toEqual([HostSysctlFile.fileName]);
  memory.forget();
  expect(readdirSync(dir)).toEqual([]);
});

test.each([
  ['cut short', '{"net/ipv4/ip_forward"'],
  ['empty', ''],
  ['no object', '["net/ipv4/ip_forward"]'],
  ['null', 'null'],
  ['a value that is no text', '{"net/ipv4/ip_forward":0}'],
  ['a path out of the network', '{"kernel/core_pattern":"|/tmp/x"}'],
  ['a path that climbs', '{"net/../kernel/core_pattern":"|/tmp/x"}'],
])('a damaged file (%s) is refused by name and left as it is', (_name, text) => {
  writeFileSync(file(), text);
  const memory = new HostSysctlFile(dir);
  for (const use of [() => void memory.all(), () => memory.remember(forward, '0')])
    expect(errorOf(use)).toMatchObject({ code: 'bad-sysctl-file', message: expect.stringContaining(file()) });
  expect(readFileSync(file(), 'utf8')).toBe(text);
});

test('a directory that is missing is an error, not silence', () => {
  const memory = new HostSysctlFile(join(dir, 'missing'));
  expect(errorOf(() => memory.remember(forward, '0'))).toMatchObject({ code: 'ENOENT' });
});
