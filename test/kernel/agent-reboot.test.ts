/** A node that comes back: after a reboot, when all pods are gone, and without its state dir, when they live on. */
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { dataplanes, eventually, startAgentLab } from '#test/lab/agent-lab.ts';
import {
  assertNoAddressTwice,
  checkFindsNothing,
  containerDevices,
  inUseBecomes,
  objectsOf,
  unreachable,
} from '#test/lab/cluster-view.ts';
import type { Lab } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';

describe.each(dataplanes)('a node in $dataplane mode', ({ bpfEnabled }) => {
  let lab: Lab;
  let node: LabNode;
  let pods: readonly LabPod[];
  let far: LabPod;

  beforeEach(async () => {
    lab = await startAgentLab({ bpfEnabled });
    node = lab.node(0);
    pods = [await node.addPod('one'), await node.addPod('two'), await node.addPod('container', { isPod: false })];
    far = await lab.node(1).addPod('far');
    await eventually(
      () => objectsOf(lab, 'WorkloadEndpoint').length === 4,
      () => objectsOf(lab, 'WorkloadEndpoint'),
    );
    await inUseBecomes(lab, 8);
  });
  afterEach(() => lab[Symbol.asyncDispose]());

  it('is rebooted: the dead endpoints and their addresses go, and their pods start again', async () => {
    const [one, two, container] = pods as [LabPod, LabPod, LabPod];
    const old = pods.map(({ container: id }) => id);
    await node.killAgent();
    for (const pod of pods) await pod.loseNamespace();
    // The kernel removes what was in them in its own time.
    await eventually(
      async () => (await containerDevices(node)).length === 0,
      () => containerDevices(node),
    );
    await forgetKernelState(node);
    rmSync(node.runDir, { recursive: true });

    await node.startAgent();
    expect(await node.endpoints()).toEqual([]);
    expect(readdirSync(join(node.stateDir, 'endpoints'))).toEqual([]);
    await eventually(
      () => objectsOf(lab, 'WorkloadEndpoint').length === 1,
      () => objectsOf(lab, 'WorkloadEndpoint'),
    );
    await inUseBecomes(lab, 2);

    await one.renewSandbox();
    await two.renewSandbox();
    await Promise.all([one.add(), two.add()]);
    assertNoAddressTwice([one, two, far]);
    const peer = await one.peer();
    await Promise.all([two.peer(), far.peer()]);
    for (const address of [...two.addresses, ...far.addresses])
      expect({ address, ...(await peer.connect(address)) }).toMatchObject({ ok: true });

    // The runtime cleans up after the sandboxes of before the reboot when it gets to it.
    for (const [index, pod] of pods.entries()) {
      const { status, stdout } = await pod.cni('DEL', { container: old[index] ?? '' });
      expect({ pod: pod.name, status, stdout }).toMatchObject({ status: 0 });
    }
    expect(await unreachable(node, [one, two])).toEqual([]);
    expect((await node.endpoints()).map(({ pod }) => pod)).toEqual(['one', 'two']);
    await checkFindsNothing(lab);
    await container.destroy();
  });

  it('has lost its state dir while its pods live: they stay connected, their addresses stay theirs, and DEL works', async () => {
    await node.killAgent();
    rmSync(node.stateDir, { recursive: true });
    await node.startAgent();
    expect((await node.endpoints()).map(({ container }) => container).toSorted()).toEqual(
      pods.map(({ container }) => container).toSorted(),
    );
    expect(await unreachable(node, pods)).toEqual([]);
    expect(await unreachable(lab.node(1), pods)).toEqual([]);

    const more = await Promise.all(Array.from({ length: 10 }, (_, index) => node.addPod(`more${index}`)));
    assertNoAddressTwice([...pods, ...more, far]);
    expect(await unreachable(node, [...pods, ...more])).toEqual([]);
    await checkFindsNothing(lab);

    for (const pod of [...pods, ...more]) await pod.del();
    await inUseBecomes(lab, 2);
    expect(await containerDevices(node)).toEqual([]);
    expect(readdirSync(join(node.stateDir, 'endpoints'))).toEqual([]);
    await eventually(
      () => objectsOf(lab, 'WorkloadEndpoint').length === 1,
      () => objectsOf(lab, 'WorkloadEndpoint'),
    );
    await checkFindsNothing(lab);
  });
});

/** What a reboot takes of the node besides its pods. */
async function forgetKernelState(node: LabNode): Promise<void> {
  await node.exec('nft', 'flush', 'ruleset');
  await node.exec('ipset', 'destroy');
  for (const family of ['-4', '-6']) await node.exec('ip', family, 'route', 'flush', 'proto', '80');
  await node.exec('sysctl', '-qw', 'net.ipv4.ip_forward=0', 'net.ipv6.conf.all.forwarding=0');
  rmSync(node.bpffs, { recursive: true, force: true });
}
