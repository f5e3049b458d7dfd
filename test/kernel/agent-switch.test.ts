/** `bpfEnabled` flips running agents from one dataplane to the other, under traffic. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { isDeepStrictEqual } from 'node:util';
import { dataplanes, eventually, saysInLog, startAgentLab } from '#test/lab/agent-lab.ts';
import type { Lab } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import { settledSnapshotOf, snapshotOf } from '#test/lab/node-snapshot.ts';
import { Traffic } from '#test/lab/traffic.ts';

const [iptables, ebpf] = dataplanes;
const flips = 10;

describe('the bpfEnabled field', () => {
  let lab: Lab;
  let from: LabPod;
  let targets: readonly LabPod[];

  beforeAll(async () => {
    lab = await startAgentLab({ bpfEnabled: false });
    from = await lab.node(0).addPod('from');
    targets = [await lab.node(0).addPod('near'), await lab.node(1).addPod('far')];
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  const becomes = (node: LabNode, wanted: string) =>
    node.waitFor(({ ready, dataplane }) => ready && dataplane.active === wanted && dataplane.wanted === wanted);
  const flipTo = async ({ dataplane, bpfEnabled }: (typeof dataplanes)[number]) => {
    lab.setBpfEnabled(bpfEnabled);
    await Promise.all(lab.nodes.map((node) => becomes(node, dataplane)));
  };

  it(`flips running agents ${flips} times: no connection ends, no forged packet passes, new pods work`, async () => {
    const traffic = await Traffic.start(from, targets);
    for (let flip = 1; flip <= flips; flip++) {
      const to = flip % 2 === 1 ? ebpf : iptables;
      const flipping = flipTo(to);
      const pod = await lab.node(flip % lab.nodes.length).addPod(`new${flip}`);
      await flipping;
      const peer = await pod.peer();
      for (const target of [from, ...targets]) {
        for (const address of target.addresses)
          expect({ flip, address, ...(await peer.connect(address)) }).toMatchObject({ ok: true });
      }
      await pod.del();
      await pod.destroy();
    }
    const report = await traffic.stop();
    process.stdout.write(`flips: longest stall ${report.longestStallMs} ms, ${report.forged.sent} forged packets\n`);
    const lost = Object.entries(report.streams).map(([name, { sent, answered, failure }]) => ({
      name,
      lost: sent - answered,
      failure,
    }));
    process.stdout.write(`flips: lost ${lost.map((stream) => `${stream.name} ${stream.lost}`).join(', ')}\n`);
    expect(lost.filter(({ failure }) => failure !== null)).toEqual([]);
    expect(lost.filter((stream) => stream.name.includes('tcp') && stream.lost > 0)).toEqual([]);
    // The kernel drops what passes a device in the moment in which a clsact is put on it or taken off (dev_deactivate).
    expect(Object.entries(report.streams).filter(([, { sent, answered }]) => answered < sent * 0.9)).toEqual([]);
    expect(report.forged.sent).toBeGreaterThan(1_000);
    expect(report.forged.heard).toBe(0);
  }, 600_000);

  it('leaves nothing of the other dataplane behind', async () => {
    await flipTo(iptables);
    // A dataplane is active before the other one has been removed.
    const before = await settledSnapshotOf(
      lab.node(0),
      (now) =>
        now['bpf pins']?.length === 0 &&
        now['BPF programs']?.length === 0 &&
        !now['qdiscs']?.some((line) => line.includes('clsact')),
    );
    expect(before['iptables-nft']?.join('\n')).toContain('cali-PREROUTING');

    await flipTo(ebpf);
    const leftovers = async () => {
      const snapshot = await snapshotOf(lab.node(0));
      return ['iptables-nft', 'ip6tables-nft', 'iptables-legacy', 'ip6tables-legacy', 'ipsets'].flatMap(
        (kind) => snapshot[kind]?.filter((line) => /wl-src|cali-(PREROUTING|FORWARD|wl-link-local)/.test(line)) ?? [],
      );
    };
    await eventually(async () => (await leftovers()).length === 0, leftovers);
    const during = await snapshotOf(lab.node(0));
    expect(during['qdiscs']?.filter((line) => line.includes('clsact')).length).toBe(2);
    expect(during['BPF programs']?.length).toBeGreaterThanOrEqual(4);

    await flipTo(iptables);
    // The state dir's journal may have been compacted meanwhile; what is programmed is the same.
    const { 'state dir': _, ...expected } = before;
    const present = async () => {
      const { 'state dir': __, ...now } = await snapshotOf(lab.node(0));
      return now;
    };
    let after = await present();
    await eventually(
      async () => isDeepStrictEqual((after = await present()), expected),
      () => expect(after).toEqual(expected),
    );
  });

  it('is overruled by FELIX_BPFENABLED, and status says so', async () => {
    const node = lab.node(0);
    await node.stopAgent();
    await node.startAgent({ env: { FELIX_BPFENABLED: 'true' } });
    await becomes(node, 'ebpf');
    expect((await node.status()).configuration.overriddenByEnvironment).toContainEqual({
      field: 'bpfEnabled',
      variable: 'FELIX_BPFENABLED',
      value: 'true',
    });
    const logged = node.log().length;
    lab.setBpfEnabled(true);
    lab.setBpfEnabled(false);
    await becomes(lab.node(1), 'iptables');
    const { stdout } = await node.tortie('status');
    expect(stdout).toMatch(/dataplane +ebpf$/m);
    expect(stdout).toMatch(/bpfEnabled is true because FELIX_BPFENABLED is set/);
    expect(node.log().slice(logged)).not.toContain('"to":"iptables"');
    expect(await (await from.peer()).connect(targets[1]?.ipv4 ?? '')).toMatchObject({ ok: true });

    await node.stopAgent();
    await node.startAgent();
    await becomes(node, 'iptables');
    await saysInLog(node, 'dataplane: active', logged);
    expect(await (await from.peer()).connect(targets[1]?.ipv6 ?? '')).toMatchObject({ ok: true });
  });
});
