/** A node that can't do eBPF: its agent stays in iptables mode, says why in status and readiness, and goes on enforcing and wiring. */
import { expect, it } from '@jest/globals';
import { rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { addressOf, dataplanes, eventually, families } from '#test/lab/agent-lab.ts';
import { must } from '#test/lab/exec.ts';
import { Lab } from '#test/lab/lab.ts';
import type { LabPod } from '#test/lab/lab-pod.ts';
import { networkPolicy } from '../contract/objects.ts';
import { getFrom } from './agent-http.ts';

const [iptables, ebpf] = dataplanes;
/** How long a packet may take that must not come, in ms. */
const silenceMs = 300;
const closed = [networkPolicy('closed', { selector: "app == 'closed'", types: ['Ingress'], ingress: [] })];

it('is asked for eBPF where pins can not go: the agent stays, says why, and goes over once it is possible', async () => {
  await using lab = await Lab.create({ nodes: 1 });
  const node = lab.node(0);
  // Pins need a bpf file system, and none is mounted over somebody's files.
  const mountPoint = dirname(node.bpffs);
  const others = join(mountPoint, 'others');
  await must('umount', mountPoint);
  await using stack = new AsyncDisposableStack();
  stack.defer(async () => {
    await must('sh', '-c', `mountpoint -q ${mountPoint} || mount -t bpf bpf ${mountPoint}`);
  });
  writeFileSync(others, '');
  lab.configure({ bpfEnabled: iptables.bpfEnabled });
  lab.apply('policies', closed);
  await node.startAgent();
  const [client, open] = [await node.addPod('client'), await node.addPod('open')];
  const shut = await node.addPod('shut', { labels: { app: 'closed' } });
  await Promise.all([open, shut].map((pod) => pod.peer()));
  const peer = await client.peer();
  const reaches = async (pod: LabPod) =>
    Promise.all(families.map(async (family) => (await peer.connect(addressOf(pod, family), silenceMs)).ok));
  const isEnforced = async () => {
    await eventually(
      async () => JSON.stringify([await reaches(open), await reaches(shut)]) === '[[true,true],[false,false]]',
      async () => [await reaches(open), await reaches(shut)],
    );
  };
  await isEnforced();
  const stream = await peer.stream(open.ipv4, 10);

  lab.setBpfEnabled(ebpf.bpfEnabled);
  const { reasons, dataplane } = await node.waitFor(({ ready, dataplane: { wanted } }) => !ready && wanted === 'ebpf');
  const why = expect.stringMatching(
    /^ebpf: .* is on no bpf file system, and one mounted there would hide what is in it \(others/,
  );
  expect(dataplane).toMatchObject({ active: 'iptables', wanted: 'ebpf', reasons: [why] });
  expect(reasons).toEqual([why]);
  expect(await getFrom(node, '9099/readiness')).toEqual({ status: 503, text: `${reasons.join('\n')}\n` });
  expect((await getFrom(node, '9099/liveness')).status).toBe(200);
  expect((await node.tortie('status')).stdout).toContain(reasons[0]);
  await isEnforced();
  const late = await node.addPod('late');
  await late.peer();
  expect(await peer.connect(late.ipv4)).toMatchObject({ ok: true });

  rmSync(others);
  await node.waitFor((status) => status.ready && status.dataplane.active === 'ebpf');
  expect(await getFrom(node, '9099/readiness')).toEqual({ status: 200, text: 'ok\n' });
  await isEnforced();
  const report = await stream.stop();
  expect(report).toMatchObject({ failure: null, answered: report.sent });
});
