/** What calc reads from a Pod. */
import type { KindMap } from '#api/kinds.ts';
import { protocolNumber } from '#api/policy/protocols.ts';
import type { NamedPort } from '../sets/address-source.ts';

type Pod = KindMap['Pod'];

/** The ports that policies can call by name: those of its containers, and of init containers that stay (sidecars). */
export function podPorts({ spec }: Pod): readonly NamedPort[] {
  const ports: NamedPort[] = [];
  for (const container of [...spec.containers, ...spec.initContainers]) {
    if (container.restartPolicy !== 'Always' && spec.initContainers.includes(container)) continue;
    for (const { name, protocol, containerPort } of container.ports) {
      if (name !== undefined) ports.push({ name, protocol: protocolNumber(protocol) ?? 0, port: containerPort });
    }
  }
  return ports.length === 0 ? noPorts : ports;
}

export const noPorts: readonly NamedPort[] = [];
