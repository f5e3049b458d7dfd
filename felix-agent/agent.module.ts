import { join } from 'node:path';
import { ContainerModule, type ServiceIdentifier } from 'inversify';
import { Clock } from '#api/clock.ts';
import { kernelNamespaces } from '#cni/namespaces.ts';
import { DataplaneFactory } from '#dataplanes/contract.ts';
import { HostNetlink, HostNetworkId } from '#dataplanes/shared/services.ts';
import { NodeIpam } from '#ipam/node-ipam.ts';
import { CommandRunner } from '#native/command-runner.ts';
import type { Netlink } from '#native/types.ts';
import { Agent, AgentId, type AgentParts } from './agent.ts';
import { CalcFeed } from './calc-feed.ts';
import { CalcGraph } from './calc/calc-graph.ts';
import { askStatus } from './cni-conf/ask-status.ts';
import { CniConfWriter } from './cni-conf/conf-writer.ts';
import { confTextOf } from './cni-conf/conflist.ts';
import { agentDeps } from './cni-server/agent-deps.ts';
import { CniHandlers } from './cni-server/cni-handlers.ts';
import { NodeMtu } from './cni-server/node-mtu.ts';
import type { BootstrapSettings } from './config/bootstrap.ts';
import { checkSettings } from './check/check-settings.ts';
import { findHostView } from './check/host-view.ts';
import { checkNode } from './check/node-check.ts';
import { Preflight } from './check/preflight.ts';
import { ConfigWatcher } from './config/config-watcher.ts';
import type { OpenedDatastore } from './datastore.ts';
import { ClusterDefaults } from './defaults/cluster-defaults.ts';
import { Driver } from './driver/driver.ts';
import { EndpointFiles } from './endpoints/endpoint-files.ts';
import { EndpointPublisher } from './endpoints/endpoint-publisher.ts';
import { EndpointStatusFiles } from './endpoints/endpoint-status-files.ts';
import { EndpointStore } from './endpoints/endpoint-store.ts';
import { AddressControllers } from './controllers/address-controllers.ts';
import { KernelEndpoints, localHandle } from './controllers/kernel-endpoints.ts';
import { watchAddresses } from './controllers/address-metrics.ts';
import { ObjectWriter } from './endpoints/object-writer.ts';
import { PodWriter } from './endpoints/pod-writer.ts';
import { Takeover } from './endpoints/takeover.ts';
import { Health, HealthAggregator, healthService } from './health/health.ts';
import { ConfiguredServer } from './http/configured-server.ts';
import type { Log } from './log.ts';
import { metricsService, type Metrics } from './metrics/metrics.ts';
import { MetricsId } from './metrics/services.ts';
import { NodeReporter } from './node/node-reporter.ts';
import { StoreFacts } from './store/ipam-facts.ts';
import { ObjectStore } from './store/object-store.ts';
import { ActiveFile } from './switch/active-file.ts';
import { DataplaneSwitch } from './switch/switch.ts';

const id = <T>(name: string): ServiceIdentifier<T> => Symbol.for(name);
const StoreId = id<ObjectStore>('ObjectStore');
const ConfigId = id<ConfigWatcher>('ConfigWatcher');
const DriverId = id<Driver>('Driver');
const GraphId = id<CalcGraph>('CalcGraph');
const FeedId = id<CalcFeed>('CalcFeed');
const SwitchId = id<DataplaneSwitch>('DataplaneSwitch');
const FactsId = id<StoreFacts>('StoreFacts');
const IpamId = id<NodeIpam>('NodeIpam');
const FilesId = id<EndpointFiles>('EndpointFiles');
const PublisherId = id<EndpointPublisher>('EndpointPublisher');
const EndpointsId = id<EndpointStore>('EndpointStore');
const TakeoverId = id<Takeover>('Takeover');
const MtuId = id<NodeMtu>('NodeMtu');
const CniId = id<CniHandlers>('CniHandlers');
const CniConfId = id<CniConfWriter | undefined>('CniConfWriter');
const HealthServerId = id<ConfiguredServer>('HealthServer');
const MetricsServerId = id<ConfiguredServer>('MetricsServer');
const StatusFilesId = id<EndpointStatusFiles>('EndpointStatusFiles');
const PreflightId = id<Preflight>('Preflight');
const ClusterId = id<AgentParts['cluster']>('ClusterParts');

/** The agent of one node, on a datastore that is open already. Everything is made once. */
export function agentModule(settings: BootstrapSettings, log: Log, opened: OpenedDatastore): ContainerModule {
  const { nodeName, stateDir } = settings;
  const { datastore, cluster } = opened;
  return new ContainerModule(({ bind }) => {
    bind(Health).toResolvedValue((clock: Clock) => new HealthAggregator(clock), [Clock]);
    bind(HealthServerId).toResolvedValue(
      (health: Health, clock: Clock) => new ConfiguredServer(healthService(health), log, clock),
      [Health, Clock],
    );
    bind(MetricsServerId).toResolvedValue(
      (metrics: Metrics, clock: Clock) => new ConfiguredServer(metricsService(metrics), log, clock),
      [MetricsId, Clock],
    );
    bind(StoreId).toConstantValue(new ObjectStore(datastore, log));
    bind(ConfigId).toResolvedValue((store) => new ConfigWatcher(store, nodeName, settings.felixEnv, log), [StoreId]);
    bind(DriverId).toResolvedValue((clock: Clock) => new Driver(clock, log), [Clock]);
    bind(GraphId).toConstantValue(new CalcGraph(nodeName));
    bind(FeedId).toResolvedValue((graph, driver) => new CalcFeed(graph, driver), [GraphId, DriverId]);
    bind(SwitchId).toResolvedValue(
      (factories: DataplaneFactory[], driver: Driver, clock: Clock) =>
        new DataplaneSwitch(factories, driver, new ActiveFile(stateDir), clock, log),
      [{ isMultiple: true, serviceIdentifier: DataplaneFactory }, DriverId, Clock],
    );
    bind(FactsId).toResolvedValue((store) => new StoreFacts(store, datastore, nodeName), [StoreId]);
    bind(IpamId).toResolvedValue(
      (facts, endpoints, clock: Clock) =>
        new NodeIpam({
          datastore,
          nodeName,
          clock,
          facts,
          journalPath: join(stateDir, 'ipam.journal'),
          isInUse: (handle) => endpoints.list().some((endpoint) => localHandle(endpoint) === handle),
          log: (level, message) => log[level](message),
        }),
      [FactsId, EndpointsId, Clock],
    );
    bind(FilesId).toResolvedValue(() => new EndpointFiles(stateDir, log));
    bind(StatusFilesId).toResolvedValue(() => new EndpointStatusFiles(stateDir, log));
    bind(PreflightId).toResolvedValue(
      (commands: CommandRunner, config, clock: Clock) => {
        const node = {
          commands,
          view: findHostView(process.env),
          cniDirs: { confDir: settings.cniConf.dir, binDir: undefined },
        };
        return new Preflight(() => checkNode(node, checkSettings(config.current, settings.bpffs)), clock, log);
      },
      [CommandRunner, ConfigId, Clock],
    );
    bind(PublisherId).toResolvedValue(
      (store, clock: Clock) => {
        const writer =
          cluster === undefined
            ? new ObjectWriter(datastore)
            : new PodWriter({ nodeName, cluster, datastore, store, log });
        return new EndpointPublisher(writer, clock, log);
      },
      [StoreId, Clock],
    );
    bind(EndpointsId).toResolvedValue(
      (files, publisher, feed, status) => new EndpointStore(files, publisher, feed, status),
      [FilesId, PublisherId, FeedId, StatusFilesId],
    );
    bind(TakeoverId).toResolvedValue(
      (host: Netlink, files, endpoints, publisher, ipam, config) =>
        new Takeover({
          nodeName,
          log,
          datastore,
          host,
          files,
          endpoints,
          publisher,
          ipam,
          interfacePrefix: () => config.current.settings.interfacePrefix[0] ?? 'cali',
        }),
      [HostNetlink, FilesId, EndpointsId, PublisherId, IpamId, ConfigId],
    );
    bind(MtuId).toResolvedValue((host, store) => new NodeMtu(host, store, nodeName, log), [HostNetlink, StoreId]);
    bind(ClusterId).toResolvedValue(
      (store, host: Netlink, clock: Clock, ipam, endpoints, config, facts, metrics) => {
        const addresses = watchAddresses(metrics, { nodeName, ipam, facts });
        return (
          cluster && {
            defaults: new ClusterDefaults({ datastore, store, host, clock, log }),
            node: new NodeReporter({ nodeName, cluster, store, host, clock, log }),
            controllers: new AddressControllers({
              nodeName,
              datastore,
              clock,
              log,
              store,
              ipam,
              endpoints: new KernelEndpoints(
                endpoints,
                host,
                () => config.current.settings.interfacePrefix[0] ?? 'cali',
              ),
              leakGraceMs: settings.ipamLeakGraceMs,
              addresses,
            }),
          }
        );
      },
      [StoreId, HostNetlink, Clock, IpamId, EndpointsId, ConfigId, FactsId, MetricsId],
    );
    bind(CniId).toResolvedValue(
      (store, config, dataplanes, ipam, endpoints, host, commands: CommandRunner, mtu, parts) =>
        new CniHandlers(
          agentDeps({
            nodeName,
            log,
            datastore,
            store,
            config,
            dataplanes,
            ipam,
            endpoints,
            host,
            commands,
            mtu,
            namespaces: kernelNamespaces(),
            clusterReason: () => parts?.defaults.unavailableReason,
          }),
        ),
      [StoreId, ConfigId, SwitchId, IpamId, EndpointsId, HostNetlink, CommandRunner, MtuId, ClusterId],
    );
    bind(CniConfId).toResolvedValue(
      (facts, clock: Clock) => {
        const { dir } = settings.cniConf;
        const socket = join(settings.runDir, 'cni.sock');
        const text = () => confTextOf(settings.cniConf, socket, facts.current());
        const whyNot = () => askStatus(socket);
        return dir === undefined ? undefined : new CniConfWriter({ dir, stateDir, clock, log, text, whyNot });
      },
      [FactsId, Clock],
    );
    bind(AgentId).toResolvedValue(
      (
        host,
        store,
        config,
        graph,
        feed,
        driver,
        hostNetwork,
        dataplanes,
        ipam,
        endpoints,
        publisher,
        takeover,
        mtu,
        cni,
        cniConf,
        health,
        healthServer,
        metrics,
        metricsServer,
        statusFiles,
        preflight,
        parts,
      ) =>
        new Agent({
          settings,
          log,
          datastore,
          host,
          store,
          config,
          graph,
          feed,
          driver,
          hostNetwork,
          dataplanes,
          ipam,
          endpoints,
          publisher,
          takeover,
          mtu,
          cni,
          cniConf,
          health,
          healthServer,
          metrics,
          metricsServer,
          statusFiles,
          preflight,
          cluster: parts,
        }),
      [
        HostNetlink,
        StoreId,
        ConfigId,
        GraphId,
        FeedId,
        DriverId,
        HostNetworkId,
        SwitchId,
        IpamId,
        EndpointsId,
        PublisherId,
        TakeoverId,
        MtuId,
        CniId,
        CniConfId,
        Health,
        HealthServerId,
        MetricsId,
        MetricsServerId,
        StatusFilesId,
        PreflightId,
        ClusterId,
      ],
    );
  });
}
