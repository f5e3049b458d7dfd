/** Addresses from several agents over one datastore: none twice, and what is borrowed is routed. */
import { describe, expect, it } from '@jest/globals';
import { dataplanes, eventually, startAgentLab } from '#test/lab/agent-lab.ts';
import {
  addressesInUse,
  assertNoAddressTwice,
  checkFindsNothing,
  inUseBecomes,
  ipamUsageOf,
} from '#test/lab/cluster-view.ts';
import { Lab } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';

const perNode = 60;
/** ADDs under way on a node at any time, as a busy runtime has them. */
const atOnce = 10;

describe('addresses', () => {
  it(`for ${2 * perNode} containers on two nodes at once, from blocks of 16: no address twice, and all come back`, async () => {
    await using lab = await startAgentLab({ bpfEnabled: false, blockSize: 28 });
    const containers = (await Promise.all(lab.nodes.map((node) => addMany(node, perNode)))).flat();
    assertNoAddressTwice(containers);
    await inUseBecomes(lab, containers.length * 2);
    const blocks = (await ipamUsageOf(lab)).pools.find(({ name }) => name === 'v4')?.blocks ?? [];
    expect(blocks.length).toBeGreaterThanOrEqual((2 * perNode) / 16);
    await checkFindsNothing(lab);
    await inTurns(containers, atOnce * 2, async (pod) => {
      await pod.del();
      await pod.destroy();
    });
    await inUseBecomes(lab, 0);
    await checkFindsNothing(lab);
  }, 600_000);

  it.each(dataplanes)(
    "are borrowed from another node's block when there is no other: routed on both nodes, $dataplane",
    async ({ bpfEnabled }) => {
      await using lab = await Lab.create({ nodes: 2 });
      lab.configure({ bpfEnabled });
      // One block per family for two nodes.
      lab.apply(
        'pools',
        [
          { name: 'v4', cidr: '10.65.0.0/28', blockSize: 28 },
          { name: 'v6', cidr: 'fd65::/124', blockSize: 124 },
        ].map(({ name, cidr, blockSize }) => ({
          apiVersion: 'projectcalico.org/v3',
          kind: 'IPPool',
          metadata: { name },
          spec: { cidr, blockSize, natOutgoing: true },
        })),
      );
      const [owner, borrower] = [lab.node(0), lab.node(1)];
      await owner.startAgent();
      const home = await owner.addPod('home');
      await borrower.startAgent();
      const guest = await borrower.addPod('guest');
      assertNoAddressTwice([home, guest]);
      await inUseBecomes(lab, 4);
      expect(
        (await ipamUsageOf(lab)).borrowed.map(({ address, node }) => ({ address, node })).toSorted(byAddress),
      ).toEqual(guest.addresses.map((address) => ({ address, node: borrower.name })).toSorted(byAddress));

      const routeOf = (address: string) =>
        owner.exec('ip', address.includes(':') ? '-6' : '-4', 'route', 'show', address);
      await eventually(
        async () => (await routeOf(guest.ipv4)).includes(`via ${borrower.ipv4}`),
        () => owner.logTail(),
      );
      await eventually(
        async () => (await routeOf(guest.ipv6)).includes(`via ${borrower.ipv6}`),
        () => owner.logTail(),
      );
      await Promise.all([home.peer(), guest.peer()]);
      for (const [from, to] of [
        [home, guest],
        [guest, home],
      ] as const) {
        const peer = await from.peer();
        expect(await peer.connect(to.ipv4)).toEqual({ ok: true, seenAs: from.ipv4 });
        expect(await peer.connect(to.ipv6)).toEqual({ ok: true, seenAs: from.ipv6 });
      }
      const { ipv4, ipv6 } = guest;
      await guest.del();
      await inUseBecomes(lab, 2);
      for (const address of [ipv4, ipv6])
        await eventually(
          async () => (await routeOf(address)) === '',
          () => routeOf(address),
        );
      expect(await addressesInUse(lab)).toBe(2);
      await checkFindsNothing(lab);
    },
  );
});

async function addMany(node: LabNode, count: number): Promise<readonly LabPod[]> {
  const added: LabPod[] = [];
  await inTurns(
    Array.from({ length: count }, (_, index) => index),
    atOnce,
    async (index) => {
      added.push(await node.addPod(`c${index}`, { isPod: false }));
    },
  );
  return added;
}

async function inTurns<T>(items: readonly T[], width: number, action: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values();
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (const item of rest) await action(item);
    }),
  );
}

function byAddress(a: { readonly address: string }, b: { readonly address: string }): number {
  return a.address < b.address ? -1 : 1;
}
