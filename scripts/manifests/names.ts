/** Names and places that the manifests, the image and their documents share: each is written here once. */
import { version } from '#agent/version.ts';

/** Where everything of ours that has a namespace lives. */
export const namespace = 'kube-system';
/** The DaemonSet, its ServiceAccount and its roles. */
export const nodeName = 'tortie-node';
/** The DaemonSet that removes Tortie from the nodes. */
export const uninstallName = 'tortie-uninstall';
/** Settings that are read once, when a cluster is set up. */
export const configMapName = 'tortie-config';
/** The API server's address for a cluster without kube-proxy; written by whoever sets the cluster up, named as Calico's. */
export const apiServerConfigMapName = 'kubernetes-services-endpoint';
/** Which agent does the cluster's own chores. */
export const leaseName = 'tortie-controllers';

/** The image, with the version. `localhost`: no registry has it, and no node can be made to fetch another's under this name. */
export const image = `localhost/tortie/node:${version}`;

/** Directories of the node, mounted at the same place: what the agent writes and names means the same on the node. */
export const hostPaths = {
  run: '/run/tortie',
  runParent: '/run',
  state: '/var/lib/tortie',
  stateParent: '/var/lib',
  cniConf: '/etc/cni/net.d',
  cniBin: '/opt/cni/bin',
  cniState: '/var/lib/cni',
  bpf: '/sys/fs/bpf',
  cgroup: '/sys/fs/cgroup',
  netns: '/run/netns',
  modules: '/lib/modules',
  xtablesLock: '/run/xtables.lock',
  endpointStatus: '/run/calico',
} as const;

/** Where the agent serves liveness and readiness (FelixConfiguration healthPort). */
export const healthPort = 9099;
