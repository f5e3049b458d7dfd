/**
 * What calc says to a dataplane, judged as it stands: each rule by the words of `dataplanes/policy.ts`. Stands in for a dataplane that
 * makes no mistakes, so that what differs from the reference is calc's. Strict about order: nothing may refer to what was not announced.
 */
import type { DataplaneUpdate, WorkloadEndpointInfo } from '#dataplanes/messages.ts';
import type {
  HostEndpointInfo,
  PeerMatch,
  PolicyInfo,
  ProfileInfo,
  RuleInfo,
  SetType,
  TierInfo,
} from '#dataplanes/policy.ts';
import type { UnitLists } from '#dataplanes/ebpf/classifier/unit-lists.ts';
import { familyOf, isIn } from './cluster.ts';
import type { Direction, Packet } from './policy-model.ts';

/** A decision, and which rule made it. */
export interface Decision {
  readonly action: 'allow' | 'deny';
  readonly reason: string;
}

interface KnownSet {
  readonly type: SetType;
  readonly members: Set<string>;
}

/** One node's dataplane as far as its messages tell. */
export class MessageEvaluator {
  readonly #sets = new Map<string, KnownSet>();
  readonly #policies = new Map<string, PolicyInfo>();
  readonly #profiles = new Map<string, ProfileInfo>();
  readonly #endpoints = new Map<string, WorkloadEndpointInfo>();
  readonly #hosts = new Map<string, HostEndpointInfo>();

  /** Throws when a message breaks the contract. */
  apply(updates: readonly DataplaneUpdate[]): void {
    for (const update of updates) {
      this.#applyOne(update);
      this.#checkReferences(update);
    }
  }

  /** Has this node an endpoint with the address? */
  has(address: string): boolean {
    return this.#endpointAt(address) !== undefined;
  }

  /** What becomes of the packet at the endpoint that has the address. Throws if there is none. */
  decide(address: string, direction: Direction, packet: Packet): Decision {
    const endpoint = this.#endpointAt(address);
    if (endpoint === undefined) throw new Error(`no endpoint has ${address}`);
    return (
      this.#tiersDecide(endpoint.tiers, direction, packet) ?? this.#profilesDecide(endpoint.profiles, direction, packet)
    );
  }

  /** What becomes of it at the node's host endpoint; undefined if it has none. */
  decideAtHost(direction: Direction, isForwarding: boolean, packet: Packet): Decision | undefined {
    const [host] = this.#hosts.values();
    if (host === undefined) return undefined;
    return isForwarding
      ? this.#tiersDecide(host.forwardTiers, direction, packet)
      : (this.#tiersDecide(host.tiers, direction, packet) ?? this.#profilesDecide(host.profiles, direction, packet));
  }

  /** What a unit of the classifier says. A policy or profile that was never announced is the caller's mistake. */
  decideByLists(
    lists: UnitLists,
    packet: Packet,
  ): { readonly action: Decision['action'] | 'undecided'; readonly reason: string } {
    const { kind, direction, profiles } = lists;
    const tiers = lists.tiers.map(({ name, defaultAction, policies }) => ({
      name,
      // Tiers of preDNAT and untracked policy have no end of their own.
      defaultAction: kind === 'early' ? ('pass' as const) : defaultAction,
      ingress: policies,
      egress: policies,
    }));
    const decision = this.#tiersDecide(tiers, direction, packet);
    if (decision !== undefined) return decision;
    if (kind === 'endpoint') return this.#profilesDecide(profiles, direction, packet);
    return { action: 'undecided', reason: 'passed by all tiers' };
  }

  /** How often the rules of staged policies match at a unit: none or once each. */
  stagedMatches(lists: UnitLists, packet: Packet): string[] {
    const { direction } = lists;
    const matched: string[] = [];
    for (const tier of lists.tiers) {
      const policies = tier.policies.flatMap((id) => this.#policies.get(id) ?? []);
      let isPassed = false;
      for (const policy of policies) {
        for (const rule of policy[direction]) {
          if (!this.#matches(rule, packet)) continue;
          if (policy.staged) matched.push(rule.id);
          if (rule.action === 'log') continue;
          if (!policy.staged && rule.action !== 'pass') return matched;
          isPassed ||= !policy.staged;
          break;
        }
        if (isPassed) break;
      }
      const isEnforced = policies.some(({ staged }) => !staged);
      if (!isPassed && isEnforced && lists.kind !== 'early' && tier.defaultAction === 'deny') return matched;
    }
    return matched;
  }

  #tiersDecide(tiers: readonly TierInfo[], direction: Direction, packet: Packet): Decision | undefined {
    each: for (const tier of tiers) {
      const policies = tier[direction].flatMap((id) => this.#policies.get(id) ?? []);
      if (policies.every(({ staged }) => staged)) continue;
      for (const policy of policies) {
        const rule = policy.staged ? undefined : this.#firstMatch(policy[direction], packet);
        if (rule === undefined) continue;
        if (rule.action === 'pass') continue each;
        return { action: rule.action === 'allow' ? 'allow' : 'deny', reason: rule.id };
      }
      if (tier.defaultAction === 'deny') return { action: 'deny', reason: `the end of tier ${tier.name}` };
    }
    return undefined;
  }

  #profilesDecide(profiles: readonly string[], direction: Direction, packet: Packet): Decision {
    for (const id of profiles) {
      const profile = this.#profiles.get(id);
      if (profile === undefined) return { action: 'deny', reason: `profile ${id}, which was never announced` };
      const rule = this.#firstMatch(profile[direction], packet);
      // There is no tier to pass to: it is left to the next profile.
      if (rule === undefined || rule.action === 'pass') continue;
      return { action: rule.action === 'allow' ? 'allow' : 'deny', reason: rule.id };
    }
    return { action: 'deny', reason: 'the end of the profiles' };
  }

  #firstMatch(rules: readonly RuleInfo[], packet: Packet): RuleInfo | undefined {
    return rules.find((rule) => rule.action !== 'log' && this.#matches(rule, packet));
  }

  #endpointAt(address: string): WorkloadEndpointInfo | undefined {
    return [...this.#endpoints.values()].find(({ ipv4Nets, ipv6Nets }) =>
      [...ipv4Nets, ...ipv6Nets].some((net) => isIn(address, net)),
    );
  }

  #matches(rule: RuleInfo, packet: Packet): boolean {
    const { icmp } = packet;
    const isIcmp = (wanted: RuleInfo['icmp']) =>
      icmp?.type === wanted?.type && (wanted?.code === undefined || wanted.code === icmp?.code);
    return (
      (rule.ipVersion === undefined || rule.ipVersion === familyOf(packet.from)) &&
      (rule.protocol === undefined || rule.protocol === packet.protocol) &&
      rule.notProtocol !== packet.protocol &&
      (rule.icmp === undefined || isIcmp(rule.icmp)) &&
      (rule.notIcmp === undefined || !isIcmp(rule.notIcmp)) &&
      this.#isPeer(rule.source, packet.from, packet.protocol, packet.sourcePort) &&
      this.#isPeer(rule.destination, packet.to, packet.protocol, packet.port)
    );
  }

  #isPeer(peer: PeerMatch, address: string, protocol: number, port: number | undefined): boolean {
    const inNets = (id: string) => [...this.#set(id, 'net').members].some((net) => isIn(address, net));
    const inPorts = (id: string) => this.#set(id, 'ipPort').members.has(`${address},${protocol}:${port}`);
    const inRanges = (ranges: PeerMatch['ports']) =>
      port !== undefined && ranges.some(({ min, max }) => port >= min && port <= max);
    return (
      (peer.net === undefined || isIn(address, peer.net)) &&
      (peer.notNet === undefined || !isIn(address, peer.notNet)) &&
      peer.sets.every(inNets) &&
      !peer.notSets.some(inNets) &&
      (peer.ports.length + peer.portSets.length === 0 || inRanges(peer.ports) || peer.portSets.some(inPorts)) &&
      !inRanges(peer.notPorts) &&
      !peer.notPortSets.some(inPorts) &&
      peer.ipPortSets.every(inPorts)
    );
  }

  #set(id: string, type: SetType): KnownSet {
    const set = this.#sets.get(id);
    if (set?.type !== type) throw new Error(`a rule takes set ${id} for ${type}; it is ${set?.type ?? 'unknown'}`);
    return set;
  }

  #applyOne(update: DataplaneUpdate): void {
    switch (update.type) {
      case 'ipSetUpdate':
        this.#sets.set(update.id, { type: update.setType, members: new Set(update.members) });
        return;
      case 'ipSetDelta': {
        const set = this.#sets.get(update.id);
        if (set === undefined) throw new Error(`delta for set ${update.id}, which was not announced`);
        for (const member of update.removed) {
          if (!set.members.delete(member))
            throw new Error(`${member} is taken out of set ${update.id}, and was not in it`);
        }
        for (const member of update.added) {
          if (set.members.has(member)) throw new Error(`${member} is put into set ${update.id}, and was in it`);
          set.members.add(member);
        }
        return;
      }
      case 'ipSetRemove':
        this.#removeKnown(this.#sets, update.id, 'set');
        return;
      case 'policyUpdate':
        this.#policies.set(update.id, update.policy);
        return;
      case 'policyRemove':
        this.#removeKnown(this.#policies, update.id, 'policy');
        return;
      case 'profileUpdate':
        this.#profiles.set(update.id, update.profile);
        return;
      case 'profileRemove':
        this.#removeKnown(this.#profiles, update.id, 'profile');
        return;
      case 'workloadEndpointUpdate':
        this.#endpoints.set(update.id, update.endpoint);
        return;
      case 'workloadEndpointRemove':
        this.#removeKnown(this.#endpoints, update.id, 'endpoint');
        return;
      case 'hostEndpointUpdate':
        this.#hosts.set(update.id, update.endpoint);
        return;
      case 'hostEndpointRemove':
        this.#removeKnown(this.#hosts, update.id, 'host endpoint');
        return;
      default:
    }
  }

  #removeKnown(from: Map<string, unknown>, id: string, what: string): void {
    if (!from.delete(id)) throw new Error(`${what} ${id} is removed, and was not there`);
  }

  /** What changed may not have broken a reference, and may not refer to what isn't there. */
  #checkReferences({ type }: DataplaneUpdate): void {
    if (type === 'policyUpdate' || type === 'profileUpdate' || type === 'ipSetRemove') {
      for (const [id, owner] of [...this.#policies, ...this.#profiles]) {
        for (const rule of [...owner.ingress, ...owner.egress]) {
          for (const set of [rule.source, rule.destination].flatMap(setsOf)) {
            if (!this.#sets.has(set)) throw new Error(`${type}: ${id} refers to set ${set}, which is not there`);
          }
        }
      }
    }
    if (type === 'workloadEndpointUpdate' || type === 'hostEndpointUpdate' || type === 'policyRemove') {
      for (const [id, tiers] of [
        ...[...this.#endpoints].map(([id, endpoint]) => [id, endpoint.tiers] as const),
        ...[...this.#hosts].map(
          ([id, { tiers, forwardTiers, preDnatTiers, untrackedTiers }]) =>
            [id, [...tiers, ...forwardTiers, ...preDnatTiers, ...untrackedTiers]] as const,
        ),
      ]) {
        for (const policy of tiers.flatMap(({ ingress, egress }) => [...ingress, ...egress])) {
          if (!this.#policies.has(policy)) throw new Error(`${type}: ${id} refers to ${policy}, which is not there`);
        }
      }
    }
  }
}

function setsOf(peer: PeerMatch): readonly string[] {
  return [...peer.sets, ...peer.notSets, ...peer.portSets, ...peer.notPortSets, ...peer.ipPortSets];
}
