/**
 * Every Service of a cluster as it must be said, computed from all objects at once: each question is asked of all slices again. For tests to
 * compare the incremental way with; it shares nothing with it.
 */
import type { KindMap } from '#api/kinds.ts';
import type { BackendInfo, ServiceInfo } from '#dataplanes/services.ts';

type Slice = KindMap['EndpointSlice'];
type ServicePort = KindMap['Service']['spec']['ports'][number];

/** The objects that matter. */
export interface ServiceObjects {
  readonly Service?: readonly KindMap['Service'][];
  readonly EndpointSlice?: readonly Slice[];
}

const numberOf: Readonly<Record<string, number>> = { TCP: 6, UDP: 17, SCTP: 132 };
const skipped = ['service.kubernetes.io/service-proxy-name', 'service.kubernetes.io/headless'];
const isSkipped = ({ labels = {} }: { readonly labels?: Readonly<Record<string, string>> | undefined }) =>
  skipped.some((label) => label in labels);

/** By `namespace/name`, in a form that compares. */
export function referenceServices(
  { Service = [], EndpointSlice = [] }: ServiceObjects,
  nodeName: string,
): Record<string, ServiceInfo> {
  const said: Record<string, ServiceInfo> = {};
  for (const { metadata, spec } of Service) {
    const isNone = ['', 'None', undefined].includes(spec.clusterIP) || spec.type === 'ExternalName';
    const isExcluded = metadata.annotations?.['projectcalico.org/natExcludeService'] === 'true';
    if (isNone || isSkipped(metadata) || isExcluded || spec.ports.length === 0) continue;
    const ips = spec.clusterIPs.length === 0 ? [spec.clusterIP ?? ''] : spec.clusterIPs;
    const ipv4 = ips.find((ip) => !ip.includes(':'));
    const ipv6 = ips.find((ip) => ip.includes(':'));
    const slices = EndpointSlice.filter(
      (slice) =>
        slice.metadata.namespace === metadata.namespace &&
        slice.metadata.labels?.['kubernetes.io/service-name'] === metadata.name &&
        !isSkipped(slice.metadata),
    );
    const ofType = (type: string) => slices.filter(({ addressType }) => addressType === type);
    said[`${metadata.namespace}/${metadata.name}`] = {
      clusterIps: { ...(ipv4 === undefined ? {} : { ipv4 }), ...(ipv6 === undefined ? {} : { ipv6 }) },
      ports: spec.ports
        .map((port) => ({
          name: port.name,
          protocol: numberOf[port.protocol] ?? 0,
          port: port.port,
          ipv4Backends: ipv4 === undefined ? [] : backends(port, ofType('IPv4'), nodeName),
          ipv6Backends: ipv6 === undefined ? [] : backends(port, ofType('IPv6'), nodeName),
        }))
        .sort((a, b) => (a.protocol === b.protocol ? a.port - b.port : a.protocol - b.protocol)),
      ...(spec.sessionAffinity === 'ClientIP'
        ? { clientIpAffinityS: spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? 3 * 3600 }
        : {}),
      internalTrafficPolicy: spec.internalTrafficPolicy === 'Local' ? 'local' : 'cluster',
    };
  }
  return said;
}

function backends(port: ServicePort, slices: readonly Slice[], nodeName: string): BackendInfo[] {
  const claims: BackendInfo[] = [];
  for (const slice of slices)
    for (const target of slice.ports)
      for (const endpoint of slice.endpoints) {
        const [address = ''] = endpoint.addresses;
        const isMeant = target.name === port.name && target.protocol === port.protocol && (target.port ?? 0) > 0;
        if (!isMeant || address.includes(':') !== (slice.addressType === 'IPv6') || !/^[\d.]+$|:/.test(address))
          continue;
        claims.push({
          address,
          port: target.port ?? 0,
          ...(endpoint.nodeName === undefined ? {} : { nodeName: endpoint.nodeName }),
          ...(endpoint.zone === undefined ? {} : { zone: endpoint.zone }),
          ready: endpoint.conditions?.ready !== false,
          serving: endpoint.conditions?.serving !== false,
          terminating: endpoint.conditions?.terminating === true,
        });
      }
  const rank = ({ nodeName: at = '', zone = '', ready, serving, terminating }: BackendInfo) =>
    [at === nodeName ? 0 : 1, ready ? 0 : 1, serving ? 0 : 1, terminating ? 1 : 0, at, '', zone].join('\u0000');
  const names = [
    ...new Set(claims.map(({ address, port: number }) => `${address} ${String(number).padStart(5, '0')}`)),
  ];
  return names.sort().flatMap((name) => {
    const [address, number] = name.split(' ');
    const same = claims.filter((claim) => claim.address === address && claim.port === Number(number));
    return same.sort((a, b) => (rank(a) < rank(b) ? -1 : 1)).slice(0, 1);
  });
}
