/** What a user sees of flows, policy and Services on a node as it is in use: `tortie flows`, `services`, `explain`, `status`, metrics. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { join } from 'node:path';
import { askAgent, followAgent } from '#agent/admin/client.ts';
import type { FlowLine } from '#agent/flows/flow-stream.ts';
import type { Explanation } from '#agent/explain/explain.ts';
import type { EndpointPolicyReport } from '#agent/explain/policy-report.ts';
import type { ServicesReport } from '#agent/services/services-report.ts';
import { Jump } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { readU32, u32Key } from '#dataplanes/ebpf/keys.ts';
import { layoutVersion } from '#dataplanes/ebpf/programs.ts';
import { openPinnedMap } from '#native/bpf.ts';
import { endpointSlice } from '#test/contract/objects.ts';
import { addressOf, eventually, families, startAgentLab, type FamilyRow } from '#test/lab/agent-lab.ts';
import { must } from '#test/lab/exec.ts';
import type { Lab } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import { scrape } from './agent-http.ts';

type Flow = Extract<FlowLine, { type: 'flow' }>;

const guard = {
  apiVersion: 'projectcalico.org/v3',
  kind: 'NetworkPolicy',
  metadata: { name: 'guard', namespace: 'default' },
  spec: {
    selector: "app == 'server'",
    types: ['Ingress'],
    ingress: [
      { action: 'Deny', protocol: 'TCP', destination: { ports: [8081] } },
      { action: 'Allow', protocol: 'TCP', destination: { ports: [8080] } },
    ],
  },
};
const front = { IPv4: '10.96.0.10', IPv6: 'fd96::10' } as const;
const empty = '10.96.0.11';
const service = (name: string, addresses: readonly string[], more: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name },
  spec: { clusterIP: addresses[0], clusterIPs: addresses, ports: [{ name: 'http', port: 80 }], ...more },
});

/** A lab with a server under policy, a client, and Services. */
async function startLab(bpfEnabled: boolean): Promise<{ lab: Lab; client: LabPod; server: LabPod }> {
  // No comparison by interval puts back what a test takes away.
  const never = { iptablesRefreshInterval: '0s', ipsetsRefreshInterval: '0s', routeRefreshInterval: '0s' };
  const felix = { prometheusMetricsEnabled: true, ...never };
  const lab = await startAgentLab({ bpfEnabled, nodes: 1, felix });
  try {
    const node = lab.node(0);
    const client = await node.addPod('client', { labels: { app: 'client' } });
    const server = await node.addPod('server', { labels: { app: 'server' }, serves: [8080, 8081] });
    lab.apply('policy', [guard]);
    lab.apply('services', [
      service('web', [front.IPv4, front.IPv6], { sessionAffinity: 'ClientIP' }),
      service('none', [empty]),
      ...families.map((family) =>
        endpointSlice(
          `web-${family.version}`,
          'web',
          family.family,
          [{ addresses: [addressOf(server, family)] }],
          [{ name: 'http', port: 8080 }],
        ),
      ),
    ]);
    await eventually(
      async () => {
        const state = (await askAgent(node.runDir, '/state')) as { policies: object };
        return Object.keys(state.policies).length === 1;
      },
      () => 'policy is not there',
    );
    await node.waitFor(({ ready }) => ready);
    return { lab, client, server };
  } catch (error) {
    await lab[Symbol.asyncDispose]();
    throw error;
  }
}

describe('eBPF', () => {
  let lab: Lab;
  let node: LabNode;
  let client: LabPod;
  let server: LabPod;
  beforeAll(async () => {
    ({ lab, client, server } = await startLab(true));
    node = lab.node(0);
    await eventually(
      async () => ((await services()).services[1]?.frontends[0]?.backends?.length ?? 0) > 0,
      () => services(),
    );
    // The kernel is a moment behind. Nobody serves: who is let through is refused.
    await client.peer();
    const verdicts = async () => {
      const answers = families.flatMap((family) => [
        probe(addressOf(server, family), 8080),
        probe(addressOf(server, family), 8081),
        probe(front[family.family], 80),
      ]);
      return (await Promise.all(answers)).map(({ verdict }) => verdict).join();
    };
    const wanted = families.map(() => 'refused,nothing,refused').join();
    await eventually(async () => (await verdicts()) === wanted, verdicts);
  });
  afterAll(() => (lab as Lab | undefined)?.[Symbol.asyncDispose]());

  const services = async () => (await askAgent(node.runDir, '/services')) as ServicesReport;
  const explain = async (to: string, port: number, { version }: FamilyRow) =>
    (await askAgent(
      node.runDir,
      `/explain?${new URLSearchParams({ source: 'client', destination: to, protocol: 'tcp', port: String(port), family: String(version) }).toString()}`,
    )) as Explanation;

  /** The flows that are told while something is done, until there are so many. */
  async function told(query: string, count: number, deed: () => Promise<unknown>): Promise<readonly Flow[]> {
    const flows: Flow[] = [];
    let done: Promise<unknown> | undefined;
    for await (const item of followAgent(node.runDir, `/flows?${query}`)) {
      const line = item as FlowLine;
      if (line.type === 'begin') done = deed();
      if (line.type === 'flow') flows.push(line);
      if (flows.length === count) break;
    }
    await done;
    return flows;
  }
  const bpftool = async <Answer>(...args: string[]) => JSON.parse(await must('bpftool', '-j', ...args)) as Answer;
  /** Ids of what the filters of pods' devices go on with, for what pods send and for what they get. */
  const programsInForce = (): readonly number[] => {
    using jump = openPinnedMap(join(node.bpffs, layoutVersion, 'tortie_jump'));
    return [Jump.podOut, Jump.podIn].map((place) => readU32(jump?.get(u32Key(place)) ?? u32Key(0)));
  };
  const probe = async (to: string, port: number) => (await client.peer()).probe(to, { port, timeoutMs: 300 });

  describe.each(families)('$family', (family) => {
    it('flows names who speaks, and the rule that allows or refuses it', async () => {
      const [from, to] = [addressOf(client, family), addressOf(server, family)];
      const flows = await told(`pod=client&protocol=tcp&address=${to}`, 4, async () => {
        await probe(to, 8080);
        await probe(to, 8081);
      });
      const common = {
        family: family.version,
        source: { address: from, name: 'pod default/client' },
        destination: { address: to, name: 'pod default/server' },
      };
      const guarding = 'NetworkPolicy default/guard';
      expect(flows).toMatchObject([
        {
          ...common,
          direction: 'from-pod',
          verdict: 'passed',
          endpoint: 'pod default/client',
          rule: 'Profile kns.default egress 0',
        },
        {
          ...common,
          direction: 'to-pod',
          verdict: 'passed',
          endpoint: 'pod default/server',
          rule: `${guarding} ingress 1`,
          policy: guarding,
        },
        { ...common, direction: 'from-pod', verdict: 'passed' },
        {
          ...common,
          direction: 'to-pod',
          verdict: 'policy',
          decidedBy: `${guarding} ingress 0`,
          destination: { port: 8081 },
        },
      ]);
    });

    it("a Service's flow says which Service was asked for", async () => {
      const asked = family.version === 4 ? front.IPv4 : front.IPv6;
      const flows = await told(`address=${asked}`, 1, () => probe(asked, 80));
      expect(flows).toMatchObject([
        {
          asked: { address: asked, port: 80, service: 'default/web' },
          destination: { name: 'pod default/server', port: 8080 },
        },
      ]);
    });

    it('explain says what the kernel says: units, rules, classes, the way', async () => {
      const to = addressOf(server, family);
      for (const [port, verdict] of [
        [8080, 'allow'],
        [8081, 'deny'],
        [9999, 'deny'],
      ] as const) {
        const answer = await explain('server', port, family);
        expect(answer).toMatchObject({
          verdict,
          notes: [],
          kernel: {
            source: { address: addressOf(client, family), class: expect.any(Number) },
            destination: { address: to, class: expect.any(Number), nextHop: expect.stringMatching(/^pod device cali/) },
            legs: [
              { direction: 'egress', verdict: 'allow', rule: 'Profile kns.default egress 0' },
              { direction: 'ingress', verdict, unit: expect.any(Number) },
            ],
          },
        });
        expect(answer.kernel?.legs[1]?.unit).toBeGreaterThan(0);
        const args = ['client', 'server', 'tcp', String(port), '--family', String(family.version)];
        const { stdout } = await node.tortie('explain', ...args);
        expect(stdout).toMatch(new RegExp(`^kernel +ingress at cali\\w+: unit \\d+ says ${verdict}, by .*\\w`, 'm'));
        expect(stdout).toMatch(/^kernel +source \S+: class \d+; destination \S+: class \d+$/m);
        expect(stdout).toMatch(/^next hop +pod device cali\w+ \(hop [1-9]\d*\); back: pod device cali/m);
      }
    });

    it("explain goes on with a Service's backends", async () => {
      const asked = family.version === 4 ? front.IPv4 : front.IPv6;
      expect(await explain(asked, 80, family)).toMatchObject({
        verdict: 'allow',
        packet: { destination: addressOf(server, family), destinationPort: 8080 },
        service: {
          service: 'default/web',
          backends: [{ address: addressOf(server, family), port: 8080, verdict: 'allow' }],
        },
      });
    });
  });

  it('explain reads the very elements that packets meet: one that somebody takes away there is missing in it, too', async () => {
    const [, id] = programsInForce();
    const { map_ids: maps } = await bpftool<{ map_ids: number[] }>('prog', 'show', 'id', String(id));
    const named = await Promise.all(
      maps.map((map) => bpftool<{ id: number; name: string }>('map', 'show', 'id', String(map))),
    );
    const element = [
      'id',
      String(named.find(({ name }) => name === 'tortie_addr4')?.id),
      'key',
      ...server.ipv4.split('.'),
    ];
    const { value } = await bpftool<{ value: string[] }>('map', 'lookup', ...element);
    const isWhole = { kernel: { destination: { nextHop: expect.stringMatching(/^pod device cali/) } }, notes: [] };
    expect(await explain('server', 8080, families[0])).toMatchObject(isWhole);
    await must('bpftool', 'map', 'delete', ...element);
    try {
      const { kernel } = await explain('server', 8080, families[0]);
      expect(kernel?.destination).toMatchObject({
        address: server.ipv4,
        nextHop: expect.not.stringContaining('pod device'),
      });
    } finally {
      await must(
        'bpftool',
        'map',
        'update',
        ...element,
        'value',
        'hex',
        ...value.map((byte) => byte.replace('0x', '')),
      );
    }
    expect(await explain('server', 8080, families[0])).toMatchObject(isWhole);
  });

  it('a drop that is not policy is told with its reason, and filters find it', async () => {
    const flows = await told(`verdict=dropped&address=${empty}`, 1, () => probe(empty, 80));
    expect(flows).toMatchObject([
      {
        verdict: 'no-backend',
        destination: { address: empty, port: 80 },
        policy: null,
        rule: null,
        decidedBy: 'not policy: no-backend',
      },
    ]);
    expect(await explain(empty, 80, families[0])).toMatchObject({
      verdict: 'deny',
      reason: expect.stringContaining('no-backend'),
    });
  });

  it('the command line prints a line for each, ends by itself after --limit, and names a wrong question', async () => {
    const printed = node.tortie('flows', '--verdict', 'no-backend', '--limit', '2');
    const printedJson = node.tortie('flows', '--verdict', 'no-backend', '--limit', '1', '-o', 'json');
    let isOver = false;
    const over = Promise.all([printed, printedJson]).finally(() => (isOver = true));
    while (!isOver) await probe(empty, 80);
    const [text, json] = await over;
    expect(text).toMatchObject({ status: 0, stderr: expect.stringContaining('following the ebpf dataplane') });
    expect(text.stdout.trim().split('\n')).toHaveLength(2);
    expect(text.stdout).toMatch(
      / no-backend +egress +pod default\/client +tcp +pod default\/client 10\.65\S+ -> 10\.96\.0\.11:80; +not policy: no-backend$/m,
    );
    const lines = json.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as FlowLine);
    expect(lines).toMatchObject([{ type: 'begin' }, { type: 'flow', verdict: 'no-backend' }]);
    expect(await node.tortie('flows', '--verdict', 'maybe')).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('no verdict'),
    });
    expect(await node.tortie('flows', '--pod', 'nobody')).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('nobody'),
    });
  });

  it('services lists addresses, backends, and what is done otherwise', async () => {
    const { stdout } = await node.tortie('services');
    expect(stdout).toMatch(new RegExp(`^default/web +10\\.96\\.0\\.10:80/tcp +1 +${server.ipv4}:8080$`, 'm'));
    expect(stdout).toMatch(/^default\/none +10\.96\.0\.11:80\/tcp +0 +none: connections are refused$/m);
    expect(stdout).toContain('default/web: sessionAffinity ClientIP is not kept');
    expect((await node.tortie('services', 'none', '-o', 'json')).stdout).toContain('"service": "default/none"');
    expect(await node.tortie('services', 'nothing')).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('no Service nothing'),
    });
  });

  it('policy show counts, status and metrics say what is in force', async () => {
    await probe(server.ipv4, 8081);
    const report = (await askAgent(node.runDir, '/policy?endpoint=server')) as EndpointPolicyReport;
    const rules = report.ingress.tiers.flatMap(({ policies }) => policies.flatMap(({ rules }) => rules));
    expect(rules[0]?.counter?.packets).toBeGreaterThan(0);
    const { stdout: shown } = await node.tortie('policy', 'show', 'server');
    expect(shown).toMatch(/^tier default +NetworkPolicy default\/guard +[1-9]\d* +[1-9]\d* +\S.*8081/m);
    expect((await node.tortie('endpoints')).stdout).toMatch(/to-pod policy \d+/);
    const { dataplane } = await node.waitFor(() => true);
    expect(dataplane.inForce?.failedUnits).toEqual([]);
    expect(dataplane.inForce?.tables).toContainEqual({ table: 'tortie_front4', used: 2, size: 65_536 });
    expect((await node.tortie('status')).stdout).toMatch(/^ +\d+ lists of rules in force; fullest tables: tortie_/m);
    const values = await scrape(node);
    expect(values).toMatchObject({
      'tortie_map_elements{map="tortie_front4"}': 2,
      'tortie_map_size{map="tortie_front4"}': 65_536,
      tortie_policy_units: dataplane.inForce?.units,
      tortie_policy_units_failed: 0,
      tortie_services: 2,
      tortie_services_limited: 1,
    });
    expect(values['tortie_map_writes_total']).toBeGreaterThan(0);
  });

  it('who follows is told when the dataplane leaves', async () => {
    const lines: FlowLine[] = [];
    for await (const item of followAgent(node.runDir, '/flows')) {
      const line = item as FlowLine;
      if (line.type === 'begin') lab.setBpfEnabled(false);
      if (line.type !== 'flow') lines.push(line);
    }
    expect(lines.at(-1)).toEqual({ type: 'end', reason: "the ebpf dataplane has left the packets' path" });
    await node.waitFor(({ dataplane }) => dataplane.active === 'iptables');
  });
});

it('in iptables mode flows and services say where to look instead; explain needs no tables', async () => {
  const { lab } = await startLab(false);
  await using _lab = lab;
  const node = lab.node(0);
  expect(await node.tortie('flows')).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('tortie policy show'),
  });
  expect(await node.tortie('services')).toMatchObject({ status: 1, stderr: expect.stringContaining('kube-proxy') });
  const { stdout } = await node.tortie('explain', 'client', 'server', 'tcp', '8081');
  expect(stdout).toMatch(/^DENY/);
  expect(stdout).not.toContain('kernel');
  expect((await scrape(node))['tortie_policy_units']).toBeUndefined();
});
