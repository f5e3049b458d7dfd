/** `tortie check` on nodes that are as they should be but for one thing, each brought about by force in a namespace of its own. */
import { spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import type { CheckResult } from '#agent/check/result.ts';
import { distDir } from '#test/lab/dist.ts';
import { eventually } from '#test/lab/agent-lab.ts';
import { exec } from '#test/lab/exec.ts';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';

let ns: TestNetns;
let dir: string;
/** The host's files, as the check is told. */
let root: string;
let children: ChildProcess[];

beforeEach(async () => {
  children = [];
  dir = mkdtempSync(join(tmpdir(), `tt${process.pid}-check-`));
  root = join(dir, 'host');
  for (const made of ['etc/cni/net.d', 'opt/cni/bin']) mkdirSync(join(root, made), { recursive: true });
  ns = await createNetns();
  await ns.exec('ip', 'link', 'set', 'lo', 'up');
  await uplink('eth0', '192.0.2.1/24');
});

afterEach(async () => {
  await Promise.all(
    children.map(async (child) => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await ended;
    }),
  );
  await ns[Symbol.asyncDispose]();
  rmSync(dir, { recursive: true });
});

/** A device with an address, and no default route: it counts by the address. */
async function uplink(name: string, address: string, mtu = 1500): Promise<void> {
  await ns.exec('ip', 'link', 'add', name, 'mtu', String(mtu), 'type', 'veth', 'peer', 'name', `${name}-p`);
  await ns.exec('ip', 'link', 'set', name, 'up');
  await ns.exec('ip', 'addr', 'add', address, 'dev', name);
}

const sysctl = (name: string, value: number): Promise<string> => ns.exec('sysctl', '-q', '-w', `${name}=${value}`);

function hostFile(path: string, text: string): void {
  const file = join(root, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}

/** Runs a program in the namespace until the test ends. */
function running(file: string, ...args: string[]): ChildProcess {
  const child = spawn('nsenter', [`--net=${ns.path}`, file, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  return child;
}

/** A process of this name in the namespace. */
async function program(name: string): Promise<void> {
  const file = join(dir, name);
  copyFileSync('/usr/bin/sleep', file);
  chmodSync(file, 0o755);
  const child = running(file, '600');
  // nsenter becomes it.
  await eventually(
    async () => (await exec('cat', [`/proc/${child.pid}/comm`])).stdout.trim() === name.slice(0, 15),
    () => `no ${name}`,
  );
}

/** An HTTP server there that answers everything with this text. */
async function server(port: number, text: string): Promise<void> {
  const script = `require('node:http').createServer((_, r) => r.end(${JSON.stringify(text)})).listen(${port}, '127.0.0.1', () => console.log('up'))`;
  const child = running(process.execPath, '-e', script);
  await new Promise((resolve) => child.stdout?.once('data', resolve));
}

interface Run {
  readonly status: number | null;
  readonly results: readonly CheckResult[];
  readonly stderr: string;
}

/** The built command in the namespace; `wrap`: what it runs under. */
async function check(
  options: { env?: Record<string, string>; wrap?: readonly string[]; root?: false } = {},
): Promise<Run> {
  const { status, stdout, stderr } = await exec(
    'nsenter',
    [
      `--net=${ns.path}`,
      ...(options.wrap ?? []),
      join(distDir, 'bin/tortie'),
      'check',
      '-o',
      'json',
      `--run-dir=${join(dir, 'no-agent')}`,
      `--bpffs=${join(dir, 'bpf/tortie')}`,
      ...(options.root === false ? [] : [`--host-root=${root}`]),
    ],
    { env: { KUBERNETES_SERVICE_HOST: '', ...options.env } },
  );
  return { status, results: stdout === '' ? [] : (JSON.parse(stdout) as readonly CheckResult[]), stderr };
}

const notFine = ({ results }: Run): readonly string[] =>
  results.filter(({ outcome }) => outcome !== 'yes').map(({ id, subject }) => `${id} ${subject}`.trim());

const of = ({ results }: Run, id: string, subject = ''): readonly Partial<CheckResult>[] =>
  results.filter((result) => result.id === id && result.subject.includes(subject));

/** What is always so in a namespace that a test made: nobody serves Services, and what is the first namespace's can't be seen. */
const usual = ['kube-proxy', 'bpf-jit'];

describe('tortie check', () => {
  test('finds nothing wrong with a node that is as it should be', async () => {
    const run = await check();
    expect(run.stderr).toBe('');
    expect(notFine(run).filter((name) => !usual.includes(name))).toEqual([]);
    expect(run.status).toBe(0);
    for (const result of run.results) {
      expect(result.detail).not.toBe('');
      expect(result.disables).not.toBe('');
      expect(result.todo).not.toBe('');
    }
  });

  test('prints the same as text', async () => {
    const { status, stdout } = await exec('nsenter', [
      `--net=${ns.path}`,
      join(distDir, 'bin/tortie'),
      'check',
      `--run-dir=${join(dir, 'no-agent')}`,
      `--host-root=${root}`,
    ]);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^kernel\n {2}ok {7}namespaces: /);
    expect(stdout).toMatch(/^ {2}DEGRADES kube-proxy: no trace of it.*\n {13}without it: Services.*\n {13}to do: /m);
    expect(stdout).toMatch(
      /\nnothing keeps Tortie from this node: 0 block, 1 degrade, \d+ notes, \d+ could not be told\n$/,
    );
  });

  test('changes nothing: devices, sets, rules, tables and sysctls of the namespace, and named ones, are as before', async () => {
    await ns.exec('iptables-nft', '-A', 'FORWARD', '-j', 'ACCEPT');
    const snapshot = async () => ({
      links: (await ns.ip('link')).map(({ ifname }) => ifname),
      sets: await ns.exec('ipset', 'list', '-n'),
      nft: await ns.exec('nft', 'list', 'ruleset'),
      legacy: await ns.exec('sh', '-c', 'iptables-legacy-save; ip6tables-legacy-save'),
      sysctls: await ns.exec('sh', '-c', "sysctl -a 2>/dev/null | grep -E 'forwarding|ip_forward |rp_filter'"),
      qdiscs: await ns.exec('tc', 'qdisc'),
      files: (await exec('find', [dir])).stdout,
    });
    const before = await snapshot();
    await check();
    expect(await snapshot()).toEqual(before);
  });

  const faults: readonly {
    readonly node: string;
    readonly bring: () => Promise<unknown> | void;
    readonly id: string;
    readonly subject?: string;
    readonly result: Partial<Record<keyof CheckResult, unknown>>;
    readonly status?: number;
    readonly env?: Record<string, string>;
  }[] = [
    {
      node: 'a strict reverse path filter and one uplink',
      bring: () => sysctl('net.ipv4.conf.eth0.rp_filter', 1),
      id: 'rp-filter',
      subject: 'eth0',
      result: { outcome: 'no', severity: 'note', detail: expect.stringContaining('net.ipv4.conf.eth0.rp_filter=1') },
    },
    {
      node: 'a strict reverse path filter and two uplinks',
      bring: async () => {
        await uplink('eth1', '198.51.100.1/24');
        await sysctl('net.ipv4.conf.all.rp_filter', 1);
      },
      id: 'rp-filter',
      subject: 'eth1',
      result: { outcome: 'no', severity: 'degrades' },
    },
    {
      node: 'IPv6 switched off',
      bring: () => sysctl('net.ipv6.conf.all.disable_ipv6', 1),
      id: 'ipv6',
      result: { outcome: 'no', severity: 'note' },
    },
    {
      node: "docker's policy in legacy, where others' rules are in nft",
      bring: async () => {
        for (const _ of [1, 2]) await ns.exec('iptables-nft', '-A', 'INPUT', '-j', 'ACCEPT');
        await ns.exec('iptables-legacy', '-w', '-P', 'FORWARD', 'DROP');
      },
      id: 'forward-policy',
      subject: 'iptables-legacy, IPv4',
      result: { outcome: 'no', severity: 'blocks' },
      status: 1,
    },
    {
      node: "docker's policy where we write too",
      bring: () => ns.exec('iptables-nft', '-P', 'FORWARD', 'DROP'),
      id: 'forward-policy',
      subject: 'iptables-nft, IPv4',
      result: { outcome: 'yes', detail: expect.stringContaining('docker') },
    },
    {
      node: "docker's policy in eBPF mode",
      bring: () => ns.exec('iptables-nft', '-P', 'FORWARD', 'DROP'),
      env: { FELIX_BPFENABLED: 'true' },
      id: 'forward-policy',
      subject: 'iptables-nft, IPv4',
      result: { outcome: 'yes', detail: expect.stringContaining('docker') },
    },
    {
      node: 'a table of an administrator that drops what is forwarded',
      bring: () =>
        ns.exec(
          'nft',
          'add table inet mine; add chain inet mine f { type filter hook forward priority 0; policy drop; }',
        ),
      id: 'forward-policy',
      subject: 'nft table inet mine, chain f',
      result: { outcome: 'no', severity: 'blocks' },
      status: 1,
    },
    {
      node: "firewalld's table",
      bring: () => ns.exec('nft', 'add table inet firewalld'),
      id: 'firewalld',
      result: { outcome: 'no', severity: 'blocks', detail: 'nft table inet firewalld' },
      status: 1,
    },
    {
      node: 'firewalld running',
      bring: () => program('firewalld'),
      id: 'firewalld',
      result: { outcome: 'no', detail: 'it is running' },
      status: 1,
    },
    {
      node: 'ufw in the way',
      bring: async () => {
        await ns.exec('iptables-nft', '-N', 'ufw-before-input');
        await ns.exec('iptables-nft', '-A', 'INPUT', '-j', 'ufw-before-input');
      },
      id: 'ufw',
      result: { outcome: 'no', severity: 'degrades', detail: expect.stringContaining('iptables-nft, IPv4, INPUT') },
    },
    {
      node: 'rules of others in both variants',
      bring: async () => {
        await ns.exec('iptables-nft', '-A', 'INPUT', '-j', 'ACCEPT');
        await ns.exec('iptables-legacy', '-w', '-A', 'INPUT', '-j', 'ACCEPT');
      },
      id: 'iptables-variants',
      result: { outcome: 'no', severity: 'note', detail: 'nft: 1 rules of others, legacy: 1 rules of others' },
    },
    {
      node: "another Felix's chains",
      bring: async () => {
        await ns.exec('iptables-nft', '-N', 'cali-FORWARD');
        await ns.exec(
          'iptables-nft',
          '-A',
          'cali-FORWARD',
          '-m',
          'comment',
          '--comment',
          'cali:vjrMJCRpqwy5oRoX',
          '-j',
          'ACCEPT',
        );
      },
      id: 'other-plugin',
      result: { outcome: 'no', severity: 'blocks', detail: expect.stringContaining('1 chains cali-*') },
      status: 1,
    },
    {
      node: "Calico's agent running",
      bring: () => program('calico-node'),
      id: 'other-plugin',
      result: { outcome: 'no', detail: 'calico-node (Calico) is running' },
      status: 1,
    },
    {
      node: "Flannel's device and chains",
      bring: async () => {
        await ns.exec('ip', 'link', 'add', 'flannel.1', 'type', 'vxlan', 'id', '1', 'dstport', '8472');
        await ns.exec('iptables-nft', '-N', 'FLANNEL-FWD');
      },
      id: 'leftovers',
      result: { outcome: 'no', severity: 'degrades', detail: 'device flannel.1 (Flannel), chains FLANNEL-* (Flannel)' },
    },
    {
      node: 'NetworkManager',
      bring: () => program('NetworkManager'),
      id: 'network-manager',
      result: { outcome: 'no', severity: 'degrades' },
    },
    {
      node: 'NetworkManager that leaves our devices alone, by a file of /run',
      bring: () => {
        hostFile('run/NetworkManager/conf.d/t.conf', '[keyfile]\nunmanaged-devices+=interface-name:cali*\n');
        return program('NetworkManager');
      },
      id: 'network-manager',
      result: { outcome: 'yes' },
    },
    {
      node: 'NetworkManager, by its udev rules',
      bring: () => {
        hostFile('usr/lib/udev/rules.d/85-nm-unmanaged.rules', 'ENV{ID_NET_DRIVER}=="veth", ENV{NM_UNMANAGED}="1"\n');
        return program('NetworkManager');
      },
      id: 'network-manager',
      result: { outcome: 'yes' },
    },
    {
      node: 'systemd-networkd and a file for all devices',
      bring: () => {
        hostFile('etc/systemd/network/all.network', '[Match]\nName=*\n[Network]\nDHCP=yes\n');
        return program('systemd-networkd');
      },
      id: 'networkd',
      result: {
        outcome: 'no',
        severity: 'degrades',
        detail: expect.stringContaining('/etc/systemd/network/all.network'),
      },
    },
    {
      node: 'systemd-networkd as it comes',
      bring: () => program('systemd-networkd'),
      id: 'networkd-routes',
      result: { outcome: 'no', severity: 'degrades' },
    },
    {
      node: 'systemd-networkd told to leave routes alone',
      bring: () => {
        hostFile('etc/systemd/networkd.conf.d/t.conf', '[Network]\nManageForeignRoutes=no\n');
        return program('systemd-networkd');
      },
      id: 'networkd-routes',
      result: { outcome: 'yes' },
    },
    {
      node: "another plugin's configuration before ours",
      bring: () => hostFile('etc/cni/net.d/05-cilium.conflist', '{}'),
      id: 'cni-conf',
      subject: '05-cilium.conflist',
      result: { outcome: 'no', severity: 'blocks' },
      status: 1,
    },
    {
      node: "another plugin's configuration after ours, and a file that is none",
      bring: () => {
        hostFile('etc/cni/net.d/87-podman.conflist', '{}');
        hostFile('etc/cni/net.d/00-notes.txt', '');
      },
      id: 'cni-conf',
      result: { outcome: 'yes', detail: '87-podman.conflist' },
    },
    {
      node: 'another program on the health port',
      bring: () => server(9099, ''),
      id: 'ports',
      subject: 'healthPort',
      result: {
        outcome: 'no',
        severity: 'degrades',
        detail: expect.stringMatching(/^\S+ \(process \d+\) listens on 127\.0\.0\.1$/),
      },
    },
    {
      node: 'another program on the health port, which is set to another',
      bring: () => server(9099, ''),
      env: { FELIX_HEALTHPORT: '9199' },
      id: 'ports',
      subject: 'healthPort 9199',
      result: { outcome: 'yes' },
    },
    {
      node: "a pod's device with a larger MTU than the uplink",
      bring: async () => {
        await ns.exec('ip', 'link', 'add', 'cali1', 'mtu', '9000', 'type', 'veth', 'peer', 'name', 'p1');
      },
      id: 'mtu',
      result: { outcome: 'no', severity: 'degrades', detail: 'cali1 9000; uplinks: eth0 1500' },
    },
    {
      node: 'kube-proxy that says its mode',
      bring: () => server(10249, 'nftables'),
      id: 'kube-proxy',
      result: { outcome: 'yes', detail: 'mode nftables, it says' },
    },
    {
      node: 'kube-proxy that left its chains',
      bring: () => ns.exec('iptables-nft', '-t', 'nat', '-N', 'KUBE-SERVICES'),
      id: 'kube-proxy',
      result: { outcome: 'yes', detail: 'mode iptables, by its rules' },
    },
    {
      node: "kube-proxy's device of mode ipvs",
      bring: () => ns.exec('ip', 'link', 'add', 'kube-ipvs0', 'type', 'bridge'),
      id: 'kube-proxy',
      result: { outcome: 'no', subject: 'ipvs', severity: 'degrades' },
    },
  ];

  test.each(faults)('on a node with $node', async ({ bring, id, subject, result, status = 0, env = {} }) => {
    await bring();
    const run = await check({ env });
    expect(of(run, id, subject)).toEqual(expect.arrayContaining([expect.objectContaining(result)]));
    expect(run.status).toBe(status);
  });

  test('on a node without iptables', async () => {
    const bin = join(dir, 'bin');
    mkdirSync(bin);
    // All that the start script and the check itself need.
    for (const tool of ['dirname', 'readlink', 'nsenter']) symlinkSync(`/usr/bin/${tool}`, join(bin, tool));
    const run = await check({ wrap: ['env', `PATH=${bin}`] });
    expect(of(run, 'iptables-tools')).toMatchObject([{ outcome: 'no', severity: 'blocks' }]);
    expect(of(run, 'iptables-rules')).toMatchObject([{ outcome: 'unknown', detail: 'no iptables tool is installed' }]);
    expect(run.status).toBe(1);
  });

  test('does not take a program of another network namespace for one of this node', async () => {
    const other = await createNetns();
    try {
      const file = join(dir, 'firewalld');
      copyFileSync('/usr/bin/sleep', file);
      children.push(spawn('nsenter', [`--net=${other.path}`, file, '600'], { stdio: 'ignore' }));
      await eventually(
        async () => (await exec('cat', [`/proc/${children[0]?.pid}/comm`])).stdout.trim() === 'firewalld',
        () => 'no firewalld',
      );
      expect(of(await check(), 'firewalld')).toMatchObject([{ outcome: 'yes' }]);
    } finally {
      await other[Symbol.asyncDispose]();
    }
  });
});

/** As a container has them: process numbers and mounts of its own. */
const ownProcesses = ['unshare', '--mount', '--pid', '--fork', '--mount-proc'];

describe('tortie check where it may not see or do everything', () => {
  test('tells what it may, says of the rest why not, and says so by its exit status', async () => {
    const run = await check({ wrap: ['setpriv', '--bounding-set=-all', '--inh-caps=-all', '--no-new-privs'] });
    expect(run.stderr).toBe('');
    expect(of(run, 'namespaces')).toMatchObject([{ outcome: 'unknown', detail: expect.stringContaining('EPERM') }]);
    for (const id of ['veth', 'ipset', 'conntrack', 'iptables-rules', 'bpf-tcx'])
      expect({ id, results: of(run, id) }).toMatchObject({ id, results: [{ outcome: 'unknown' }] });
    expect(of(run, 'bpf')).toMatchObject([{ outcome: 'unknown', detail: expect.stringContaining('EPERM') }]);
    expect(run.results.filter(({ outcome, severity }) => outcome === 'no' && severity === 'blocks')).toEqual([]);
    expect(run.status).toBe(3);
  });

  test("in a pod without hostPID the host's files and programs are not known, and what is mounted is", async () => {
    const pod = { root: false, env: { KUBERNETES_SERVICE_HOST: '10.96.0.1' } } as const;
    const run = await check({ ...pod, wrap: ownProcesses });
    for (const id of ['network-manager', 'networkd', 'other-plugin', 'modules', 'cni-conf'])
      expect({ id, results: of(run, id) }).toMatchObject({
        id,
        results: [{ outcome: 'unknown', detail: expect.stringContaining('hostPID') }],
      });
    expect(of(run, 'xtables-lock')).toMatchObject([{ outcome: 'no', severity: 'degrades' }]);
    // Over what this machine has there, on a file system of the test's own.
    const script = `mount -t tmpfs t /etc && mkdir -p /etc/cni/net.d ${dir}/conf && touch ${dir}/conf/05-x.conf && mount --bind ${dir}/conf /etc/cni/net.d && exec "$@"`;
    const mounted = await check({ ...pod, wrap: [...ownProcesses, 'sh', '-ec', script, 'sh'] });
    expect(of(mounted, 'cni-conf')).toMatchObject([{ outcome: 'no', subject: '05-x.conf' }]);
  });

  test('where sysctls and directories are read-only, forwarding and the install are', async () => {
    await sysctl('net.ipv4.ip_forward', 0);
    const script = `mount -t proc proc /proc && mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && mount --bind ${root}/opt ${root}/opt && mount -o remount,bind,ro ${root}/opt && exec "$@"`;
    const run = await check({ wrap: ['unshare', '-m', 'sh', '-ec', script, 'sh'] });
    expect(of(run, 'forwarding', 'ip_forward')).toMatchObject([
      { outcome: 'no', severity: 'blocks', detail: "0, and it can't be written" },
    ]);
    expect(of(run, 'cni-directories', '/opt/cni/bin')).toMatchObject([
      { outcome: 'no', detail: expect.stringContaining('EROFS') },
    ]);
    expect(run.status).toBe(1);
  });
});
