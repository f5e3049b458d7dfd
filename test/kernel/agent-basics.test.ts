/** Two nodes, real agents, pods wired by the real CNI executable: who reaches whom, seen as whom, and what a DEL leaves. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { isDeepStrictEqual } from 'node:util';
import { addressOf, dataplanes, eventually, families, startAgentLab, type FamilyRow } from '#test/lab/agent-lab.ts';
import { addressesInUse, inUseBecomes, objectsOf } from '#test/lab/cluster-view.ts';
import { must } from '#test/lab/exec.ts';
import type { Lab } from '#test/lab/lab.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import { snapshotOf } from '#test/lab/node-snapshot.ts';
import type { Peer } from '#test/lab/peer-client.ts';

/** Long enough for an answer on a busy machine, short enough to wait for none. */
const silenceMs = 400;

describe.each(dataplanes)('agents in $dataplane mode', ({ bpfEnabled, dataplane }) => {
  let lab: Lab;
  let a1: LabPod;
  let a2: LabPod;
  let b1: LabPod;

  beforeAll(async () => {
    lab = await startAgentLab({
      bpfEnabled,
      felix: { workloadSourceSpoofing: 'Any', defaultEndpointToHostAction: 'Accept' },
    });
    const [first, second] = [lab.node(0), lab.node(1)];
    const spoofs = {
      'cni.projectcalico.org/allowedSourcePrefixes': JSON.stringify(families.map(({ nobody }) => nobody)),
    };
    a1 = await first.addPod('a1');
    a2 = await first.addPod('a2', { annotations: spoofs });
    b1 = await second.addPod('b1');
    await Promise.all([a1, a2, b1].map((pod) => pod.peer()));
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  it('are ready, with the dataplane that was asked for', async () => {
    for (const node of lab.nodes) {
      const {
        ready,
        dataplane: { active, wanted },
      } = await node.status();
      expect({ ready, active, wanted }).toEqual({ ready: true, active: dataplane, wanted: dataplane });
    }
  });

  describe.each(families)('$family', (family) => {
    const of = (owner: { readonly ipv4: string; readonly ipv6: string }) => addressOf(owner, family);
    const probe = async (from: Peer, to: string, source?: string) => ({
      tcp: await from.connect(to, undefined, source),
      udp: await from.datagram(to, undefined, source),
    });
    const both = (seenAs: string) => ({ tcp: { ok: true, seenAs }, udp: { ok: true, seenAs } });

    it('pods reach each other on one node and between nodes, each seen with its own address', async () => {
      for (const [from, to] of [
        [a1, a2],
        [a1, b1],
        [b1, a1],
        [b1, a2],
      ] as const) {
        expect({ from: from.name, ...(await probe(await from.peer(), of(to))) }).toEqual({
          from: from.name,
          ...both(of(from)),
        });
      }
    });

    it('a pod reaches its node with its own address, and the node reaches its pods and those of other nodes', async () => {
      const [first, second] = [lab.node(0), lab.node(1)];
      await first.peer();
      expect(await probe(await a1.peer(), of(first))).toEqual(both(of(a1)));
      expect(await probe(await first.peer(), of(a1))).toEqual(both(of(first)));
      expect(await probe(await first.peer(), of(b1))).toEqual(both(of(first)));
      await second.peer();
      expect(await probe(await second.peer(), of(a1))).toEqual(both(of(second)));
    });

    it("outside the cluster a pod is seen with its node's address", async () => {
      await lab.outside();
      const outside = family.version === 4 ? lab.outsideAddresses.ipv4 : lab.outsideAddresses.ipv6;
      expect(await probe(await a1.peer(), outside)).toEqual(both(of(lab.node(0))));
      expect(await probe(await b1.peer(), outside)).toEqual(both(of(lab.node(1))));
    });

    it('what a pod sends from another address arrives nowhere', async () => {
      const peer = await a1.peer();
      const tries = [
        { source: family.stranger, targets: [a2, b1] },
        { source: of(a2), targets: [b1] },
        { source: of(b1), targets: [a2] },
      ];
      for (const { source, targets } of tries) {
        await addAddress(a1, source, family);
        try {
          for (const target of targets) {
            const before = (await (await target.peer()).heard())[source] ?? 0;
            const answers = await Promise.all([
              peer.connect(of(target), silenceMs, source),
              peer.datagram(of(target), silenceMs, source),
            ]);
            const heard = (await (await target.peer()).heard())[source] ?? 0;
            expect({ to: target.name, source, answers: answers.map(({ ok }) => ok), heard }).toEqual({
              to: target.name,
              source,
              answers: [false, false],
              heard: before,
            });
          }
        } finally {
          await delAddress(a1, source, family);
        }
      }
    });

    it('the same packets arrive from a pod that may use the address', async () => {
      await addAddress(a2, family.nobody, family);
      try {
        const source = family.nobody;
        await (await a2.peer()).datagram(of(a1), silenceMs, source);
        await (await a2.peer()).datagram(of(b1), silenceMs, source);
        for (const target of [a1, b1]) {
          const heard = async () => (await (await target.peer()).heard())[source] ?? 0;
          await eventually(
            async () => (await heard()) > 0,
            () => `${target.name} never heard ${source}`,
          );
        }
      } finally {
        await delAddress(a2, family.nobody, family);
      }
    });
  });

  it('DEL leaves nothing of a pod: kernel, maps, state dir, datastore', async () => {
    const node = lab.node(0);
    const cluster = () => objectsOf(lab, 'WorkloadEndpoint', 'IPAMHandle').toSorted();
    await eventually(() => ['a1', 'a2', 'b1'].every((pod) => cluster().some((file) => file.includes(pod))), cluster);
    await inUseBecomes(lab, 6);
    const [snapshot, files, usage] = [await snapshotOf(node), cluster(), await addressesInUse(lab)];

    const pod = await node.addPod('short-lived');
    await (await pod.peer()).connect(a1.ipv4);
    await (await pod.peer()).connect(a1.ipv6);
    await eventually(() => cluster().some((file) => file.includes('short')), cluster);
    const during = await snapshotOf(node);
    for (const kind of [
      'links',
      'routes v4',
      'routes v6',
      'neighbours',
      'state dir',
      ...(bpfEnabled ? ['BPF map elements', 'qdiscs'] : ['ipsets']),
    ]) {
      expect({ kind, changed: during[kind]?.join() !== snapshot[kind]?.join() }).toEqual({ kind, changed: true });
    }
    await inUseBecomes(lab, usage + 2);
    await pod.del();
    await pod.del(); // A runtime may ask twice.

    await inUseBecomes(lab, usage);
    await eventually(
      () => cluster().join() === files.join(),
      () => [files, cluster()],
    );
    let after = await snapshotOf(node);
    await eventually(
      async () => isDeepStrictEqual((after = await snapshotOf(node)), snapshot),
      () => expect(after).toEqual(snapshot),
    );
    expect((await node.endpoints()).map(({ pod: name }) => name)).toEqual(['a1', 'a2']);
    await pod.destroy();
  });
});

async function addAddress(pod: LabPod, address: string, { version }: FamilyRow): Promise<void> {
  const bits = version === 4 ? ['32'] : ['128'];
  await must(
    'ip',
    '-n',
    pod.netns,
    'addr',
    'add',
    `${address}/${bits[0]}`,
    'dev',
    'eth0',
    ...(version === 6 ? ['nodad'] : []),
  );
}

async function delAddress(pod: LabPod, address: string, { version }: FamilyRow): Promise<void> {
  await must('ip', '-n', pod.netns, 'addr', 'del', `${address}/${version === 4 ? 32 : 128}`, 'dev', 'eth0');
}
