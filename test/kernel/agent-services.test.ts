/** Services on their way from files through the agent: what of them is impossible is said, and gone when it is mended. */
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { saysInLog, startAgentLab } from '#test/lab/agent-lab.ts';
import type { Lab } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import { endpointSlice } from '#test/contract/objects.ts';

let lab: Lab;
let node: LabNode;

beforeAll(async () => {
  lab = await startAgentLab({ bpfEnabled: false, nodes: 1 });
  node = lab.node(0);
});
afterAll(() => lab[Symbol.asyncDispose]());

const service = {
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'web' },
  spec: { clusterIP: '10.96.0.10', clusterIPs: ['10.96.0.10'], ports: [{ name: 'http', port: 80 }] },
};
const slice = (...addresses: string[]) =>
  endpointSlice(
    'web-1',
    'web',
    'IPv4',
    addresses.map((address) => ({ addresses: [address] })),
    [{ name: 'http', port: 8080 }],
  );

it('an endpoint whose address is none is said in status and log until it is mended, and the node stays ready', async () => {
  const logged = node.log().length;
  lab.apply('services', [service, slice('10.65.0.256', '10.65.0.9')]);
  const words = /EndpointSlice web-1: 10\.65\.0\.256 is no IPv4 address/;
  const { ready, policy } = await node.waitFor(({ policy: { problems } }) => problems.length > 0);
  expect({ ready, problems: policy.problems }).toEqual({
    ready: true,
    problems: [{ object: 'Service default/web', message: expect.stringMatching(words) }],
  });
  expect((await node.tortie('status')).stdout).toMatch(/^service +Service default\/web: EndpointSlice web-1: /m);
  await saysInLog(node, words, logged);

  lab.apply('services', [service, slice('10.65.0.9')]);
  await node.waitFor(({ policy: { problems } }) => problems.length === 0);
  await saysInLog(node, /no longer so: EndpointSlice web-1/, logged);
});
