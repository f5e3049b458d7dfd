/** Agent and launcher are killed at random while containers come and go: what must never happen doesn't, and GC leaves nothing. */
import type { AgentStatus } from '#agent/status.ts';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { dataplanes, eventually, seededRandom, soakMs, startAgentLab } from '#test/lab/agent-lab.ts';
import {
  assertNoAddressTwice,
  checkFindsNothing,
  containerDevices,
  inUseBecomes,
  ipamUsageOf,
  objectsOf,
  unreachable,
} from '#test/lab/cluster-view.ts';
import type { Lab } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';

const slots = 20;
/** How often the agent is killed at least. */
const leastKills = 4;
/** How often a runtime repeats a DEL before it leaves the rest to GC. */
const delTries = 5;

describe.each(dataplanes)('kill -9 at random in $dataplane mode', ({ bpfEnabled, dataplane }) => {
  let lab: Lab;
  let node: LabNode;

  beforeAll(async () => {
    lab = await startAgentLab({ bpfEnabled, nodes: 1 });
    node = lab.node(0);
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  it(
    `of agent and launcher, while ${slots} containers are added and deleted: no address twice, and after GC nothing is left over`,
    async () => {
      const random = seededRandom(`kills, ${dataplane}`);
      const live = new Set<LabPod>();
      const end = Date.now() + soakMs(8);
      const figures = { adds: 0, added: 0, launcherKills: 0, agentKills: 0, leftToGc: 0 };
      let done = false;
      const broken = new AbortController();
      /** In the agent's first words after a start nothing is missing but devices of containers that died without a DEL. */
      const isInSync = ({ dataplane, reasons }: AgentStatus) =>
        dataplane.active !== null && reasons.every((reason) => /does not exist|is not there/.test(reason));

      /** A launcher that may be killed under way, as by a runtime that is killed itself. True if it succeeded. */
      const call = async (pod: LabPod, verb: 'ADD' | 'DEL'): Promise<boolean> => {
        if (!done && random() < 0.15) {
          figures.launcherKills++;
          const { status } = await pod.cni(verb, { killAfterMs: 1 + Math.floor(random() * 40) });
          return verb === 'DEL' && status === 0; // Who is killed doesn't know that it succeeded.
        }
        return (verb === 'ADD' ? await pod.tryAdd() : await pod.tryDel()) === undefined;
      };
      const takeDown = async (pod: LabPod) => {
        live.delete(pod);
        for (let tries = 0; tries < delTries; tries++) {
          if (await call(pod, 'DEL')) return;
          await sleep(100);
        }
        figures.leftToGc++;
      };
      /** True if the container stays: the kills are over. */
      const containerLife = async (slot: number, turn: number): Promise<boolean> => {
        const pod = await node.createPod(`c${slot}-${turn}`, { isPod: slot % 2 === 0 });
        try {
          while (!broken.signal.aborted) {
            figures.adds++;
            if (await call(pod, 'ADD')) {
              figures.added++;
              live.add(pod);
              assertNoAddressTwice([...live]);
              await sleep(random() * 300);
              break;
            }
            await takeDown(pod);
            await pod.renewSandbox();
          }
          // Those that come last stay; some die without a DEL.
          if (done) return true;
          if (random() < 0.1) live.delete(pod);
          else await takeDown(pod);
          return false;
        } finally {
          if (!live.has(pod)) await pod.destroy();
        }
      };
      const workers = Array.from({ length: slots }, async (_, slot) => {
        for (let turn = 0; !(await containerLife(slot, turn)); turn++) broken.signal.throwIfAborted();
      });
      const killer = (async () => {
        try {
          // On a busy machine a start takes long: a few kills, and containers that came after others, there have to be.
          while (Date.now() < end || figures.agentKills < leastKills || figures.added <= slots) {
            // Most come to work before they are killed, some are killed in their start.
            if (random() < 0.8) await node.waitFor(isInSync);
            await sleep(random() * 1_500);
            // On a busy machine so short a life is too short for any ADD: where only containers are missing, it lasts until one has come.
            const { added } = figures;
            if (Date.now() >= end && figures.agentKills >= leastKills)
              await eventually(
                () => figures.added > added,
                () => `no ADD succeeds\n${node.logTail()}`,
              );
            await node.killAgent();
            figures.agentKills++;
            await sleep(random() * 50);
            await node.startAgent({ wait: false });
          }
          await node.waitFor(isInSync);
        } catch (error) {
          broken.abort(error);
        } finally {
          done = true;
        }
      })();
      const ends = await Promise.allSettled([killer, ...workers]);
      broken.signal.throwIfAborted();
      for (const result of ends) if (result.status === 'rejected') throw result.reason;
      await node.waitFor(isInSync);
      process.stdout.write(`${dataplane}: ${JSON.stringify(figures)}, ${live.size} alive\n`);
      expect(figures.agentKills).toBeGreaterThanOrEqual(leastKills);

      const alive = [...live];
      expect(alive.length).toBe(slots);
      expect(figures.added).toBeGreaterThan(slots);
      assertNoAddressTwice(alive);
      await node.gc(alive);
      await node.waitFor(({ ready }) => ready);
      expect(await unreachable(node, alive)).toEqual([]);
      await checkFindsNothing(lab);
      // A namespace that was deleted keeps its device for as long as the kernel takes.
      await eventually(
        async () => (await containerDevices(node)).length === alive.length,
        () => containerDevices(node),
      );
      expect((await node.endpoints()).map(({ container }) => container).toSorted()).toEqual(
        alive.map(({ container }) => container).toSorted(),
      );
      await inUseBecomes(lab, alive.length * 2);

      for (const pod of alive) {
        await pod.del();
        await pod.destroy();
      }
      await inUseBecomes(lab, 0);
      await checkFindsNothing(lab);
      expect(await containerDevices(node)).toEqual([]);
      expect(readdirSync(join(node.stateDir, 'endpoints'))).toEqual([]);
      await eventually(
        () => objectsOf(lab, 'WorkloadEndpoint').length === 0,
        () => objectsOf(lab, 'WorkloadEndpoint'),
      );
      expect(await node.stopAgent()).toBe(0);
      const blocks = (await ipamUsageOf(lab)).pools.flatMap((pool) => pool.blocks);
      expect(blocks.filter(({ inUse, reserved }) => inUse > 0 || reserved > 0)).toEqual([]);
    },
    600_000 + soakMs(8),
  );
});
