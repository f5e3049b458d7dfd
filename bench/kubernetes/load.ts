import { setTimeout as sleep } from 'node:timers/promises';
import { must } from '#test/lab/exec.ts';
import { median, quantile, type Table } from '../lib/report.ts';
import { labelsOf } from '../policy/cluster.ts';
import { MeasuredAgent, type Memory } from './agent.ts';
import { Api, patch, type ApiRequest } from './api.ts';
import type { BenchCluster } from './cluster.ts';
import { podPath } from './objects.ts';

/** What a stretch of time with changes cost. CPU in ms. */
interface Stretch {
  readonly seconds: number;
  readonly changes: number;
  readonly agentCpuMs: number;
  readonly apiCpuMs: number;
  readonly etcdCpuMs: number;
  /** On the agent's connections to the API server, TLS included. */
  readonly received: number;
  readonly sent: number;
  /** Of service accounts of kube-system: nobody but the agent is one here. */
  readonly requests: number;
  readonly answerMs: readonly number[];
}

/** Of the whole measurement; everything a second but where it says so. */
export interface LoadData {
  readonly perSecond: number;
  readonly seconds: number;
  readonly agentCpuMs: number;
  readonly bytesPerChange: number;
  readonly receivedBytes: number;
  readonly sentBytes: number;
  /** The agent is alone: what one of all does for the cluster (the collector's lease) is among them. */
  readonly requests: number;
  /** API server's CPU with the agent. */
  readonly apiCpuMs: number;
  /** What one watcher of Pods adds to it: by many, since one is lost in the noise. */
  readonly apiCpuOfWatcherMs: number;
  /** Of one change, with and without the agent. */
  readonly answerP50Ms: number;
  readonly answerP99Ms: number;
  readonly answerAloneP50Ms: number;
  readonly before: Memory;
  readonly after: Memory;
  readonly server: Memory;
}

const watchers = 50;

/**
 * Pods of other nodes change their labels, so many a second: for `seconds` with an agent, for a third of that without one, and as long with many
 * bare watchers of Pods, each of which costs the API server what an agent does (an agent's other watches are silent).
 */
export async function load(cluster: BenchCluster, perSecond: number, seconds: number): Promise<LoadData> {
  const short = Math.ceil(seconds / 3);
  const changes = (from: number, forSeconds: number) => changesOf(cluster, from * perSecond, forSeconds * perSecond);
  const alone = await stretch(cluster, undefined, changes(0, short), perSecond);
  const crowded = await (async () => {
    using crowd = new Api(`/run/netns/${cluster.lab.fabric}`, cluster.plane.kubeconfig);
    await crowd.crowd('/api/v1/pods', watchers);
    // They begin with all pods.
    await sleep(5000);
    return stretch(cluster, undefined, changes(short, short), perSecond);
  })();
  await using agent = await MeasuredAgent.start(cluster.kubernetes);
  await sleep(3000);
  const before = agent.memory();
  const beside = await stretch(cluster, agent, changes(2 * short, seconds), perSecond);
  const after = agent.memory();
  // The sets that other measurements look at hold the pods they held before.
  const changed = Math.min(cluster.size.pods, (2 * short + seconds) * perSecond);
  await cluster.api.all(Array.from({ length: changed }, (_, index) => [relabel(index, {})]));
  const apiCpu = (one: Stretch) => one.apiCpuMs / one.seconds;
  return {
    perSecond,
    seconds,
    agentCpuMs: beside.agentCpuMs / beside.seconds,
    bytesPerChange: beside.received / beside.changes,
    receivedBytes: beside.received / beside.seconds,
    sentBytes: beside.sent / beside.seconds,
    requests: beside.requests / beside.seconds,
    apiCpuMs: apiCpu(beside),
    apiCpuOfWatcherMs: (apiCpu(crowded) - apiCpu(alone)) / watchers,
    answerP50Ms: median(beside.answerMs),
    answerP99Ms: quantile(beside.answerMs, 0.99),
    answerAloneP50Ms: median(alone.answerMs),
    before,
    after,
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
    one('requests a second', data.requests.toFixed(2)),
    one(
      "API server's CPU for a watcher, ms a second",
      data.apiCpuOfWatcherMs.toFixed(2),
      `${((data.apiCpuOfWatcherMs * agents) / 1000).toFixed(2)} cores`,
    ),
    one("API server's CPU in all, ms a second", data.apiCpuMs.toFixed(0)),
    one("API server's RSS, MiB", data.server.rssMib.toFixed(0)),
    one('answer to a change, p50 / p99 ms', `${data.answerP50Ms.toFixed(1)} / ${data.answerP99Ms.toFixed(1)}`),
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
    requests: requestsAfter - requestsBefore,
    answerMs,
  };
}

const relabel = (index: number, labels: Readonly<Record<string, string>>): ApiRequest =>
  patch(podPath(index), { metadata: { labels: { ...labelsOf(index), ...labels } } });

/** Changes number `from` on. Every one is news: pod by pod a role that it doesn't have, one round later its next one. */
function changesOf(cluster: BenchCluster, from: number, count: number): readonly ApiRequest[] {
  const { pods } = cluster.size;
  return Array.from({ length: count }, (_, offset) => {
    const change = from + offset;
    const index = change % pods;
    return relabel(index, { role: `role-${(index + 1 + Math.floor(change / pods)) % 10}` });
  });
}

/** Bytes that the node's connections to the API server have carried; ss reads them from the kernel's TCP. */
async function socketBytes(netns: string): Promise<{ readonly received: number; readonly sent: number }> {
  const text = await must('ip', 'netns', 'exec', netns, 'ss', '-tinH', 'state', 'established', 'dport', '=', ':6443');
  const total = (field: string) =>
    sum([...text.matchAll(new RegExp(`\\b${field}:(\\d+)`, 'g'))].map(([, count]) => Number(count)));
  return { received: total('bytes_received'), sent: total('bytes_acked') };
}

async function requestsSoFar(cluster: BenchCluster): Promise<number> {
  const { text } = await cluster.api.ask({ method: 'GET', path: '/metrics' });
  const counts = text.matchAll(/^apiserver_flowcontrol_dispatched_requests_total\{(.*)\} (\S+)$/gm);
  return sum(
    [...counts]
      .filter(([, labels = '']) => /flow_schema="(kube-system-service-accounts|system-leader-election)"/.test(labels))
      .map(([, , count]) => Number(count)),
  );
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
