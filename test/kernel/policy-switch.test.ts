/** Agents go from one dataplane to the other, and are killed under way: nothing denied passes, and what is allowed goes on. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { dataplanes, eventually, families, addressOf, seededRandom, soakMs } from '#test/lab/agent-lab.ts';
import { DeniedPackets, type Denial } from '#test/lab/denied-packets.ts';
import { must } from '#test/lab/exec.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import { snapshotOf } from '#test/lab/node-snapshot.ts';
import { Traffic } from '#test/lab/traffic.ts';
import { combinations } from '../contract/combinations.ts';
import { networkPolicy } from '../contract/objects.ts';
import { PolicyLab } from './policy-lab.ts';

const [iptables, ebpf] = dataplanes;
/** Flips go on until there were so many, and for so long, in ms. Soaked: a hundred at least. */
const enough = { flips: process.env['SOAK_SECONDS'] === undefined ? 10 : 100, ms: soakMs(40) } as const;
type Row = (typeof dataplanes)[number];

const policies = [
  networkPolicy('served', {
    selector: "role == 'served'",
    types: ['Ingress'],
    ingress: [{ action: 'Allow', source: { selector: "role == 'friend'" } }],
  }),
  networkPolicy('muzzled', {
    selector: "role == 'muzzled'",
    types: ['Egress'],
    egress: [{ action: 'Allow', destination: { nets: ['192.0.2.0/24', '2001:db8::/64'] } }],
  }),
];

/**
 * ```
 * node1: friend  outcast   near (served)  muzzled  open        outside, by natOutgoing
 * node2:         stranger  far  (served)           wide open
 * ```
 * Nobody but the friend may reach the served (ingress), the muzzled may reach nobody (egress).
 */
describe('a change of dataplane under traffic', () => {
  let bed: PolicyLab;
  let open: readonly LabPod[];
  let denials: readonly Denial[];
  let denied: DeniedPackets;

  beforeAll(async () => {
    const [start] = combinations;
    if (start === undefined) throw new Error('there is nothing to run');
    bed = await PolicyLab.start(start, policies);
    const { lab } = bed;
    const muzzled = await lab.node(0).addPod('muzzled', { labels: { role: 'muzzled' } });
    open = [await lab.node(0).addPod('open'), await lab.node(1).addPod('wide')];
    await Promise.all(open.map((pod) => pod.peer()));
    for (const pod of bed.served) {
      const node = lab.nodes.find(({ name }) => name === pod.node.name);
      await must('ip', '-n', lab.fabric, 'route', 'add', `${pod.ipv4}/32`, 'via', node?.ipv4 ?? '');
      await must('ip', '-n', lab.fabric, '-6', 'route', 'add', `${pod.ipv6}/128`, 'via', node?.ipv6 ?? '');
    }
    const outsider = { name: 'outside', netns: lab.fabric, ...lab.outsideAddresses };
    denials = [...[...bed.denied, outsider].map((from) => ({ from, to: bed.served })), { from: muzzled, to: open }];
    await eventually(
      async () => (await bed.wrong()).length === 0,
      () => bed.wrong(),
    );
    denied = await DeniedPackets.start(denials);
  });
  afterAll(async () => {
    await (denied as DeniedPackets | undefined)?.[Symbol.asyncDispose]();
    await (bed as PolicyLab | undefined)?.[Symbol.asyncDispose]();
  });

  const isAt = (node: LabNode, { dataplane }: Row) =>
    node.waitFor(({ ready, dataplane: { active, wanted } }) => ready && active === dataplane && wanted === dataplane);
  const flipTo = async (row: Row) => {
    bed.lab.setBpfEnabled(row.bpfEnabled);
    await Promise.all(bed.lab.nodes.map((node) => isAt(node, row)));
  };

  /** New connections of the friend's, one after the other, to everybody it may reach; `stop` says how many, and what didn't come through. */
  function newConnections(): { stop: () => Promise<{ readonly made: number; readonly failed: readonly string[] }> } {
    let isOver = false;
    let made = 0;
    const failed: string[] = [];
    const run = (async () => {
      const peer = await bed.friend.peer();
      while (!isOver) {
        for (const family of families) {
          for (const to of [...bed.served, ...open, bed.lab.outsideAddresses]) {
            const address = addressOf(to, family);
            const { verdict } = await peer.probe(address, { timeoutMs: 30_000 });
            made += 1;
            if (verdict !== 'reaches') failed.push(`${address}: ${verdict}`);
          }
        }
        await sleep(20);
      }
    })();
    return {
      stop: async () => {
        isOver = true;
        await run;
        return { made, failed };
      },
    };
  }

  /** What established flows and new ones saw; checks all that must be so of them, and that nothing denied was heard. */
  async function during(what: string, doings: () => Promise<Readonly<Record<string, number>>>): Promise<void> {
    await bed.lab.outside();
    const peer = await bed.friend.peer();
    const traffic = await Traffic.start(bed.friend, bed.served);
    const toOutside = await Promise.all(
      families.flatMap((family) =>
        (['tcp', 'udp'] as const).map(async (protocol) => ({
          name: `friend > outside ${protocol} ${family.family}`,
          stream: await peer.stream(addressOf(bed.lab.outsideAddresses, family), 10, { protocol }),
        })),
      ),
    );
    const connections = newConnections();
    const figures = await doings();
    const { made, failed } = await connections.stop();
    const report = await traffic.stop();
    const streams = {
      ...report.streams,
      ...Object.fromEntries(
        await Promise.all(toOutside.map(async ({ name, stream }) => [name, await stream.stop()] as const)),
      ),
    };
    const lost = Object.entries(streams).map(([name, { sent, answered, failure }]) => ({
      name,
      sent,
      lost: sent - answered,
      failure,
    }));
    const lostOf = (protocol: string) =>
      lost.filter(({ name }) => name.includes(protocol)).reduce((sum, { lost: count }) => sum + count, 0);
    const sent = lost.reduce((sum, stream) => sum + stream.sent, 0);
    process.stdout.write(
      `${what}: ${JSON.stringify({ ...figures, sent, lostTcp: lostOf('tcp'), lostUdp: lostOf('udp'), longestStallMs: report.longestStallMs, newConnections: made })}\n`,
    );
    expect(await denied.heard()).toEqual({});
    expect(report.forged.heard).toBe(0);
    expect(failed.slice(0, 5)).toEqual([]);
    expect(lost.filter(({ failure }) => failure !== null)).toEqual([]);
    expect(lost.filter((stream) => stream.name.includes('tcp') && stream.lost > 0)).toEqual([]);
    // The kernel drops what passes a device in the moment in which a clsact is put on it or taken off (dev_deactivate).
    expect(lost.filter((stream) => stream.lost > stream.sent * 0.1)).toEqual([]);
  }

  it(
    'again and again: no flow dies, new ones are made, nothing denied is heard',
    async () => {
      await during('flips', async () => {
        const end = Date.now() + enough.ms;
        const figures = { flips: 0 };
        for (; figures.flips < enough.flips || Date.now() < end; figures.flips++) {
          await flipTo(figures.flips % 2 === 0 ? ebpf : iptables);
          // Which flip it was: the check behind all of them says only that something was heard.
          const heard = await denied.heard();
          expect({ flip: figures.flips, heard }).toEqual({ flip: figures.flips, heard: {} });
        }
        return figures;
      });
      expect(await bed.wrong()).toEqual([]);
    },
    enough.flips * 20_000 + enough.ms + 300_000,
  );

  it(
    'and agents killed in the middle of it: the next ones finish it, and leave nothing of the other dataplane',
    async () => {
      const random = seededRandom('kills in a change of dataplane');
      await during('kills', async () => {
        const end = Date.now() + soakMs(0);
        const figures = { kills: 0, changes: 0 };
        for (let last: Row = iptables; figures.changes < 4 || Date.now() < end; figures.changes++) {
          last = last === iptables ? ebpf : iptables;
          bed.lab.setBpfEnabled(last.bpfEnabled);
          for (let kills = 1 + Math.floor(random() * 3); kills > 0; kills--) {
            await sleep(random() * 900);
            const node = bed.lab.node(random() < 0.5 ? 0 : 1);
            await node.killAgent();
            figures.kills += 1;
            if (random() < 0.3) await sleep(random() * 300);
            await node.startAgent({ wait: false });
          }
          await Promise.all(bed.lab.nodes.map((node) => isAt(node, last)));
          for (const node of bed.lab.nodes) {
            await eventually(
              async () => (await leftovers(node, last)).length === 0,
              async () => `${node.name}, ${last.dataplane}: ${(await leftovers(node, last)).join('\n')}`,
            );
          }
        }
        return figures;
      });
      expect(await bed.wrong()).toEqual([]);
    },
    600_000 + soakMs(0),
  );

  it('and all the time packets were sent that must not pass', async () => {
    const sent = await denied.stop();
    process.stdout.write(`denied packets sent: ${JSON.stringify(sent)}\n`);
    for (const count of Object.values(sent)) expect(count).toBeGreaterThan(2_000);
    expect(await denied.heard()).toEqual({});
  });

  it('the count would have told: what policy allows is heard by it', async () => {
    await using allowed = await DeniedPackets.start([{ from: bed.friend, to: bed.served.slice(0, 1) }]);
    await eventually(
      async () => Object.values((await allowed.heard())['near'] ?? { none: 0 }).every((count) => count > 10),
      () => allowed.heard(),
    );
  });
});

/** What is there of the dataplane that isn't in force. */
async function leftovers(node: LabNode, { bpfEnabled }: Row): Promise<readonly string[]> {
  const snapshot = await snapshotOf(node);
  const lines = (...names: string[]) => names.flatMap((name) => snapshot[name] ?? []);
  const rules = lines('iptables-nft', 'ip6tables-nft', 'iptables-legacy', 'ip6tables-legacy', 'ipsets');
  return bpfEnabled
    ? rules.filter((line) => /wl-src|cali-(PREROUTING|FORWARD|wl-link-local)/.test(line))
    : [
        ...lines('bpf pins'),
        ...lines('BPF programs'),
        ...lines('qdiscs').filter((line) => line.includes('clsact')),
        ...rules.filter((line) => line.includes('tortie')),
      ];
}
