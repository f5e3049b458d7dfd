/** A node as the runtime sees it: plugins by `tortie install`, the configuration by the agent, both taken away by `tortie cleanup`. */
import { afterEach, describe, expect, it } from '@jest/globals';
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { eventually } from '../lab/agent-lab.ts';
import { exec } from '../lab/exec.ts';
import { Lab } from '../lab/lab.ts';
import type { LabNode } from '../lab/lab-node.ts';
import { snapshotOf } from '../lab/node-snapshot.ts';

interface Conflist {
  readonly name: string;
  readonly plugins: readonly { readonly type: string; readonly ipam?: Readonly<Record<string, string>> }[];
}

describe('a node', () => {
  let lab: Lab | undefined;
  afterEach(async () => {
    await lab?.[Symbol.asyncDispose]();
    lab = undefined;
  });

  /** The runtime's two directories. */
  const dirsOf = (lab: Lab) => {
    const dirs = { bin: join(lab.dir, 'bin'), conf: join(lab.dir, 'net.d') };
    for (const dir of Object.values(dirs)) mkdirSync(dir, { recursive: true });
    return { ...dirs, env: { TORTIE_CNI_CONF_DIR: dirs.conf, TORTIE_CNI_MTU: '1400' } };
  };
  const install = (node: LabNode, bin: string) => node.tortie('install', `--cni-bin-dir=${bin}`);

  it('gets its plugins and a configuration that works, and is as before after a cleanup', async () => {
    lab = await Lab.create({ nodes: 1 });
    const node = lab.node(0);
    const { bin, conf, env } = dirsOf(lab);
    writeFileSync(join(bin, 'portmap'), "the node's own");
    writeFileSync(join(conf, '87-other.conflist'), '{}');
    const before = await snapshotOf(node);

    expect(await install(node, bin)).toMatchObject({ status: 0, stderr: '' });
    expect(readdirSync(conf)).toEqual(['87-other.conflist']);
    await node.startAgent({ env });
    const path = join(conf, '10-tortie.conflist');
    await eventually(
      () => existsSync(path),
      () => node.logTail(),
    );
    const { name, plugins } = JSON.parse(readFileSync(path, 'utf8')) as Conflist;
    expect(plugins).toMatchObject([
      {
        type: 'tortie',
        mtu: 1400,
        socket: join(node.runDir, 'cni.sock'),
        ipam: { assign_ipv4: 'true', assign_ipv6: 'true' },
      },
      { type: 'portmap' },
    ]);
    // As a runtime would: the installed executable, with what stands in the file.
    const asked = await exec(join(bin, 'tortie'), [], {
      input: JSON.stringify({ cniVersion: '1.1.0', name, ...plugins[0] }),
      env: { CNI_COMMAND: 'STATUS', CNI_PATH: bin },
    });
    expect(asked).toEqual({ status: 0, stdout: '', stderr: '' });

    await node.stopAgent();
    expect(existsSync(path)).toBe(true);
    expect(await node.tortie('cleanup')).toMatchObject({ status: 0 });
    expect(await snapshotOf(node)).toEqual(before);
    expect([readdirSync(bin), readdirSync(conf)]).toEqual([['portmap'], ['87-other.conflist']]);
    expect([node.runDir, node.stateDir].filter((dir) => existsSync(dir))).toEqual([]);
  });

  it('has the configuration put back, written anew when pools change, and names what stands before it', async () => {
    lab = await Lab.create({ nodes: 1 });
    const node = lab.node(0);
    const { conf, env } = dirsOf(lab);
    await node.startAgent({ env });
    const path = join(conf, '10-tortie.conflist');
    const isThere = () =>
      eventually(
        () => existsSync(path),
        () => node.logTail(),
      );
    const ipam = () => (JSON.parse(readFileSync(path, 'utf8')) as Conflist).plugins[0]?.ipam;
    await isThere();

    rmSync(path);
    await isThere();

    lab.apply('pools', [
      {
        apiVersion: 'projectcalico.org/v3',
        kind: 'IPPool',
        metadata: { name: 'v4' },
        spec: { cidr: '10.65.0.0/16' },
      },
    ]);
    await eventually(
      () => ipam()?.['assign_ipv6'] === 'false',
      () => node.logTail(),
    );
    expect(ipam()?.['assign_ipv4']).toBe('true');

    writeFileSync(join(conf, '05-other.conflist'), '{}');
    await node.waitFor(({ services }) => services.failures.some((failure) => failure.includes('05-other.conflist')));
    rmSync(join(conf, '05-other.conflist'));
    await node.waitFor(({ services }) => services.failures.length === 0);
  });

  it('is not told of a network before a pod could get an address', async () => {
    lab = await Lab.create({ nodes: 1 });
    const node = lab.node(0);
    const { conf, env } = dirsOf(lab);
    lab.apply('pools', []);
    await node.startAgent({ env, wait: false });
    await node.waitFor(({ services }) =>
      services.failures.some((failure) => failure.includes('10-tortie.conflist is not written yet')),
    );
    expect(readdirSync(conf)).toEqual([]);
    lab.applyPools();
    await eventually(
      () => existsSync(join(conf, '10-tortie.conflist')),
      () => node.logTail(),
    );
  });

  it('has an executable that can be replaced while it runs; what cannot be written is said', async () => {
    lab = await Lab.create({ nodes: 1 });
    const node = lab.node(0);
    const { bin } = dirsOf(lab);
    const path = join(bin, 'tortie');
    await install(node, bin);
    const running = spawn(path, [], { env: { CNI_COMMAND: 'VERSION' }, stdio: ['pipe', 'pipe', 'inherit'] });
    const answer = text(running.stdout);
    // It waits for its input, and can't be written to (ETXTBSY); to be installed again, it must differ.
    expect(() => writeFileSync(path, '')).toThrow(expect.objectContaining({ code: 'ETXTBSY' }));
    chmodSync(path, 0o500);
    expect(await install(node, bin)).toMatchObject({ status: 0, stdout: expect.stringContaining(`${path}: replaced`) });
    running.stdin.end('{"cniVersion": "1.0.0"}');
    expect(JSON.parse(await answer)).toMatchObject({ cniVersion: '1.0.0' });

    const nowhere = join(lab.dir, 'nowhere');
    expect(await install(node, nowhere)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining(`${nowhere} is no directory`),
    });
    expect(await node.tortie('install')).toMatchObject({ status: 1, stderr: expect.stringContaining('--cni-bin-dir') });
  });
});
