import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { addressOf, eventually, families } from '../../lab/agent-lab.ts';
import type { Bed } from '../bed.ts';
import type { TestPod } from '../test-pod.ts';

interface Policy {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string };
}

const policy = (apiVersion: string, kind: string, name: string, spec: object): Policy & { readonly spec: object } => ({
  apiVersion,
  kind,
  metadata: { name, ...(kind.startsWith('Global') || kind.startsWith('Cluster') ? {} : { namespace: 'default' }) },
  spec,
});
const calico = 'projectcalico.org/v3';
const friend = { podSelector: { matchLabels: { role: 'friend' } } };

/** Policies that let `friend` and nobody else reach `server`. */
const tables: readonly { readonly title: string; readonly policies: readonly Policy[] }[] = [
  {
    title: 'a Kubernetes NetworkPolicy',
    policies: [
      policy('networking.k8s.io/v1', 'NetworkPolicy', 'friends', {
        podSelector: { matchLabels: { app: 'server' } },
        ingress: [{ from: [friend] }],
      }),
    ],
  },
  {
    title: 'a v3 NetworkPolicy',
    policies: [
      policy(calico, 'NetworkPolicy', 'friends', {
        selector: "app == 'server'",
        types: ['Ingress'],
        ingress: [{ action: 'Allow', source: { selector: "role == 'friend'" } }],
      }),
    ],
  },
  {
    title: 'a v3 GlobalNetworkPolicy that denies on the way out, in a tier of its own that passes the rest',
    policies: [
      { apiVersion: calico, kind: 'Tier', metadata: { name: 'early' }, spec: { order: 10, defaultAction: 'Pass' } },
      policy(calico, 'GlobalNetworkPolicy', 'early.strangers', {
        tier: 'early',
        selector: "role == 'stranger'",
        types: ['Egress'],
        egress: [{ action: 'Deny', destination: { selector: "app == 'server'" } }, { action: 'Pass' }],
      }),
    ],
  },
  {
    title: 'a ClusterNetworkPolicy, whose definition came after the agents,',
    policies: [
      policy('policy.networking.k8s.io/v1alpha2', 'ClusterNetworkPolicy', 'friends', {
        tier: 'Admin',
        priority: 10,
        subject: { pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: 'server' } } } },
        ingress: [
          {
            name: 'friends',
            action: 'Accept',
            from: [{ pods: { namespaceSelector: {}, podSelector: { matchLabels: { role: 'friend' } } } }],
          },
          { name: 'nobody', action: 'Deny', from: [{ namespaces: {} }] },
        ],
      }),
    ],
  },
];

/** What is denied stays denied and what is allowed works, by packets, across nodes and within one. */
export function policies(bed: () => Bed): void {
  describe('policies', () => {
    let server: TestPod;
    let clients: readonly TestPod[];
    let inForce: readonly Policy[] = [];

    beforeAll(async () => {
      const [one, two] = [bed().cluster.node(1), bed().cluster.node(2)];
      [server, ...clients] = (await bed().createPods({
        server: { node: one },
        friend1: { node: one, labels: { role: 'friend' } },
        friend2: { node: two, labels: { role: 'friend' } },
        stranger1: { node: one, labels: { role: 'stranger' } },
        stranger2: { node: two, labels: { role: 'stranger' } },
      })) as [TestPod, ...TestPod[]];
      await Promise.all([server, ...clients].map((pod) => pod.peer()));
    }, 300_000);
    /** The agents look for the definition of an absent kind about once a minute. */
    const isServed = async () => {
      const absent = await Promise.all(
        bed().nodes.map(async (node) => (await bed().status(node)).datastore.absentKinds),
      );
      return absent.flat().length === 0;
    };
    const remove = async () => {
      // A tier goes after its policies.
      for (const { apiVersion, kind, metadata } of inForce.toReversed()) {
        await bed().kubectl.run('delete', `${kind}.${apiVersion.split('/')[0]}`, metadata.name);
      }
      inForce = [];
    };
    afterEach(remove);
    afterAll(() => bed().deletePods([server, ...clients]));

    /** Who reaches the server, by TCP and by a datagram it heard, in each family: names of the ways. */
    const ways = async (): Promise<readonly string[]> => {
      const answers = clients.flatMap((client) =>
        families.flatMap((family) =>
          (['tcp', 'udp'] as const).map(async (protocol) => {
            const peer = await client.peer();
            const { verdict } = await peer.probe(addressOf(server, family), { protocol, timeoutMs: 700 });
            return verdict === 'reaches' ? [`${client.name} ${protocol} ${family.family}`] : [];
          }),
        ),
      );
      return (await Promise.all(answers)).flat().toSorted();
    };
    const all = () => waysOf(clients);
    const ofFriends = () => waysOf(clients.filter(({ name }) => name.startsWith('friend')));
    /** No stranger passes; a friend's answer may take long on a busy machine. */
    const onlyFriendsPass = () =>
      eventually(async () => {
        const now = await ways();
        expect(now.filter((way) => !way.startsWith('friend'))).toEqual([]);
        return JSON.stringify(now) === JSON.stringify(ofFriends());
      }, ways);

    it.each(tables)(
      '$title lets friends in and keeps strangers out; without it all come in',
      async ({ policies }) => {
        if (policies.some(({ kind }) => kind === 'ClusterNetworkPolicy')) {
          await eventually(isServed, () => 'ClusterNetworkPolicy is still absent', 240_000);
        }
        await eventually(async () => JSON.stringify(await ways()) === JSON.stringify(all()), ways);
        inForce = policies;
        await bed().kubectl.apply(policies);
        await eventually(async () => JSON.stringify(await ways()) === JSON.stringify(ofFriends()), ways);
        await onlyFriendsPass();
        // By packets: a stranger's datagram never arrives.
        const before = await (await server.peer()).heard();
        await onlyFriendsPass();
        const after = await (await server.peer()).heard();
        for (const stranger of clients.filter(({ name }) => name.startsWith('stranger'))) {
          for (const address of [stranger.ipv4, stranger.ipv6]) {
            expect({ address, heard: after[address] }).toEqual({ address, heard: before[address] });
          }
        }
        await remove();
        await eventually(async () => JSON.stringify(await ways()) === JSON.stringify(all()), ways);
      },
      900_000,
    );

    it('an invalid v3 policy is refused by the API server with the name of the field', async () => {
      const spec = { selector: 'all()', ingress: [{ action: 'Perhaps' }] };
      const { status, stderr } = await bed().kubectl.try(
        ['create', '-f', '-'],
        [policy(calico, 'NetworkPolicy', 'invalid', spec)],
      );
      expect(status).toBe(1);
      expect(stderr).toContain('spec.ingress[0].action');
    });

    it('a label that a running pod gets lets it in at once', async () => {
      inForce = tables[0]?.policies ?? [];
      await bed().kubectl.apply(inForce);
      await eventually(async () => JSON.stringify(await ways()) === JSON.stringify(ofFriends()), ways);
      await bed().kubectl.run('label', 'pod', 'stranger2', 'role=friend', '--overwrite');
      const expected = waysOf(clients.filter(({ name }) => name !== 'stranger1'));
      await eventually(async () => JSON.stringify(await ways()) === JSON.stringify(expected), ways);
    });
  });
}

function waysOf(clients: readonly TestPod[]): readonly string[] {
  return clients
    .flatMap(({ name }) => families.flatMap(({ family }) => [`${name} tcp ${family}`, `${name} udp ${family}`]))
    .toSorted();
}
