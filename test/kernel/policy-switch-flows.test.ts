/** A change of dataplane carries what is known of flows: one that policy would not let begin again goes on, in both directions of the change. */
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import type { ConntrackReport } from '#agent/conntrack/conntrack-report.ts';
import { addressOf, dataplanes, eventually, families } from '#test/lab/agent-lab.ts';
import { must } from '#test/lab/exec.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import { peerPort } from '#test/lab/peer.ts';
import type { RunningStream } from '#test/lab/peer-client.ts';
import { combinations } from '../contract/combinations.ts';
import { networkPolicy } from '../contract/objects.ts';
import { PolicyLab } from './policy-lab.ts';

const [iptables, ebpf] = dataplanes;
type Row = (typeof dataplanes)[number];

const protocols = ['tcp', 'udp'] as const;
const served = (ingress: readonly object[]) =>
  networkPolicy('served', { selector: "role == 'served'", types: ['Ingress'], ingress });
const friends = { action: 'Allow', source: { selector: "role == 'friend'" } };
/** A message on each connection, so often, in ms. */
const everyMs = 10;
/** Answers after a change by which a flow goes on. */
const someAnswers = 20;
/** In the friend's namespace: whoever tells it that nobody is there refuses a flow, which a socket of datagrams to anybody doesn't hear. */
const refusalCounter = `table inet refused {
  counter refusals { }
  chain heard {
    type filter hook prerouting priority -400;
    icmp type destination-unreachable counter name refusals
    icmpv6 type destination-unreachable counter name refusals
  }
}`;
/** How long a packet may take that must not come, in ms. */
const silenceMs = 300;

interface Running {
  /** `far udp IPv6`. */
  readonly name: string;
  readonly to: LabPod;
  readonly sourcePort: number;
  readonly stream: RunningStream;
}

/** ```
 * node1: friend > near (served)
 * node2:          far  (served)
 * ``` */
let bed: PolicyLab;
const running: Running[] = [];

beforeAll(async () => {
  const [start] = combinations;
  if (start === undefined) throw new Error('there is nothing to run');
  bed = await PolicyLab.start(start, [served([friends])]);
  await eventually(
    async () => (await bed.wrong()).length === 0,
    () => bed.wrong(),
  );
  await inFriend('nft', refusalCounter);
  const peer = await bed.friend.peer();
  for (const to of bed.served) {
    for (const family of families) {
      for (const protocol of protocols) {
        const sourcePort = 31_000 + running.length; // Below those that the kernel chooses, above those of probes.
        const stream = await peer.stream(addressOf(to, family), everyMs, { protocol, sourcePort });
        running.push({ name: `${to.name} ${protocol} ${family.family}`, to, sourcePort, stream });
      }
    }
  }
  await allGoOn();
  bed.lab.apply('policies', [served([])]);
  await eventually(
    async () => (await reached()).length === 0,
    () => reached(),
  );
});
afterAll(() => (bed as PolicyLab | undefined)?.[Symbol.asyncDispose]());

const inFriend = (...command: string[]): Promise<string> =>
  must('nsenter', `--net=/run/netns/${bed.friend.netns}`, ...command);

/** Each flow has so many answers more than now. */
async function allGoOn(): Promise<void> {
  const answers = () => Promise.all(running.map(async ({ stream }) => (await stream.progress()).answered));
  const before = await answers();
  const silent = async () => {
    const now = await answers();
    return running.flatMap(({ name }, i) => ((now[i] ?? 0) < (before[i] ?? 0) + someAnswers ? [name] : []));
  };
  await eventually(async () => (await silent()).length === 0, silent);
}

/** Whom new flows of the friend's reach. */
async function reached(): Promise<readonly string[]> {
  const peer = await bed.friend.peer();
  const answers = await Promise.all(
    bed.served.flatMap((to) =>
      families.flatMap((family) =>
        protocols.map(async (protocol) => {
          const { verdict } = await peer.probe(addressOf(to, family), { protocol, timeoutMs: silenceMs });
          return verdict === 'nothing' ? [] : [`${to.name} ${protocol} ${family.family}: ${verdict}`];
        }),
      ),
    ),
  );
  return answers.flat();
}

/** What a node says of the flows that run: those of which its dataplane remembers nothing, or no answer. */
async function forgotten(node: LabNode, { dataplane }: Row): Promise<readonly string[]> {
  const lists = await Promise.all(
    bed.friend.addresses.map(async (address) => {
      const { stdout } = await node.tortie('conntrack', '--address', address, '--port', String(peerPort), '-o', 'json');
      return JSON.parse(stdout) as ConntrackReport;
    }),
  );
  expect(lists.map((list) => list.dataplane)).toEqual([dataplane, dataplane]);
  const known = lists.flatMap(({ flows }) =>
    flows.filter(({ state }) => state === 'established').map(({ asked }) => asked.sourcePort),
  );
  const here = running.filter(({ to }) => node === bed.lab.node(0) || to.node.name === node.name);
  expect(here.length).toBeGreaterThan(0);
  return here.filter(({ sourcePort }) => !known.includes(sourcePort)).map(({ name }) => name);
}

it.each([
  ['eBPF comes', ebpf],
  ['iptables comes back', iptables],
  ['eBPF comes again', ebpf],
  ['iptables comes back again', iptables],
] as const)(
  '%s: flows that were let in before go on, TCP and UDP; none begins',
  async (_, row) => {
    bed.lab.setBpfEnabled(row.bpfEnabled);
    await Promise.all(
      bed.lab.nodes.map((node) =>
        node.waitFor(
          ({ ready, dataplane: { active, wanted } }) => ready && active === wanted && active === row.dataplane,
        ),
      ),
    );
    await allGoOn();
    for (const node of bed.lab.nodes) {
      await eventually(
        async () => (await forgotten(node, row)).length === 0,
        () => forgotten(node, row),
      );
    }
    expect(await reached()).toEqual([]);
  },
  300_000,
);

it('nothing of them was refused, TCP has lost nothing, UDP a datagram here and there', async () => {
  const reports = await Promise.all(running.map(async ({ name, stream }) => ({ name, ...(await stream.stop()) })));
  const lost = reports.map(({ name, sent, answered }) => `${name} ${sent - answered} of ${sent}`);
  process.stdout.write(`flows under four changes of dataplane, lost: ${lost.join(', ')}\n`);
  expect(reports.filter(({ failure }) => failure !== null)).toEqual([]);
  expect(reports.filter(({ name, sent, answered }) => name.includes('tcp') && answered < sent)).toEqual([]);
  // The kernel drops what passes a device in the moment in which a clsact is put on it or taken off (dev_deactivate).
  expect(reports.filter(({ sent, answered }) => answered < sent * 0.9)).toEqual([]);
  const counters = await inFriend('nft', 'list', 'counters');
  expect(counters).toMatch(/counter refusals \{\s*packets 0 bytes 0/);
});
