import { describe, expect, test } from '@jest/globals';
import { hostView, mountsOfType, parseMountPoints, type HostViewFacts } from './host-view.ts';
import { known } from './result.ts';

const host: HostViewFacts = {
  ownMounts: 'mnt:[1]',
  initMounts: 'mnt:[1]',
  isPod: false,
  mountPoints: ['/', '/run', '/proc'],
  resolve: (path) => path,
};
const container: HostViewFacts = {
  ...host,
  ownMounts: 'mnt:[2]',
  isPod: true,
  mountPoints: ['/', '/etc/cni/net.d', '/run/xtables.lock'],
};

describe("the host's files", () => {
  test.each<[string, HostViewFacts, string, string]>([
    ['on the host are its own', host, '/etc/systemd', '/etc/systemd'],
    ["in a container are seen through the host's first process", container, '/etc/systemd', '/proc/1/root/etc/systemd'],
    ['for a user who may not look at process 1 are its own', { ...host, initMounts: undefined }, '/etc/x', '/etc/x'],
    ['that are mounted into a container are there', container, '/etc/cni/net.d', '/etc/cni/net.d'],
    ['below a mount are there', container, '/etc/cni/net.d/10-x.conf', '/etc/cni/net.d/10-x.conf'],
    [
      'that are mounted behind a link are there',
      {
        ...container,
        mountPoints: ['/', '/usr/lib/modules'],
        resolve: (path) => path.replace(/^\/lib\//, '/usr/lib/'),
      },
      '/lib/modules/6.1',
      '/lib/modules/6.1',
    ],
    ['beside a mount are not there', container, '/etc/cni/net.dx', '/proc/1/root/etc/cni/net.dx'],
    [
      'in a mount namespace without a pod are seen in the same way',
      { ...host, ownMounts: 'mnt:[2]' },
      '/etc/x',
      '/proc/1/root/etc/x',
    ],
    [
      'that are mounted into a pod without hostPID are there',
      { ...container, initMounts: 'mnt:[2]' },
      '/etc/cni/net.d',
      '/etc/cni/net.d',
    ],
  ])('%s', (_, facts, path, expected) => {
    expect(hostView(facts).locate(path)).toEqual(known(expected));
  });

  test('are where they are said to be', () => {
    expect(hostView(container, '/host').locate('/etc/cni/net.d')).toEqual(known('/host/etc/cni/net.d'));
  });

  test.each<[string, HostViewFacts, string]>([
    ['in a pod without hostPID', { ...container, initMounts: 'mnt:[2]' }, 'hostPID'],
    ['in a pod that may not look at process 1', { ...container, initMounts: undefined }, 'privileged'],
  ])("%s can't be told, and the reason is said", (_, facts, words) => {
    expect(hostView(facts).locate('/etc/x')).toEqual({ known: false, reason: expect.stringContaining(words) });
  });

  test.each<[string, HostViewFacts, boolean]>([
    ['the host', host, true],
    ['a container that has it mounted', container, true],
    ['a container that has not', { ...container, mountPoints: ['/'] }, false],
    ['a pod without hostPID that has not', { ...container, initMounts: 'mnt:[2]', mountPoints: ['/'] }, false],
  ])('the lock of iptables is shared in %s: %s', (_where, facts, expected) => {
    expect(hostView(facts).isShared('/run/xtables.lock')).toBe(expected);
  });

  test.each<[string, HostViewFacts, boolean]>([
    ['the host', host, true],
    ['a container with hostPID', container, true],
    ['a container with hostPID that may not look at process 1', { ...container, initMounts: undefined }, true],
    ['a pod without', { ...container, initMounts: 'mnt:[2]' }, false],
  ])("the host's processes are seen from %s: %s", (_where, facts, expected) => {
    expect(hostView(facts).processes.known).toBe(expected);
  });
});

test('mount points are read with what is octal in them, and by type', () => {
  const text =
    '22 1 0:21 / / rw,relatime shared:1 - ext4 /dev/root rw\n' +
    String.raw`31 22 0:27 / /mnt/a\040b rw shared:9 - cgroup2 cgroup2 rw` +
    '\n32 22 0:28 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n';
  expect(parseMountPoints(text)).toEqual(['/', '/mnt/a b', '/sys/fs/cgroup/unified']);
  expect(mountsOfType(text, 'cgroup2')).toEqual(['/mnt/a b', '/sys/fs/cgroup/unified']);
  expect(mountsOfType(text, 'bpf')).toEqual([]);
});
