import { setTimeout as sleep } from 'node:timers/promises';
import { eventually } from '#test/lab/agent-lab.ts';
import { openIpset } from '#native/ipset.ts';
import { quantile, type Table } from '../lib/report.ts';
import { SetWatch } from '../lib/set-watch.ts';
import { labelsOf } from '../policy/cluster.ts';
import { MeasuredAgent } from './agent.ts';
import { Api, create, patch, remove, type ApiRequest, type Timed } from './api.ts';
import type { BenchCluster } from './cluster.ts';
import { pod, podAddress, podPath, podStatus, type PodShape } from './objects.ts';

/** Times of one kind of event, in ms. */
export interface EventTimes {
  readonly fromAnswer: readonly number[];
  readonly fromSending: readonly number[];
  /** Of a bare watcher, in events of its own while the same agent runs: from the answer to the event's arrival there. */
  readonly bareWatch: readonly number[];
  /** The agent's CPU for each round, in ms (a new pod is three writes: create, status, delete). */
  readonly cpuMs: number;
  /** The agent's memory after all rounds, in MiB. */
  readonly rssMib: number;
  /** Between the look that found the address in the set and the one before. */
  readonly gapMs: readonly number[];
}

/** By kind of event. */
export type EventData = Readonly<Record<string, EventTimes>>;

/** One event: what happens before it, the write that is timed, what is awaited, and what happens after. */
interface Round {
  readonly before: readonly ApiRequest[];
  readonly event: ApiRequest;
  readonly address: string;
  readonly set: string;
  readonly after: readonly ApiRequest[];
}

/** Between two writes, so that each finds everybody idle. */
const quietMs = 25;
const roles = 10;

/** A remote pod's event at the API server until its address is in the set of this node's kernel. `count` of each kind. */
export async function events(cluster: BenchCluster, count: number): Promise<EventData> {
  const { netnsPath } = cluster.kubernetes.node;
  await using agent = await MeasuredAgent.start(cluster.kubernetes);
  using watch = await SetWatch.start(netnsPath);
  const sets = await roleSets(netnsPath);
  const kinds: Readonly<Record<string, (index: number) => Round>> = {
    'a new pod gets its address': (index) => newPod(cluster.size.pods + index, cluster.shape, sets),
    'a pod gets another role': (index) => otherRole(index, sets),
  };
  const data: Record<string, EventTimes> = {};
  for (const [name, round] of Object.entries(kinds)) {
    await play(cluster.api, watch, round(0));
    const cpuBefore = agent.cpuMs();
    const fromAnswer: number[] = [];
    const fromSending: number[] = [];
    const gapMs: number[] = [];
    for (let index = 1; index <= count; index++) {
      const { timed, ns, gapNs } = await play(cluster.api, watch, round(index));
      fromAnswer.push((ns - timed.answeredNs) / 1e6);
      fromSending.push((ns - timed.sentNs) / 1e6);
      gapMs.push(gapNs / 1e6);
    }
    const cpuMs = (agent.cpuMs() - cpuBefore) / count;
    const bareWatch = await heard(cluster, Math.ceil(count / 2), (index) => round(count + 1 + index));
    data[name] = { fromAnswer, fromSending, bareWatch, cpuMs, rssMib: agent.memory().rssMib, gapMs };
  }
  return data;
}

export function eventTable(data: EventData): Table {
  const header = [
    '',
    'p50 ms',
    'p90',
    'p99',
    'from sending p50',
    'p99',
    'bare watch p50',
    'p90',
    'CPU ms',
    'RSS MiB',
    'exact to (p90)',
  ];
  const rows = Object.entries(data).map(([name, { fromAnswer, fromSending, bareWatch, cpuMs, rssMib, gapMs }]) => [
    name,
    ...[0.5, 0.9, 0.99].map((part) => quantile(fromAnswer, part).toFixed(2)),
    ...[0.5, 0.99].map((part) => quantile(fromSending, part).toFixed(2)),
    ...[0.5, 0.9].map((part) => quantile(bareWatch, part).toFixed(2)),
    cpuMs.toFixed(1),
    rssMib.toFixed(0),
    quantile(gapMs, 0.9).toFixed(2),
  ]);
  return [header, ...rows];
}

async function play(
  api: Api,
  watch: SetWatch,
  { before, event, address, set, after }: Round,
): Promise<{ readonly timed: Timed; readonly ns: number; readonly gapNs: number }> {
  for (const request of before) await api.ask(request);
  await sleep(quietMs);
  const { seen } = await watch.watch(set, address, 'present');
  const timed = await api.ask(event);
  const result = { timed, ...(await seen) };
  await sleep(quietMs);
  for (const request of after) await api.ask(request);
  return result;
}

/** How long after the API's answer a watcher that does nothing else hears of it: what no agent can better. */
async function heard(
  cluster: BenchCluster,
  count: number,
  round: (index: number) => Round,
): Promise<readonly number[]> {
  using watcher = new Api(`/run/netns/${cluster.lab.fabric}`, cluster.plane.kubeconfig);
  const times = new Map<string, number>();
  await watcher.hear('/api/v1/namespaces/default/pods', ({ version, ns }) => times.set(version, ns));
  const delays: number[] = [];
  for (let index = 0; index < count; index++) {
    const { before, event, after } = round(index);
    for (const request of before) await cluster.api.ask(request);
    await sleep(quietMs);
    const { answeredNs, text } = await cluster.api.ask(event);
    const { metadata } = JSON.parse(text) as { metadata: { resourceVersion: string } };
    const { resourceVersion } = metadata;
    await eventually(
      () => times.has(resourceVersion),
      () => `nothing heard of version ${resourceVersion}`,
    );
    delays.push(((times.get(resourceVersion) ?? Number.NaN) - answeredNs) / 1e6);
    await sleep(quietMs);
    for (const request of after) await cluster.api.ask(request);
  }
  return delays;
}

/** A pod that scheduler and kubelet bring to life: created without an address, which comes with its status. */
function newPod(index: number, shape: PodShape, sets: readonly string[]): Round {
  const object = pod(index, shape);
  return {
    before: [create(object)],
    event: patch(`${podPath(index)}/status`, podStatus(index, shape)),
    address: podAddress(index),
    set: setOf(sets, index % roles),
    after: [remove(object)],
  };
}

/** A pod's role is another one each time; afterwards it has its own again. */
function otherRole(round: number, sets: readonly string[]): Round {
  const index = 500 + (round % 400);
  const role = (index + 1 + Math.floor(round / 400)) % roles;
  const relabel = (labels: Readonly<Record<string, string>>) => patch(podPath(index), { metadata: { labels } });
  return {
    before: [],
    event: relabel({ role: `role-${role}` }),
    address: podAddress(index),
    set: setOf(sets, role),
    after: [relabel({ role: labelsOf(index)['role'] ?? '' })],
  };
}

function setOf(sets: readonly string[], role: number): string {
  const set = sets[role];
  if (set === undefined) throw new Error(`no set of role ${role}`);
  return set;
}

/** Name of the set of each role: the one that holds all of the first pods that have it, which have nothing else in common. */
async function roleSets(netnsPath: string): Promise<readonly string[]> {
  using ipset = openIpset({ path: netnsPath });
  const all = (await ipset.contents('cali')).map(({ name, members }) => ({ name, members: new Set(members) }));
  return Array.from({ length: roles }, (_, role) => {
    const addresses = Array.from({ length: 10 }, (__, index) => podAddress(index * roles + role));
    const found = all.filter(({ members }) => addresses.every((address) => members.has(address)));
    // Sets of everything (all pods, all addresses of the pool) hold them, too; they are larger.
    const [smallest] = found.sort((a, b) => a.members.size - b.members.size);
    if (smallest === undefined) throw new Error(`no ipset holds the pods of role ${role}`);
    return smallest.name;
  });
}
