import { tryParseNet, type CidrText } from '#api/cidr.ts';
import type { KindMap } from '#api/kinds.ts';
import type { DataplaneUpdate } from '#dataplanes/messages.ts';

/** The networks that a BGPConfiguration names as the services' addresses: canonical, sorted, each once. */
export function serviceRanges({ spec }: KindMap['BGPConfiguration']): readonly CidrText[] {
  const nets = new Set<CidrText>();
  const { serviceClusterIPs = [], serviceExternalIPs = [], serviceLoadBalancerIPs = [] } = spec;
  for (const { cidr = '' } of [...serviceClusterIPs, ...serviceExternalIPs, ...serviceLoadBalancerIPs]) {
    const net = tryParseNet(cidr);
    if (net !== undefined) nets.add(net.text);
  }
  return [...nets].toSorted();
}

/** Says the ranges when they differ from what was said last; none is what counts before anything is said. */
export class ServiceRanges {
  #wanted: readonly CidrText[] = [];
  #sent: readonly CidrText[] = [];

  /** The object called `default`; others are for single nodes and say nothing of services. */
  set(configuration: KindMap['BGPConfiguration'] | undefined): void {
    this.#wanted = configuration === undefined ? [] : serviceRanges(configuration);
  }

  take(): readonly DataplaneUpdate[] {
    if (this.#wanted.join() === this.#sent.join()) return [];
    this.#sent = this.#wanted;
    return [{ type: 'serviceRangesUpdate', cidrs: this.#wanted }];
  }
}
