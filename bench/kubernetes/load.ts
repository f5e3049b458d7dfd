import { setTimeout as sleep } from 'node:timers/promises';
import { must } from '#test/lab/exec.ts';
import { median, quantile, type Table } from '../lib/report.ts';
import { labelsOf } from '../policy/cluster.ts';
import { MeasuredAgent, type Memory } from './agent.ts';
import { patch, type ApiRequest } from './api.ts';
import type { BenchCluster } from './cluster.ts';
import { pod } from './objects.ts';

/** What a stretch of time with changes cost, a second. CPU in ms. */
interface Stretch {
  readonly seconds: number;
  readonly changes: number;
  readonly agentCpuMs: number;
  readonly apiCpuMs: number;
  readonly etcdCpuMs: number;
  /** On the agent's connections to the API server, TLS included. */
  readonly received: number;
  readonly sent: number;
  readonly requests: Requests;
  readonly answerMs: readonly number[];
}

/** Requests that the API server has answered, by verb and resource. */
type Requests = ReadonlyMap<string, number>;

/** Of the whole measurement; everything a second but where it says so. */
export interface LoadData {
  readonly perSecond: number;
  readonly seconds: number;
  readonly agentCpuMs: number;
  readonly bytesPerChange: number;
  readonly receivedBytes: number;
  readonly sentBytes: number;
  /** That the agent made beyond those of the benchmark and of the API server itself. */
  readonly requests: number;
  readonly requestsBy: Readonly<Record<string, number>>;
  /** With the agent, and what it adds. */
  readonly apiCpuMs: number;
  readonly apiCpuOfAgentMs: number;
  readonly etcdCpuOfAgentMs: number;
  /** Of one change, with and without the agent. */
  readonly answerP50Ms: number;
  readonly answerP99Ms: number;
  readonly answerAloneP50Ms: number;
  readonly before: Memory;
  readonly after: Memory;
  readonly server: Memory;
}

const pairs = 2;

/** Pods of other nodes change their labels, so many a second; stretches without and with an agent, in turn, `seconds` of each in all. */
export async function load(cluster: BenchCluster, perSecond: number, seconds: number): Promise<LoadData> {
  const alone: Stretch[] = [];
  const beside: Stretch[] = [];
  let before: Memory | undefined;
  let after: Memory | undefined;
  let round = 0;
  for (let pair = 0; pair < pairs; pair++) {
    // A third as long: the API server's own cost changes less than the agent's.
    const few = changesOf(cluster, Math.ceil((perSecond * seconds) / pairs / 3), round++);
    alone.push(await stretch(cluster, undefined, few, perSecond));
    await using agent = await MeasuredAgent.start(cluster.kubernetes);
    await sleep(3000);
    before ??= agent.memory();
    const many = changesOf(cluster, Math.ceil((perSecond * seconds) / pairs), round++);
    beside.push(await stretch(cluster, agent, many, perSecond));
    after = agent.memory();
  }
  // The sets that other measurements look at hold the pods they held before.
  const { pods } = cluster.size;
  const restored = Array.from({ length: Math.min(pods, round * stride) }, (_, index) => [relabel(index, {})]);
  await cluster.api.all(restored);
  const none: Memory = { rssMib: Number.NaN, peakMib: Number.NaN };
  const rate = (all: readonly Stretch[], key: 'agentCpuMs' | 'apiCpuMs' | 'etcdCpuMs' | 'received' | 'sent') =>
    sum(all.map((one) => one[key])) / sum(all.map((one) => one.seconds));
  const requestsBy = differences(requestRates(beside), requestRates(alone));
  const answers = beside.flatMap(({ answerMs }) => answerMs);
  return {
    perSecond,
    seconds,
    agentCpuMs: rate(beside, 'agentCpuMs'),
    bytesPerChange: sum(beside.map(({ received }) => received)) / sum(beside.map(({ changes }) => changes)),
    receivedBytes: rate(beside, 'received'),
    sentBytes: rate(beside, 'sent'),
    requests: sum(Object.values(requestsBy)),
    requestsBy,
    apiCpuMs: rate(beside, 'apiCpuMs'),
    apiCpuOfAgentMs: rate(beside, 'apiCpuMs') - rate(alone, 'apiCpuMs'),
    etcdCpuOfAgentMs: rate(beside, 'etcdCpuMs') - rate(alone, 'etcdCpuMs'),
    answerP50Ms: median(answers),
    answerP99Ms: quantile(answers, 0.99),
    answerAloneP50Ms: median(alone.flatMap(({ answerMs }) => answerMs)),
    before: before ?? none,
    after: after ?? none,
    server: cluster.server().memory,
  };
}

export function loadTable(data: LoadData, agents: number): Table {
  const kb = (bytes: number) => `${(bytes / 1000).toFixed(1)} kB`;
  const one = (name: string, value: string, extrapolated = '') => [name, value, extrapolated];
  return [
    [`${data.perSecond} pod changes a second`, 'one agent', `${agents} agents, extrapolated`],
    one("agent's CPU, ms a second", data.agentCpuMs.toFixed(1)),
    one("agent's RSS before -> after, MiB", `${data.before.rssMib.toFixed(0)} -> ${data.after.rssMib.toFixed(0)}`),
    one('received a change', kb(data.bytesPerChange)),
    one('received a second', kb(data.receivedBytes), `${((data.receivedBytes * agents) / 1e6).toFixed(1)} MB`),
    one('sent a second', kb(data.sentBytes), `${((data.sentBytes * agents) / 1e6).toFixed(2)} MB`),
    one('requests a second', data.requests.toFixed(2), (data.requests * agents).toFixed(0)),
    one(
      "API server's CPU for it, ms a second",
      data.apiCpuOfAgentMs.toFixed(1),
      `${((data.apiCpuOfAgentMs * agents) / 1000).toFixed(1)} cores`,
    ),
    one("API server's CPU in all, ms a second", data.apiCpuMs.toFixed(0)),
    one("API server's RSS, MiB", data.server.rssMib.toFixed(0)),
  ];
}

async function stretch(
  cluster: BenchCluster,
  agent: MeasuredAgent | undefined,
  changes: readonly ApiRequest[],
  perSecond: number,
): Promise<Stretch> {
  const { netns } = cluster.kubernetes.node;
  const requestsBefore = await requestsSoFar(cluster);
  const socketsBefore = await socketBytes(netns);
  const serverBefore = cluster.server();
  const agentBefore = agent?.cpuMs() ?? 0;
  const { seconds, answerMs } = await cluster.api.paced(changes, perSecond);
  const agentCpuMs = (agent?.cpuMs() ?? 0) - agentBefore;
  const serverAfter = cluster.server();
  const socketsAfter = await socketBytes(netns);
  const requestsAfter = await requestsSoFar(cluster);
  return {
    seconds,
    changes: changes.length,
    agentCpuMs,
    apiCpuMs: serverAfter.apiCpuMs - serverBefore.apiCpuMs,
    etcdCpuMs: serverAfter.etcdCpuMs - serverBefore.etcdCpuMs,
    received: socketsAfter.received - socketsBefore.received,
    sent: socketsAfter.sent - socketsBefore.sent,
    requests: new Map([...requestsAfter].map(([key, count]) => [key, count - (requestsBefore.get(key) ?? 0)])),
    answerMs,
  };
}

/** Between the first pods of two rounds of changes. */
const stride = 7919;

const relabel = (index: number, labels: Readonly<Record<string, string>>): ApiRequest =>
  patch(pod(index), { metadata: { labels: { ...labelsOf(index), ...labels } } });

/** Every change is news: a role the pod doesn't have, one round later its next one. */
function changesOf(cluster: BenchCluster, count: number, round: number): readonly ApiRequest[] {
  const { pods } = cluster.size;
  return Array.from({ length: count }, (_, change) => {
    const index = (round * stride + change) % pods;
    const lap = Math.floor((round * stride + change) / pods);
    return relabel(index, { role: `role-${(index + 1 + round + lap) % 10}` });
  });
}

/** Bytes that the node's connections to the API server have carried; ss reads them from the kernel's TCP. */
async function socketBytes(netns: string): Promise<{ readonly received: number; readonly sent: number }> {
  const text = await must('ip', 'netns', 'exec', netns, 'ss', '-tinH', 'state', 'established', 'dport', '=', ':6443');
  const total = (field: string) =>
    sum([...text.matchAll(new RegExp(`\\b${field}:(\\d+)`, 'g'))].map(([, count]) => Number(count)));
  return { received: total('bytes_received'), sent: total('bytes_acked') };
}

async function requestsSoFar(cluster: BenchCluster): Promise<Requests> {
  const { text } = await cluster.api.ask({ method: 'GET', path: '/metrics' });
  const requests = new Map<string, number>();
  for (const [, labels = '', count] of text.matchAll(/^apiserver_request_total\{(.*)\} (\S+)$/gm)) {
    const of = (name: string) => new RegExp(`${name}="([^"]*)"`).exec(labels)?.[1] ?? '';
    const key = [of('verb'), of('resource'), of('subresource')].filter((part) => part !== '').join(' ');
    requests.set(key, (requests.get(key) ?? 0) + Number(count));
  }
  return requests;
}

/** A second. */
function requestRates(stretches: readonly Stretch[]): Requests {
  const seconds = sum(stretches.map((one) => one.seconds));
  const rates = new Map<string, number>();
  for (const { requests } of stretches) {
    for (const [key, count] of requests) rates.set(key, (rates.get(key) ?? 0) + count / seconds);
  }
  return rates;
}

/** What is more, without what the benchmark itself asks (the changes, the metrics). */
function differences(beside: Requests, alone: Requests): Readonly<Record<string, number>> {
  const rows = [...beside]
    .filter(([key]) => key !== 'PATCH pods' && key !== 'GET')
    .map(([key, rate]) => [key, rate - (alone.get(key) ?? 0)] as const);
  return Object.fromEntries(rows.filter(([, rate]) => Math.abs(rate) > 0.005));
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
