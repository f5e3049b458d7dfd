/** Packets that come all the time while pods are made and policies replaced by others that deny as well: not one passes. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { eventually, seededRandom, soakMs } from '#test/lab/agent-lab.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import type { RunningStream } from '#test/lab/peer-client.ts';
import { globalPolicy, kubernetesPolicy, networkPolicy, tier } from '../contract/objects.ts';
import type { Manifest } from '../contract/row.ts';
import { enforcing, PolicyLab, wishedAddresses } from './policy-lab.ts';

const shut = (name: string, label: string): Manifest =>
  globalPolicy(name, {
    selector: `label == '${label}'`,
    types: ['Ingress', 'Egress'],
    ingress: [{ action: 'Allow', source: { selector: "role == 'friend'" } }],
  });
const served = networkPolicy('served', {
  selector: "role == 'served'",
  types: ['Ingress'],
  ingress: [{ action: 'Allow', source: { selector: "role == 'friend'" } }],
});

/** So many datagrams a millisecond, from each sender to each address. */
const flood = { protocol: 'udp', burst: 5 } as const;

describe.each(enforcing)('under a flood of packets, $name', (combination) => {
  let bed: PolicyLab;

  beforeAll(async () => {
    bed = await PolicyLab.start(combination, [served, shut('shut', 'known'), shut('shut-too', 'new')]);
    await eventually(
      async () => (await bed.wrong()).length === 0,
      () => bed.wrong(),
    );
  });
  afterAll(() => bed[Symbol.asyncDispose]());

  const floodTo = async (senders: readonly LabPod[], addresses: readonly string[]): Promise<readonly RunningStream[]> =>
    Promise.all(
      senders.flatMap((sender) => addresses.map(async (address) => (await sender.peer()).stream(address, 1, flood))),
    );
  const stop = async (streams: readonly RunningStream[]): Promise<number> =>
    (await Promise.all(streams.map((stream) => stream.stop()))).reduce((sum, { sent }) => sum + sent, 0);
  /** So many have been sent: how fast is the machine's affair. */
  const haveSent = (streams: readonly RunningStream[], count: number) => {
    const total = async () =>
      (await Promise.all(streams.map((stream) => stream.progress()))).reduce((sum, { sent }) => sum + sent, 0);
    return eventually(async () => (await total()) > count, total);
  };
  const heardFrom = async (receiver: LabPod, senders: readonly LabPod[]): Promise<number> => {
    const heard = await (await receiver.peer()).heard();
    return senders.flatMap(({ addresses }) => addresses).reduce((sum, source) => sum + (heard[source] ?? 0), 0);
  };

  it.each([
    { what: 'whose policies are known', label: 'known' },
    { what: 'with policies that no pod of the node has had', label: 'new' },
  ])('a new pod $what hears only whom it may, from the first moment, and sends nothing', async ({ label }) => {
    const node = bed.lab.node(0);
    const all = [...bed.denied, bed.friend];
    for (let round = 1; round <= 5; round++) {
      const { addresses, annotation } = wishedAddresses(round);
      const pod = await node.createPod(`late-${label}-${round}`, {
        labels: { label },
        annotations: { 'cni.projectcalico.org/ipAddrs': annotation },
      });
      const peer = await pod.peer(); // It listens before there is a device.
      const floods = await floodTo(all, addresses);
      // What it sends itself, from before it has an address: the kernel refuses to, and then doesn't.
      const own = await floodTo(
        [pod],
        bed.served.flatMap((one) => one.addresses),
      );
      await pod.add();
      await eventually(
        async () => (await heardFrom(pod, [bed.friend])) > 0,
        async () => `the pod never heard its friend: ${JSON.stringify(await peer.heard())}`,
      );
      await sleep(200);
      await Promise.all([haveSent(floods, 500), haveSent(own, 500)]);
      const [sent, tried] = [await stop(floods), await stop(own)];
      const served = await Promise.all(bed.served.map((one) => heardFrom(one, [pod])));
      expect(sent).toBeGreaterThan(500);
      expect(tried).toBeGreaterThan(500);
      expect({ round, in: await heardFrom(pod, bed.denied), out: served }).toEqual({ round, in: 0, out: [0, 0] });
      await pod.del();
      await pod.destroy();
    }
  });

  it(
    'denying policies are replaced by other denying ones, in all that can be said about them: nothing passes',
    async () => {
      const random = seededRandom(`flapping policies, ${combination.name}`);
      const leaked = await bed.leaked();
      const floods = await floodTo(
        bed.denied,
        bed.served.flatMap(({ addresses }) => addresses),
      );
      const end = Date.now() + soakMs(8);
      let changes = 0;
      for (; Date.now() < end || changes < 10; changes++) {
        const version = Math.floor(random() * 1_000);
        // Both labels are denied, each by a policy of its own: the pod goes from one list of policies to the other.
        if (random() < 0.4) {
          for (const pod of bed.served) pod.relabel({ role: 'served', shade: String(version % 2) });
        }
        bed.lab.apply('policies', denials(version, random));
        await sleep(random() * 300);
      }
      bed.lab.apply('policies', [served]);
      await eventually(
        async () => (await bed.wrong()).length === 0,
        () => bed.wrong(),
      );
      await haveSent(floods, 5_000);
      const sent = await stop(floods);
      process.stdout.write(`${combination.name}: ${sent} packets during ${changes} changes\n`);
      expect(sent).toBeGreaterThan(5_000);
      expect(await bed.leaked()).toEqual(leaked);
    },
    600_000 + soakMs(8),
  );
});

/** One of many ways to keep the outcasts from the served, all at the served: two nodes' agents don't change at the same moment. */
function denials(version: number, random: () => number): readonly Manifest[] {
  const friend = { action: 'Allow', source: { selector: "role == 'friend'" } };
  const ports = {
    action: 'Allow',
    protocol: 'TCP',
    source: { nets: ['192.0.2.0/24'] },
    destination: { ports: [version + 1] },
  };
  const all = { selector: "role == 'served'", types: ['Ingress'] };
  const choices: readonly (readonly Manifest[])[] = [
    [networkPolicy('served', { ...all, ingress: [friend] })],
    [networkPolicy('served', { ...all, order: version, ingress: [ports, friend, { action: 'Deny' }] })],
    [networkPolicy(`served-${version % 3}`, { ...all, ingress: [friend] })],
    [kubernetesPolicy('served', { podSelector: { matchLabels: { role: 'served' } }, policyTypes: ['Ingress'] })],
    [tier('flap', { order: version }), globalPolicy('flap.served', { ...all, tier: 'flap', ingress: [friend] })],
    [
      networkPolicy('even', { ...all, selector: "role == 'served' && shade != '1'", ingress: [friend] }),
      networkPolicy('odd', { ...all, selector: "role == 'served' && shade == '1'", ingress: [ports, friend] }),
    ],
    [
      globalPolicy('no-egress', { selector: "role == 'outcast'", types: ['Egress'], egress: [ports] }),
      globalPolicy('no-ingress', { ...all, order: version, ingress: [friend, ports] }),
    ],
  ];
  return choices[Math.floor(random() * choices.length)] ?? [];
}
