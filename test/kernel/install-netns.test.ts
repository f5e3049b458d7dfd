/**
 * Agent and runtime in different mount namespaces: an agent in a container sees another /run/netns than the runtime, where the path that the
 * runtime gives may be nothing, or another namespace.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { encodeRequest } from '#cni/protocol.ts';
import type { TestNetns } from '../lab/netns.ts';
import { CniTestbed, containerId, podArgs } from './cni-testbed.ts';

/** A runtime with a /run/netns of its own, in which one path is the namespace of another. */
function runtimeWith(path: string, meant: TestNetns): readonly string[] {
  const script = `set -e
exec 9<"$1"
mount -t tmpfs tmpfs /run/netns
touch "$2"
mount --bind /proc/self/fd/9 "$2"
exec 9<&-
shift 2
exec "$@"`;
  return ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script, 'runtime', meant.path, path];
}

/** One whose /run/netns is empty. */
const runtimeWithout = [
  'unshare',
  '--mount',
  '--propagation',
  'private',
  'sh',
  '-c',
  'mount -t tmpfs tmpfs /run/netns && exec "$@"',
  'runtime',
];

describe('a runtime with a mount namespace of its own', () => {
  let bed: CniTestbed;
  beforeAll(async () => {
    bed = await CniTestbed.create('agent');
  });
  afterAll(() => bed[Symbol.asyncDispose]());

  const interfaces = async (netns: TestNetns) =>
    (await netns.ip<{ ifname: string }[]>('link', 'show')).map(({ ifname }) => ifname);

  test.each([
    ["is nothing in the agent's", false],
    ["is another namespace in the agent's", true],
  ])('ADD, CHECK and DEL work where its path %s', async (_what, withDecoy) => {
    const meant = await bed.container();
    const decoy = await bed.container();
    const path = withDecoy ? decoy.path : `${meant.path}-only-here`;
    expect(existsSync(path)).toBe(withDecoy);
    const id = containerId(path);
    const name = withDecoy ? 'decoy' : 'plain';
    bed.pod(name);
    const options = { env: podArgs(name), through: runtimeWith(path, meant) };

    const added = await bed.call('ADD', path, id, options);
    expect({ status: added.status, json: added.json }).toMatchObject({
      status: 0,
      json: { interfaces: [{}, { name: 'eth0', sandbox: path }] },
    });
    expect((await interfaces(meant)).toSorted()).toEqual(['eth0', 'lo']);
    expect(await interfaces(decoy)).toEqual(['lo']);

    const again = { ...options, conf: { prevResult: added.json } };
    expect(await bed.call('CHECK', path, id, again)).toMatchObject({ status: 0, stdout: '' });
    // From where the path is the decoy, or nothing, it isn't the container's.
    const elsewhere = await bed.call('CHECK', path, id, { ...again, through: [] });
    expect(elsewhere).toMatchObject({ status: 1, json: { code: 105 } });

    expect(await bed.call('DEL', path, id, options)).toMatchObject({ status: 0, stdout: '' });
    expect(await interfaces(meant)).toEqual(['lo']);
    expect(await bed.devices()).toEqual([]);
  });

  test('a path that only the agent has is not taken: code 3, and nothing is left', async () => {
    const decoy = await bed.container();
    bed.pod('gone');
    const options = { env: podArgs('gone'), through: runtimeWithout };
    const added = await bed.call('ADD', decoy.path, containerId('gone'), options);
    expect(added.json).toMatchObject({
      code: 3,
      msg: expect.stringContaining(`${decoy.path}: No such file or directory`),
    });
    expect(await interfaces(decoy)).toEqual(['lo']);
    expect(await bed.devices()).toEqual([]);
    expect(await bed.call('DEL', decoy.path, containerId('gone'), options)).toMatchObject({ status: 0, stdout: '' });
  });

  describe("without the launcher's word", () => {
    /** As a launcher of any version would ask. */
    const ask = (env: Readonly<Record<string, string>>): Promise<string> =>
      new Promise((resolve, reject) => {
        const chunks: Buffer[] = [];
        const socket = connect(bed.socket);
        socket.on('data', (chunk: Buffer) => chunks.push(chunk));
        socket.on('error', reject);
        socket.on('close', () => resolve(Buffer.concat(chunks).toString()));
        socket.end(encodeRequest({ env, stdin: JSON.stringify(bed.conf()) }));
      });
    const envOf = (verb: string, id: string, netns: TestNetns, name: string) => ({
      CNI_COMMAND: verb,
      CNI_CONTAINERID: id,
      CNI_NETNS: netns.path,
      CNI_IFNAME: 'eth0',
      ...podArgs(name),
    });

    test("an older launcher's path is taken as the agent sees it", async () => {
      const meant = await bed.container();
      bed.pod('old');
      const id = containerId('old');
      expect(await ask(envOf('ADD', id, meant, 'old'))).toMatch(/^0\{/);
      expect((await interfaces(meant)).toSorted()).toEqual(['eth0', 'lo']);
      expect(await ask(envOf('DEL', id, meant, 'old'))).toBe('0');
    });

    test('a number below /proc that is no such descriptor counts for nothing: the path does if it is the same namespace, else code 3', async () => {
      const meant = await bed.container();
      const decoy = await bed.container();
      bed.pod('unseen');
      const inode = Number(/\d+/.exec(await meant.exec('readlink', '/proc/self/ns/net'))?.[0]);
      const id = containerId('unseen');
      const told = { TORTIE_NETNS: `${process.pid}/0/${inode}` };
      const refused = await ask({ ...envOf('ADD', id, decoy, 'unseen'), ...told });
      expect(refused).toContain('"code":3');
      expect(refused).toContain(`${decoy.path} is another namespace here`);
      expect(await interfaces(decoy)).toEqual(['lo']);
      expect(await ask({ ...envOf('ADD', id, meant, 'unseen'), ...told })).toMatch(/^0\{/);
      expect(await ask(envOf('DEL', id, meant, 'unseen'))).toBe('0');
    });
  });
});
