import { withoutPrefix } from '#api/cidr.ts';
import type { CidrText } from '#dataplanes/messages.ts';

/** A port that rules can call by its name. */
export interface NamedPort {
  readonly name: string;
  /** IP protocol number. */
  readonly protocol: number;
  readonly port: number;
}

/** What gives members to sets: an endpoint's addresses, a host endpoint's, a network set's networks; with its named ports. */
export interface AddressSource {
  /** Canonical, with prefix length, each once. */
  readonly nets: readonly CidrText[];
  readonly ports: readonly NamedPort[];
}

/** The members that a source gives to an `ipPort` set of this name and protocol. */
export function* portMembers({ nets, ports }: AddressSource, name: string, protocol: number): Generator<string> {
  for (const port of ports) {
    if (port.name !== name || port.protocol !== protocol) continue;
    for (const net of nets) yield `${withoutPrefix(net)},${protocol}:${port.port}`;
  }
}
