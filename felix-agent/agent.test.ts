import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { setImmediate } from 'node:timers/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { pino } from 'pino';
import { parseAs } from '#api/kinds.ts';
import { FakeClock } from '#api/fake-clock.ts';
import { DatastoreError } from '#datastore/errors.ts';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import { freePort } from '#test/lab/free-ports.ts';
import { until } from '#test/lab/until.ts';
import { Agent, type AgentParts } from './agent.ts';
import { CalcFeed } from './calc-feed.ts';
import { CalcGraph } from './calc/calc-graph.ts';
import { Preflight } from './check/preflight.ts';
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
const node1 = parseAs('Node', { apiVersion: 'v1', kind: 'Node', metadata: { name: 'node1' } }).object;
let dir: string;
let datastore: MemoryDatastore;
let events: string[];
/** What the takeover does, in turn; when there is no more it succeeds. */
let takeovers: (() => Promise<void>)[];
let agent: Agent;
/** As in Kubernetes, when a test sets it. */
let cluster: AgentParts['cluster'];

/** What gives the reserve back. */
let closeIpam: () => Promise<void>;
/** Pre-flight's look. */
let lookAtNode: () => Promise<readonly []>;
let preflight: Preflight;

/** What the agent's environment says besides. */
let felixEnv: Record<string, string>;

/** An agent without a kernel and without IPAM: what is left is the order of things. */
function newAgent(): Agent {
  const clock = new FakeClock();
  const store = new ObjectStore(datastore, silent);
  const driver = new Driver(clock, silent);
  const health = new HealthAggregator(clock);
  const graph = new CalcGraph('node1');
  const metrics = new Metrics();
  preflight = new Preflight(() => lookAtNode(), clock, silent);
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
    ipam: { close: () => closeIpam(), unavailableReason: () => undefined },
    endpoints: { list: () => [], added: () => [] },
    publisher: { close: () => Promise.resolve() },
    takeover: { run: () => takeovers.shift()?.() },
    mtu: { refresh: () => Promise.resolve() },
    cni: { open: () => events.push('open') },
    health,
    healthServer: new ConfiguredServer(healthService(health), silent),
    metrics,
    metricsServer: new ConfiguredServer(metricsService(metrics), silent),
    statusFiles,
    preflight,
    cluster,
  };
  return new Agent(parts as unknown as AgentParts);
}

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tortie-agent-'));
  datastore = new MemoryDatastore();
  events = [];
  takeovers = [];
  closeIpam = () => Promise.reject(new Error('no datastore'));
  lookAtNode = () => Promise.resolve([]);
  felixEnv = {
    FELIX_HEALTHENABLED: 'false',
    FELIX_PROMETHEUSMETRICSENABLED: 'false',
    FELIX_ENDPOINTSTATUSPATHPREFIX: dir,
  };
  cluster = undefined;
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

  test('leaves nothing open when it is stopped in the midst of its start, wherever that is', async () => {
    const began = jest.spyOn(globalThis, 'setInterval');
    const ended = jest.spyOn(globalThis, 'clearInterval');
    const kindsOfTurn = [
      () => Promise.resolve(),
      () => new Promise<void>((done) => process.nextTick(done)),
      setImmediate,
    ];
    for (let count = 0; count < 60; count++) {
      agent = newAgent();
      const started = agent.start();
      const turn = kindsOfTurn[count % 3] ?? setImmediate;
      for (let turns = count / 3; turns > 1; turns--) await turn();
      await agent.stop();
      await started;
      expect(readdirSync(dir).filter((name) => name.endsWith('.sock'))).toEqual([]);
    }
    const running = new Set(began.mock.results.map(({ value }) => value as NodeJS.Timeout));
    for (const [interval] of ended.mock.calls) running.delete(interval as NodeJS.Timeout);
    expect(began).toHaveBeenCalled();
    for (const interval of running) clearInterval(interval);
    expect(running.size).toBe(0);
    began.mockRestore();
    ended.mockRestore();
  });

  test('answers probes before the datastore could be read: it lives, and is not ready for the reason that is given', async () => {
    const port = await freePort();
    felixEnv = { ...felixEnv, FELIX_HEALTHENABLED: 'true', FELIX_HEALTHHOST: '127.0.0.1', FELIX_HEALTHPORT: `${port}` };
    datastore.list = () => Promise.reject(new DatastoreError('unavailable', 'https://192.0.2.1:6443: ECONNREFUSED'));
    agent = newAgent();
    const started = agent.start();
    const ask = async (path: string) => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`);
      return { status: response.status, text: await response.text() };
    };
    await until(() => agent.status().reasons.some((reason) => reason.includes('ECONNREFUSED')));
    expect(await ask('/liveness')).toEqual({ status: 200, text: 'ok\n' });
    expect(await ask('/readiness')).toEqual({
      status: 503,
      text: expect.stringMatching(/reading the datastore\n.*https:\/\/192\.0\.2\.1:6443: ECONNREFUSED/),
    });
    await Promise.all([agent.stop(), started]);
    await expect(ask('/liveness')).rejects.toThrow('fetch failed');
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

  describe('in a cluster', () => {
    let unavailableReason: string | undefined;
    beforeEach(() => {
      unavailableReason = undefined;
      const dispose = (what: string) => () => {
        events.push(`${what} ended`);
        return Promise.resolve();
      };
      const defaults = {
        start: () => events.push('defaults start'),
        problems: ['podCIDR is bad'],
        get unavailableReason() {
          return unavailableReason;
        },
        [Symbol.asyncDispose]: dispose('defaults'),
      };
      const node = {
        start: () => events.push('node start'),
        networkIsThere: () => events.push('network is there'),
        failure: "can't write Node node1: forbidden",
        [Symbol.asyncDispose]: dispose('node'),
      };
      const controllers = {
        start: () => events.push('controllers started'),
        status: () => null,
        [Symbol.asyncDispose]: async () => void events.push('controllers ended'),
      };
      cluster = { defaults, node, controllers } as unknown as AgentParts['cluster'];
      agent = newAgent();
    });

    test('makes what is missing, and says on its Node that the network is there when pods can be wired', async () => {
      await agent.start();
      const starts = ['defaults start', 'node start', 'iptables activate', 'open', 'network is there'];
      expect(events).toEqual([...starts, 'controllers started']);
      await agent.stop();
      expect(events).toEqual(expect.arrayContaining(['controllers ended', 'defaults ended', 'node ended']));
    });

    test('is not ready while the cluster is not set up; what fails besides stands in status', async () => {
      await datastore.create('Node', node1);
      await agent.start();
      const { ready, cluster: told, datastore: asked } = agent.status();
      expect({ ready, told, failures: asked.failures }).toEqual({
        ready: true,
        told: { problems: ['podCIDR is bad'] },
        failures: ["can't write Node node1: forbidden"],
      });
      unavailableReason = 'the cluster is not set up yet';
      expect(agent.status()).toMatchObject({ ready: false, reasons: ['the cluster is not set up yet'] });
    });
  });

  test('a datastore that goes away later makes it say so, not unready: pods go on, and a restart would help nobody', async () => {
    await datastore.create('Node', node1);
    const away = Promise.withResolvers<never>();
    away.promise.catch(() => {});
    datastore.watch = async function* watch() {
      yield await away.promise;
    };
    await agent.start();
    expect(agent.status()).toMatchObject({ ready: true, datastore: { failures: [] } });
    away.reject(new DatastoreError('unavailable', 'connect ECONNREFUSED'));
    await until(() => agent.status().datastore.failures.length > 0);
    expect(agent.status()).toMatchObject({ ready: true, reasons: [] });
    expect(agent.status().datastore.failures.join()).toContain('connect ECONNREFUSED');
  });

  test('gives the reserve back at once, also while pre-flight looks at the node', async () => {
    const look = Promise.withResolvers<readonly []>();
    lookAtNode = () => look.promise;
    closeIpam = async () => {
      await setImmediate();
      events.push('reserve given back');
      setTimeout(() => {
        events.push('looked');
        look.resolve([]);
      }, 20);
    };
    await agent.start();
    const looked = preflight.look();
    await agent.stop();
    await looked;
    expect(events.slice(-5)).toEqual([
      'reserve given back',
      'looked',
      'iptables dispose',
      'host network dispose',
      'host closed',
    ]);
  });

  test('ends everything although one part cannot be ended', async () => {
    await agent.start();
    await agent.stop();
    expect(events.slice(-3)).toEqual(['iptables dispose', 'host network dispose', 'host closed']);
    expect([existsSync(join(dir, 'cni.sock')), existsSync(join(dir, 'admin.sock'))]).toEqual([false, false]);
  });
});
