/** `tortie conntrack` on a node as it is in use. */
import { afterEach, expect, it } from '@jest/globals';
import type { ConntrackReport } from '#agent/conntrack/conntrack-report.ts';
import { dataplanes, eventually, startAgentLab } from '#test/lab/agent-lab.ts';
import type { Lab } from '#test/lab/lab.ts';
import { getFrom } from './agent-http.ts';

let lab: Lab;
afterEach(() => lab[Symbol.asyncDispose]());

it.each(dataplanes)('lists the connections of a pod and forgets those that are named, $dataplane', async (mode) => {
  lab = await startAgentLab({ bpfEnabled: mode.bpfEnabled, nodes: 1, felix: { prometheusMetricsEnabled: true } });
  const node = lab.node(0);
  const [client, server] = [await node.addPod('client'), await node.addPod('server')];
  await server.peer();
  // One that stays: what has ended is forgotten soon. Nothing is said on it, so that it doesn't come back when it is deleted.
  await (await client.peer()).stream(server.ipv4, 3_600_000);
  const conntrack = async (...args: string[]) => {
    const { status, stdout, stderr } = await node.tortie('conntrack', ...args);
    expect({ args, status, stderr }).toEqual({ args, status: 0, stderr: '' });
    return stdout;
  };
  const listed = async (...args: string[]) => JSON.parse(await conntrack(...args, '-o', 'json')) as ConntrackReport;

  const ofClient = () => listed('--pod', 'default/client', '--protocol', 'tcp');
  await eventually(async () => (await ofClient()).flows.some(({ state }) => state === 'established'), ofClient);
  const { dataplane, flows } = await ofClient();
  expect(dataplane).toBe(mode.dataplane);
  expect(flows).toMatchObject([{ asked: { source: client.ipv4, destination: server.ipv4 } }]);
  expect(await conntrack('--address', client.ipv4)).toMatch(
    new RegExp(`^tcp +\\w+ +${client.ipv4}:\\d+ +${server.ipv4}:\\d+`, 'm'),
  );
  expect((await listed('--pod', 'default/client', '--address', '192.0.2.1')).flows).toEqual([]);

  // Only a table of its own is counted.
  expect((await getFrom(node, '9091/metrics')).text.includes('tortie_flow_table_size{family="4"}')).toBe(
    mode.bpfEnabled,
  );

  expect(await conntrack('delete', '--pod', 'default/server', '--protocol', 'tcp')).toBe('1 flows deleted\n');
  expect((await ofClient()).flows).toEqual([]);
  expect(await node.tortie('conntrack', 'delete')).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('at least one of'),
  });
  expect(await node.tortie('conntrack', '--pod', 'default/nobody')).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('nobody'),
  });
});
