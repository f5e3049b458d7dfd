import { expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { containsIp, familyOf, parseCidr, parseIp } from '#api/cidr.ts';
import type { PeerMatch, PolicyInfo, ProfileInfo, RuleInfo, TierInfo } from '../../policy.ts';
import { context } from './everything-for-tests.ts';
import { type Packet, walk } from './interpreter-for-tests.ts';
import { policySetName, unitChainName, unitOf } from './names.ts';
import { policyChain, profileChain } from './policy-chains.ts';
import type { Direction } from './types.ts';
import { unitChains } from './unit-chains.ts';
import { verdictChains } from './verdicts.ts';

const seed = Date.now() & 0x7fffffff;
const bounded = { seed, interruptAfterTimeLimit: 2000, numRuns: 4000 };

/**
 * Little of everything, so that packets do match: addresses, nets and ports are few. IPv6 has its own addresses of the same shape.
 */
const addresses = { 4: ['10.0.0.1', '10.0.0.2', '10.1.0.1'], 6: ['fd00::1', 'fd00::2', 'fd00:1::1'] };
const nets = ['10.0.0.0/16', '10.0.0.1/32', '0.0.0.0/0', 'fd00::/32', 'fd00::1/128', '::/0'];
const ports = fc.integer({ min: 0, max: 12 });
const protocols = fc.constantFrom(6, 6, 17, 132, 1, 58, 47);
const netSets = ['one', 'two', 'three'];
const portSets = ['http', 'dns'];

const some = <T>(arbitrary: fc.Arbitrary<T>, maxLength: number): fc.Arbitrary<T[]> =>
  fc.oneof(
    { weight: 7, arbitrary: fc.constant<T[]>([]) },
    { weight: 1, arbitrary: fc.array(arbitrary, { maxLength }) },
  );
const maybe = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.option(arbitrary, { nil: undefined, freq: 2 });
const rarely = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
  fc.oneof({ weight: 7, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary });
/** Without the keys whose value is undefined: they are absent in messages. */
const present = <T extends object>(value: T) =>
  Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };

const ranges = some(
  fc.tuple(ports, ports).map(([a, b]) => ({ min: Math.min(a, b), max: Math.max(a, b) })),
  18,
);
const netPairs = fc.oneof(
  { weight: 8, arbitrary: fc.constant({}) },
  { weight: 1, arbitrary: fc.constantFrom(...nets).map((net) => ({ net })) },
  { weight: 1, arbitrary: fc.constantFrom(...nets).map((notNet) => ({ notNet })) },
  { weight: 1, arbitrary: fc.constant({ net: '10.0.0.0/16', notNet: '10.0.0.1/32' }) },
  { weight: 1, arbitrary: fc.constant({ net: 'fd00::/32', notNet: 'fd00::1/128' }) },
);
const peers: fc.Arbitrary<PeerMatch> = fc
  .record({
    nets: netPairs,
    sets: some(fc.constantFrom(...netSets), 2),
    notSets: some(fc.constantFrom(...netSets), 2),
    ports: ranges,
    portSets: some(fc.constantFrom(...portSets), 2),
    notPorts: ranges,
    notPortSets: some(fc.constantFrom(...portSets), 1),
    ipPortSets: some(fc.constantFrom(...portSets), 1),
  })
  .map(({ nets, ...lists }) => ({ ...nets, ...lists }));
const icmps = fc.record({ type: fc.constantFrom(0, 8), code: maybe(fc.constantFrom(0, 1)) }).map(present);
const rules = fc
  .record({
    action: fc.constantFrom('allow', 'deny', 'pass', 'log'),
    ipVersion: rarely(fc.constantFrom(4, 6)),
    protocol: maybe(protocols),
    notProtocol: rarely(protocols),
    icmp: rarely(icmps),
    notIcmp: rarely(icmps),
    source: peers,
    destination: peers,
  })
  .map(present) as fc.Arbitrary<Omit<RuleInfo, 'id'>>;
const ruleLists = fc.array(rules, { maxLength: 4 });

const POLICIES = ['np a', 'np b', 'np c', 'snp d'];
const PROFILES = ['p', 'q'];
const withIds = (owner: string, direction: Direction, list: readonly Omit<RuleInfo, 'id'>[]): RuleInfo[] =>
  list.map((rule, index) => ({ ...rule, id: `${owner} ${direction} ${index}` }));
const both = (owner: string): fc.Arbitrary<ProfileInfo> =>
  fc.tuple(ruleLists, ruleLists).map(([ingress, egress]) => ({
    ingress: withIds(owner, 'ingress', ingress),
    egress: withIds(owner, 'egress', egress),
  }));
const policies = fc
  .tuple(...POLICIES.map((id) => both(id)))
  .map(
    (infos) =>
      new Map(infos.map((info, index) => [POLICIES[index] ?? '', { ...info, tier: 't', staged: index === 3 }])),
  );
const profiles = fc
  .tuple(...PROFILES.map(both))
  .map((infos) => new Map(infos.map((info, index) => [PROFILES[index] ?? '', info])));
const tiers: fc.Arbitrary<TierInfo[]> = fc.array(
  fc.record({
    name: fc.constant('t'),
    defaultAction: fc.constantFrom('deny', 'pass'),
    ingress: fc.shuffledSubarray(POLICIES),
    egress: fc.shuffledSubarray(POLICIES),
  }),
  { maxLength: 3 },
);

const families: fc.Arbitrary<4 | 6> = fc.constantFrom(4, 6);
const packets = families.chain((family) =>
  fc
    .record({
      source: fc.constantFrom(...addresses[family]),
      destination: fc.constantFrom(...addresses[family]),
      protocol: protocols,
      a: ports,
      b: ports,
      icmp: fc.record({ type: fc.constantFrom(0, 8), code: fc.constantFrom(0, 1) }),
    })
    .map(({ a, b, icmp, ...rest }) => ({
      ...rest,
      ...([6, 17, 132].includes(rest.protocol) ? { sourcePort: a, port: b } : {}),
      // ICMP of the other family is a protocol without a meaning.
      ...(rest.protocol === (family === 4 ? 1 : 58) ? { icmp } : {}),
    })),
);
const netMembers = fc.array(fc.constantFrom(...nets.filter((net) => !net.endsWith('/0'))), { maxLength: 3 });
const portMembers = fc.array(
  fc
    .tuple(fc.constantFrom(...addresses[4], ...addresses[6]), fc.constantFrom(6, 17), ports)
    .map(([address, protocol, port]) => `${address},${protocol}:${port}`),
  { maxLength: 40 },
);
const memberships = fc
  .tuple(...netSets.map(() => netMembers), ...portSets.map(() => portMembers))
  .map((lists) => new Map([...netSets, ...portSets].map((id, index) => [id, new Set(lists[index])])));

/** The meaning of one rule, straight from the contract. */
function matches(rule: RuleInfo, packet: Packet, sets: ReadonlyMap<string, ReadonlySet<string>>): boolean {
  const family = familyOf(packet.source);
  const icmpProtocol = family === 4 ? 1 : 58;
  const isIcmp = ({ type, code }: { type: number; code?: number }): boolean =>
    packet.icmp?.type === type && (code === undefined || packet.icmp.code === code);
  const within = (net: string, address: string): boolean =>
    familyOf(net) === family && containsIp(parseCidr(net), parseIp(address));
  const peer = (match: PeerMatch, address: string, port: number | undefined): boolean => {
    const inSet = (id: string): boolean => [...(sets.get(id) ?? [])].some((net) => within(net, address));
    const inPortSet = (id: string): boolean => sets.get(id)?.has(`${address},${packet.protocol}:${port}`) === true;
    const inRange = ({ min, max }: { min: number; max: number }): boolean =>
      port !== undefined && min <= port && port <= max;
    return (
      [match.net, match.notNet].every((net) => net === undefined || familyOf(net) === family) &&
      (match.net === undefined || within(match.net, address)) &&
      (match.notNet === undefined || !within(match.notNet, address)) &&
      match.sets.every(inSet) &&
      !match.notSets.some(inSet) &&
      (match.ports.length + match.portSets.length === 0 ||
        match.ports.some(inRange) ||
        match.portSets.some(inPortSet)) &&
      !match.notPorts.some(inRange) &&
      !match.notPortSets.some(inPortSet) &&
      match.ipPortSets.every(inPortSet)
    );
  };
  return (
    (rule.ipVersion === undefined || rule.ipVersion === family) &&
    (rule.protocol === undefined || rule.protocol === packet.protocol) &&
    rule.notProtocol !== packet.protocol &&
    ((rule.icmp === undefined && rule.notIcmp === undefined) || rule.protocol === icmpProtocol) &&
    (rule.icmp === undefined || isIcmp(rule.icmp)) &&
    (rule.notIcmp === undefined || !isIcmp(rule.notIcmp)) &&
    peer(rule.source, packet.source, packet.sourcePort) &&
    peer(rule.destination, packet.destination, packet.port)
  );
}

/** What policy says of a packet, straight from the contract: allowed or not, and what each rule counts. */
function judge(
  lists: { tiers: readonly TierInfo[]; profiles: readonly string[] },
  direction: Direction,
  known: { policies: ReadonlyMap<string, PolicyInfo>; profiles: ReadonlyMap<string, ProfileInfo> },
  packet: Packet,
  sets: ReadonlyMap<string, ReadonlySet<string>>,
): { isAllowed: boolean; counts: Map<string, number>; logs: number } {
  const counts = new Map<string, number>();
  let logs = 0;
  const isAllowed = decide();
  return { isAllowed, counts, logs };

  function first(list: readonly RuleInfo[], logging: boolean): RuleInfo['action'] | undefined {
    for (const rule of list) {
      if (!matches(rule, packet, sets)) continue;
      counts.set(rule.id, (counts.get(rule.id) ?? 0) + 1);
      if (rule.action !== 'log') return rule.action;
      if (logging) logs += 1;
    }
    return undefined;
  }

  function decide(): boolean {
    for (const tier of lists.tiers) {
      let action: RuleInfo['action'] | undefined;
      for (const id of tier[direction]) {
        const policy = known.policies.get(id);
        const said = first(policy?.[direction] ?? [], policy?.staged === false);
        if (policy?.staged === false) action = said;
        if (action !== undefined) break;
      }
      const inForce = tier[direction].some((id) => known.policies.get(id)?.staged === false);
      const result = action ?? (inForce ? tier.defaultAction : 'pass');
      if (result !== 'pass') return result === 'allow';
    }
    for (const id of lists.profiles) {
      const action = known.profiles.has(id) ? first(known.profiles.get(id)?.[direction] ?? [], true) : 'deny';
      if (action === 'allow' || action === 'deny') return action === 'allow';
    }
    return false;
  }
}

test(`rendered units decide, count and log as their policies say (seed ${seed})`, () => {
  fc.assert(
    fc.property(
      fc.record({
        policies,
        profiles,
        tiers,
        packets: fc.array(packets, { minLength: 1, maxLength: 12 }),
        memberships,
      }),
      fc.constantFrom<Direction>('ingress', 'egress'),
      fc.shuffledSubarray([...PROFILES, 'undefined']),
      fc.record({ stale: fc.integer({ min: 0, max: 0xffff_ffff }), isLimited: fc.boolean(), limitHolds: fc.boolean() }),
      (
        { policies, profiles, tiers, packets, memberships },
        direction,
        profileIds,
        { stale, isLimited, limitHolds },
      ) => {
        const unit = unitOf({ tiers, profiles: profileIds });
        const known = { policies, profiles };
        for (const packet of packets) {
          const ctx = context(familyOf(packet.source), {
            allowIpipFromWorkloads: true,
            allowVxlanFromWorkloads: true,
            ...(isLimited ? { logRate: { rate: '1/second', burst: 5 } } : {}),
          });
          const chains = [
            ...unitChains(unit, known, ctx),
            ...verdictChains(ctx.marks),
            ...[...policies].map(([id, policy]) => policyChain(id, policy, direction, 'filter', ctx)),
            ...[...profiles].map(([id, profile]) => profileChain(id, profile, direction, 'filter', ctx)),
          ];
          const kernelSets = new Map([...memberships].map(([id, members]) => [policySetName(ctx.family, id), members]));
          const start = unitChainName(direction, unit.id);
          const walked = walk(start, chains, { ...packet, mark: stale }, kernelSets, limitHolds);
          const judged = judge(unit, direction, known, packet, memberships);
          const { marks } = ctx;
          expect({
            isAllowed: walked.verdict === undefined && (walked.mark & marks.accept) !== 0,
            isDropped: walked.verdict === 'DROP',
            counts: sorted(walked.counts),
            logs: walked.logged.length,
            others: (walked.mark & ~0x1f0000) >>> 0,
          }).toEqual({
            isAllowed: judged.isAllowed,
            isDropped: !judged.isAllowed,
            counts: sorted(judged.counts),
            logs: isLimited && !limitHolds ? 0 : judged.logs,
            others: (stale & ~0x1f0000) >>> 0,
          });
        }
      },
    ),
    bounded,
  );
});

const sorted = (counts: ReadonlyMap<string, number>): [string, number][] =>
  [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
