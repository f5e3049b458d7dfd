/** A cluster for the calculation's benchmark: namespaces with apps, policies that let one app into another. */
import { parseAs, type KindMap } from '#api/kinds.ts';

export const scale = {
  endpoints: 10_000,
  /** Of these, on this node. */
  local: 1_000,
  policies: 1_000,
  namespaces: 100,
  appsPerNamespace: 20,
} as const;

/** The node whose calculation is measured. */
export const self = 'node-0';

export function namespace(index: number, team: string): KindMap['Namespace'] {
  return parseAs('Namespace', {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: `ns-${index}`, labels: { team, 'kubernetes.io/metadata.name': `ns-${index}` } },
  }).object;
}

/** Pods are spread over namespaces and apps; every tenth is on this node. */
export function pod(index: number, extra: Readonly<Record<string, string>> = {}): KindMap['Pod'] {
  const ip = `10.${65 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`;
  const app = Math.floor(index / scale.namespaces) % scale.appsPerNamespace;
  return parseAs('Pod', {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: `pod-${index}`,
      namespace: `ns-${index % scale.namespaces}`,
      labels: { app: `app-${app}`, tier: app % 2 === 0 ? 'front' : 'back', 'pod-template-hash': `h${index}`, ...extra },
    },
    spec: {
      nodeName: isLocal(index) ? self : `node-${(index % 10) + 1}`,
      containers: [{ name: 'main', ports: [{ name: 'http', containerPort: 8080 }] }],
    },
    status: { phase: 'Running', podIP: ip, podIPs: [{ ip }] },
  }).object;
}

export function isLocal(index: number): boolean {
  return index % 10 === 0;
}

export function localEndpoint(index: number): KindMap['WorkloadEndpoint'] {
  const { metadata, status } = pod(index);
  return parseAs('WorkloadEndpoint', {
    apiVersion: 'projectcalico.org/v3',
    kind: 'WorkloadEndpoint',
    metadata: { name: `node--0-k8s-pod--${index}-eth0`, namespace: metadata.namespace },
    spec: {
      orchestrator: 'k8s',
      workload: `${metadata.namespace}.${metadata.name}`,
      node: self,
      containerID: `c${index}`,
      pod: metadata.name,
      endpoint: 'eth0',
      ipNetworks: [`${status.podIP}/32`],
      profiles: [`kns.${metadata.namespace}`, `ksa.${metadata.namespace}.default`],
      interfaceName: `cali${index}`,
      mac: '02:00:00:00:00:01',
    },
  }).object;
}

/** In turn: pods of the same namespace, pods of another team's namespaces, a named port, a global one. */
export function policy(index: number): {
  readonly kind: 'NetworkPolicy' | 'GlobalNetworkPolicy';
  readonly object: object;
} {
  const namespace = `ns-${index % scale.namespaces}`;
  const app = Math.floor(index / scale.namespaces) % scale.appsPerNamespace;
  const source =
    index % 3 === 0
      ? { selector: `app == "app-${(app + 1) % scale.appsPerNamespace}"` }
      : index % 3 === 1
        ? { selector: 'tier == "front"', namespaceSelector: `team == "team-${index % 10}"` }
        : { nets: [`192.0.${index % 256}.0/24`, '198.51.100.0/24'] };
  const ingress = [
    { action: 'Allow', protocol: 'TCP', source, destination: { ports: index % 4 === 0 ? ['http'] : [8080, 8443] } },
  ];
  const spec = { selector: `app == "app-${app}"`, order: index, types: ['Ingress'], ingress };
  const kind = index % 50 === 49 ? 'GlobalNetworkPolicy' : 'NetworkPolicy';
  const metadata = { name: `policy-${index}`, ...(kind === 'NetworkPolicy' ? { namespace } : {}) };
  return { kind, object: { apiVersion: 'projectcalico.org/v3', kind, metadata, spec } };
}

/** As many networks as asked for. */
export function bigNetworkSet(count: number, extra: readonly string[]): KindMap['GlobalNetworkSet'] {
  const nets = Array.from(
    { length: count },
    (_, index) => `172.${16 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`,
  );
  return parseAs('GlobalNetworkSet', {
    apiVersion: 'projectcalico.org/v3',
    kind: 'GlobalNetworkSet',
    metadata: { name: `big-${count}`, labels: { kind: 'big' } },
    spec: { nets: [...nets, ...extra] },
  }).object;
}

/** Lets what is in big network sets into one pod of this node. */
export function bigSetPolicy(): KindMap['GlobalNetworkPolicy'] {
  return parseAs('GlobalNetworkPolicy', {
    apiVersion: 'projectcalico.org/v3',
    kind: 'GlobalNetworkPolicy',
    metadata: { name: 'big' },
    spec: {
      selector: 'pod-template-hash == "h0"',
      ingress: [{ action: 'Allow', source: { selector: 'kind == "big"' } }],
    },
  }).object;
}
