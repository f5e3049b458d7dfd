/** One node's messages through the classifier to a twin of the kernel's maps, and the messages judged as they stand beside it. */
import { expect } from '@jest/globals';
import { familyOf } from '#api/cidr.ts';
import { Classifier, type ClassifierUpdate } from '#dataplanes/ebpf/classifier/classifier.ts';
import { testSizes, Twin, type TwinDecision } from '#dataplanes/ebpf/classifier/twin-for-tests.ts';
import { type MapWrite, sizedMaps } from '#dataplanes/ebpf/classifier/classifier-maps.ts';
import { unitLists, type UnitLists } from '#dataplanes/ebpf/classifier/unit-lists.ts';
import type { Unit } from '#dataplanes/ebpf/classifier/units.ts';
import type { DataplaneUpdate, WorkloadEndpointInfo } from '#dataplanes/messages.ts';
import type { HostEndpointInfo } from '#dataplanes/policy.ts';
import { isIn } from './cluster.ts';
import { MessageEvaluator } from './evaluate-messages.ts';
import type { Packet } from './policy-model.ts';
import type { Random } from './random.ts';
import { packetText } from './report.ts';

/** Packets under way at a time. */
const flightsAtOnce = 16;
const directions = ['ingress', 'egress'] as const;

interface Probe {
  readonly about: string;
  readonly unit: Unit;
  readonly packet: Packet;
}

/** A lookup under way. It may be slow: then only the end of a grace period makes it go on. */
interface Flight extends Probe {
  readonly steps: Generator<undefined, TwinDecision>;
  readonly isSlow: boolean;
  /** What may become of it: what the messages said at any time since it began. */
  readonly allowed: Set<string>;
  result: TwinDecision | undefined;
  broken?: unknown;
}

/** Room in every map, or in none too much. */
function sizesFor(random: Random) {
  const others = { tortie_ports: 65_536 };
  if (random.chance(0.6)) return testSizes(200_000, others);
  const small = sizedMaps.filter(() => random.chance(0.3)).map((map) => [map, 4 + random.below(60)]);
  return testSizes(200_000, { ...others, ...Object.fromEntries(small) });
}

/** One node's dataplane, as far as the classifier goes. */
export class ClassifierSide {
  readonly twin: Twin;
  readonly classifier: Classifier;
  readonly evaluator = new MessageEvaluator();
  readonly #random: Random;
  readonly #pods = new Map<string, WorkloadEndpointInfo>();
  readonly #hosts = new Map<string, HostEndpointInfo>();
  readonly #units = new Map<string, Unit>();
  readonly #counted = new Map<string, number>();
  /** Ids of rules that were gone for a while: what they have counted before isn't told apart. */
  readonly #unsure = new Set<string>();
  readonly #rules = new Map<string, readonly string[]>();
  readonly #hops = new Map<string, number>();
  readonly #isSmall: boolean;
  #flights: Flight[] = [];
  #waiting: Unit[] = [];

  constructor(random: Random) {
    this.#random = random;
    const sizes = sizesFor(random);
    this.#isSmall = Object.values(sizes).some(({ entries }) => entries < 1000);
    this.twin = new Twin(sizes);
    this.classifier = new Classifier(this.twin, () => Promise.resolve());
    this.twin.onGrace = () => this.#onGrace();
  }

  take(updates: readonly DataplaneUpdate[]): void {
    this.evaluator.apply(updates);
    for (const update of updates) {
      this.#noteRules(update);
      switch (update.type) {
        case 'workloadEndpointUpdate':
          this.#pods.set(update.id, update.endpoint);
          break;
        case 'workloadEndpointRemove':
          this.#pods.delete(update.id);
          break;
        case 'hostEndpointUpdate':
          this.#hosts.set(update.id, update.endpoint);
          break;
        case 'hostEndpointRemove':
          this.#hosts.delete(update.id);
          break;
        default:
          if (/^(ipSet|policy|profile)/.test(update.type)) this.classifier.onUpdate(update as ClassifierUpdate);
      }
    }
  }

  /** The units that endpoints need now, under what they are for; those that nobody needs any more wait to be let go. */
  #wanted(): Map<string, UnitLists> {
    const wanted = new Map<string, UnitLists>();
    const add = (about: string, kind: UnitLists['kind'], lists: Parameters<typeof unitLists>[3]) => {
      for (const direction of directions)
        for (const family of [4, 6] as const)
          wanted.set(`${about} ${direction} ${family}`, unitLists(kind, direction, family, lists));
    };
    for (const [id, endpoint] of this.#pods) {
      add(`pod ${id}`, 'endpoint', endpoint);
      // The same lists as they would be those of a host for other packets.
      if (id === 'pod0') {
        add('forward', 'forward', endpoint);
        add('early', 'early', endpoint);
      }
    }
    for (const host of this.#hosts.values()) {
      add('host', 'endpoint', host);
      add('forward', 'forward', { tiers: host.forwardTiers, profiles: [] });
      add('preDnat', 'early', { tiers: host.preDnatTiers, profiles: [] });
      add('untracked', 'early', { tiers: host.untrackedTiers, profiles: [] });
      break;
    }
    return wanted;
  }

  /** Says something of next hops: of one of these, or no more. */
  changeHop(net: string): void {
    const hop = this.#random.below(4);
    if (hop === 0) this.#hops.delete(net);
    else this.#hops.set(net, hop);
    this.classifier.setHop(net, hop);
  }

  follow(): void {
    const wanted = this.#wanted();
    const before = new Map(this.#units);
    this.#units.clear();
    for (const [about, lists] of wanted) this.#units.set(about, this.classifier.acquire(lists));
    this.#waiting.push(...before.values());
  }

  /**
   * Flushes, with packets under way that stop after any read; each must be judged as the messages said at some time since it began. Now and
   * then the kernel fails in the middle, and `change` comes before the next attempt.
   */
  async flush(packets: readonly Packet[], change: () => void = () => undefined): Promise<number> {
    this.#say();
    this.#begin(this.#probes(packets));
    this.twin.onWrite = (write) => this.#onWrite(write);
    if (this.#random.chance(0.3)) {
      await this.#failing(() => this.classifier.flush());
      if (this.#random.chance(0.5)) {
        change();
        this.follow();
        this.#say();
      }
    }
    await this.classifier.flush();
    for (const unit of this.#waiting) this.classifier.release(unit);
    this.#waiting = [];
    this.#land();
    const probes = this.#probes(packets);
    for (const probe of probes) this.#compare(probe);
    // A map that is full leaves out next hops, too.
    if (!this.#isSmall)
      for (const { from } of packets) expect([from, this.twin.hopOf(from)]).toEqual([from, this.#hopOf(from)]);
    return probes.length;
  }

  /** Tidies up, and while it does, nothing changes; it may fail, and is begun anew. */
  async settle(packets: readonly Packet[]): Promise<void> {
    // Who had no room may have some now.
    this.#say();
    this.#begin(this.#probes(packets));
    if (this.#random.chance(0.3)) await this.#failing(() => this.classifier.settle());
    if (this.#random.chance(0.1)) {
      this.twin.onGrace = () => {
        throw Object.assign(new Error('no membarrier'), { code: 'EPERM' });
      };
      await this.classifier.settle().catch((error: unknown) => expect(error).toMatchObject({ code: 'EPERM' }));
      this.twin.onGrace = () => this.#onGrace();
    }
    if (this.#random.chance(0.8)) await this.classifier.settle();
    else await this.classifier.flush();
    this.#land();
    for (const probe of this.#probes(packets)) this.#compare(probe);
  }

  /** Everything goes, and nothing may be left. */
  async end(): Promise<void> {
    this.#compareCounters();
    this.twin.onWrite = () => undefined;
    for (const unit of [...this.#units.values(), ...this.#waiting]) this.classifier.release(unit);
    this.#units.clear();
    this.#waiting = [];
    for (const net of this.#hops.keys()) this.classifier.setHop(net, 0);
    this.#hops.clear();
    await this.classifier.flush();
    await this.classifier.settle();
    const { sets: _, writes: __, portRuns, ...figures } = this.classifier.figures;
    expect(portRuns).toBe(9);
    expect(Object.entries(figures).filter(([, count]) => count !== 0)).toEqual([]);
    const { addresses, networks, named, rows, units, ports } = this.twin;
    expect([addresses[4], addresses[6], networks, named[4], named[6], rows].map(({ size }) => size)).toEqual(
      Array.from({ length: 6 }, () => 0),
    );
    expect([...units.values()].every((record) => record === 0)).toBe(true);
    expect(ports.every((table) => Math.max(...table) === 0)).toBe(true);
    // What was counted outlives the units.
    this.#compareCounters();
  }

  async #failing(act: () => Promise<void>): Promise<void> {
    this.twin.failAfter = this.#random.below(40);
    // A few times it passes by itself.
    this.twin.failTimes = this.#random.pick([1, 2, Infinity]);
    await act().catch((error: unknown) => expect(error).toMatchObject({ code: 'ENOMEM' }));
    this.twin.failAfter = Infinity;
    this.twin.failTimes = Infinity;
  }

  #probes(packets: readonly Packet[]): Probe[] {
    return packets.flatMap((packet) =>
      [...this.#units]
        .filter(([about]) => about.endsWith(`${familyOf(packet.from)}`))
        .map(([about, unit]) => ({ about, unit, packet })),
    );
  }

  #begin(probes: readonly Probe[]): void {
    for (const probe of this.#random.some(probes, flightsAtOnce, flightsAtOnce)) this.#launch(probe);
  }

  #launch({ about, unit, packet }: Probe): void {
    const allowed = new Set([this.twin.classify(unit.number, packet).action, this.#says(unit, packet)]);
    const steps = this.twin.lookup(unit.number, packet);
    this.#flights.push({ about, unit, packet, steps, allowed, isSlow: this.#random.chance(0.3), result: undefined });
  }

  #onWrite({ map }: MapWrite): void {
    // Most writes are of what nothing refers to yet.
    const isSeen = map === 'addresses' || map === 'named' || map === 'ports' || map === 'units';
    const landed: Flight[] = [];
    for (const flight of this.#flights) {
      const chance = (isSeen ? 0.6 : 0.1) * (flight.isSlow ? 0.1 : 1);
      if (flight.result === undefined && this.#random.chance(chance)) {
        advance(flight);
        if (flight.result !== undefined) landed.push(flight);
      }
    }
    if (this.#flights.length < 4 * flightsAtOnce) for (const flight of landed) this.#launch(flight);
  }

  /** Lookups that began before are over when a grace period is. */
  #onGrace(): void {
    for (const flight of this.#flights) while (flight.result === undefined) advance(flight);
  }

  #says(unit: Unit, packet: Packet): string {
    return this.evaluator.decideByLists(unit.lists, packet).action;
  }

  /** This is what the messages say from now on. */
  #say(): void {
    for (const { unit, packet, allowed } of this.#flights) allowed.add(this.#says(unit, packet));
  }

  /** Looks at what became of those that have come to an end. */
  #land(): void {
    for (const { about, unit, packet, allowed, result, broken } of this.#flights) {
      if (broken !== undefined) throw new Error(`${about} ${packetText(packet)}: broken under way`, { cause: broken });
      allowed.add(this.twin.classify(unit.number, packet).action);
      // Where there is little room a unit may have had none for a while; and nobody names a unit without users.
      if (this.#isSmall || unit.users === 0 || unit.failure !== undefined) allowed.add('deny');
      if (result !== undefined && result.isUnstable !== true && !allowed.has(result.action)) {
        throw new Error(`${about} ${packetText(packet)}: ${result.action} under way, not ${[...allowed].join(' or ')}`);
      }
    }
    this.#flights = this.#flights.filter(({ result, unit }) => result === undefined && unit.users > 0);
  }

  #compare({ about, unit, packet }: Probe): void {
    const now = this.twin.count(unit.number, packet, 100);
    const { failure } = unit;
    if (failure !== undefined) {
      if (!this.#isSmall) throw new Error(`${about} failed: ${failure}`);
      expect([about, now.action]).toEqual([about, 'deny']);
      return;
    }
    const wanted = this.evaluator.decideByLists(unit.lists, packet);
    const found = now.rule === undefined ? undefined : this.classifier.ruleOf(now.rule);
    const reason = found?.text ?? 'nothing';
    if (now.action !== wanted.action || reason !== wanted.reason || found?.unit !== unit)
      throw new Error(
        `${about}, ${packetText(packet)}: ${now.action} by ${reason}, should be ${wanted.action} by ${wanted.reason}`,
      );
    const matched = now.matched.flatMap((word) => this.classifier.ruleOf(word)?.rule ?? []);
    const staged = this.evaluator.stagedMatches(unit.lists, packet);
    expect(staged.filter((rule) => !matched.includes(rule))).toEqual([]);
    for (const rule of matched) this.#counted.set(rule, (this.#counted.get(rule) ?? 0) + 1);
  }

  #noteRules(update: DataplaneUpdate): void {
    if (!/^(policy|profile)(Update|Remove)$/.test(update.type) || !('id' in update)) return;
    const owner = `${update.type.slice(0, 6)} ${update.id}`;
    const rules = 'policy' in update ? update.policy : 'profile' in update ? update.profile : undefined;
    const now = [...(rules?.ingress ?? []), ...(rules?.egress ?? [])].map(({ id }) => id);
    for (const id of this.#rules.get(owner) ?? []) if (!now.includes(id)) this.#unsure.add(id);
    this.#rules.set(owner, now);
  }

  /** By the longest prefix of which something is said. */
  #hopOf(address: string): number {
    const length = (net: string) => Number(net.split('/')[1]);
    const [best] = [...this.#hops.keys()].filter((net) => isIn(address, net)).sort((a, b) => length(b) - length(a));
    return (best === undefined ? undefined : this.#hops.get(best)) ?? 0;
  }

  /** Rules that are announced have counted what packets met. */
  #compareCounters(): void {
    for (const [rule, { packets, bytes }] of this.classifier.ruleCounters()) {
      if (this.#unsure.has(rule)) continue;
      expect([rule, packets, bytes]).toEqual([rule, this.#counted.get(rule) ?? 0, 100 * packets]);
    }
  }
}

function advance(flight: Flight): void {
  try {
    const { done, value } = flight.steps.next();
    if (done === true) flight.result = value;
  } catch (error) {
    // Else it is taken for what the map says.
    flight.broken = error;
    flight.result = { action: 'deny', rule: undefined, logs: [], matched: [], isUnstable: true };
  }
}
