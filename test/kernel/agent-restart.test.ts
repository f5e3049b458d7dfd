/** An agent that is stopped or killed disturbs no pod, and the next one goes on where it was. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { dataplanes, eventually, seededRandom, soakMs, startAgentLab } from '#test/lab/agent-lab.ts';
import type { Lab } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import { settledSnapshotOf, snapshotOf } from '#test/lab/node-snapshot.ts';
import { losses, Traffic } from '#test/lab/traffic.ts';

/** CNI's "try again later". */
const tryAgain = 11;

describe.each(dataplanes)('an agent in $dataplane mode', ({ bpfEnabled, dataplane }) => {
  let lab: Lab;
  let node: LabNode;
  let from: LabPod;
  let targets: readonly LabPod[];

  beforeAll(async () => {
    lab = await startAgentLab({ bpfEnabled });
    node = lab.node(0);
    from = await node.addPod('from');
    targets = [await node.addPod('near'), await lab.node(1).addPod('far')];
  });
  beforeEach(async () => {
    if (node.agentPid === undefined) await node.startAgent();
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  /** What must be the same whatever happened to the agent. */
  const stateOf = async () => {
    const { 'run dir': _, 'state dir': __, ...kernel } = await snapshotOf(node);
    const endpoints = (await node.endpoints()).map(({ counters: _counters, ...endpoint }) => endpoint);
    return { kernel, endpoints };
  };

  it(
    'is stopped and killed again and again: no message is lost, no forged packet passes, and all is as before',
    async () => {
      const random = seededRandom(`restarts, ${dataplane}`);
      // With what the other node's first pod brings: a route to its block.
      for (const target of targets) {
        await target.peer();
        for (const address of target.addresses)
          expect(await (await from.peer()).connect(address)).toMatchObject({ ok: true });
      }
      await settledSnapshotOf(node);
      const before = await stateOf();
      const traffic = await Traffic.start(from, targets);
      const end = Date.now() + soakMs(0);
      let ends = 0;
      for (let wasReady = true; ends < 15 || Date.now() < end; ends++) {
        if (random() < 1 / 3) {
          const status = await node.stopAgent();
          // Before the program has come to its first line, the signal ends it as it ends any process.
          if (wasReady) expect(status).toBe(0);
        } else {
          await node.killAgent();
        }
        await node.startAgent({ wait: false });
        // Half of them end somewhere in their start.
        wasReady = random() < 1 / 2;
        if (wasReady) await node.waitFor(({ ready }) => ready);
        else await sleep(random() * 500);
      }
      await node.waitFor(({ ready }) => ready);
      let now = await stateOf();
      await eventually(
        async () => isDeepStrictEqual((now = await stateOf()), before),
        () => expect(now).toEqual(before),
      );
      const report = await traffic.stop();
      process.stdout.write(`${ends} ends of the agent, ${dataplane}: longest stall ${report.longestStallMs} ms\n`);
      expect(losses(report)).toEqual({});
      expect(report.forged.sent).toBeGreaterThan(500);
      expect(report.forged.heard).toBe(0);
      expect((await node.status()).dataplane.active).toBe(dataplane);
    },
    600_000 + soakMs(0),
  );

  it('being away, ADD and DEL are told to come again, and succeed then', async () => {
    const [leaving, coming] = [await node.addPod('leaving'), await node.createPod('coming')];
    await node.killAgent();
    expect(await coming.tryAdd()).toMatchObject({ code: tryAgain });
    expect(await leaving.tryDel()).toMatchObject({ code: tryAgain });
    await node.startAgent({ wait: false });
    const untilDone = async (action: () => Promise<{ code: number; msg: string } | undefined>) => {
      for (let tries = 0; tries < 1200; tries++) {
        const failure = await action();
        if (failure === undefined) return;
        expect(failure).toMatchObject({ code: tryAgain });
        await sleep(50);
      }
      throw new Error(`still refused:\n${node.logTail()}`);
    };
    await Promise.all([untilDone(() => coming.tryAdd()), untilDone(() => leaving.tryDel())]);
    await coming.peer();
    expect(await (await from.peer()).connect(coming.ipv4)).toMatchObject({ ok: true });
    expect(new Set((await node.endpoints()).map(({ pod }) => pod))).toEqual(new Set(['coming', 'from', 'near']));
    await coming.del();
    for (const pod of [coming, leaving]) await pod.destroy();
  });
});
