/** What a user or a neighbour can get wrong: said with the name of the thing, and nothing that worked stops working. */
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { eventually, saysInLog } from '#test/lab/agent-lab.ts';
import { distDir } from '#test/lab/dist.ts';
import { Lab } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import { replaceFile } from '#test/lab/replace-file.ts';
import { getFrom } from './agent-http.ts';

describe('an agent', () => {
  let lab: Lab;
  let node: LabNode;

  beforeEach(async () => {
    lab = await Lab.create({ nodes: 1 });
    node = lab.node(0);
  });
  afterEach(() => lab[Symbol.asyncDispose]());

  const pool = (name: string, cidr: string) => ({
    apiVersion: 'projectcalico.org/v3',
    kind: 'IPPool',
    metadata: { name },
    spec: { cidr },
  });
  const problemsName = (file: string) =>
    node.waitFor(({ datastore }) => datastore.problems.some(({ source }) => source.includes(file)));

  it('keeps the last good state when a file of the datastore breaks, and names the file until it is mended', async () => {
    await node.startAgent();
    const before = await node.addPod('before');
    replaceFile(lab.datastoreDir, 'pools.yaml', 'kind: IPPool\n  metadata: [broken');
    await problemsName('pools.yaml');
    const during = await node.addPod('during');
    await Promise.all([before.peer(), during.peer()]);
    expect(await (await during.peer()).connect(before.ipv4)).toEqual({ ok: true, seenAs: during.ipv4 });
    expect(await (await during.peer()).connect(before.ipv6)).toEqual({ ok: true, seenAs: during.ipv6 });
    expect((await node.tortie('status')).stdout).toContain('pools.yaml');

    lab.apply('pools', [pool('v4', '10.65.0.0/16'), pool('v6', 'fd65::/48')]);
    await node.waitFor(({ datastore, ready }) => ready && datastore.problems.length === 0);
  });

  it('names both files when an object is in two, and goes on with what it knew', async () => {
    await node.startAgent();
    lab.apply('again', [pool('v4', '10.99.0.0/16')]);
    const { datastore } = await problemsName('again.yaml');
    expect(JSON.stringify(datastore.problems)).toContain('pools.yaml');
    expect((await node.addPod('pod')).ipv4).toMatch(/^10\.65\./);
    rmSync(join(lab.datastoreDir, 'again.yaml'));
    await node.waitFor(({ datastore: { problems } }) => problems.length === 0);
  });

  it('names an object that is not valid, with the field', async () => {
    await node.startAgent();
    lab.apply('bad', [pool('bad', '10.99.0.0/99')]);
    const { datastore } = await problemsName('bad.yaml');
    expect(datastore.problems.find(({ source }) => source.includes('bad.yaml'))?.message).toMatch(/cidr/);
  });

  it('ignores a FELIX_ variable that has no meaning, and says so; with one that must not be replaced it does not start', async () => {
    await node.startAgent({ env: { FELIX_BPFENABLED: 'perhaps', FELIX_NOSUCHTHING: '1' } });
    const { configuration, dataplane } = await node.status();
    expect(configuration.problems.join('\n')).toMatch(/FELIX_BPFENABLED.*perhaps/);
    expect(configuration.problems.join('\n')).toMatch(/FELIX_NOSUCHTHING/);
    expect(dataplane.active).toBe('iptables');
    await node.stopAgent();

    await node.startAgent({ wait: false, env: { FELIX_INTERFACEPREFIX: 'a name that no device can have' } });
    await eventually(
      () => node.agentPid === undefined,
      () => node.logTail(),
    );
    await saysInLog(node, /FELIX_INTERFACEPREFIX/);
  });

  it('waits while another one has its run dir, says so, and takes over when that ends', async () => {
    await node.startAgent();
    const second = spawn(
      'nsenter',
      [`--net=${node.netnsPath}`, join(distDir, 'bin/tortie'), 'agent', ...node.settings],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    const ended = new Promise((resolve) => {
      second.once('exit', resolve);
    });
    try {
      let said = '';
      second.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
      await eventually(
        () => said.includes('waiting for another agent') && said.includes(node.runDir),
        () => said,
      );
      expect((await node.status()).ready).toBe(true);
      const pod = await node.addPod('pod');
      await node.killAgent();
      await eventually(
        async () => (await node.status().catch(() => undefined))?.ready === true,
        () => said,
      );
      expect((await node.endpoints()).map(({ pod: name }) => name)).toEqual(['pod']);
      await pod.del();
    } finally {
      second.kill('SIGTERM');
      expect(await ended).toBe(0);
    }
  });

  it('is not ready without its Node, and ready with it: health, status and STATUS say the same', async () => {
    lab.apply('nodes', []);
    await node.startAgent({ wait: false });
    await node.waitFor(({ reasons }) => reasons.some((reason) => reason.includes('no Node node1')));
    expect(await getFrom(node, '9099/readiness')).toMatchObject({
      status: 503,
      text: expect.stringContaining('no Node node1'),
    });
    expect(await getFrom(node, '9099/liveness')).toMatchObject({ status: 200 });
    lab.apply('nodes', [node.manifest()]);
    await node.waitFor(({ ready }) => ready);
    await eventually(
      async () => (await getFrom(node, '9099/readiness')).status === 200,
      () => getFrom(node, '9099/readiness'),
    );
    expect(await getFrom(node, '9099/nothing')).toMatchObject({ status: 404 });
  });

  it('moves its health endpoint when the configuration does', async () => {
    await node.startAgent();
    lab.configure({ healthPort: 9098 });
    await eventually(
      async () => (await getFrom(node, '9098/readiness')).status === 200,
      () => getFrom(node, '9098/readiness'),
    );
    await eventually(
      async () => (await getFrom(node, '9099/readiness')).status === 0,
      () => getFrom(node, '9099/readiness'),
    );
    lab.configure({ healthEnabled: false });
    await eventually(
      async () => (await getFrom(node, '9098/readiness')).status === 0,
      () => getFrom(node, '9098/readiness'),
    );
  });

  it('without an IPPool answers STATUS with code 50 and the reason, until there is one', async () => {
    lab.apply('pools', []);
    await node.startAgent({ wait: false });
    await node.waitFor(({ reasons }) => reasons.some((reason) => reason.includes('IPPool')));
    const { status, stdout } = await node.cni('STATUS');
    expect({ status, ...JSON.parse(stdout) }).toMatchObject({
      status: 1,
      code: 50,
      msg: expect.stringContaining('IPPool'),
    });
    expect(await (await node.createPod('early')).tryAdd()).toMatchObject({
      code: 11,
      msg: expect.stringContaining('IPPool'),
    });
    lab.apply('pools', [pool('v4', '10.65.0.0/16'), pool('v6', 'fd65::/48')]);
    await node.waitFor(({ ready }) => ready);
    expect((await node.cni('STATUS')).status).toBe(0);
    expect((await node.addPod('later')).addresses.length).toBe(2);
  });

  it('answers STATUS with code 50 while it is away', async () => {
    const { status, stdout } = await node.cni('STATUS');
    expect({ status, ...JSON.parse(stdout) }).toMatchObject({ status: 1, code: 50 });
  });

  it('lets an ADD wait for its Pod, and names the Pod when it does not come', async () => {
    const [late, never] = [await node.createPod('late'), await node.createPod('never')];
    for (const pod of [late, never]) pod.removeObject();
    await node.startAgent();
    await saysInLog(node, 'in sync');
    const adds = [late.tryAdd(), never.tryAdd()];
    // Long enough for the ADDs to be waiting; if they are not yet, the test is weaker, not wrong.
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    late.writeObject();
    expect(await adds[0]).toBeUndefined();
    expect(late.addresses.length).toBe(2);
    expect(await adds[1]).toMatchObject({ code: 11, msg: expect.stringContaining('default/never') });
    expect((await node.endpoints()).map(({ pod }) => pod)).toEqual(['late']);
  });
});
