import { describe, expect, test } from '@jest/globals';
import { parseOsRelease, type Facts } from './facts.mjs';
import { distributionOf, problemsOf, unproved } from './requirements.mjs';

const bookworm = { ID: 'debian', VERSION_ID: '12', PRETTY_NAME: 'Debian GNU/Linux 12 (bookworm)' };
const good: Facts = {
  platform: 'linux',
  cpu: 'x64',
  uid: 0,
  capabilities: 0x1ff_feff_ffffn,
  kernel: '6.1.0-31-amd64',
  btf: true,
  os: bookworm,
  node: '20.20.2',
  npm: '9.2.0',
  go: '1.26.0',
  apt: true,
};

describe('a machine is accepted', () => {
  test.each<[string, Partial<Facts>, boolean]>([
    ['with everything', {}, true],
    ['without Go, if no tests are to run', { go: undefined }, false],
    ['with an arm64 CPU', { cpu: 'arm64' }, true],
    ['on Debian 13', { os: { ...bookworm, VERSION_ID: '13' } }, true],
    ['on Debian testing, which has no number', { os: { ID: 'debian' } }, true],
    ['on Ubuntu 24.04', { os: { ID: 'ubuntu', ID_LIKE: 'debian', VERSION_ID: '24.04' } }, true],
    ['on a relative of Ubuntu', { os: { ID: 'linuxmint', ID_LIKE: 'ubuntu debian', VERSION_ID: '22' } }, true],
    ['with a kernel of two digits', { kernel: '10.0.0' }, true],
  ])('%s', (_title, change, forTests) => {
    expect(problemsOf({ ...good, ...change }, forTests)).toEqual([]);
  });
});

describe('a machine is refused, naming what is missing', () => {
  test.each<[string, Partial<Facts>, string[]]>([
    ['macOS, and nothing else matters then', { platform: 'darwin', uid: 501 }, ['Linux']],
    ['no root', { uid: 1000, capabilities: 0n }, ['root: this is user 1000']],
    [
      'root without CAP_BPF and CAP_NET_RAW',
      { capabilities: 0xff_ffff_dfffn & ~(1n << 39n) },
      ['CAP_NET_RAW, CAP_BPF: this root lacks them'],
    ],
    ['no /proc', { capabilities: undefined }, ['/proc']],
    ['an old kernel', { kernel: '5.10.0-30-amd64' }, ['a kernel 6.1 or newer: this one is 5.10.0-30-amd64']],
    ['a kernel just too old', { kernel: '6.0.19' }, ['a kernel 6.1']],
    ['no BTF', { btf: false }, ['kernel types (BTF)']],
    ['another CPU', { cpu: 'riscv64' }, ['an x64 or arm64 CPU: this one is riscv64']],
    ['no apt', { apt: false, os: { PRETTY_NAME: 'Fedora 44' } }, ['apt-get and dpkg-query: this is Fedora 44']],
    ['an old Debian', { os: { ...bookworm, VERSION_ID: '11' } }, ['Debian 12']],
    ['an old Ubuntu', { os: { ID: 'ubuntu', ID_LIKE: 'debian', VERSION_ID: '22.04' } }, ['Debian 12 or Ubuntu 24.04']],
    ['apt on another system', { os: { ID: 'other' } }, ['Debian or Ubuntu']],
    ['an old Node', { node: '18.20.4' }, ['Node 20 or newer: this one is 18.20.4']],
    ['no npm', { npm: undefined }, ['npm 9 or newer: there is no npm']],
    ['an npm that leaves root', { npm: '8.19.4' }, ['npm 9 or newer']],
    ['no Go', { go: undefined }, ['Go 1.26 or newer, for the tests: there is no']],
    ['an old Go', { go: '1.25.9' }, ['Go 1.26 or newer, for the tests: this one is 1.25.9']],
    [
      'all of it at once',
      { uid: 1, kernel: '4.19', btf: false, apt: false, node: '12.0.0', npm: undefined, go: undefined },
      ['root', 'a kernel', 'kernel types', 'apt-get', 'Node 20', 'npm 9', 'Go 1.26'],
    ],
  ])('%s', (_title, change, starts) => {
    const problems = problemsOf({ ...good, ...change }, true);
    expect(problems.map((problem, i) => problem.slice(0, starts[i]?.length))).toEqual(starts);
  });
});

test('what nobody has run it on is said to be unproved', () => {
  expect(unproved(good)).toBeUndefined();
  expect(unproved({ ...good, cpu: 'arm64' })).toContain('arm64');
  expect(unproved({ ...good, os: { ID: 'ubuntu', PRETTY_NAME: 'Ubuntu 24.04.2 LTS' } })).toContain(
    'Ubuntu 24.04.2 LTS',
  );
});

test('relatives of Ubuntu take the names of its packages, all others those of Debian', () => {
  expect(distributionOf({ ...good, os: { ID: 'pop', ID_LIKE: 'ubuntu debian' } })).toBe('ubuntu');
  expect(distributionOf(good)).toBe('debian');
});

test('os-release is read with and without quotes, and other lines are passed over', () => {
  expect(parseOsRelease(`# comment\nID=debian\nPRETTY_NAME="Debian 'x'"\nEMPTY=\nVERSION_ID='12'\nnonsense\n`)).toEqual(
    {
      ID: 'debian',
      PRETTY_NAME: "Debian 'x'",
      EMPTY: '',
      VERSION_ID: '12',
    },
  );
});
