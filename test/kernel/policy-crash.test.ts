/** The agent is killed again and again while policies change under traffic: no established flow dies, no denied packet passes. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { eventually, seededRandom, soakMs } from '#test/lab/agent-lab.ts';
import { settledSnapshotOf, snapshotOf } from '#test/lab/node-snapshot.ts';
import { globalNetworkSet, globalPolicy, kubernetesPolicy, networkPolicy, tier } from '../contract/objects.ts';
import type { Manifest } from '../contract/row.ts';
import { enforcing, PolicyLab } from './policy-lab.ts';

const served = { selector: "role == 'served'", types: ['Ingress'] };
const fromFriend = { action: 'Allow', source: { selector: "role == 'friend'" } };

/** In force at the beginning and at the end. */
const first: readonly Manifest[] = [networkPolicy('served', { ...served, ingress: [fromFriend] })];

/**
 * Ways to say, in quite different objects, that the outcasts get nothing through. What else they say is chance. Each says it at the
 * served: two nodes' agents are two, and if one way relied on the senders' node and the next on the receivers', a dead agent would leave a gap.
 */
const ways: readonly ((random: () => number) => readonly Manifest[])[] = [
  () => first,
  (random) => [
    networkPolicy('served', {
      ...served,
      order: Math.floor(random() * 100),
      ingress: [
        {
          action: 'Allow',
          protocol: 'TCP',
          source: { selector: "role == 'nobody'" },
          destination: { ports: [1 + Math.floor(random() * 60_000)] },
        },
        { action: 'Deny', source: { selector: "role == 'outcast'" } },
        { action: 'Allow' },
      ],
    }),
  ],
  () => [
    kubernetesPolicy('served', {
      podSelector: { matchLabels: { role: 'served' } },
      ingress: [{ from: [{ podSelector: { matchLabels: { role: 'friend' } } }] }],
    }),
  ],
  (random) => [
    tier('early', { order: 10 + Math.floor(random() * 100), defaultAction: 'Pass' }),
    globalPolicy('early.outcasts', {
      tier: 'early',
      selector: "role == 'outcast'",
      types: ['Egress'],
      egress: [{ action: 'Deny' }],
    }),
    globalPolicy('early.served', {
      ...served,
      tier: 'early',
      ingress: [{ action: 'Deny', source: { selector: "role == 'outcast'" } }],
    }),
  ],
  (random) => [
    globalNetworkSet(
      'strangers',
      Array.from({ length: Math.floor(random() * 200) }, (_, i) => `192.0.2.${i}/32`),
      { set: 'strangers' },
    ),
    globalPolicy('served', {
      ...served,
      ingress: [{ action: 'Allow', source: { selector: "set == 'strangers'" } }, fromFriend],
    }),
  ],
  () => [
    globalPolicy('both', {
      selector: "role in {'served', 'outcast'}",
      types: ['Ingress', 'Egress'],
      ingress: [fromFriend],
      egress: [{ action: 'Allow', destination: { selector: "role == 'friend'" } }],
    }),
  ],
];

describe.each(enforcing)('kill -9 under traffic and changes of policy, $name', (combination) => {
  let bed: PolicyLab;

  beforeAll(async () => {
    bed = await PolicyLab.start(combination, first);
    await eventually(
      async () => (await bed.wrong()).length === 0,
      () => bed.wrong(),
    );
  });
  afterAll(() => bed[Symbol.asyncDispose]());

  /** What must be the same whatever happened meanwhile. */
  const stateOf = () =>
    Promise.all(
      bed.lab.nodes.map(async (node) => {
        const { 'run dir': _, 'state dir': __, ...kernel } = await snapshotOf(node);
        const endpoints = (await node.endpoints()).map(({ counters: _counters, ...endpoint }) => endpoint);
        return { kernel, endpoints };
      }),
    );

  it(
    'of both agents at random moments: no flow dies, nothing denied passes, and the state is right afterwards',
    async () => {
      const random = seededRandom(`policy and kills, ${combination.name}`);
      await Promise.all(bed.lab.nodes.map((node) => settledSnapshotOf(node)));
      const before = await stateOf();
      const leaked = await bed.leaked();
      const traffic = await bed.traffic();
      const end = Date.now() + soakMs(12);
      const figures = { kills: 0, changes: 0, relabels: 0 };
      while (Date.now() < end || figures.kills < 8) {
        for (const node of bed.lab.nodes) {
          if (random() < 0.5) continue;
          await node.killAgent();
          figures.kills += 1;
          if (random() < 0.3) await sleep(random() * 200);
          await node.startAgent({ wait: false });
        }
        for (let changes = Math.floor(random() * 4); changes > 0; changes--) {
          const way = ways[Math.floor(random() * ways.length)];
          if (way !== undefined) bed.lab.apply('policies', way(random));
          figures.changes += 1;
          await sleep(random() * 400);
        }
        if (random() < 0.3) {
          // Still an outcast; by another road through the labels' index.
          for (const pod of bed.denied) pod.relabel({ role: 'outcast', shade: String(Math.floor(random() * 5)) });
          figures.relabels += 1;
        }
        if (random() < 0.4) await Promise.all(bed.lab.nodes.map((node) => node.waitFor(({ ready }) => ready)));
        else await sleep(random() * 600);
      }
      bed.lab.apply('policies', first);
      for (const pod of bed.denied) pod.relabel();
      await Promise.all(bed.lab.nodes.map((node) => node.waitFor(({ ready }) => ready)));

      let now = await stateOf();
      await eventually(
        async () => JSON.stringify((now = await stateOf())) === JSON.stringify(before),
        () => expect(now).toEqual(before),
      );
      const report = await traffic.stop();
      process.stdout.write(`${combination.name}: ${JSON.stringify({ ...figures, ...report })}\n`);
      expect(report.losses).toEqual({});
      expect(report.deniedSent).toBeGreaterThan(2_000);
      expect(await bed.leaked()).toEqual(leaked);
      expect(report.forgedHeard).toBe(0);
      expect(await bed.wrong()).toEqual([]);
    },
    600_000 + soakMs(12),
  );
});
