/** The DaemonSets: one that runs the agent on every node, one that removes it. They differ in what they run, not in what they see of the node. */
import {
  apiServerConfigMapName,
  configMapName,
  healthPort,
  hostPaths,
  image,
  namespace,
  nodeName,
  uninstallName,
} from './names.ts';
import type { Documented, Path } from './render.ts';

/** A directory or file of the node, as the containers have it: at the same path. */
interface HostMount {
  readonly name: keyof typeof hostPaths;
  readonly type: 'Directory' | 'DirectoryOrCreate' | 'FileOrCreate';
  readonly readOnly?: true;
  readonly mountPropagation?: 'HostToContainer' | 'Bidirectional';
  readonly reason: string;
}

const agentMounts: readonly HostMount[] = [
  { name: 'run', type: 'DirectoryOrCreate', reason: 'Sockets: the runtime calls the agent through one.' },
  { name: 'state', type: 'DirectoryOrCreate', reason: 'Journal and endpoints; they outlive container and agent.' },
  { name: 'cniConf', type: 'DirectoryOrCreate', reason: "The runtime's network configuration." },
  { name: 'cniBin', type: 'DirectoryOrCreate', reason: 'CNI plugins.' },
  {
    name: 'cniState',
    type: 'DirectoryOrCreate',
    reason: 'What a delegated IPAM plugin such as host-local remembers.',
  },
  {
    name: 'bpf',
    type: 'DirectoryOrCreate',
    mountPropagation: 'Bidirectional',
    reason: 'Pinned BPF programs: they work on while no agent runs.',
  },
  {
    name: 'cgroup',
    type: 'Directory',
    mountPropagation: 'HostToContainer',
    reason: "The node's cgroups, not this container's.",
  },
  {
    name: 'netns',
    type: 'DirectoryOrCreate',
    mountPropagation: 'HostToContainer',
    reason: "Pods' network namespaces, also those that come later.",
  },
  { name: 'modules', type: 'DirectoryOrCreate', readOnly: true, reason: 'iptables loads its modules from here.' },
  { name: 'xtablesLock', type: 'FileOrCreate', reason: 'The lock that all users of iptables on the node share.' },
  {
    name: 'endpointStatus',
    type: 'DirectoryOrCreate',
    reason: "A file for each pod whose policy is in the kernel, where Calico's users look for it.",
  },
];

/** Of the agent's mounts those with what it leaves, and the parents of its own directories: they go too. */
const uninstallMounts: readonly HostMount[] = [
  {
    name: 'runParent',
    type: 'Directory',
    mountPropagation: 'HostToContainer',
    reason: '/run/tortie and the lock of iptables.',
  },
  { name: 'stateParent', type: 'Directory', mountPropagation: 'HostToContainer', reason: '/var/lib/tortie.' },
  ...agentMounts.filter(({ name }) => ['cniConf', 'cniBin', 'bpf', 'cgroup', 'modules'].includes(name)),
];

/** Labels by which the DaemonSet and people find the pods. */
function labels(name: string) {
  return { 'k8s-app': name };
}

/** The pod's fields that both have. */
function podFields() {
  return {
    hostNetwork: true,
    hostPID: true,
    priorityClassName: 'system-node-critical',
    nodeSelector: { 'kubernetes.io/os': 'linux' },
    tolerations: [{ operator: 'Exists' }],
  };
}

const podComments: readonly (readonly [Path, string])[] = [
  [['hostNetwork'], "It programs the node's own network, and runs before there is any other."],
  [['hostPID'], 'To open the network namespace that the runtime means, wherever the runtime keeps it.'],
  [['tolerations'], 'A node needs its network whatever its state: it is not ready before it has one.'],
];

const podPath: Path = ['spec', 'template', 'spec'];

function volumes(mounts: readonly HostMount[]) {
  return mounts.map(({ name, type }) => ({ name: volumeName(name), hostPath: { path: hostPaths[name], type } }));
}

function volumeMounts(mounts: readonly HostMount[]) {
  return mounts.map(({ name, readOnly, mountPropagation }) => ({
    name: volumeName(name),
    mountPath: hostPaths[name],
    ...(readOnly === undefined ? {} : { readOnly }),
    ...(mountPropagation === undefined ? {} : { mountPropagation }),
  }));
}

function volumeComments(mounts: readonly HostMount[]) {
  return mounts.map(({ reason }, index) => [[...podPath, 'volumes', index], reason] as const);
}

/** Volumes' names are DNS labels. */
function volumeName(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

const nodeNameEnv = { name: 'TORTIE_NODE_NAME', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } };
const cniDirEnv = [
  { name: 'TORTIE_CNI_CONF_DIR', value: hostPaths.cniConf },
  { name: 'TORTIE_CNI_BIN_DIR', value: hostPaths.cniBin },
];

function fromConfigMap(name: string, key: string) {
  return { name, valueFrom: { configMapKeyRef: { name: configMapName, key, optional: true } } };
}

function probe(path: string) {
  return { httpGet: { host: 'localhost', path, port: healthPort } };
}

/** The agent on every node. */
export function nodeDaemonSet(): Documented {
  const container = {
    name: 'agent',
    image,
    imagePullPolicy: 'IfNotPresent',
    args: ['agent'],
    env: [
      nodeNameEnv,
      { name: 'TORTIE_DATASTORE', value: 'kubernetes' },
      ...cniDirEnv,
      fromConfigMap('TORTIE_CNI_MTU', 'mtu'),
      fromConfigMap('TORTIE_CNI_VERSION', 'cniVersion'),
      fromConfigMap('TORTIE_IPAM_LEAK_GRACE', 'ipamLeakGrace'),
    ],
    envFrom: [{ configMapRef: { name: apiServerConfigMapName, optional: true } }],
    securityContext: { privileged: true },
    resources: { requests: { cpu: '100m', memory: '120Mi' } },
    startupProbe: { ...probe('/liveness'), periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 60 },
    livenessProbe: { ...probe('/liveness'), periodSeconds: 10, timeoutSeconds: 10, failureThreshold: 6 },
    readinessProbe: { ...probe('/readiness'), periodSeconds: 5, timeoutSeconds: 5 },
    volumeMounts: volumeMounts(agentMounts),
  };
  const agentPath = [...podPath, 'containers', 0];
  const installPath = [...podPath, 'initContainers', 0];
  return {
    head: 'The agent, one on each node.',
    object: {
      apiVersion: 'apps/v1',
      kind: 'DaemonSet',
      metadata: { name: nodeName, namespace, labels: labels(nodeName) },
      spec: {
        selector: { matchLabels: labels(nodeName) },
        updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 1 } },
        template: {
          metadata: { labels: labels(nodeName) },
          spec: {
            ...podFields(),
            serviceAccountName: nodeName,
            terminationGracePeriodSeconds: 10,
            initContainers: [
              {
                name: 'install',
                image,
                imagePullPolicy: 'IfNotPresent',
                args: ['install'],
                env: [nodeNameEnv, ...cniDirEnv],
                securityContext: { privileged: true },
                resources: { requests: { cpu: '100m', memory: '120Mi' } },
                volumeMounts: volumeMounts(agentMounts.filter(({ name }) => name === 'state' || name === 'cniBin')),
              },
            ],
            containers: [container],
            volumes: volumes(agentMounts),
          },
        },
      },
    },
    comments: new Map<Path, string>([
      ...podComments.map(([path, text]) => [[...podPath, ...path], text] as const),
      [
        ['spec', 'updateStrategy'],
        'Pods keep their network and their connections while an agent is replaced; only new pods wait for it.',
      ],
      [
        [...podPath, 'terminationGracePeriodSeconds'],
        'It needs less than a second; up to 5 when the API server is away.',
      ],
      [
        installPath,
        'Puts the CNI plugins on the node, each by renaming: a pod that starts meanwhile finds the old or the new one.',
      ],
      [
        [...installPath, 'securityContext'],
        'Where SELinux is enforced, no other container may write into directories of the node.',
      ],
      [[...agentPath, 'env', 0], 'Its Node object, and the directories where it finds the runtime.'],
      [
        [...agentPath, 'envFrom'],
        `KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT, for a cluster without kube-proxy: the API server's own address.`,
      ],
      [
        [...agentPath, 'securityContext'],
        'Routes, rules, BPF programs, sysctls, and network namespaces of other containers.',
      ],
      [[...agentPath, 'resources'], 'No limit: an agent that is slowed down or killed is a node whose pods wait.'],
      [
        [...agentPath, 'startupProbe'],
        'Served from the start on. Liveness fails when the loop that programs the kernel hangs, not when the API server is away. The port is that of FelixConfiguration (healthPort): change both.',
      ],
      ...volumeComments(agentMounts),
    ]),
  };
}

/** Removes what the agent and its installation left, on every node, and then waits to be deleted. */
export function uninstallDaemonSet(): Documented {
  return {
    head: 'Removes every trace of Tortie from each node; its rollout is complete when all nodes are done. See docs/uninstall.md for the steps around it.',
    object: {
      apiVersion: 'apps/v1',
      kind: 'DaemonSet',
      metadata: { name: uninstallName, namespace, labels: labels(uninstallName) },
      spec: {
        selector: { matchLabels: labels(uninstallName) },
        updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '100%' } },
        template: {
          metadata: { labels: labels(uninstallName) },
          spec: {
            ...podFields(),
            automountServiceAccountToken: false,
            terminationGracePeriodSeconds: 1,
            initContainers: [
              {
                name: 'cleanup',
                image,
                imagePullPolicy: 'IfNotPresent',
                args: ['cleanup', '--force'],
                env: [nodeNameEnv, ...cniDirEnv],
                securityContext: { privileged: true },
                volumeMounts: volumeMounts(uninstallMounts),
              },
            ],
            containers: [
              {
                name: 'done',
                image,
                imagePullPolicy: 'IfNotPresent',
                command: ['sleep', 'infinity'],
              },
            ],
            volumes: volumes(uninstallMounts),
          },
        },
      },
    },
    comments: new Map<Path, string>([
      ...podComments.map(([path, text]) => [[...podPath, ...path], text] as const),
      [[...podPath, 'automountServiceAccountToken'], 'It asks the API for nothing.'],
      [
        [...podPath, 'initContainers', 0],
        "Fails, and is tried again, while the agent still runs: delete the agents' DaemonSet first.",
      ],
      [[...podPath, 'containers', 0], 'That this one runs says that the node is done.'],
      ...volumeComments(uninstallMounts),
    ]),
  };
}
