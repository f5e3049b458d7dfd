import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { Jump } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { u32Key } from '#dataplanes/ebpf/keys.ts';
import type { TestNetns } from '#test/lab/netns.ts';
import { namesOf, type Pod } from './bpf-flow-names.ts';
import { FlowNode } from './bpf-flow-node.ts';
import { hello as helloFrom, inhabitPods, loadFilters, say as sayFrom } from './bpf-veths.ts';

/* Packets that really go from pod to pod, past the node's stack, which has no routes and forwards nothing. */
const cleanup = new AsyncDisposableStack();
let inside: ReadonlyMap<Pod, TestNetns>;
let node: FlowNode;

beforeAll(async () => {
  node = cleanup.use(await FlowNode.create());
  const filters = cleanup.use(await loadFilters(node));
  const jump = filters.map('tortie_jump');
  jump.set(u32Key(Jump.podOut), u32Key(node.object.program('tortie_pod_out').fd));
  jump.set(u32Key(Jump.podIn), u32Key(node.object.program('tortie_pod_in').fd));
  inside = await inhabitPods(node, filters, cleanup);
});
afterAll(async () => await cleanup.disposeAsync());
beforeEach(async () => await node.reset());

/** What pod one hears when it says hello to `target:port`. */
const say = async (target: string, port: number): Promise<string> =>
  await sayFrom(inside.get('one') as TestNetns, target, port);

/** The same, while pod two listens. */
const hello = async (target: string, port: number): Promise<string> =>
  await helloFrom(inside.get('one') as TestNetns, target, port, inside.get('two') as TestNetns);

describe.each([4, 6] as const)('IPv%i', (version) => {
  const { two = '', front = '' } = namesOf[version];

  test('a connection from pod to pod', async () => {
    expect(await hello(two, 8080)).toBe('heard hello');
    const records = await node.records(version);
    expect(records.map(({ text }) => text)).toContainEqual(
      expect.stringMatching(/ingressOk answered established finOpener finOther$/),
    );
  });

  test('a connection to a Service, by its address', async () => {
    node.service(version, 6, 80, ['two:8080']);
    expect(await hello(front, 80)).toBe('heard hello');
  });

  test('nobody answers for a Service: refused', async () => {
    node.service(version, 6, 80, []);
    expect(await say(front, 80)).toBe('ECONNREFUSED');
  });

  test("the receiver's policy refuses", async () => {
    node.policy({ 'two ingress': 'deny' });
    expect(await say(two, 8080)).toBe('silence');
  });
});
