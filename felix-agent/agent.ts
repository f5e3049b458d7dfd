import { setTimeout as delay } from 'node:timers/promises';
import type { ServiceIdentifier } from 'inversify';
import type { Counter, Programmer } from '#dataplanes/contract.ts';
import type { Pod } from '#api/core/pod.ts';
import type { WorkloadEndpoint } from '#api/v3/workload-endpoint.ts';
import type { EndpointId } from '#dataplanes/messages.ts';
import type { Datastore } from '#datastore/datastore.ts';
import type { NodeIpam } from '#ipam/node-ipam.ts';
import type { Netlink } from '#native/types.ts';
import { aborted } from './aborted.ts';
import type { Preflight } from './check/preflight.ts';
import { AdminServer, type AdminRoutes, type AdminStreams } from './admin/server.ts';
import { deleteFlows, reportFlows } from './conntrack/conntrack-report.ts';
import type { CalcFeed } from './calc-feed.ts';
import type { CalcGraph } from './calc/calc-graph.ts';
import { ConversionLog } from './conversion-log.ts';
import type { CniConfWriter } from './cni-conf/conf-writer.ts';
import type { CniHandlers } from './cni-server/cni-handlers.ts';
import type { NodeMtu } from './cni-server/node-mtu.ts';
import { CniServer } from './cni-server/server.ts';
import type { BootstrapSettings } from './config/bootstrap.ts';
import type { ConfigWatcher } from './config/config-watcher.ts';
import type { AddressControllers } from './controllers/address-controllers.ts';
import type { ClusterDefaults } from './defaults/cluster-defaults.ts';
import type { Driver } from './driver/driver.ts';
import type { EndpointPublisher } from './endpoints/endpoint-publisher.ts';
import { reportEndpoints } from './endpoints/endpoint-report.ts';
import type { EndpointStatusFiles } from './endpoints/endpoint-status-files.ts';
import type { EndpointStore } from './endpoints/endpoint-store.ts';
import type { Takeover } from './endpoints/takeover.ts';
import { Directory } from './explain/directory.ts';
import { ExplainError, requestOf } from './explain/explain.ts';
import { notesInForce, type InForce } from './explain/in-force.ts';
import { explainInKernel } from './explain/in-kernel.ts';
import { reportPolicy } from './explain/policy-report.ts';
import { stateOf } from './explain/state.ts';
import { followFlows } from './flows/flow-stream.ts';
import type { Health, HealthReporter } from './health/health.ts';
import type { ConfiguredServer } from './http/configured-server.ts';
import { setSeverity, type Log } from './log.ts';
import { watchAgent } from './metrics/agent-metrics.ts';
import type { Metrics } from './metrics/metrics.ts';
import type { NodeReporter } from './node/node-reporter.ts';
import { reportServices } from './services/services-report.ts';
import { notReadyReasons, reportStatus } from './status-report.ts';
import type { AgentStatus } from './status.ts';
import type { ObjectStore } from './store/object-store.ts';
import type { DataplaneSwitch } from './switch/switch.ts';
import { UnsupportedFields } from './unsupported-fields.ts';

/** How long a stopping agent waits for a start under way, and tries to write what is not written yet, in ms. */
const stopPatienceMs = 5_000;
/** First pause before a takeover that could not read the datastore is tried again, and the longest one, in ms. */
const retryMs = { first: 500, longest: 10_000 };
/** How often the driver's loop shows that it lives, unless a cycle takes longer, and how long it may be silent, in ms. */
const beat = { everyMs: 10_000, limitMs: 90_000 };

/** Everything the agent is made of; `agent.module.ts` puts it together. */
export interface AgentParts {
  readonly settings: BootstrapSettings;
  readonly log: Log;
  readonly datastore: Datastore;
  readonly host: Netlink;
  readonly store: ObjectStore;
  readonly config: ConfigWatcher;
  readonly graph: CalcGraph;
  readonly feed: CalcFeed;
  readonly driver: Driver;
  readonly hostNetwork: Programmer;
  readonly dataplanes: DataplaneSwitch;
  readonly ipam: NodeIpam;
  readonly endpoints: EndpointStore;
  readonly publisher: EndpointPublisher;
  readonly takeover: Takeover;
  readonly mtu: NodeMtu;
  readonly cni: CniHandlers;
  /** Undefined: no directory of the runtime was named. */
  readonly cniConf: CniConfWriter | undefined;
  readonly health: Health;
  readonly healthServer: ConfiguredServer;
  readonly metrics: Metrics;
  readonly metricsServer: ConfiguredServer;
  readonly statusFiles: EndpointStatusFiles;
  readonly preflight: Preflight;
  /** Where Pods and Nodes belong to a cluster. */
  readonly cluster:
    | { readonly defaults: ClusterDefaults; readonly node: NodeReporter; readonly controllers: AddressControllers }
    | undefined;
}

/**
 * One node's agent. It answers from the first moment (probes, status, and "not yet" to the runtime), and programs nothing
 * before it has seen the whole datastore once. Start: health, sockets, datastore, what an earlier agent left, addresses, kernel.
 * Stop: no new calls, what is under way ends, the reserve goes back, files and objects are written; the kernel stays as it is.
 */
export class Agent {
  readonly #parts: AgentParts;
  readonly #cniServer: CniServer;
  readonly #adminServer: AdminServer;
  readonly #reporter: HealthReporter;
  readonly #directory: Directory;
  readonly #unsupported: UnsupportedFields;
  #beat: NodeJS.Timeout | undefined;
  readonly #stopping = new AbortController();
  #starting: Promise<void> = Promise.resolve();
  #stage = 'starting';

  constructor(parts: AgentParts) {
    const { settings, log, health } = parts;
    this.#parts = parts;
    this.#reporter = health.register('agent', () => this.#notReadyReasons(), { beatMs: beat.limitMs });
    this.#cniServer = new CniServer(settings.runDir, (request) => parts.cni.answer(request), log);
    const routes: AdminRoutes = {
      '/status': () => this.status(),
      '/endpoints': () => this.#reportEndpoints(),
      '/policy': (query) => this.#reportPolicy(query),
      '/explain': (query) => this.#explain(query),
      '/state': () => stateOf(parts.driver.desired),
      '/metrics': () => parts.metrics.text(),
      '/check': () => parts.preflight.look(),
      '/conntrack': (query) => reportFlows(query, parts.dataplanes.active, this.#directory),
      '/services': (query) => reportServices(query, parts.dataplanes.active),
    };
    const actions: AdminRoutes = {
      '/conntrack/delete': (query) => deleteFlows(query, parts.dataplanes.active, this.#directory),
    };
    const streams: AdminStreams = {
      '/flows': (query) =>
        followFlows(query, parts.dataplanes.active, {
          directory: this.#directory,
          endpointOf: (device) => this.#endpointOf(device),
        }),
    };
    this.#unsupported = new UnsupportedFields(log);
    this.#directory = new Directory(parts.store, settings.nodeName, parts.driver.desired);
    watchAgent(parts.metrics, { ...parts, nodeName: settings.nodeName, isReady: () => health.readiness().ok });
    this.#adminServer = new AdminServer(settings.runDir, routes, log, actions, streams);
  }

  /** Resolves when pods can be wired, or when it was stopped before. Rejects when that can't come by waiting; the message says why. */
  async start(): Promise<void> {
    this.#starting = this.#start();
    try {
      await this.#starting;
    } catch (error) {
      if (!this.#stopping.signal.aborted) throw error;
      this.#parts.log.info({ reason: errorText(error) }, 'stopped before the start was done');
    }
  }

  async #start(): Promise<void> {
    const { log, store, config, feed, driver, hostNetwork, dataplanes, statusFiles, mtu, cni, cluster } = this.#parts;
    const { signal } = this.#stopping;
    await this.#serveHealth(); // Whoever asks whether the agent lives must not have to wait for the datastore.
    signal.throwIfAborted();
    this.#parts.preflight.start();
    await this.#adminServer.listen();
    await this.#cniServer.listen();
    signal.throwIfAborted();
    this.#beat = setInterval(() => {
      if (driver.cycleMs < beat.everyMs) this.#reporter.beat();
    }, beat.everyMs);
    driver.onCycle(() => {
      if (this.#stage === '') statusFiles.follow(this.#localEndpoints, this.#failingEndpoints());
      this.#reporter.beat();
    });

    this.#enter('reading the datastore');
    feed.follow(store);
    const conversions = new ConversionLog(log);
    feed.onProblems(() => conversions.update(this.#parts.graph.problems()));
    this.#unsupported.follow(store);
    config.onChange(
      () => void this.#applyConfig().catch((error: unknown) => log.error({ err: error }, 'new settings')),
    );
    store.start();
    config.start();
    dataplanes.lookAhead();
    await Promise.race([store.synced(), aborted(signal)]);
    if (config.current.fatal.length > 0) throw new Error(config.current.fatal.join('; '));
    await this.#applyConfig();
    void cluster?.defaults.start();
    cluster?.node.start();

    this.#enter('taking over what an earlier agent left');
    await this.#takeOver();
    this.#followPodLabels();
    await mtu.refresh();
    signal.throwIfAborted();
    store.of('Node').onChange(() => void mtu.refresh());

    this.#enter('programming the kernel');
    feed.onInSync();
    driver.add(hostNetwork);
    await dataplanes.start(config.current.wanted);
    await driver.settled();
    signal.throwIfAborted();
    statusFiles.reset(this.#localEndpoints(), this.#failingEndpoints());
    this.#stage = '';
    if (config.current.wanted !== dataplanes.status().wanted) void dataplanes.want(config.current.wanted); // Changed meanwhile.
    cni.open();
    this.#parts.cniConf?.start();
    cluster?.node.networkIsThere();
    cluster?.controllers.start();
    log.info({ ...dataplanes.status(), endpoints: this.#parts.endpoints.list().length }, 'in sync');
    this.#parts.preflight.inSync();
  }

  /** Ends everything in the order that loses nothing; safe at any point of the start. What can't be ended is logged and left. */
  async stop(): Promise<void> {
    const { store, driver, hostNetwork, dataplanes, ipam, publisher, datastore, host, cluster } = this.#parts;
    const { healthServer, metricsServer } = this.#parts;
    clearInterval(this.#beat);
    this.#parts.cniConf?.[Symbol.dispose]();
    this.#enter('stopping');
    this.#stopping.abort(new Error('the agent is stopping'));
    await this.#end('calls under way', this.#cniServer[Symbol.asyncDispose]());
    const patience = AbortSignal.timeout(stopPatienceMs);
    const outOfPatience = aborted(patience);
    // A look under way takes seconds and decides nothing: it must not cost what has to be written its time.
    const looked = this.#end('pre-flight', Promise.race([this.#parts.preflight[Symbol.asyncDispose](), outOfPatience]));
    await this.#end(
      'garbage collection, whose lease runs out',
      Promise.race([cluster?.controllers[Symbol.asyncDispose](), outOfPatience]),
    );
    await Promise.race([this.#starting, outOfPatience]).catch(() => {}); // `start` reports its failure.
    await this.#end(
      'the reserve, which stays allocated until the next start',
      Promise.race([ipam.close(), outOfPatience]),
    );
    await this.#end('writing endpoints', publisher.close(patience));
    await looked;
    if (cluster !== undefined) {
      await this.#end('defaults', cluster.defaults[Symbol.asyncDispose]());
      await this.#end('Node', cluster.node[Symbol.asyncDispose]());
    }
    await this.#end('dataplanes', dataplanes[Symbol.asyncDispose]());
    await this.#end('host network', driver.remove(hostNetwork));
    await this.#end('driver', driver[Symbol.asyncDispose]());
    await this.#end('host network', hostNetwork[Symbol.asyncDispose]());
    await this.#end('watches', store[Symbol.asyncDispose]());
    await this.#end('datastore', datastore[Symbol.asyncDispose]());
    await this.#end('health', healthServer[Symbol.asyncDispose]());
    await this.#end('metrics', metricsServer[Symbol.asyncDispose]());
    await this.#end('admin socket', this.#adminServer[Symbol.asyncDispose]());
    host[Symbol.dispose]();
  }

  async #end(what: string, ended: PromiseLike<unknown>): Promise<void> {
    try {
      await ended;
    } catch (error) {
      this.#parts.log.warn({ err: error }, `stopping: ${what}`);
    }
  }

  /** A datastore that is away in this moment comes back: until then everything stays as it is. */
  async #takeOver(): Promise<void> {
    const { takeover, log } = this.#parts;
    const { signal } = this.#stopping;
    const stage = this.#stage;
    for (let pauseMs = retryMs.first; ; pauseMs = Math.min(pauseMs * 2, retryMs.longest)) {
      signal.throwIfAborted();
      try {
        await takeover.run();
        return;
      } catch (error) {
        if ((error as { readonly code?: unknown }).code !== 'unavailable') throw error;
        this.#enter(`${stage}: ${errorText(error)}`);
        log.warn({ retryMs: pauseMs, err: error }, 'could not take over yet; nothing is changed');
        await delay(pauseMs, undefined, { signal });
      }
    }
  }

  /** Endpoints keep their pods' labels, from those of the time when no agent ran on. */
  #followPodLabels(): void {
    const { log, store, endpoints, settings } = this.#parts;
    const relabel = (pod: Pod | undefined) => {
      if (pod?.spec.nodeName !== settings.nodeName) return;
      try {
        endpoints.relabel(pod);
      } catch (error) {
        const { namespace, name } = pod.metadata;
        log.warn(
          { pod: `${namespace}/${name}`, err: error },
          "could not write a pod's new labels; they hold while this agent runs",
        );
      }
    };
    for (const pod of store.of('Pod').all()) relabel(pod);
    store.of('Pod').onChange((_key, pod) => relabel(pod));
  }

  status(): AgentStatus {
    return reportStatus(this.#parts, this.#notReadyReasons(), this.#unsupported.list());
  }

  #notReadyReasons(): readonly string[] {
    return notReadyReasons(this.#parts, this.#stage);
  }

  #enter(stage: string): void {
    this.#stage = stage;
    this.#parts.log.debug({ stage }, 'stage');
    this.#reporter.beat();
  }

  async #applyConfig(): Promise<void> {
    const { config, log, feed, dataplanes, metricsServer, statusFiles } = this.#parts;
    const { settings, dataplane, report } = config.current;
    setSeverity(log, settings.logSeverityScreen ?? 'none');
    config.logNews(report);
    feed.onConfig(dataplane);
    await this.#serveHealth();
    await metricsServer.configure({
      enabled: settings.prometheusMetricsEnabled,
      host: settings.prometheusMetricsHost ?? '',
      port: settings.prometheusMetricsPort,
    });
    statusFiles.configure(settings.endpointStatusPathPrefix);
    if (this.#stage === '') await dataplanes.want(config.current.wanted);
  }

  /** As the settings have it at present: those of the environment and defaults until the datastore has been read. */
  #serveHealth(): Promise<void> {
    const { config, healthServer } = this.#parts;
    const { healthEnabled, healthHost, healthPort } = config.current.settings;
    return healthServer.configure({ enabled: healthEnabled, host: healthHost, port: healthPort });
  }

  #explain(query: URLSearchParams): Promise<unknown> {
    const { driver, dataplanes } = this.#parts;
    return explainInKernel(requestOf(query), {
      directory: this.#directory,
      view: driver.desired,
      inForce: this.#inForce(),
      dataplane: dataplanes.active,
    });
  }

  /** As people know it; undefined: the device is no endpoint's. */
  #endpointOf(device: string): string | undefined {
    const { driver } = this.#parts;
    for (const [id, { ifaceName }] of driver.desired.endpoints()) {
      if (ifaceName === device) return this.#directory.find(id).name;
    }
    const host = this.#parts.dataplanes.active?.hostDevices?.find((state) => state.device === device)?.hostEndpoint;
    return host === undefined || host === null ? undefined : `host endpoint ${host}`;
  }

  async #reportPolicy(query: URLSearchParams): Promise<unknown> {
    const { driver, dataplanes } = this.#parts;
    const { name, endpoint } = this.#directory.find(query.get('endpoint') ?? '');
    const counters = (await dataplanes.active?.ruleCounters()) ?? new Map<string, Counter>();
    const report =
      endpoint === undefined
        ? undefined
        : reportPolicy(driver.desired, endpoint, counters, notesInForce(this.#inForce(), [endpoint]));
    if (report === undefined) throw new ExplainError(`${name} is no endpoint of this node`);
    return report;
  }

  #inForce(): InForce {
    const { driver, dataplanes } = this.#parts;
    return { dataplane: dataplanes.active, failures: driver.failures() };
  }

  readonly #localEndpoints = (): readonly WorkloadEndpoint[] =>
    this.#parts.endpoints.added().map(({ endpoint }) => endpoint);

  #failingEndpoints(): ReadonlySet<EndpointId> {
    return new Set(this.#parts.driver.failures().flatMap(({ endpoint }) => endpoint ?? []));
  }

  async #reportEndpoints(): Promise<unknown> {
    const { endpoints, driver, dataplanes } = this.#parts;
    return reportEndpoints(endpoints.list(), driver.failures(), (await dataplanes.active?.deviceCounters()) ?? []);
  }
}

function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export const AgentId: ServiceIdentifier<Agent> = Symbol.for('Agent');
