/** A rule's ports: numbers as the fewest ranges, names apart. */
import { parseRulePort, type RulePort } from '#api/policy/ports.ts';
import type { PortRange } from '#dataplanes/policy.ts';
import { ConversionError } from './problem.ts';

/** Ports of a rule, in the order and form in which dataplanes take them. */
export interface Ports {
  /** Ascending, neither overlapping nor touching. */
  readonly ranges: readonly PortRange[];
  /** Sorted, each once. */
  readonly names: readonly string[];
}

/** Entries as projectcalico.org/v3 writes them. Throws `ConversionError`. */
export function parsePorts(ports: readonly (string | number)[]): Ports {
  return simplePorts(ports.map(parsePort));
}

/** The fewest ranges and names that mean the same: 80, 81, 82, 9090 are 80-82 and 9090. */
export function simplePorts(ports: readonly RulePort[]): Ports {
  const names = new Set<string>();
  const given: PortRange[] = [];
  for (const port of ports) {
    if (port.kind === 'name') {
      names.add(port.name);
    } else {
      given.push({ min: port.min, max: port.max });
    }
  }
  return { ranges: merged(given), names: [...names].sort() };
}

/** One port, or a range or all of them, of one protocol. */
export interface ProtocolPort {
  readonly protocol: number;
  readonly port: RulePort | 'all';
}

/** The ports of one protocol; both absent: everything; without ports: all of the protocol. */
interface ProtocolPorts {
  readonly protocol?: number;
  readonly ports?: Ports;
}

/** Puts the ports of one protocol together, in the order of protocol numbers. No entry at all is everything. */
export function groupPorts(entries: readonly ProtocolPort[]): readonly ProtocolPorts[] {
  const byProtocol = Map.groupBy(entries, ({ protocol }) => protocol);
  const groups = [...byProtocol]
    .sort(([a], [b]) => a - b)
    .map(([protocol, group]): ProtocolPorts => {
      const ports = group.map(({ port }) => port).filter((port) => port !== 'all');
      return ports.length < group.length ? { protocol } : { protocol, ports: simplePorts(ports) };
    });
  return groups.length === 0 ? [{}] : groups;
}

function merged(given: readonly PortRange[]): PortRange[] {
  const ranges: PortRange[] = [];
  for (const range of given.toSorted((a, b) => a.min - b.min)) {
    const last = ranges.at(-1);
    if (last !== undefined && range.min <= last.max + 1) {
      ranges[ranges.length - 1] = { min: last.min, max: Math.max(last.max, range.max) };
    } else {
      ranges.push(range);
    }
  }
  return ranges;
}

function parsePort(port: string | number): RulePort {
  const parsed = parseRulePort(port);
  if (parsed === undefined) {
    throw new ConversionError(`${JSON.stringify(port)} is neither a port, a range of ports nor a port's name`);
  }
  return parsed;
}
