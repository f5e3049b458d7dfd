/** What HostEndpoints and network sets give to sets, and what a host endpoint of this node is programmed as. */
import { tryParseIp, tryParseNet, type CidrText } from '#api/cidr.ts';
import type { KindMap } from '#api/kinds.ts';
import { protocolNumber } from '#api/policy/protocols.ts';
import type { LocalEndpoint } from '../policy/policy-resolver.ts';
import type { SourceState } from '../sets/set-store.ts';
import { namespaceProfileId } from '../convert/convert.ts';
import { networkSetLayer, ownLabels } from './identity.ts';
import { noPorts } from './pod-facts.ts';
import { hostNets } from '#api/pod-network.ts';

type HostEndpoint = KindMap['HostEndpoint'];
type NetworkSet = KindMap['NetworkSet'] | KindMap['GlobalNetworkSet'];

/** Of a host endpoint of any node: the addresses that it says it has. */
export function hostSource({ metadata, spec }: HostEndpoint): SourceState {
  const ports = (spec.ports ?? []).flatMap(({ name, protocol, port }) => {
    const number = protocolNumber(protocol);
    return number === undefined ? [] : [{ name, protocol: number, port }];
  });
  return {
    nets: hostNets(spec.expectedIPs ?? []),
    ports,
    labels: { own: metadata.labels ?? {}, parents: spec.profiles ?? [] },
  };
}

/** Of a host endpoint of this node. */
export function hostEndpoint({ metadata, spec }: HostEndpoint): LocalEndpoint {
  const profiles = spec.profiles ?? [];
  const { interfaceName = '' } = spec;
  return {
    kind: 'host',
    id: metadata.name,
    device: {
      ...(interfaceName === '' ? {} : { ifaceName: interfaceName }),
      expectedIps: (spec.expectedIPs ?? []).flatMap((text) => tryParseIp(text)?.text ?? []),
    },
    labels: { own: metadata.labels ?? {}, parents: profiles },
    profiles,
    profileUser: 'host',
  };
}

/** Of a network set; one in a namespace inherits the namespace's labels. */
export function networkSetSource({ metadata, spec }: NetworkSet): SourceState {
  const nets = new Set<CidrText>();
  for (const text of spec.nets) {
    const net = tryParseNet(text);
    if (net !== undefined) nets.add(net.text);
  }
  const { labels = {} } = metadata;
  const namespace = 'namespace' in metadata ? metadata.namespace : undefined;
  return {
    nets: [...nets],
    ports: noPorts,
    labels:
      namespace === undefined
        ? { own: labels, parents: [] }
        : { own: ownLabels(labels), over: networkSetLayer(namespace), parents: [namespaceProfileId(namespace)] },
  };
}
