/** A real runtime drives the real agent: containers of `ctr run --cni`, on a containerd of the test's own. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { addressOf, dataplanes, eventually, families, startAgentLab } from '#test/lab/agent-lab.ts';
import { containerDevices, inUseBecomes, objectsOf } from '#test/lab/cluster-view.ts';
import { Containerd, missingPrograms } from '#test/lab/containerd.ts';
import type { Lab } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import { differences, type NodeSnapshot, snapshotOf } from '#test/lab/node-snapshot.ts';
import { peerPort } from '#test/lab/peer.ts';

const missing = missingPrograms();
const describeHere = missing.length === 0 ? describe : describe.skip;
const where = missing.length === 0 ? '' : ` (skipped: this machine has no ${missing.join(', ')})`;

const ownAddresses = `
  const { eth0 = [] } = require('node:os').networkInterfaces();
  const of = (family) => eth0.find((a) => a.family === family && !a.address.startsWith('fe80:'))?.address ?? '';
  console.log(JSON.stringify({ ipv4: of('IPv4'), ipv6: of('IPv6') }));`;
/** The server greets each client with the address that it sees. */
const askWhoIAm = `
  const socket = require('node:net').connect(${peerPort}, process.argv[1]);
  socket.setTimeout(10000, () => socket.destroy(new Error('timeout')));
  socket.on('data', (data) => { console.log(data.toString().replace('::ffff:', '').split(' ')[0]); socket.destroy(); });`;

describeHere.each(dataplanes)(`containerd on a node in $dataplane mode${where}`, ({ bpfEnabled }) => {
  const made = new AsyncDisposableStack();
  let lab: Lab;
  let node: LabNode;
  let containerd: Containerd;
  let before: NodeSnapshot;

  beforeAll(async () => {
    lab = made.use(await startAgentLab({ bpfEnabled, nodes: 1 }));
    node = lab.node(0);
    const plugin = {
      type: 'tortie',
      socket: join(node.runDir, 'cni.sock'),
      ipam: { type: 'calico-ipam', assign_ipv4: 'true', assign_ipv6: 'true' },
    };
    containerd = made.use(await Containerd.start(lab, node, plugin));
    // The first container of a node brings the node's address blocks, which stay.
    await (await containerd.run('first')).finish();
    await nothingIsListed();
    before = await snapshotOf(node);
    // What is still going from the first one is gone when nothing changes any more.
    await eventually(
      async () => {
        const earlier = before;
        await sleep(1_000);
        before = await snapshotOf(node);
        return isDeepStrictEqual(before, earlier);
      },
      () => 'the node never comes to rest',
    );
  });
  afterAll(() => made.disposeAsync());

  const nothingIsListed = async () => {
    await inUseBecomes(lab, 0);
    await eventually(
      () => objectsOf(lab, 'WorkloadEndpoint').length === 0,
      () => objectsOf(lab, 'WorkloadEndpoint'),
    );
  };

  const nothingIsLeft = async () => {
    await nothingIsListed();
    expect(await node.endpoints()).toEqual([]);
    expect(await containerDevices(node)).toEqual([]);
    expect(await containerd.traces()).toEqual([]);
    let now = before;
    await eventually(
      async () => isDeepStrictEqual((now = await snapshotOf(node)), before),
      () => [differences(before, now), now],
    );
  };

  it('starts two containers, they talk in both families, and when they end nothing of them is left', async () => {
    const [one, two] = await Promise.all([containerd.run('one'), containerd.run('two')]);
    const addresses = {
      one: JSON.parse(await containerd.evaluate('one', ownAddresses)) as { ipv4: string; ipv6: string },
      two: JSON.parse(await containerd.evaluate('two', ownAddresses)) as { ipv4: string; ipv6: string },
    };
    expect(await containerDevices(node)).toHaveLength(2);
    expect(await containerd.traces()).toHaveLength(6);
    await inUseBecomes(lab, 4);
    for (const family of families) {
      for (const [from, to] of [
        ['one', 'two'],
        ['two', 'one'],
      ] as const) {
        const seenAs = (await containerd.evaluate(from, askWhoIAm, addressOf(addresses[to], family))).trim();
        expect({ from, to, seenAs }).toEqual({ from, to, seenAs: addressOf(addresses[from], family) });
      }
    }

    expect(await one.finish()).toBe(0);
    expect((await node.endpoints()).map(({ pod }) => pod)).toHaveLength(1);
    await containerd.mustCtr('tasks', 'kill', '--signal', 'SIGKILL', 'two');
    expect(await two.exited()).toBe(137);
    expect(one.stderr + two.stderr).toBe('');
    await nothingIsLeft();
  });

  // ctr leaves the DEL of a detached container to its user, who has no command for it either.
  it('starts a container whose namesake went without a DEL, and then nothing of either is left', async () => {
    await containerd.runDetached('three');
    expect(await containerDevices(node)).toHaveLength(1);
    await inUseBecomes(lab, 2);
    await containerd.mustCtr('tasks', 'delete', '--force', 'three');
    await containerd.mustCtr('containers', 'delete', 'three');
    // The kernel took the devices with the namespace; nobody told the agent.
    await eventually(
      async () => (await containerDevices(node)).length === 0,
      () => containerDevices(node),
    );
    expect(await node.endpoints()).toHaveLength(1);

    const again = await containerd.run('three');
    expect(await node.endpoints()).toHaveLength(1);
    await inUseBecomes(lab, 2);
    expect(await again.finish()).toBe(0);
    await nothingIsLeft();
  });
});
