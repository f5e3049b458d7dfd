import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { parseAs } from '#api/kinds.ts';
import { EndpointStatusFiles, removeEndpointStatusFiles } from './endpoint-status-files.ts';

let prefix: string;
let files: EndpointStatusFiles;

const endpoint = (pod: string) =>
  parseAs('WorkloadEndpoint', {
    apiVersion: 'projectcalico.org/v3',
    kind: 'WorkloadEndpoint',
    metadata: { name: `node1-k8s-${pod}-eth0`, namespace: 'default' },
    spec: {
      orchestrator: 'k8s',
      node: 'node1',
      pod,
      endpoint: 'eth0',
      containerID: 'c1',
      interfaceName: 'cali0123456789a',
      mac: '02:00:00:00:00:01',
      ipNetworks: ['10.65.0.3/32', 'fd65::3/128'],
    },
  }).object;
const dir = () => join(prefix, 'endpoint-status');
const listed = () => (existsSync(dir()) ? readdirSync(dir()).toSorted() : []);

beforeEach(() => {
  prefix = mkdtempSync(join(tmpdir(), 'tortie-status-'));
  files = new EndpointStatusFiles(prefix, pino({ level: 'silent' }));
});
afterEach(() => rmSync(prefix, { recursive: true, force: true }));

test('a programmed endpoint has a file named and filled as Felix does it', () => {
  files.configure(prefix);
  files.programmed(endpoint('web'));
  expect(listed()).toEqual(['k8s default%2Fweb eth0']);
  expect(JSON.parse(readFileSync(join(dir(), 'k8s default%2Fweb eth0'), 'utf8'))).toEqual({
    ifaceName: 'cali0123456789a',
    mac: '02:00:00:00:00:01',
    ipv4Nets: ['10.65.0.3/32'],
    ipv6Nets: ['fd65::3/128'],
    bgpPeerName: '',
  });
});

test('the file goes with the endpoint', () => {
  files.configure(prefix);
  files.programmed(endpoint('web'));
  files.removed(endpoint('web'));
  expect(listed()).toEqual([]);
});

test('after a start only what is programmed has a file', () => {
  mkdirSync(dir());
  writeFileSync(join(dir(), 'k8s default%2Fgone eth0'), '{}');
  files.configure(prefix);
  files.reset([endpoint('web'), endpoint('failing')], new Set(['k8s/default/failing/eth0']));
  expect(listed()).toEqual(['k8s default%2Fweb eth0']);
});

test('the file of one that can not be programmed any more goes, and comes back when it is again', () => {
  files.configure(prefix);
  const all = () => [endpoint('web'), endpoint('late')];
  const failing = (...pods: string[]) => new Set(pods.map((pod) => `k8s/default/${pod}/eth0`));
  files.reset(all(), failing('late'));
  files.follow(all, failing('late'));
  expect(listed()).toEqual(['k8s default%2Fweb eth0']);
  files.follow(all, failing('web'));
  expect(listed()).toEqual(['k8s default%2Flate eth0']);
  files.follow(all, failing());
  expect(listed()).toEqual(['k8s default%2Flate eth0', 'k8s default%2Fweb eth0']);
});

test('when the setting changes the files move, and nothing stays; without a setting there are none', () => {
  files.configure(prefix);
  files.programmed(endpoint('web'));
  const other = join(prefix, 'other');
  files.configure(other);
  expect(existsSync(dir())).toBe(false);
  expect(readdirSync(join(other, 'endpoint-status'))).toEqual(['k8s default%2Fweb eth0']);
  files.configure(undefined);
  expect(existsSync(join(other, 'endpoint-status'))).toBe(false);
});

test('a directory that can not be made is said, and mended when it can', () => {
  writeFileSync(join(prefix, 'file'), '');
  files.configure(join(prefix, 'file'));
  files.programmed(endpoint('web'));
  expect(files.failure).toMatch(
    /endpoint status files in .*file\/endpoint-status: ENOTDIR.*set endpointStatusPathPrefix/,
  );
  files.configure(prefix);
  expect(files.failure).toBeUndefined();
  expect(listed()).toEqual(['k8s default%2Fweb eth0']);
});

test.each([false, true])(
  'a clean-up finds what was written by the state dir; the directory was there: %s',
  (isThere) => {
    const elsewhere = join(prefix, 'elsewhere');
    if (isThere) mkdirSync(join(elsewhere, 'endpoint-status'), { recursive: true });
    files.configure(elsewhere);
    files.programmed(endpoint('web'));
    removeEndpointStatusFiles(prefix);
    expect(readdirSync(elsewhere)).toEqual([]);
    expect(readdirSync(prefix)).toEqual(['elsewhere']);
    removeEndpointStatusFiles(prefix);
  },
);
