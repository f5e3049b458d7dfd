/** Random rules of projectcalico.org/v3: every field, in every combination that validation lets pass. */
import type { Family } from './cluster.ts';
import { selectorText } from './generate-selectors.ts';
import type { Direction } from './policy-model.ts';
import type { Random } from './random.ts';
import {
  endpointLabels,
  namespaceLabels,
  namespaces,
  networks,
  outsiders,
  portNames,
  ports,
  serviceAccountLabels,
  serviceAccounts,
  services,
  sourcePorts,
} from './vocabulary.ts';

/** What rules may be about: addresses of pods, which few words can't tell. */
export interface RuleWords {
  readonly addresses: Readonly<Record<Family, readonly string[]>>;
}

const withPorts: readonly unknown[] = ['TCP', 'UDP', 'SCTP', 6, 17, 132];

/** One rule of a policy in a namespace, or of a global one. */
export function calicoRule(random: Random, words: RuleWords, direction: Direction, isGlobal: boolean): object {
  const protocol = random.weighted<string | number | undefined>(
    [30, undefined],
    [30, 'TCP'],
    [15, 'UDP'],
    [8, 'ICMP'],
    [5, 'ICMPv6'],
    [6, 'SCTP'],
    [2, 'UDPLite'],
    [2, 6],
    [1, 17],
    [1, 47],
    [1, 132],
  );
  const notProtocol = random.chance(protocol === undefined ? 0.12 : 0.03)
    ? random.pick(['TCP', 'UDP', 'SCTP', 47, 'UDPLite'])
    : undefined;
  const family: Family =
    protocol === 'ICMP' ? 4 : protocol === 'ICMPv6' ? 6 : random.weighted<Family>([60, 4], [40, 6]);
  const end = (side: 'source' | 'destination') =>
    entity(random, words, { direction, isGlobal, side, family, protocol, isPeer: side === peerOf(direction) });
  return {
    action: random.weighted([50, 'Allow'], [24, 'Deny'], [16, 'Pass'], [10, 'Log']),
    ...(random.chance(0.1) ? { ipVersion: family } : {}),
    ...(protocol === undefined ? {} : { protocol }),
    ...(notProtocol === undefined ? {} : { notProtocol }),
    ...(protocol === 'ICMP' || protocol === 'ICMPv6' ? icmpFields(random, family) : {}),
    ...(protocol === undefined && random.chance(0.03) ? { notICMP: icmpMatch(random, family) } : {}),
    ...random.maybe(0.6, 'source', () => end('source')),
    ...random.maybe(0.6, 'destination', () => end('destination')),
  };
}

function peerOf(direction: Direction): 'source' | 'destination' {
  return direction === 'ingress' ? 'source' : 'destination';
}

function icmpFields(random: Random, family: Family): object {
  return {
    ...random.maybe(0.5, 'icmp', () => icmpMatch(random, family)),
    ...random.maybe(0.25, 'notICMP', () => icmpMatch(random, family)),
  };
}

function icmpMatch(random: Random, family: Family): object {
  return {
    type: random.pick(family === 4 ? [8, 8, 3, 13] : [128, 128, 1]),
    ...random.maybe(0.4, 'code', () => random.pick([0, 0, 1])),
  };
}

interface EntityContext {
  readonly direction: Direction;
  readonly isGlobal: boolean;
  readonly side: 'source' | 'destination';
  readonly family: Family;
  readonly protocol: string | number | undefined;
  /** The other end of the endpoint that the policy is about. */
  readonly isPeer: boolean;
}

function entity(random: Random, words: RuleWords, context: EntityContext): object {
  const { direction, isGlobal, side, family, protocol, isPeer } = context;
  const choices = side === 'source' ? sourcePorts : ports;
  const portList = () => portsOf(random, choices, protocol, side === 'destination');
  const hasPorts = protocol === undefined || withPorts.includes(protocol);
  if (isPeer && random.chance(0.08)) {
    return {
      services: {
        name: random.pick(services),
        ...(isGlobal || random.chance(0.5) ? { namespace: random.pick(namespaces) } : {}),
      },
      // A service as a destination has ports of its own.
      ...(direction === 'ingress' && hasPorts && random.chance(0.3) ? { ports: portList() } : {}),
    };
  }
  const weight = isPeer ? 1 : 0.4;
  const selector = () => selectorText(random, endpointLabels);
  return {
    ...random.maybe(0.25 * weight, 'nets', () => nets(random, words, family, true)),
    ...random.maybe(0.14 * weight, 'notNets', () => nets(random, words, family, false)),
    ...random.maybe(0.4 * weight, 'selector', selector),
    ...random.maybe(0.12 * weight, 'notSelector', selector),
    ...random.maybe(0.2 * weight, 'namespaceSelector', () =>
      random.weighted(
        [2, () => 'all()'],
        [2, () => 'global()'],
        [5, () => selectorText(random, { ...namespaceLabels, 'projectcalico.org/name': namespaces }, 1)],
      )(),
    ),
    ...random.maybe(0.12 * weight, 'serviceAccounts', () => serviceAccountMatch(random)),
    ...random.maybe(hasPorts ? (side === 'source' ? 0.12 : 0.4) : 0, 'ports', portList),
    ...random.maybe(hasPorts ? 0.12 : 0, 'notPorts', portList),
  };
}

function serviceAccountMatch(random: Random): object {
  const names = random.maybe(0.6, 'names', () => random.some(serviceAccounts, 1, 2));
  return 'names' in names && random.chance(0.6)
    ? names
    : { ...names, selector: selectorText(random, serviceAccountLabels, 1) };
}

function nets(random: Random, words: RuleWords, family: Family, catchAll: boolean): string[] {
  const length = family === 4 ? '/32' : '/128';
  const one = () => {
    const net = random.weighted(
      [3, () => random.pick(networks[family])],
      [2, () => `${random.pick(words.addresses[family])}${length}`],
      [1, () => `${random.pick(outsiders[family])}${length}`],
    )();
    // Nothing is outside of everything: validation refuses that.
    return !catchAll && net.endsWith('/0') ? `${random.pick(outsiders[family])}${length}` : net;
  };
  const few = Array.from({ length: random.weighted([5, 1], [3, 2], [1, 4]) }, one);
  // Sometimes more than any list that fits into one rule of the kernel.
  const many = random.chance(0.05)
    ? Array.from({ length: 40 }, (_, index) => (family === 4 ? `192.0.2.${index}/32` : `2001:db8:2::${index + 1}/128`))
    : [];
  return [...few, ...many];
}

function portsOf(
  random: Random,
  choices: readonly number[],
  protocol: string | number | undefined,
  named: boolean,
): (number | string)[] {
  // Without a protocol only names are valid.
  const numeric = protocol !== undefined;
  if (!numeric) return random.some(portNames, 1, 2);
  const one = (): number | string =>
    random.weighted<() => number | string>(
      [5, () => random.pick(choices)],
      [2, () => String(random.pick(choices))],
      [
        3,
        () => {
          const [low, high] = [random.pick(choices), random.pick(choices)].sort((a, b) => a - b);
          return `${low}:${high}`;
        },
      ],
      [named ? 4 : 1, () => random.pick(portNames)],
    )();
  const few = Array.from({ length: 1 + random.below(3) }, one);
  // Sometimes more than a multiport match takes.
  const many = random.chance(0.08)
    ? Array.from({ length: 18 + random.below(12) }, (_, index) => 20_000 + 2 * index)
    : [];
  return [...few, ...many];
}
