/** Host endpoints' programs and what only a kernel has: sockets, and frames that come by a device. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { attachXdp } from '#native/bpf.ts';
import { createNetns, type TestNetns } from '#test/lab/netns.ts';
import { until } from '#test/lab/until.ts';
import { namesOf } from './bpf-flow-names.ts';
import { HostBed } from './bpf-host-bed.ts';

let bed: HostBed;
const cleanup = new AsyncDisposableStack();

beforeAll(async () => {
  bed = cleanup.use(await HostBed.create());
});
afterAll(async () => await cleanup.disposeAsync());
beforeEach(async () => await bed.reset());

/** Connects `away` with `node`, both in the namespace, until it is disposed of. The ports: away's, node's, and one where node listens. */
async function connection(version: 4 | 6): Promise<AsyncDisposable & { readonly ports: readonly number[] }> {
  const script = `
    const net = require('node:net');
    const [away, node] = process.argv.slice(1);
    const server = net.createServer().listen(0, node, () => {
      const { port } = server.address();
      const client = net.connect({ host: node, port, localAddress: away }, () => console.log(client.localPort, port));
    });
    process.stdin.on('end', () => process.exit()).resume();`;
  const { away = '', node = '' } = namesOf[version];
  const args = ['netns', 'exec', bed.netns.name, process.execPath, '-e', script, away, node];
  const child = spawn('ip', args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  return {
    ports: line.toString().trim().split(' ').map(Number),
    [Symbol.asyncDispose]: async () => {
      child.stdin.end();
      await ended;
    },
  };
}

describe('a connection that is older than the host endpoint', () => {
  beforeAll(async () => {
    await bed.netns.exec('ip', 'link', 'set', 'lo', 'up');
    for (const version of [4, 6] as const)
      for (const name of ['away', 'node'])
        await bed.netns.exec('ip', 'addr', 'add', namesOf[version][name] ?? '', 'dev', 'lo');
  });

  test.each([4, 6] as const)('IPv%i', async (version) => {
    await using connected = await connection(version);
    const [from, to] = connected.ports;
    const in_ = (flags: string, port = from): string =>
      bed.run(version, `uplink in tcp ${flags} away:${port} > node:${to}`);
    const out = (flags: string, port = from): string =>
      bed.run(version, `uplink out tcp ${flags} node:${to} > away:${port}`);
    bed.host('uplink', { in: 'deny', out: 'deny', preDnat: 'deny' });
    expect(in_('A')).toBe('local');
    expect(out('P')).toBe('passed');
    await bed.reset();
    bed.host('uplink', { in: 'deny', out: 'deny', preDnat: 'deny' });
    expect(out('A')).toBe('passed');
    expect(in_('P')).toBe('local');
    // A socket that listens has no such connection, and a SYN is no packet of one.
    const other = (from ?? 0) ^ 1;
    expect(in_('A', other)).toBe('dropped: policy');
    expect(out('A', other)).toBe('dropped: policy');
    expect(in_('S', other)).toBe('dropped: policy');
    await bed.reset();
    bed.host('uplink', { in: 'deny', out: 'deny' });
    expect(in_('S')).toBe('not local');
  });
});

describe('XDP on a device', () => {
  let far: TestNetns;

  beforeAll(async () => {
    far = cleanup.use(await createNetns());
    await bed.netns.exec('ip', 'link', 'set', 'uplink-far', 'netns', far.name);
    for (const [netns, device, end] of [
      [bed.netns, 'uplink', 1],
      [far, 'uplink-far', 2],
    ] as const) {
      await netns.exec('ip', 'link', 'set', device, 'up');
      await netns.exec('ip', 'addr', 'add', `198.51.100.${end}/24`, 'dev', device);
      await netns.exec('ip', 'addr', 'add', `fd51::${end}/64`, 'dev', device, 'nodad');
    }
  });

  const pings = async (to: string, seconds: number): Promise<boolean> =>
    await far.exec('ping', '-c', '1', '-W', `${seconds}`, to).then(
      () => true,
      () => false,
    );

  test.each(['native', 'generic'] as const)(
    '%s: what untracked policy refuses is dropped, neighbours find each other',
    async (mode) => {
      const netns = { path: bed.netns.path };
      const attached = await attachXdp(bed.xdpProgram, { ifindex: bed.ifindexOf('uplink'), netns }, mode);
      await using link = attached.link;
      expect(await link.info()).toMatchObject({ kind: 'xdp' });
      for (const to of ['198.51.100.1', 'fd51::1']) {
        bed.host('uplink', { 'untracked in': 'allow' });
        expect(await pings(to, 30)).toBe(true);
        bed.host('uplink', { 'untracked in': 'deny' });
        await far.exec('ip', 'neigh', 'flush', 'dev', 'uplink-far');
        expect(await pings(to, 1)).toBe(false);
        await until(async () => {
          const [neighbour] = await far.ip<{ lladdr?: string }[]>('neigh', 'show', to, 'dev', 'uplink-far');
          return neighbour?.lladdr === 'ee:ee:ee:ee:ff:00';
        });
      }
    },
  );
});
