/** Rules with `action: Log`: each counts the flows that it meets, and decides nothing; iptables writes them into the kernel's log, eBPF tells the flows. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { askAgent } from '#agent/admin/client.ts';
import type { EndpointPolicyReport } from '#agent/explain/policy-report.ts';
import type { FlowLine } from '#agent/flows/flow-stream.ts';
import { dataplanes, eventually, families, addressOf, startAgentLab } from '#test/lab/agent-lab.ts';
import type { Lab } from '#test/lab/lab.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import { peerPort } from '#test/lab/peer.ts';
import { networkPolicy } from '../contract/objects.ts';

const noted = networkPolicy('noted', {
  selector: "app == 'server'",
  types: ['Ingress'],
  ingress: [
    { action: 'Log', protocol: 'TCP' },
    { action: 'Allow', protocol: 'TCP', destination: { ports: [peerPort] } },
    { action: 'Log' },
  ],
});
const ruleId = (index: number): string => `NetworkPolicy default/noted ingress ${index}`;
/** How long an answer may take, and how long one is waited for that must not come, in ms. */
const [patienceMs, silenceMs] = [5_000, 300];

describe.each(dataplanes)('Log rules, $dataplane', ({ bpfEnabled }) => {
  let lab: Lab;
  let client: LabPod;
  let server: LabPod;

  beforeAll(async () => {
    lab = await startAgentLab({ bpfEnabled, nodes: 1 });
    client = await lab.node(0).addPod('client');
    server = await lab.node(0).addPod('server', { labels: { app: 'server' } });
    await Promise.all([client, server].map((pod) => pod.peer()));
    lab.apply('policy', [noted]);
    await eventually(
      async () => {
        const [, , before = 0] = await counts();
        const isDenied = (await ask('udp', silenceMs)).every((verdict) => verdict === 'nothing');
        const [, , after = 0] = await counts();
        return isDenied && after - before === families.length; // Silence alone may be a busy server's.
      },
      () => 'the policy is not in force',
    );
  });
  afterAll(() => (lab as Lab | undefined)?.[Symbol.asyncDispose]());

  /** One packet, or connection, in each family. */
  const ask = async (protocol: 'tcp' | 'udp', timeoutMs: number) => {
    const peer = await client.peer();
    const answers = families.map((family) => peer.probe(addressOf(server, family), { protocol, timeoutMs }));
    return (await Promise.all(answers)).map(({ verdict }) => verdict);
  };
  /** What the policy's rules have counted, by their index. */
  const counts = async (): Promise<readonly number[]> => {
    const report = (await askAgent(lab.node(0).runDir, '/policy?endpoint=server')) as EndpointPolicyReport;
    const rules = report.ingress.tiers.flatMap(({ policies }) => policies.flatMap((policy) => policy.rules));
    return [0, 1, 2].map((index) => rules.find(({ id }) => id === ruleId(index))?.counter?.packets ?? Number.NaN);
  };

  it.each([
    ['tcp', patienceMs, 'reaches', [2, 2, 0]],
    ['udp', silenceMs, 'nothing', [0, 0, 2]],
  ] as const)('count %s flows, and what comes after them decides', async (protocol, timeoutMs, verdict, expected) => {
    const before = await counts();
    expect(await ask(protocol, timeoutMs)).toEqual([verdict, verdict]);
    const after = await counts();
    expect(after.map((count, index) => count - (before[index] ?? 0))).toEqual(expected);
    const { stdout } = await lab.node(0).tortie('policy', 'show', 'default/server');
    expect(stdout).toMatch(/\blog\b/);
  });

  it(`are ${bpfEnabled ? 'no rules of netfilter: nothing is written into the kernel’s log' : 'rules of netfilter that write into the kernel’s log'}`, async () => {
    for (const save of ['iptables-save', 'ip6tables-save']) {
      const text = await lab.node(0).exec(save, '-t', 'filter');
      expect({ save, logs: /^-A cali-\S+ .*-j LOG --log-prefix "calico-packet: /m.test(text) }).toEqual({
        save,
        logs: !bpfEnabled,
      });
      if (bpfEnabled) expect(text).not.toContain('LOG');
    }
  });

  if (bpfEnabled) {
    it('each flow that one meets is told by tortie flows, with what decided it', async () => {
      const telling = lab
        .node(0)
        .tortie('flows', '--pod', 'default/server', '--verdict', 'policy', '--limit', '2', '-o', 'json');
      let isOver = false;
      const told = telling.finally(() => (isOver = true));
      // It doesn't say when it begins to listen.
      while (!isOver) await ask('udp', silenceMs);
      const { status, stdout, stderr } = await told;
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      const lines = stdout
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as FlowLine);
      const flows = lines.filter((line) => line.type === 'flow');
      expect(flows).toHaveLength(2);
      for (const flow of flows)
        expect(flow).toMatchObject({
          protocol: 17,
          endpoint: 'pod default/server',
          source: { name: 'pod default/client' },
        });
    });
  } else {
    it('tortie flows says where to look instead', async () => {
      expect(await lab.node(0).tortie('flows')).toMatchObject({
        status: 1,
        stderr: expect.stringContaining('rules with action Log write into the kernel log'),
      });
    });
  }
});
