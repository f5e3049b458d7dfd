/**
 * Between two nodes and to the world in eBPF mode, past the nodes' stacks: counters in FORWARD, which see what goes by the stack, see nothing.
 *
 *     near, web [node1] uplink --- fabric (outside) --- uplink [node2] far
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { eventually, families, addressOf, startAgentLab } from '#test/lab/agent-lab.ts';
import { must } from '#test/lab/exec.ts';
import type { Lab } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import { Peer, type RunningStream } from '#test/lab/peer-client.ts';
import { peerPort } from '#test/lab/peer.ts';
import { clusterIpService, endpointSlices } from '../contract/objects.ts';

const protocols = ['tcp', 'udp'] as const;
const rows = families.flatMap((family) => protocols.map((protocol) => ({ ...family, protocol, row: family })));
const everyMs = 5;

let lab: Lab;
let one: LabNode;
let two: LabNode;
let near: LabPod;
let web: LabPod;
let far: LabPod;

beforeAll(async () => {
  lab = await startAgentLab({ bpfEnabled: true });
  [one, two] = [lab.node(0), lab.node(1)];
  near = await one.addPod('near');
  web = await one.addPod('web');
  far = await two.addPod('far');
  const ports = [
    { name: 'tcp', port: 80, protocol: 'TCP' },
    { name: 'udp', port: 80, protocol: 'UDP' },
  ];
  const targets = ports.map((port) => ({ ...port, port: peerPort }));
  const books = [
    { web: web.ipv4, far: far.ipv4 },
    { web: web.ipv6, far: far.ipv6 },
  ] as const;
  lab.apply('services', [
    ...(['web', 'far'] as const).flatMap((name, index) => [
      clusterIpService(name, [`10.96.0.${77 + index}`, `fd96::${77 + index}`], ports),
      ...endpointSlices(name, books, [name], targets),
    ]),
  ]);
  await Promise.all([near, web, far].map((pod) => pod.peer()));
  await lab.outside();
});
afterAll(() => lab?.[Symbol.asyncDispose]());

const inNode = (node: LabNode, ...command: string[]) => must('nsenter', `--net=${node.netnsPath}`, ...command);

/** Packets of these ports that pods sent or got by the stacks of both nodes while `work` went on. */
async function byStacks(work: () => Promise<void>): Promise<number> {
  const tools = ['iptables-nft', 'ip6tables-nft'];
  const rules = protocols.flatMap((protocol) =>
    ['--sport', '--dport'].map((port) => ['FORWARD', '-p', protocol, port, String(peerPort)]),
  );
  const everywhere = async (verb: '-I' | '-D') => {
    for (const node of lab.nodes)
      for (const tool of tools) for (const rule of rules) await inNode(node, tool, '-w', '-t', 'mangle', verb, ...rule);
  };
  await everywhere('-I');
  try {
    await work();
    let packets = 0;
    for (const node of lab.nodes) {
      for (const tool of tools) {
        const said = await inNode(node, tool, '-w', '-t', 'mangle', '-L', 'FORWARD', '-nvx');
        for (const line of said.split('\n'))
          if (line.includes(`pt:${peerPort}`)) packets += Number(line.trim().split(/\s+/)[0]);
      }
    }
    return packets;
  } finally {
    await everywhere('-D');
  }
}

/** It goes on, and has done so since it began. */
async function goesOn(stream: RunningStream): Promise<void> {
  const { answered } = await stream.progress();
  await eventually(
    async () => (await stream.progress()).answered > answered + 20,
    () => stream.progress(),
  );
}

test('each node has its uplink, and says so', async () => {
  for (const node of lab.nodes) {
    const { dataplane } = await node.waitFor(() => true);
    expect(dataplane).toMatchObject({ active: 'ebpf', failures: [], notes: [] });
    expect(dataplane.hostDevices).toMatchObject([{ device: 'uplink', hostEndpoint: null, isUplink: true }]);
    expect((await node.tortie('status')).stdout).toMatch(/^host device uplink: uplink, by /m);
  }
});

describe.each(rows)('$protocol, $family', ({ protocol, row }) => {
  test('pods of two nodes reach each other past both stacks', async () => {
    const packets = await byStacks(async () => {
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        const outcome = await (await from.peer()).probe(addressOf(to, row), { protocol });
        expect(outcome).toMatchObject({ verdict: 'reaches' });
      }
      const stream = await (await near.peer()).stream(addressOf(far, row), everyMs, { protocol });
      await goesOn(stream);
      expect((await stream.stop()).failure).toBeNull();
    });
    expect(packets).toBe(0);
  });

  test("the world sees the node's address, past its stack", async () => {
    const packets = await byStacks(async () => {
      const outcome = await (await near.peer()).probe(addressOf(lab.outsideAddresses, row), { protocol });
      expect(outcome).toMatchObject({ verdict: 'reaches', seenAs: addressOf(one, row) });
    });
    expect(packets).toBe(0);
  });

  test.each([
    ['of its own', 'web', 0],
    ['of another node', 'far', 1],
  ] as const)("a node's process reaches a ClusterIP whose pod is %s", async (_, name, index) => {
    await using process = await Peer.start(one.netnsPath, [4711]);
    const address = row.version === 4 ? `10.96.0.${77 + index}` : `fd96::${77 + index}`;
    const outcome = await process.probe(address, { protocol, port: 80 });
    expect(outcome).toMatchObject({ verdict: 'reaches', answeredBy: { web, far }[name].netnsPath });
  });
});

/** One of each protocol and family from near to each of these. */
async function streams(
  ...targets: readonly { readonly ipv4: string; readonly ipv6: string }[]
): Promise<readonly RunningStream[]> {
  const peer = await near.peer();
  return await Promise.all(
    rows.flatMap(({ protocol, row }) => targets.map((to) => peer.stream(addressOf(to, row), everyMs, { protocol }))),
  );
}

test('what runs goes on past the stacks while the agent is killed and the next one starts', async () => {
  const running = await streams(far, lab.outsideAddresses);
  await Promise.all(running.map(goesOn));
  const packets = await byStacks(async () => {
    await one.killAgent();
    await Promise.all(running.map(goesOn));
    await one.startAgent();
    await one.waitFor(({ dataplane }) => dataplane.hostDevices.some(({ isUplink }) => isUplink));
    await Promise.all(running.map(goesOn));
  });
  const reports = await Promise.all(running.map((stream) => stream.stop()));
  expect(reports.map(({ failure }) => failure)).toEqual(reports.map(() => null));
  expect(packets).toBe(0);
});

test('between pods what runs goes on while the uplink is none any more and becomes one again', async () => {
  const running = await streams(far);
  await Promise.all(running.map(goesOn));
  const uplinksAre = (count: number) =>
    one.waitFor(({ dataplane }) => dataplane.hostDevices.filter(({ isUplink }) => isUplink).length === count);
  lab.configure({ bpfEnabled: true, bpfDataIfacePattern: '^nothing$' });
  const { dataplane } = await uplinksAre(0);
  expect(dataplane.notes).toEqual([expect.stringContaining('bpfDataIfacePattern (^nothing$)')]);
  await Promise.all(running.map(goesOn));
  lab.configure({ bpfEnabled: true });
  await uplinksAre(1);
  await Promise.all(running.map(goesOn));
  const reports = await Promise.all(running.map((stream) => stream.stop()));
  expect(reports.map(({ failure }) => failure)).toEqual(reports.map(() => null));
});

test('between pods connections live through the other dataplane and back; then new ones are past the stacks', async () => {
  const peer = await near.peer();
  const running = await streams(far);
  await Promise.all(running.map(goesOn));
  for (const kind of ['iptables', 'ebpf']) {
    lab.setBpfEnabled(kind === 'ebpf');
    await Promise.all(
      lab.nodes.map((node) => node.waitFor(({ dataplane, ready }) => ready && dataplane.active === kind)),
    );
    await Promise.all(running.map(goesOn));
  }
  const reports = await Promise.all(running.map((stream) => stream.stop()));
  expect(reports.map(({ failure }) => failure)).toEqual(reports.map(() => null));
  const packets = await byStacks(async () => {
    for (const { protocol, row } of rows)
      expect(await peer.probe(addressOf(far, row), { protocol })).toMatchObject({ verdict: 'reaches' });
  });
  expect(packets).toBe(0);
});
