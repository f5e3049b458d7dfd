/** Which addresses a Pod has in the network; the rules are Calico's. */
import { annotation } from './annotations.ts';
import { bitsOf, tryParseNet, type CidrText } from './cidr.ts';
import type { KindMap } from './kinds.ts';

type Pod = KindMap['Pod'];

/**
 * Its addresses are nobody's any more, or soon another pod's, although the object still has them: it has run to its end, or it is being
 * deleted and the plugin has blanked its annotations.
 */
export function hasLeftNetwork({ metadata, status }: Pod): boolean {
  if (status.phase === 'Succeeded' || status.phase === 'Failed') return true;
  if (metadata.deletionTimestamp === undefined) return false;
  const { [annotation.podIPs]: podIPs, [annotation.podIP]: podIP } = metadata.annotations ?? {};
  return podIPs === undefined ? podIP === '' : podIPs === '';
}

/** A pod's addresses: what its kubelet reports, until then what the plugin has written. */
export function podNets({ metadata, status }: Pod): readonly CidrText[] {
  if (status.podIPs.length > 0) return hostNets(status.podIPs.map(({ ip }) => ip));
  if (status.podIP !== undefined && status.podIP !== '') return hostNets([status.podIP]);
  const { [annotation.podIPs]: podIPs, [annotation.podIP]: podIP } = metadata.annotations ?? {};
  return hostNets((podIPs ?? podIP ?? '').split(','));
}

/** Addresses as /32 and /128, canonical, each once; what is no single address is left out. */
export function hostNets(texts: readonly string[]): readonly CidrText[] {
  const nets = new Set<CidrText>();
  for (const text of texts) {
    const net = tryParseNet(text.trim());
    if (net !== undefined && net.prefix === bitsOf(net.family)) nets.add(net.text);
  }
  return [...nets];
}
