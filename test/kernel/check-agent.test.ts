/** The agent's own pre-flight: in its status, its metrics and its log; `tortie check` has it look again. */
import { afterEach, describe, expect, test } from '@jest/globals';
import type { CheckResult } from '#agent/check/result.ts';
import { eventually, saysInLog, startAgentLab } from '#test/lab/agent-lab.ts';
import { must } from '#test/lab/exec.ts';
import type { Lab } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import { scrape } from './agent-http.ts';

const inNode = (node: LabNode, ...command: readonly string[]): Promise<string> =>
  must('nsenter', `--net=${node.netnsPath}`, ...command);

async function check(
  node: LabNode,
): Promise<{ readonly status: number | null; readonly results: readonly CheckResult[] }> {
  const run = await node.tortie('check', '-o', 'json');
  expect(run.stderr).toBe('');
  return { status: run.status, results: JSON.parse(run.stdout) as readonly CheckResult[] };
}

describe("the agent's pre-flight", () => {
  let lab: Lab;
  afterEach(() => lab[Symbol.asyncDispose]());

  test('comes some seconds after the start, and finds nothing of the agent itself in the way', async () => {
    lab = await startAgentLab({ bpfEnabled: false, nodes: 1 });
    const node = lab.node(0);
    await eventually(
      async () => (await node.status()).preflight !== null,
      () => node.logTail(),
    );
    // Nobody serves Services in a lab; everything else is as it should be, with the agent's rules, ports and devices there.
    expect((await node.status()).preflight?.map(({ id }) => id)).toEqual(['kube-proxy']);
    expect((await node.status()).ready).toBe(true);
    const { results, status: code } = await check(node);
    expect(code).toBe(0);
    expect(results.filter(({ id }) => id === 'ports')).toMatchObject([{ outcome: 'yes' }, { outcome: 'yes' }]);
    expect(results.find(({ id }) => id === 'other-plugin')).toMatchObject({ outcome: 'yes' });
  });

  test('is taken again when somebody asks: status, metrics and log say what came, and that it is gone', async () => {
    lab = await startAgentLab({ bpfEnabled: false, nodes: 1 });
    const node = lab.node(0);
    // Its own look is over: who asks while it looks gets the same answer.
    await eventually(
      async () => (await node.status()).preflight !== null,
      () => node.logTail(),
    );
    await inNode(node, 'nft', 'add table inet firewalld');
    expect(await check(node)).toMatchObject({ status: 1 });
    expect((await node.status()).preflight).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ id: 'firewalld', severity: 'blocks', detail: 'nft table inet firewalld' }),
      ]),
    );
    const { stdout } = await node.tortie('status');
    expect(stdout).toMatch(
      /^preflight {3}firewalld: nft table inet firewalld\n {14}without it: .*\n {14}to do: systemctl/m,
    );
    expect((await scrape(node))['tortie_preflight_problems{severity="blocks"}']).toBe(1);
    await saysInLog(node, /"check":"firewalld".*this node is not as it should be/);
    // It is told, and no more: the node goes on as it was.
    expect((await node.status()).ready).toBe(true);

    await inNode(node, 'nft', 'delete table inet firewalld');
    expect(await check(node)).toMatchObject({ status: 0 });
    expect((await node.status()).preflight?.map(({ id }) => id)).toEqual(['kube-proxy']);
    await saysInLog(node, /"check":"firewalld".*this is in order now/);
  });

  test("knows the cluster's settings: the ports; docker's policy is no harm in eBPF mode either", async () => {
    lab = await startAgentLab({
      bpfEnabled: true,
      nodes: 1,
      felix: { healthPort: 9199, prometheusMetricsEnabled: false },
    });
    const node = lab.node(0);
    await inNode(node, 'iptables-nft', '-P', 'FORWARD', 'DROP');
    const { results, status: code } = await check(node);
    expect(results.filter(({ id }) => id === 'ports').map(({ subject }) => subject)).toEqual(['healthPort 9199']);
    // Tortie's last rule there accepts what its programs have let pass.
    expect(results.find(({ id, subject }) => id === 'forward-policy' && subject?.includes('IPv4'))).toMatchObject({
      outcome: 'yes',
      detail: expect.stringContaining('docker'),
    });
    expect(code).toBe(0);
  });
});
