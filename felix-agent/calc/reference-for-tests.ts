/**
 * What a node's dataplane must know, computed from all objects at once, without anything remembered: the obvious way, for tests to
 * compare the incremental one with. It shares with it only the conversion of single objects.
 */
import { tryParseNet } from '#api/cidr.ts';
import type { KindMap } from '#api/kinds.ts';
import type { WorkloadEndpointInfo } from '#dataplanes/messages.ts';
import type { HostEndpointInfo, PolicyInfo, ProfileInfo, SetType, TierInfo } from '#dataplanes/policy.ts';
import { endpointId, endpointInfo } from '../endpoints/endpoint-info.ts';
import {
  builtInTiers,
  comparePolicies,
  compareTiers,
  convertPolicy,
  convertProfile,
  convertTier,
  missingTier,
  policyKinds,
  profileOfNamespace,
  profileOfServiceAccount,
  type CalcProfile,
} from './convert/convert.ts';
import { calcRule } from './convert/rule-parts.ts';
import type { PolicyState } from './model-for-tests.ts';
import type { CalcPolicy, CalcRule, SetSpec } from './model.ts';
import { referenceServices } from './services/reference-for-tests.ts';

/** All objects of a cluster, by kind; `local` are the WorkloadEndpoints that this node's plugin has made. */
export type Cluster = { readonly [K in keyof KindMap]?: readonly KindMap[K][] } & {
  readonly local?: readonly KindMap['WorkloadEndpoint'][];
};

/** A thing with labels and addresses. */
interface Thing {
  readonly labels: Readonly<Record<string, string>>;
  readonly nets: readonly string[];
  readonly ports: readonly { readonly name: string; readonly protocol: number; readonly port: number }[];
  readonly profiles: readonly string[];
}

const numberOf: Readonly<Record<string, number>> = { TCP: 6, UDP: 17, SCTP: 132 };

export function referenceState(cluster: Cluster, nodeName: string): PolicyState {
  const profiles = allProfiles(cluster);
  const withInherited = (thing: Thing): Thing => ({
    ...thing,
    labels: Object.assign({}, ...thing.profiles.map((id) => profiles.get(id)?.labels).toReversed(), thing.labels),
  });
  const ids = new Set([
    ...(cluster.Pod ?? []).filter((pod) => !pod.spec.hostNetwork).map(podId),
    ...(cluster.WorkloadEndpoint ?? []).map(endpointId),
    ...(cluster.local ?? []).map(endpointId),
  ]);
  const workloads = [...ids].map((id) => ({ id, ...workload(id, cluster, nodeName) }));
  const hosts = (cluster.HostEndpoint ?? []).map((object) => ({ object, thing: withInherited(hostThing(object)) }));
  const things = [
    ...workloads.map(({ thing }) => withInherited(thing)),
    ...hosts.map(({ thing }) => thing),
    ...(cluster.NetworkSet ?? []).map((set) => withInherited(networkSetThing(set))),
    ...(cluster.GlobalNetworkSet ?? []).map((set) => withInherited(networkSetThing(set))),
  ];

  const policies = policyKinds
    .flatMap((kind) =>
      ((cluster[kind] ?? []) as readonly KindMap[typeof kind][]).map((object) => convertPolicy(kind, object)),
    )
    .filter((policy) => policy !== undefined);
  const tierOf = (name: string) => {
    const object = (cluster.Tier ?? []).find(({ metadata }) => metadata.name === name);
    return object === undefined
      ? (builtInTiers.find((tier) => tier.name === name) ?? missingTier(name))
      : convertTier(object);
  };
  const selecting = (thing: Thing, isMeant: (policy: CalcPolicy) => boolean) =>
    policies
      .filter((policy) => isMeant(policy) && policy.selector.evaluate(thing.labels))
      .sort((a, b) => compareTiers(tierOf(a.tier), tierOf(b.tier)) || comparePolicies(a, b));
  const lists = (thing: Thing, isMeant: (policy: CalcPolicy) => boolean, withEgress = true): TierInfo[] => {
    const chosen = selecting(thing, isMeant);
    return [...new Set(chosen.map(({ tier }) => tier))]
      .map((name) => ({
        name,
        ingress: chosen.filter((policy) => policy.tier === name && policy.ingressType).map(({ id }) => id),
        egress: chosen.filter((policy) => policy.tier === name && policy.egressType && withEgress).map(({ id }) => id),
        defaultAction: tierOf(name).defaultAction,
      }))
      .filter(({ ingress, egress }) => ingress.length + egress.length > 0);
  };
  const isOrdinary = (policy: CalcPolicy) => !policy.doNotTrack && !policy.preDnat;

  const endpoints: Record<string, WorkloadEndpointInfo> = {};
  const usedProfiles = new Map<string, CalcProfile>();
  const use = (id: string, kind: 'pod' | 'container' | 'host') => {
    const profile = profiles.get(id) ?? derivedProfile(id, kind);
    if (profile !== undefined) usedProfiles.set(id, profile);
  };
  for (const { id, thing, local } of workloads) {
    if (local === undefined) continue;
    endpoints[id] = {
      ...endpointInfo(local),
      tiers: lists(withInherited(thing), isOrdinary),
      profiles: thing.profiles,
    };
    for (const profile of thing.profiles) use(profile, local.spec.pod === undefined ? 'container' : 'pod');
  }
  const hostEndpoints: Record<string, HostEndpointInfo> = {};
  for (const { object, thing } of hosts) {
    if (object.spec.node !== nodeName) continue;
    hostEndpoints[object.metadata.name] = {
      ...(object.spec.interfaceName ? { ifaceName: object.spec.interfaceName } : {}),
      expectedIps: object.spec.expectedIPs ?? [],
      profiles: thing.profiles,
      tiers: lists(thing, isOrdinary),
      forwardTiers: lists(thing, (policy) => isOrdinary(policy) && policy.applyOnForward),
      preDnatTiers: lists(thing, ({ preDnat }) => preDnat, false),
      untrackedTiers: lists(thing, ({ doNotTrack, preDnat }) => doNotTrack && !preDnat),
    };
    for (const profile of thing.profiles) use(profile, 'host');
  }

  const usedPolicies = policies.filter(({ id }) =>
    [
      ...Object.values(endpoints).flatMap(({ tiers }) => tiers),
      ...Object.values(hostEndpoints).flatMap((host) => [
        ...host.tiers,
        ...host.forwardTiers,
        ...host.preDnatTiers,
        ...host.untrackedTiers,
      ]),
    ].some(({ ingress, egress }) => ingress.includes(id) || egress.includes(id)),
  );
  const specs = [...usedPolicies, ...usedProfiles.values()].flatMap(({ ingress, egress }) =>
    [...ingress, ...egress].flatMap(specsOf),
  );
  return {
    sets: Object.fromEntries(specs.map((spec) => [spec.id, setOf(spec, things, cluster)])),
    policies: Object.fromEntries(usedPolicies.map((policy) => [policy.id, policyInfo(policy)])),
    profiles: Object.fromEntries([...usedProfiles].map(([id, profile]) => [id, rulesInfo(profile)])),
    endpoints,
    hostEndpoints,
    serviceRanges: serviceRanges(cluster),
    services: referenceServices(cluster, nodeName),
  };
}

function allProfiles(cluster: Cluster): Map<string, CalcProfile> {
  const profiles = [
    ...(cluster.Profile ?? []).filter(({ metadata }) => !/^k(ns|sa)\./.test(metadata.name)).map(convertProfile),
    ...(cluster.Namespace ?? []).map(profileOfNamespace),
    ...(cluster.ServiceAccount ?? []).map(profileOfServiceAccount),
  ];
  return new Map(profiles.map((profile) => [profile.id, profile]));
}

function derivedProfile(id: string, kind: 'pod' | 'container' | 'host'): CalcProfile | undefined {
  const rule = (direction: string) => calcRule(`Profile ${id} ${direction} 0`, { action: 'allow' });
  const base = { id, labels: {}, problems: [] };
  if (kind === 'pod' && id.startsWith('ksa.')) return { ...base, ingress: [], egress: [] };
  const isOpen =
    id === 'projectcalico-default-allow' || kind === 'container' || (kind === 'pod' && id.startsWith('kns.'));
  return isOpen ? { ...base, ingress: [rule('ingress')], egress: [rule('egress')] } : undefined;
}

function podId({ metadata }: KindMap['Pod']): string {
  return `k8s/${metadata.namespace}/${metadata.name}/eth0`;
}

function workload(
  id: string,
  cluster: Cluster,
  nodeName: string,
): { readonly thing: Thing; readonly local: KindMap['WorkloadEndpoint'] | undefined } {
  const pod = (cluster.Pod ?? []).find((candidate) => podId(candidate) === id && !candidate.spec.hostNetwork);
  const local = (cluster.local ?? []).find((candidate) => endpointId(candidate) === id);
  const podNode = pod?.spec.nodeName;
  const published = (cluster.WorkloadEndpoint ?? [])
    .filter((candidate) => endpointId(candidate) === id && (podNode === undefined || candidate.spec.node === podNode))
    .toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
    .at(-1);
  const object = local ?? published;

  const blank = pod?.metadata.annotations?.['cni.projectcalico.org/podIPs'] === '';
  const hasLeft =
    pod !== undefined &&
    (['Succeeded', 'Failed'].includes(pod.status.phase ?? '') ||
      (blank && pod.metadata.deletionTimestamp !== undefined));
  const annotated = (pod?.metadata.annotations?.['cni.projectcalico.org/podIPs'] ?? '').split(',').filter(Boolean);
  const addresses = hasLeft
    ? []
    : local !== undefined && (podNode === undefined || podNode === nodeName)
      ? local.spec.ipNetworks
      : (published?.spec.ipNetworks ??
        (pod !== undefined && pod.status.podIPs.length > 0 ? pod.status.podIPs.map(({ ip }) => ip) : annotated));
  const nets = addresses.map((text) => tryParseNet(text)?.text ?? '');

  if (pod === undefined && object === undefined) {
    return { thing: { labels: {}, nets: [], ports: [], profiles: [] }, local };
  }
  const namespace = pod?.metadata.namespace ?? object?.metadata.namespace ?? '';
  if (pod === undefined && object?.spec.pod === undefined) {
    const networks = object?.spec.profiles ?? [];
    const labels = {
      ...said(object?.metadata.labels),
      'projectcalico.org/namespace': namespace,
      'projectcalico.org/orchestrator': object?.spec.orchestrator ?? '',
      ...Object.fromEntries(networks.map((network) => [network, ''])),
    };
    const profiles = networks.length === 0 ? ['projectcalico-default-allow'] : networks;
    return { thing: { labels, nets, ports: objectPorts(object), profiles }, local };
  }
  const account =
    pod?.spec.serviceAccountName ?? (pod === undefined ? object?.spec.serviceAccountName : undefined) ?? 'default';
  const labels = {
    ...said((pod ?? object)?.metadata.labels),
    ...namespaceLabels(namespace),
    'projectcalico.org/orchestrator': 'k8s',
    'projectcalico.org/serviceaccount': account,
    'pcsa.projectcalico.org/name': account,
  };
  const profiles =
    pod === undefined ? (object?.spec.profiles ?? []) : [`kns.${namespace}`, `ksa.${namespace}.${account}`];
  const ports =
    pod === undefined
      ? objectPorts(object)
      : pod.spec.containers.flatMap((container) =>
          container.ports.flatMap(({ name, protocol, containerPort: port }) =>
            name === undefined ? [] : [{ name, protocol: numberOf[protocol] ?? 0, port }],
          ),
        );
  return { thing: { labels, nets, ports, profiles }, local };
}

function objectPorts(object: KindMap['WorkloadEndpoint'] | undefined): Thing['ports'] {
  return (object?.spec.ports ?? []).flatMap(({ name, protocol, port }) =>
    name === undefined ? [] : [{ name, protocol: numberOf[protocol] ?? 0, port }],
  );
}

/** Nobody in a namespace says himself where he belongs. */
function said(labels: Readonly<Record<string, string>> = {}): Record<string, string> {
  const foreign = /^(pcns\.|pcsa\.|projectcalico\.org\/(namespace|orchestrator|serviceaccount)$)/;
  return Object.fromEntries(Object.entries(labels).filter(([key]) => !foreign.test(key)));
}

function namespaceLabels(namespace: string): Record<string, string> {
  return {
    'projectcalico.org/namespace': namespace,
    'pcns.projectcalico.org/name': namespace,
    'pcns.kubernetes.io/metadata.name': namespace,
  };
}

function hostThing({ metadata, spec }: KindMap['HostEndpoint']): Thing {
  return {
    labels: metadata.labels ?? {},
    nets: (spec.expectedIPs ?? []).map((text) => tryParseNet(text)?.text ?? ''),
    ports: (spec.ports ?? []).map(({ name, protocol, port }) => ({ name, protocol: numberOf[protocol] ?? 0, port })),
    profiles: spec.profiles ?? [],
  };
}

function networkSetThing({ metadata, spec }: KindMap['NetworkSet'] | KindMap['GlobalNetworkSet']): Thing {
  const namespace = 'namespace' in metadata ? metadata.namespace : undefined;
  return {
    labels:
      namespace === undefined ? (metadata.labels ?? {}) : { ...said(metadata.labels), ...namespaceLabels(namespace) },
    nets: spec.nets.map((text) => tryParseNet(text)?.text ?? ''),
    ports: [],
    profiles: namespace === undefined ? [] : [`kns.${namespace}`],
  };
}

function setOf(
  spec: SetSpec,
  things: readonly Thing[],
  cluster: Cluster,
): { readonly type: SetType; readonly members: string[] } {
  const sorted = (members: readonly string[]) => [...new Set(members)].sort();
  const bare = (net: string) => net.split('/')[0] ?? '';
  switch (spec.kind) {
    case 'nets':
      return { type: 'net', members: sorted(spec.nets) };
    case 'selector': {
      const selected = things.filter(({ labels }) => spec.selector.evaluate(labels));
      return { type: 'net', members: sorted(selected.flatMap(({ nets }) => nets)) };
    }
    case 'namedPort': {
      const selected = things.filter(({ labels }) => spec.selector.evaluate(labels));
      const members = selected.flatMap(({ nets, ports }) =>
        ports
          .filter(({ name, protocol }) => name === spec.port && protocol === spec.protocol)
          .flatMap(({ port }) => nets.map((net) => `${bare(net)},${spec.protocol}:${port}`)),
      );
      return { type: 'ipPort', members: sorted(members) };
    }
    case 'service': {
      const slices = (cluster.EndpointSlice ?? []).filter(
        ({ metadata }) =>
          metadata.namespace === spec.namespace && metadata.labels?.['kubernetes.io/service-name'] === spec.name,
      );
      const members = slices.flatMap((slice) =>
        slice.endpoints
          .flatMap(({ addresses }) => addresses)
          .flatMap((address) =>
            spec.withPorts
              ? slice.ports.flatMap(({ protocol, port = 0 }) =>
                  port === 0 ? [] : `${address},${numberOf[protocol]}:${port}`,
                )
              : [tryParseNet(address)?.text ?? ''],
          ),
      );
      return { type: spec.withPorts ? 'ipPort' : 'net', members: sorted(members) };
    }
  }
}

function specsOf({ source, destination }: CalcRule): readonly SetSpec[] {
  return [source, destination].flatMap((peer) => [
    ...peer.sets,
    ...peer.notSets,
    ...peer.portSets,
    ...peer.notPortSets,
    ...peer.ipPortSets,
  ]);
}

function policyInfo(policy: CalcPolicy): PolicyInfo {
  return { tier: policy.tier, staged: policy.staged, ...rulesInfo(policy) };
}

function rulesInfo({ ingress, egress }: Pick<CalcPolicy, 'ingress' | 'egress'>): ProfileInfo {
  const ids = (specs: readonly SetSpec[]) => specs.map(({ id }) => id);
  const peer = (match: CalcRule['source']) => ({
    ...match,
    sets: ids(match.sets),
    notSets: ids(match.notSets),
    portSets: ids(match.portSets),
    notPortSets: ids(match.notPortSets),
    ipPortSets: ids(match.ipPortSets),
  });
  const infos = (rules: readonly CalcRule[]) =>
    rules.map((rule) => ({ ...rule, source: peer(rule.source), destination: peer(rule.destination) }));
  return { ingress: infos(ingress), egress: infos(egress) };
}

function serviceRanges(cluster: Cluster): readonly string[] {
  const { serviceClusterIPs = [], serviceExternalIPs = [] } =
    (cluster.BGPConfiguration ?? []).find(({ metadata }) => metadata.name === 'default')?.spec ?? {};
  return [...new Set([...serviceClusterIPs, ...serviceExternalIPs].flatMap(({ cidr }) => cidr ?? []))].sort();
}
