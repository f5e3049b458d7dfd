/** The cluster's objects as an API server has them: pods as a Deployment makes and a kubelet reports them, their nodes, their IPAM blocks. */
import { labelsOf } from '../policy/cluster.ts';

const v3 = 'projectcalico.org/v3';
const podsPerNode = 10;
const mostNodes = 500;
const blockSize = 64;

/** What the measured cluster has besides what is on the measured nodes. */
export interface Size {
  readonly pods: number;
  readonly policies: number;
}

/** Number of the node of remote pod `index`: ten pods a node; beyond 500 nodes they get more each. */
export const nodeOf = (index: number): number => Math.floor(index / podsPerNode) % mostNodes;

/** How many nodes that many pods are on. */
export const nodesFor = (pods: number): number => Math.min(mostNodes, Math.ceil(pods / podsPerNode));

/** A pool of the remote pods, so that the measured nodes take their blocks elsewhere. */
export const farPool: ApiObject = {
  apiVersion: v3,
  kind: 'IPPool',
  metadata: { name: 'far' },
  spec: { cidr: '10.66.0.0/16', natOutgoing: true, disabled: true },
};

const addressOf = (ordinal: number): string => `10.66.${ordinal >> 8}.${ordinal & 255}`;

/** In its node's block. */
export function podAddress(index: number): string {
  const round = Math.floor(index / (podsPerNode * mostNodes));
  return addressOf(nodeOf(index) * blockSize + 1 + round * podsPerNode + (index % podsPerNode));
}

export const podName = (index: number): string =>
  `app-${index % 100}-7c9d8b6f5d-${index.toString(36).padStart(5, '0')}`;

/**
 * How much is in a pod: `full` as Deployments make them (7 kB of JSON with what API server and kubelet add), or `plain`: labels, a container
 * and addresses (2 kB).
 */
export type PodShape = 'full' | 'plain';

/** A remote pod as it is created; the API server takes no status then. */
export function pod(index: number, shape: PodShape): ApiObject {
  const labels = { ...labelsOf(index), 'pod-template-hash': '7c9d8b6f5d' };
  return podObject(podName(index), `far-${nodeOf(index)}`, labels, shape);
}

/** Where a remote pod is. */
export const podPath = (index: number): string => `/api/v1/namespaces/default/pods/${podName(index)}`;

/** Any pod. */
export function podObject(
  name: string,
  node: string,
  labels: Readonly<Record<string, string>>,
  shape: PodShape,
): ApiObject {
  if (shape === 'plain') {
    return {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, namespace: 'default', labels },
      spec: { nodeName: node, containers: [{ name: 'main', image: 'main' }] },
    };
  }
  const app = labels['app'] ?? name;
  const probe = (path: string) => ({ httpGet: { path, port: 'http' }, periodSeconds: 10, timeoutSeconds: 2 });
  const field = (variable: string, fieldPath: string) => ({ name: variable, valueFrom: { fieldRef: { fieldPath } } });
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name,
      namespace: 'default',
      labels,
      annotations: { 'prometheus.io/scrape': 'true', 'prometheus.io/port': '8080' },
      ownerReferences: [
        {
          apiVersion: 'apps/v1',
          kind: 'ReplicaSet',
          name: `${app}-7c9d8b6f5d`,
          uid: '5b0c6b1e-6a53-4b0e-9a54-1d3d2b6f7f10',
          controller: true,
          blockOwnerDeletion: true,
        },
      ],
    },
    spec: {
      nodeName: node,
      serviceAccountName: 'default',
      containers: [
        {
          name: 'main',
          image: `registry.example.com/team/${app}:1.24.3`,
          args: ['--config=/etc/app/config.yaml', '--log-format=json'],
          ports: [
            { name: 'http', containerPort: 8080, protocol: 'TCP' },
            { name: 'metrics', containerPort: 9090, protocol: 'TCP' },
          ],
          env: [
            { name: 'GOMAXPROCS', value: '2' },
            { name: 'DATABASE_HOST', value: `${app}-db.default.svc.cluster.local` },
            { name: 'FEATURES', value: 'search,cart,checkout' },
            field('POD_NAME', 'metadata.name'),
            field('POD_IP', 'status.podIP'),
            field('NODE_NAME', 'spec.nodeName'),
          ],
          resources: { requests: { cpu: '100m', memory: '128Mi' }, limits: { memory: '256Mi' } },
          livenessProbe: probe('/healthz'),
          readinessProbe: probe('/ready'),
          volumeMounts: [
            { name: 'config', mountPath: '/etc/app', readOnly: true },
            { name: 'api-access', mountPath: '/var/run/secrets/kubernetes.io/serviceaccount', readOnly: true },
          ],
        },
      ],
      volumes: [
        { name: 'config', configMap: { name: app } },
        {
          name: 'api-access',
          projected: {
            sources: [
              { serviceAccountToken: { expirationSeconds: 3607, path: 'token' } },
              { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
            ],
          },
        },
      ],
    },
  };
}

/** What a kubelet reports of a running pod, as a merge patch of its status. */
export function podStatus(index: number, shape: PodShape): object {
  const ip = podAddress(index);
  if (shape === 'plain') return { status: { phase: 'Running', podIP: ip, podIPs: [{ ip }] } };
  const since = '2026-01-01T00:00:00Z';
  return {
    status: {
      phase: 'Running',
      hostIP: nodeAddress(nodeOf(index)),
      podIP: ip,
      podIPs: [{ ip }],
      startTime: since,
      conditions: ['PodReadyToStartContainers', 'Initialized', 'Ready', 'ContainersReady', 'PodScheduled'].map(
        (type) => ({ type, status: 'True', lastTransitionTime: since, lastProbeTime: null }),
      ),
      containerStatuses: [
        {
          name: 'main',
          ready: true,
          started: true,
          restartCount: 0,
          image: `registry.example.com/team/app-${index % 100}:1.24.3`,
          imageID: `registry.example.com/team/app-${index % 100}@sha256:${'0f'.repeat(32)}`,
          containerID: `containerd://${'a1'.repeat(32)}`,
          state: { running: { startedAt: since } },
          lastState: {},
        },
      ],
    },
  };
}

/** In the fabric's wider subnet, above the lab's own nodes. */
const nodeAddress = (index: number): string => `172.31.${1 + (index >> 7)}.${1 + (index & 127)}`;

/** A node of the fabric's subnet, as Calico's annotations say it. */
export function node(index: number): ApiObject {
  const name = `far-${index}`;
  const address = nodeAddress(index);
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name,
      labels: { 'kubernetes.io/hostname': name, 'kubernetes.io/os': 'linux', 'kubernetes.io/arch': 'amd64' },
      annotations: { 'projectcalico.org/IPv4Address': `${address}/16` },
    },
    status: { addresses: [{ type: 'InternalIP', address }] },
  };
}

/** Microseconds. */
const sequence = Date.UTC(2026, 0) * 1000;

/** The block of a node, with the addresses of its pods up to number `pods` in use. */
export function block(nodeIndex: number, pods: number): ApiObject {
  const first = addressOf(nodeIndex * blockSize);
  const here: number[] = [];
  for (let round = 0; round * podsPerNode * mostNodes < pods; round++) {
    const from = (round * mostNodes + nodeIndex) * podsPerNode;
    for (let index = from; index < Math.min(from + podsPerNode, pods); index++) here.push(index);
  }
  const allocations = Array<number | null>(blockSize).fill(null);
  for (const place of here.keys()) allocations[1 + place] = place;
  return {
    apiVersion: v3,
    kind: 'IPAMBlock',
    metadata: { name: `${first.replaceAll('.', '-')}-26` },
    spec: {
      cidr: `${first}/26`,
      affinity: `host:far-${nodeIndex}`,
      allocations,
      unallocated: [...allocations.keys()].filter((ordinal) => allocations[ordinal] === null),
      attributes: here.map((index) => ({
        handle_id: `k8s-pod-network.${index.toString(16).padStart(64, '0')}`,
        secondary: { namespace: 'default', node: `far-${nodeIndex}`, pod: podName(index) },
      })),
      // As large as those of blocks that we make.
      sequenceNumber: sequence + here.length,
      sequenceNumberForAllocation: Object.fromEntries(here.map((_, place) => [String(1 + place), sequence + place])),
    },
  };
}

/** As far as this benchmark reads objects. */
export interface ApiObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly [field: string]: unknown };
  readonly [field: string]: unknown;
}

const plurals: Readonly<Record<string, string>> = {
  Pod: 'pods',
  Node: 'nodes',
  IPAMBlock: 'ipamblocks',
  IPPool: 'ippools',
  NetworkPolicy: 'networkpolicies',
};

/** Address of an object, or of its collection. */
export function pathOf(object: ApiObject, what: 'object' | 'collection'): string {
  const { apiVersion, kind, metadata } = object;
  const group = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const namespace = metadata.namespace === undefined ? '' : `/namespaces/${metadata.namespace}`;
  const plural = plurals[kind];
  if (plural === undefined) throw new Error(`${kind} is not known here`);
  return `${group}${namespace}/${plural}${what === 'object' ? `/${metadata.name}` : ''}`;
}
