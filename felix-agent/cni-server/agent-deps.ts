import type { CniDeps } from '#cni/deps.ts';
import { KeyedMutex } from '#cni/keyed-mutex.ts';
import type { Namespaces } from '#cni/namespaces.ts';
import type { Datastore } from '#datastore/datastore.ts';
import type { Ipam } from '#ipam/ipam.ts';
import type { CommandRunner } from '#native/command-runner.ts';
import type { Netlink } from '#native/types.ts';
import type { ConfigWatcher } from '../config/config-watcher.ts';
import type { EndpointStore } from '../endpoints/endpoint-store.ts';
import type { Log } from '../log.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { DataplaneSwitch } from '../switch/switch.ts';
import type { NodeMtu } from './node-mtu.ts';
import { lookUpPod } from './pod-lookup.ts';

/** What the plugin gets from the agent. */
export interface AgentDepsParts {
  readonly nodeName: string;
  readonly log: Log;
  readonly datastore: Datastore;
  readonly store: ObjectStore;
  readonly config: ConfigWatcher;
  readonly dataplanes: DataplaneSwitch;
  readonly ipam: Ipam;
  readonly endpoints: EndpointStore;
  readonly host: Netlink;
  readonly namespaces: Namespaces;
  readonly commands: CommandRunner;
  readonly mtu: NodeMtu;
  /** Why the cluster gives pods nothing yet, if so. */
  readonly clusterReason: () => string | undefined;
}

/** The plugin's dependencies, as one agent has them. */
export function agentDeps(parts: AgentDepsParts): CniDeps {
  const { nodeName, log, datastore, store, config, dataplanes, ipam, endpoints, host, namespaces, commands, mtu } =
    parts;
  return {
    nodeName,
    // A list is allowed as in Calico; devices are named by its first entry.
    get interfacePrefix() {
      return config.current.settings.interfacePrefix[0] ?? 'cali';
    },
    ipam,
    endpoints,
    host,
    namespaces,
    locks: new KeyedMutex(),
    commands,
    pod: (namespace, name, uid) => lookUpPod(store, datastore, namespace, name, uid),
    node: () => Promise.resolve(store.of('Node').get({ name: nodeName })),
    notReadyReason: () => Promise.resolve(notReadyReason(parts)),
    podDeviceOps: (ifaceName) => dataplanes.podDeviceOps(ifaceName),
    linkPodDevice: (ifaceName) => dataplanes.linkPodDevice(ifaceName),
    podRoutes: () => {
      const { deviceRouteProtocol, routeMetricV4, routeMetricV6 } = config.current.dataplane;
      return { protocol: deviceRouteProtocol, metric4: routeMetricV4, metric6: routeMetricV6 };
    },
    defaultMtu: () => mtu.current,
    standalone: false,
    log: (level, message, fields) => log[level](fields ?? {}, message),
  };
}

/** Why no pod can be wired at present. */
function notReadyReason({ store, dataplanes, ipam, clusterReason }: AgentDepsParts): string | undefined {
  if (!store.hasSynced) return ['the datastore has not been read yet', ...store.failures()].join(': ');
  const cluster = store.of('ClusterInformation').get({ name: 'default' });
  if (cluster !== undefined && cluster.spec.datastoreReady !== true) {
    return 'ClusterInformation default says that the datastore is not ready (spec.datastoreReady is not true)';
  }
  if (dataplanes.active === undefined) return ['no dataplane is active yet', ...dataplanes.status().reasons].join(': ');
  return clusterReason() ?? ipam.unavailableReason();
}
