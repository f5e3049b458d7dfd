/** What can't be done as it is written: which state holds meanwhile, by packets, and who says so: status, log, metrics, readiness. */
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually, saysInLog, startAgentLab } from '#test/lab/agent-lab.ts';
import { must } from '#test/lab/exec.ts';
import { Lab } from '#test/lab/lab.ts';
import type { LabNode } from '#test/lab/lab-node.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import { getFrom, scrape } from './agent-http.ts';

const v3 = 'projectcalico.org/v3';
/** Nothing answers in this time: nothing will. In ms. */
const silenceMs = 250;

const globalPolicy = (name: string, spec: object) => ({
  apiVersion: v3,
  kind: 'GlobalNetworkPolicy',
  metadata: { name },
  spec,
});
const toWeb = (ingress: readonly object[], more: object = {}) =>
  globalPolicy('web', { selector: "app == 'web'", types: ['Ingress'], ingress, ...more });
/** A rule that no version of the schema knows. */
const broken = { action: 'Perhaps' };

describe('an invalid policy', () => {
  let lab: Lab;
  let node: LabNode;
  let web: LabPod;
  let client: LabPod;

  beforeAll(async () => {
    lab = await startAgentLab({ bpfEnabled: false, nodes: 1 });
    node = lab.node(0);
    web = await node.addPod('web', { labels: { app: 'web' }, serves: [80, 7777] });
    client = await node.addPod('client', { labels: { app: 'client' }, serves: [80, 7777] });
    await Promise.all([web.peer(), client.peer()]);
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  /** What passes now, in both families; waits until it is so. */
  const becomes = async (wanted: {
    readonly toWeb80: boolean;
    readonly toWeb7777: boolean;
    readonly fromWeb: boolean;
  }) => {
    const passes = async (from: LabPod, to: LabPod, port: number) => {
      const peer = await from.peer();
      const answers = await Promise.all(to.addresses.map((host) => peer.probe(host, { port, timeoutMs: silenceMs })));
      const reached = answers.map(({ verdict }) => verdict === 'reaches');
      return reached.every(Boolean) ? true : reached.some(Boolean) ? 'in one family' : false;
    };
    const present = async () => {
      const [toWeb80, toWeb7777, fromWeb] = await Promise.all([
        passes(client, web, 80),
        passes(client, web, 7777),
        passes(web, client, 80),
      ]);
      return { toWeb80, toWeb7777, fromWeb };
    };
    await eventually(
      async () => JSON.stringify(await present()) === JSON.stringify(wanted),
      async () => JSON.stringify(await present()),
    );
  };
  const everything = { toWeb80: true, toWeb7777: true, fromWeb: true };
  const effects = async () => {
    const values = await scrape(node);
    return Object.fromEntries(
      ['last-valid', 'denies', 'ignored'].map((effect) => [
        effect,
        values[`tortie_invalid_objects{effect="${effect}"}`],
      ]),
    );
  };
  const none = { 'last-valid': 0, denies: 0, ignored: 0 };
  /** Status (both forms), log and metric say it; the node goes on being ready. */
  const isSaid = async (effect: 'last-valid' | 'denies' | 'ignored', words: RegExp, logged: number) => {
    const { ready, datastore } = await node.waitFor(({ datastore: { problems } }) => problems.length > 0);
    expect({ ready, problems: datastore.problems }).toMatchObject({
      ready: true,
      problems: [{ effect, objects: ['GlobalNetworkPolicy web'], message: expect.stringMatching(words) }],
    });
    expect((await node.tortie('status')).stdout).toMatch(words);
    expect(await effects()).toEqual({ ...none, [effect]: 1 });
    await saysInLog(node, words, logged);
  };
  const isMended = async (logged: number) => {
    await node.waitFor(({ datastore }) => datastore.problems.length === 0);
    expect(await effects()).toEqual(none);
    await saysInLog(node, /no longer so: .*GlobalNetworkPolicy .{1,2}web/, logged);
  };

  it('that was valid before keeps its last valid version, until it is mended', async () => {
    lab.apply('policy', [toWeb([{ action: 'Allow', protocol: 'TCP', destination: { ports: [80] } }])]);
    await becomes({ toWeb80: true, toWeb7777: false, fromWeb: true });
    const logged = node.log().length;
    lab.apply('policy', [toWeb([broken])]);
    await isSaid(
      'last-valid',
      /GlobalNetworkPolicy .{1,2}web.{1,2}: spec\.ingress.*its last valid version stays in force/,
      logged,
    );
    await becomes({ toWeb80: true, toWeb7777: false, fromWeb: true });
    lab.apply('policy', [toWeb([{ action: 'Allow', protocol: 'TCP', destination: { ports: [7777] } }])]);
    await becomes({ toWeb80: false, toWeb7777: true, fromWeb: true });
    await isMended(logged);
  });

  it('that never was valid denies its types for what it selects, and nobody else', async () => {
    lab.apply('policy', []);
    await becomes(everything);
    const logged = node.log().length;
    lab.apply('policy', [toWeb([broken])]);
    await isSaid(
      'denies',
      /GlobalNetworkPolicy .{1,2}web.{1,2}: spec\.ingress.*until it is mended it denies ingress of what its selector selects/,
      logged,
    );
    await becomes({ toWeb80: false, toWeb7777: false, fromWeb: true });
    lab.apply('policy', [toWeb([broken], { types: ['Egress'] })]);
    await becomes({ toWeb80: true, toWeb7777: true, fromWeb: false });
    lab.apply('policy', [toWeb([{ action: 'Allow', protocol: 'TCP', destination: { ports: [80] } }])]);
    await becomes({ toWeb80: true, toWeb7777: false, fromWeb: true });
    await isMended(logged);
  });

  it('whose selector is what is wrong is ignored', async () => {
    lab.apply('policy', []);
    await becomes(everything);
    const logged = node.log().length;
    lab.apply('policy', [toWeb([{ action: 'Deny' }], { selector: "app == 'web" })]);
    await isSaid('ignored', /GlobalNetworkPolicy .{1,2}web.{1,2}: spec\.selector.*it is ignored/, logged);
    await becomes(everything);
    lab.apply('policy', []);
    await isMended(logged);
  });

  it('a part of a valid policy that can not be enforced is logged once with the policy, again when it changes, and when it is gone', async () => {
    const logged = node.log().length;
    const lines = () =>
      node
        .log()
        .slice(logged)
        .split('\n')
        .slice(0, -1) // What is behind the last newline may be half a line.
        .filter((line) => line.includes('"msg":"GlobalNetworkPolicy web: '))
        .map((line) => JSON.parse(line) as { level: number; object: string; msg: string });
    const http = { action: 'Allow', http: { methods: ['GET'] } };
    lab.apply('policy', [toWeb([http])]);
    const { policy } = await node.waitFor((status) => status.policy.problems.length > 0);
    expect(policy.problems).toEqual([
      { object: 'GlobalNetworkPolicy web', message: expect.stringMatching(/ingress rule 0.*http/) },
    ]);
    await becomes({ toWeb80: false, toWeb7777: false, fromWeb: true });
    expect((await node.tortie('status')).stdout).toMatch(/^policy +GlobalNetworkPolicy web: .*http/m);
    // Other changes don't repeat it.
    lab.apply('other', [globalPolicy('other', { selector: "app == 'nobody'", types: ['Ingress'] })]);
    lab.apply('policy', [toWeb([{ action: 'Deny', protocol: 'TCP', destination: { ports: [80] } }, http])]);
    await node.waitFor(({ policy: { problems } }) => problems.some(({ message }) => message.includes('rule 1')));
    lab.apply('policy', []);
    await node.waitFor((status) => status.policy.problems.length === 0);
    // The log comes by another way than status does, and may be a line behind.
    await eventually(
      () => lines().filter(({ msg }) => /no longer so/.test(msg)).length === 2,
      () => node.logTail(),
    );
    expect(
      lines().map(({ level, object, msg }) => [
        level >= 40,
        object,
        /no longer so/.test(msg),
        /rule \d/.exec(msg)?.[0],
      ]),
    ).toEqual([
      [true, 'GlobalNetworkPolicy web', false, 'rule 0'],
      [true, 'GlobalNetworkPolicy web', false, 'rule 1'],
      [false, 'GlobalNetworkPolicy web', true, 'rule 0'],
      [false, 'GlobalNetworkPolicy web', true, 'rule 1'],
    ]);
    await becomes(everything);
  });
});

describe('readiness', () => {
  const readiness = (node: LabNode) => getFrom(node, '9099/readiness');

  it('is 503 until everything has been programmed for the first time, and 200 then', async () => {
    await using lab = await Lab.create({ nodes: 1 });
    const node = lab.node(0);
    const [dir, gate] = [join(lab.dir, 'held'), join(lab.dir, 'gate')];
    mkdirSync(dir);
    for (const tool of ['iptables-nft-restore', 'ip6tables-nft-restore']) {
      const path = (await must('sh', '-c', `command -v ${tool}`)).trim();
      writeFileSync(join(dir, tool), `#!/bin/sh\nwhile [ -e ${gate} ]; do sleep 0.05; done\nexec ${path} "$@"\n`);
      chmodSync(join(dir, tool), 0o755);
    }
    writeFileSync(gate, ''); // The tools wait until it is gone, or the whole lab.
    const env = { PATH: `${dir}:${process.env['PATH'] ?? ''}`, FELIX_IPTABLESBACKEND: 'NFT' };
    await node.startAgent({ wait: false, env });
    await node.waitFor(({ reasons }) => reasons.includes('programming the kernel'));
    expect(await readiness(node)).toEqual({ status: 503, text: 'programming the kernel\n' });
    expect((await getFrom(node, '9099/liveness')).status).toBe(200);
    expect((await scrape(node))['tortie_ready']).toBe(0);
    rmSync(gate);
    await node.waitFor(({ ready }) => ready);
    expect(await readiness(node)).toEqual({ status: 200, text: 'ok\n' });
    expect((await scrape(node))['tortie_ready']).toBe(1);
  });

  it('is 503 while an object can not be programmed, with its name and the reason, and 200 when it can', async () => {
    await using lab = await startAgentLab({ bpfEnabled: false, nodes: 1 });
    const node = lab.node(0);
    const [web, client] = [await node.addPod('web', { labels: { app: 'web' } }), await node.addPod('client')];
    await Promise.all([web.peer(), client.peer()]);
    const statusFiles = () => node.exec('ls', join(lab.dir, node.name, 'calico', 'endpoint-status'));
    const bothFiles = 'k8s default%2Fclient eth0\nk8s default%2Fweb eth0\n';
    /** They come a moment after status has it. */
    const statusFilesAre = (files: string) => eventually(async () => (await statusFiles()) === files, statusFiles);
    await statusFilesAre(bothFiles);
    const isMended = async () => {
      await node.waitFor(({ ready }) => ready);
      expect(await readiness(node)).toEqual({ status: 200, text: 'ok\n' });
      expect((await scrape(node))['tortie_objects_not_programmed']).toBe(0);
      await statusFilesAre(bothFiles);
      for (const address of web.addresses)
        expect(await (await client.peer()).connect(address)).toMatchObject({ ok: true });
    };

    const nets = Array.from({ length: 40 }, (_, index) => `198.51.100.${index}/32`);
    lab.configure({ bpfEnabled: false, maxIpsetSize: 16 });
    const pools = () => node.exec('ipset', 'list', '-t', 'cali40masq-ipam-pools');
    await eventually(async () => / maxelem 16 /.test(await pools()), pools);
    lab.apply('policy', [toWeb([{ action: 'Deny', source: { nets } }, { action: 'Allow' }])]);
    const full = await node.waitFor(({ reasons }) => reasons.length === 2);
    const reason = /ipset cali40s-\S+ \(40 networks\): .*the set is full.*\(24 members are refused\)$/;
    expect(full.reasons).toEqual([
      expect.stringMatching(reason),
      expect.stringMatching(new RegExp(`^endpoint k8s/default/web/eth0: ${reason.source}`)),
    ]);
    expect((await readiness(node)).text).toBe(`${full.reasons.join('\n')}\n`);
    expect((await readiness(node)).status).toBe(503);
    await statusFilesAre('k8s default%2Fclient eth0\n');
    expect((await node.tortie('policy', 'show', 'web')).stdout).toMatch(
      /^note +endpoint k8s\/default\/web\/eth0 is not programmed/m,
    );
    lab.configure({ bpfEnabled: false });
    await isMended();

    // The other way round: the larger set stays, so the endpoint has what its policy says.
    lab.configure({ bpfEnabled: false, maxIpsetSize: 16 });
    const tooSmall = await node.waitFor(({ ready }) => !ready);
    expect(tooSmall.reasons).toEqual([
      expect.stringMatching(/^ipset cali40s-\S+ \(40 networks\): 24 members did not go into the new set, .*full/),
    ]);
    await statusFilesAre(bothFiles);
    lab.configure({ bpfEnabled: false });
    await isMended();

    lab.configure({ bpfEnabled: false, iptablesMarkMask: 0x30 });
    const marks = await node.waitFor(({ ready }) => !ready);
    expect(marks.reasons.join('\n')).toMatch(/iptablesMarkMask/);
    expect(marks.reasons.join('\n')).toMatch(/dataplane iptables/);
    expect((await readiness(node)).status).toBe(503);
    // What is in force stays so.
    for (const address of web.addresses)
      expect(await (await client.peer()).connect(address)).toMatchObject({ ok: true });
    lab.configure({ bpfEnabled: false });
    await isMended();
  });
});
