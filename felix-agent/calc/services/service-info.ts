import { tryParseIp, type Family } from '#api/cidr.ts';
import { headlessLabel, natExcludeAnnotation, serviceProxyNameLabel } from '#api/core/service.ts';
import type { KindMap } from '#api/kinds.ts';
import { protocolHasPorts, protocolNumber } from '#api/policy/protocols.ts';
import type { BackendInfo, FamilyAddresses, ServiceInfo } from '#dataplanes/services.ts';
import { mergedBackends, type SliceReader } from './backends.ts';

type Service = KindMap['Service'];
type EndpointSlice = KindMap['EndpointSlice'];

/** What a Service and its slices come to. */
export interface ServiceOutcome {
  /** Undefined: no dataplane need know of it. */
  readonly info: ServiceInfo | undefined;
  /** What of the objects is impossible and was left out; sorted, each once. */
  readonly problems: readonly string[];
}

/** How long ClientIP affinity lasts if the Service doesn't say, in s: Kubernetes' default. */
const defaultAffinityS = 10_800;

/** What the outcome depends on besides the objects. */
export interface ServiceContext {
  /** Of two sayings about one backend the one that puts it on this node counts. */
  readonly selfNodeName: string;
  readonly reader: SliceReader;
}

/**
 * A Service with its slices as kube-proxy understands them. `slices` are those whose label names the service, in any order: the outcome
 * doesn't depend on it.
 */
export function serviceInfo(
  service: Service,
  slices: Iterable<EndpointSlice>,
  context: ServiceContext,
): ServiceOutcome {
  if (!isProxied(service)) return { info: undefined, problems: [] };
  const found = new Set<string>();
  const { spec } = service;
  const clusterIps = clusterIpsOf(spec, found);
  const ports = portsOf(spec, found);
  const counted = [...slices].filter(({ metadata }) => !isOthers(metadata.labels));
  const backendsIn = (family: Family) => {
    const isReached = (family === 4 ? clusterIps.ipv4 : clusterIps.ipv6) !== undefined;
    return backendsOf(ports, isReached ? counted : [], family, context, found);
  };
  const [ipv4, ipv6] = [backendsIn(4), backendsIn(6)];
  const problems = [...found].toSorted();
  if ((clusterIps.ipv4 ?? clusterIps.ipv6) === undefined || ports.length === 0) return { info: undefined, problems };

  const affinity =
    spec.sessionAffinity === 'ClientIP'
      ? { clientIpAffinityS: spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? defaultAffinityS }
      : {};
  const info: ServiceInfo = {
    clusterIps,
    ports: ports.map((port, index) => ({
      ...port,
      ipv4Backends: ipv4[index] ?? [],
      ipv6Backends: ipv6[index] ?? [],
    })),
    ...affinity,
    internalTrafficPolicy: spec.internalTrafficPolicy === 'Local' ? 'local' : 'cluster',
  };
  return { info, problems };
}

/** A port as the Service has it. */
interface FrontendPort {
  readonly name: string;
  readonly protocol: number;
  readonly port: number;
}

/** Not headless, not a mere name, not another proxy's, not to be left alone. */
function isProxied({ metadata, spec }: Service): boolean {
  const { clusterIP = '' } = spec;
  if (metadata.annotations?.[natExcludeAnnotation] === 'true') return false;
  return clusterIP !== '' && clusterIP !== 'None' && spec.type !== 'ExternalName' && !isOthers(metadata.labels);
}

/** kube-proxy doesn't even watch Services and slices with these labels. */
function isOthers(labels: Readonly<Record<string, string>> = {}): boolean {
  return labels[serviceProxyNameLabel] !== undefined || labels[headlessLabel] !== undefined;
}

/** The first address of each family. Old API servers give only `clusterIP`. */
function clusterIpsOf({ clusterIP = '', clusterIPs }: Service['spec'], problems: Set<string>): FamilyAddresses {
  const ips = (clusterIPs.length > 0 ? clusterIPs : [clusterIP]).flatMap((text) => {
    const ip = tryParseIp(text);
    if (ip === undefined) problems.add(`clusterIP ${text} is no address`);
    return ip ?? [];
  });
  const ipv4 = ips.find(({ family }) => family === 4)?.text;
  const ipv6 = ips.find(({ family }) => family === 6)?.text;
  return { ...(ipv4 === undefined ? {} : { ipv4 }), ...(ipv6 === undefined ? {} : { ipv6 }) };
}

/**
 * By protocol and port. A name that stands twice for one protocol is its last port's (so in kube-proxy, whose key it is); a port that stands twice
 * is its first name's. The API server lets neither pass.
 */
function portsOf({ ports }: Service['spec'], problems: Set<string>): readonly FrontendPort[] {
  const byName = new Map<string, FrontendPort>();
  for (const { name, protocol: protocolName, port } of ports) {
    const protocol = protocolNumber(protocolName);
    if (protocol === undefined || !protocolHasPorts(protocol)) {
      problems.add(`port ${port} has protocol ${protocolName}, which has no services`);
      continue;
    }
    const key = `${protocol} ${name}`;
    if (byName.has(key)) problems.add(`several ports of ${protocolName} have the name "${name}": the last one counts`);
    byName.set(key, { name, protocol, port });
  }
  const byPort = new Map<string, FrontendPort>();
  for (const port of byName.values()) {
    const key = `${port.protocol} ${port.port}`;
    if (byPort.has(key)) problems.add(`port ${port.port} has several names: ${byPort.get(key)?.name} counts`);
    else byPort.set(key, port);
  }
  return [...byPort.values()].toSorted((a, b) => a.protocol - b.protocol || a.port - b.port);
}

/** The backends of each port in their order: the slice's port of its name and protocol, whose number may be another in each slice. */
function backendsOf(
  ports: readonly FrontendPort[],
  slices: readonly EndpointSlice[],
  family: Family,
  { selfNodeName, reader }: ServiceContext,
  problems: Set<string>,
): readonly (readonly BackendInfo[])[] {
  const lists = ports.map((): (readonly BackendInfo[])[] => []);
  for (const slice of slices) {
    if (slice.addressType !== `IPv${family}`) continue;
    const view = reader.read(slice, family);
    const found = [...view.problems];
    for (const { name, protocol, port, backends } of view.ports) {
      const index = ports.findIndex((candidate) => candidate.name === name && candidate.protocol === protocol);
      if (index >= 0 && port === 0) found.push(`port "${name}" has no number`);
      lists[index]?.push(backends);
    }
    for (const what of found) problems.add(`EndpointSlice ${slice.metadata.name}: ${what}`);
  }
  return lists.map((list) => mergedBackends(list, selfNodeName));
}
