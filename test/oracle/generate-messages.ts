/** Messages of one node, without a cluster: few addresses, many sets, so that changes meet in the same packets. */
import type { DataplaneUpdate } from '#dataplanes/messages.ts';
import type { PeerMatch, PolicyInfo, RuleInfo, TierInfo } from '#dataplanes/policy.ts';
import type { Packet } from './policy-model.ts';
import type { Random } from './random.ts';
import { ANY_PEER as nobody } from '#dataplanes/shared/test-config.ts';

const addresses = {
  4: ['10.0.0.1', '10.0.0.2', '10.0.0.5', '10.0.1.1', '192.0.2.1'],
  6: ['fd00::1', 'fd00::2', 'fd00::5', 'fd00::1:1', '2001:db8::1'],
} as const;
const networks = [
  '10.0.0.0/30',
  '10.0.0.0/24',
  '10.0.0.0/16',
  '0.0.0.0/1',
  '0.0.0.0/0',
  'fd00::/126',
  'fd00::/112',
  'fd00::/96',
  '::/0',
];
const members = [
  ...addresses[4].map((each) => `${each}/32`),
  ...addresses[6].map((each) => `${each}/128`),
  ...networks,
];
/** What next hops are said of. */
export const hopNets: readonly string[] = members;
const services = ['6:80', '6:81', '17:80', '132:81'];
const portMembers = [...addresses[4], ...addresses[6]].flatMap((each) =>
  services.map((service) => `${each},${service}`),
);
const netSets = ['n0', 'n1', 'n2', 'n3', 'n4'];
const portSets = ['p0', 'p1', 'p2'];
const policies = ['a', 'b', 'c', 'd'];
const profiles = ['x', 'y'];
const endpoints = [0, 1, 2];
/** One node's random past. */
export class DenseNode {
  readonly #random: Random;
  readonly #sets = new Map<string, string[]>();

  constructor(random: Random) {
    this.#random = random;
  }

  /** Everything once. */
  begin(): DataplaneUpdate[] {
    return [
      ...[...netSets, ...portSets].map((id) => this.#announce(id)),
      ...policies.map((id): DataplaneUpdate => ({ type: 'policyUpdate', id, policy: this.#policy(id) })),
      ...profiles.map((id): DataplaneUpdate => ({ type: 'profileUpdate', id, profile: this.#rules(id) })),
      ...endpoints.map((index) => this.#endpoint(index)),
    ];
  }

  /** One to four things that happen together. */
  change(): DataplaneUpdate[] {
    const random = this.#random;
    return Array.from({ length: 1 + random.below(4) }, () =>
      random.weighted<() => DataplaneUpdate>(
        [8, () => this.#delta(random.pick([...netSets, ...portSets]))],
        [1, () => this.#announce(random.pick([...netSets, ...portSets]))],
        [2, () => this.#policyUpdate(random.pick(policies))],
        [1, () => this.#profileUpdate(random.pick(profiles))],
        [1, () => this.#endpoint(random.pick(endpoints))],
      )(),
    );
  }

  packet(): Packet {
    const random = this.#random;
    const family = random.pick([4, 6] as const);
    const [from, to] = [random.pick(addresses[family]), random.pick(addresses[family])];
    const [protocol, port] = random.pick(services).split(':').map(Number) as [number, number];
    if (random.chance(0.1)) {
      return { from, to, protocol: family === 4 ? 1 : 58, icmp: { type: random.pick([3, 8]), code: random.below(2) } };
    }
    return random.chance(0.05)
      ? { from, to, protocol: 47 }
      : { from, to, protocol, port, sourcePort: random.pick([80, 81, 1000]) };
  }

  #membersOf(id: string): readonly string[] {
    return netSets.includes(id) ? members : portMembers;
  }

  #announce(id: string): DataplaneUpdate {
    const now = this.#random.some(this.#membersOf(id), 0, 6);
    this.#sets.set(id, now);
    return { type: 'ipSetUpdate', id, setType: netSets.includes(id) ? 'net' : 'ipPort', members: now };
  }

  #delta(id: string): DataplaneUpdate {
    const before = this.#sets.get(id) ?? [];
    const toggled = this.#random.some(this.#membersOf(id), 1, 3);
    const removed = toggled.filter((member) => before.includes(member));
    const added = toggled.filter((member) => !before.includes(member));
    this.#sets.set(id, [...before.filter((member) => !removed.includes(member)), ...added]);
    return { type: 'ipSetDelta', id, added, removed };
  }

  #policyUpdate(id: string): DataplaneUpdate {
    return { type: 'policyUpdate', id, policy: this.#policy(id) };
  }

  #profileUpdate(id: string): DataplaneUpdate {
    return { type: 'profileUpdate', id, profile: this.#rules(id) };
  }

  #policy(id: string): PolicyInfo {
    return { tier: 'any', staged: this.#random.chance(0.2), ...this.#rules(id) };
  }

  #rules(owner: string): Pick<PolicyInfo, 'ingress' | 'egress'> {
    const list = (direction: string) =>
      Array.from({ length: this.#random.below(4) }, (_, index) => this.#rule(`${owner} ${direction} ${index}`));
    return { ingress: list('ingress'), egress: list('egress') };
  }

  #rule(id: string): RuleInfo {
    const random = this.#random;
    const protocol = random.weighted([4, undefined], [4, 6], [1, 17], [1, 132], [1, 1], [1, 58], [1, 47]);
    const ports = random.chance(0.4);
    const ipVersion =
      protocol === 1 ? 4 : protocol === 58 ? 6 : random.weighted([8, undefined], [1, 4 as const], [1, 6 as const]);
    return {
      // Some stay the same although the rule doesn't.
      id: `${id}.${random.below(3)}`,
      action: random.weighted([4, 'allow'], [3, 'deny'], [1, 'pass'], [1, 'log']),
      ...(protocol === undefined ? {} : { protocol }),
      ...random.maybe(0.1, 'notProtocol', () => random.pick([6, 17, 47])),
      ...(protocol === 1
        ? random.maybe(0.5, 'icmp', () => ({ type: 8, ...random.maybe(0.5, 'code', () => random.below(2)) }))
        : {}),
      ...(protocol === 58
        ? random.maybe(0.5, 'notIcmp', () => ({ type: 3, ...random.maybe(0.5, 'code', () => random.below(2)) }))
        : {}),
      ...(ipVersion === undefined ? {} : { ipVersion }),
      source: this.#peer(ports && random.chance(0.3), ipVersion),
      destination: this.#peer(ports, ipVersion),
    };
  }

  /** With networks of any family; what is not to be in one is of the rule's family (`PeerMatch.notNet`). */
  #peer(withPorts: boolean, ipVersion: 4 | 6 | undefined): PeerMatch {
    const random = this.#random;
    const some = (from: readonly string[], probability: number) =>
      random.chance(probability) ? random.some(from, 1, 2) : [];
    return {
      ...nobody,
      ...random.maybe(0.1, 'net', () => random.pick(members)),
      ...(ipVersion === undefined
        ? {}
        : random.maybe(0.2, 'notNet', () =>
            random.pick(members.filter((each) => each.includes(':') === (ipVersion === 6))),
          )),
      sets: some(netSets, 0.6),
      notSets: some(netSets, 0.2),
      ...(withPorts
        ? {
            ports: random.chance(0.4) ? [{ min: 80, max: random.pick([80, 81]) }] : [],
            portSets: some(portSets, 0.5),
            notPorts: random.chance(0.2) ? [{ min: 81, max: 90 }] : [],
            notPortSets: some(portSets, 0.2),
            ipPortSets: some(portSets, 0.2),
          }
        : {}),
    };
  }

  #endpoint(index: number): DataplaneUpdate {
    const random = this.#random;
    const tier = (name: string): TierInfo => ({
      name,
      defaultAction: random.pick(['deny', 'pass']),
      ingress: random.some(policies, 0, 2),
      egress: random.some(policies, 0, 2),
    });
    return {
      type: 'workloadEndpointUpdate',
      id: `pod${index}`,
      endpoint: {
        ifaceName: `cali${index}`,
        mac: 'aa:bb:cc:dd:ee:ff',
        ipv4Nets: [`${addresses[4][index]}/32`],
        ipv6Nets: [`${addresses[6][index]}/128`],
        allowedSourcePrefixes: [],
        tiers: [tier('one'), tier('two')],
        profiles: random.some(profiles, 1, 2),
      },
    };
  }
}
