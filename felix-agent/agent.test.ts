import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { FakeClock } from '#api/fake-clock.ts';
import { DatastoreError } from '#datastore/errors.ts';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import { until } from '#test/lab/until.ts';
import { Agent, type AgentParts } from './agent.ts';
import { CalcFeed } from './calc-feed.ts';
import { CalcGraph } from './calc/calc-graph.ts';
import { ConfigWatcher } from './config/config-watcher.ts';
import { Driver } from './driver/driver.ts';
import { FakeDataplane } from './driver/fake-dataplane.ts';
import { EndpointStatusFiles } from './endpoints/endpoint-status-files.ts';
import { HealthAggregator, healthService } from './health/health.ts';
import { ConfiguredServer } from './http/configured-server.ts';
import { Metrics, metricsService } from './metrics/metrics.ts';
import { ObjectStore } from './store/object-store.ts';
import { ActiveFile } from './switch/active-file.ts';
import { DataplaneSwitch } from './switch/switch.ts';

/** The agent sets its level, so silence is in where it writes. */
const silent = pino({}, { write: () => {} });
let dir: string;
let datastore: MemoryDatastore;
let events: string[];
/** What the takeover does, in turn; when there is no more it succeeds. */
let takeovers: (() => Promise<void>)[];
let agent: Agent;

/** An agent without a kernel and without IPAM: what is left is the order of things. */
function newAgent(): Agent {
  const clock = new FakeClock();
  const store = new ObjectStore(datastore, silent);
  const driver = new Driver(clock, silent);
  const health = new HealthAggregator(clock);
  const felixEnv = {
    FELIX_HEALTHENABLED: 'false',
    FELIX_PROMETHEUSMETRICSENABLED: 'false',
    FELIX_ENDPOINTSTATUSPATHPREFIX: dir,
  };
  const graph = new CalcGraph('node1');
  const metrics = new Metrics();
  const statusFiles = new EndpointStatusFiles(dir, silent);
  const factory = { kind: 'iptables', create: () => new FakeDataplane('iptables', events) };
  const parts = {
    settings: { nodeName: 'node1', runDir: dir, datastore: { kind: 'files', dir } },
    log: silent,
    datastore,
    host: { [Symbol.dispose]: () => events.push('host closed') },
    store,
    config: new ConfigWatcher(store, 'node1', felixEnv, silent),
    graph,
    feed: new CalcFeed(graph, driver),
    driver,
    hostNetwork: new FakeDataplane('host network', events),
    dataplanes: new DataplaneSwitch([factory], driver, new ActiveFile(dir), clock, silent),
    ipam: { close: () => Promise.reject(new Error('no datastore')), unavailableReason: () => undefined },
    endpoints: { list: () => [] },
    publisher: { close: () => Promise.resolve() },
    takeover: { run: () => takeovers.shift()?.() },
    mtu: { refresh: () => Promise.resolve() },
    cni: { open: () => events.push('open') },
    health,
    healthServer: new ConfiguredServer(healthService(health), silent),
    metrics,
    metricsServer: new ConfiguredServer(metricsService(metrics), silent),
    statusFiles,
  };
  return new Agent(parts as unknown as AgentParts);
}

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tortie-agent-'));
  datastore = new MemoryDatastore();
  events = [];
  takeovers = [];
  agent = newAgent();
});
afterEach(async () => {
  await agent.stop();
  rmSync(dir, { recursive: true });
});

describe('the agent', () => {
  test('opens for the runtime when the kernel is programmed', async () => {
    await agent.start();
    expect(events).toEqual(['iptables activate', 'open']);
  });

  test('a stop while the datastore has not been read ends the start, which programs nothing', async () => {
    datastore.list = () => new Promise(() => {});
    const started = agent.start();
    await until(() => agent.status().reasons.includes('reading the datastore'));
    await Promise.all([agent.stop(), started]);
    expect(events).not.toContain('iptables activate');
  });

  test('a stop waits for the takeover that is under way, and nothing follows it', async () => {
    const gate = Promise.withResolvers<void>();
    const entered = Promise.withResolvers<void>();
    takeovers.push(() => {
      entered.resolve();
      return gate.promise;
    });
    const started = agent.start();
    await entered.promise;
    const stopped = agent.stop();
    expect(events).toEqual([]);
    gate.resolve();
    await Promise.all([started, stopped]);
    expect(events).toEqual(['host network dispose', 'host closed']);
  });

  test('waits for a datastore that goes away before the takeover is done, and says so', async () => {
    takeovers.push(() => Promise.reject(new DatastoreError('unavailable', "can't list IPAMBlock: away")));
    const started = agent.start();
    await until(() => agent.status().reasons.some((reason) => reason.includes("can't list IPAMBlock: away")));
    await started;
    expect(events).toContain('open');
    expect(agent.status().reasons.join()).not.toContain('away');
  });

  test('does not start when the takeover fails for another reason', async () => {
    takeovers.push(() => Promise.reject(new Error('EACCES: endpoints')));
    await expect(agent.start()).rejects.toThrow('EACCES: endpoints');
    expect(events).toEqual([]);
  });

  test('ends everything although one part cannot be ended', async () => {
    await agent.start();
    await agent.stop();
    expect(events.slice(-3)).toEqual(['iptables dispose', 'host network dispose', 'host closed']);
    expect([existsSync(join(dir, 'cni.sock')), existsSync(join(dir, 'admin.sock'))]).toEqual([false, false]);
  });
});
