/** One node's messages through the classifier to a twin of the kernel's maps, and the messages judged as they stand beside it. */
import { expect } from '@jest/globals';
import { familyOf } from '#api/cidr.ts';
import { Classifier, type ClassifierUpdate } from '#dataplanes/ebpf/classifier/classifier.ts';
import { testSizes, Twin, type TwinDecision } from '#dataplanes/ebpf/classifier/twin-for-tests.ts';
import type { MapWrite } from '#dataplanes/ebpf/classifier/classifier-maps.ts';
import { unitLists, type UnitLists } from '#dataplanes/ebpf/classifier/unit-lists.ts';
import type { Unit } from '#dataplanes/ebpf/classifier/units.ts';
import type { DataplaneUpdate, WorkloadEndpointInfo } from '#dataplanes/messages.ts';
import type { HostEndpointInfo } from '#dataplanes/policy.ts';
import { MessageEvaluator } from './evaluate-messages.ts';
import type { Direction, Packet } from './policy-model.ts';
import type { Random } from './random.ts';
import { packetText } from './report.ts';

/** Looked at after each write; the others only in the end. */
const probesEach = 12;
const directions = ['ingress', 'egress'] as const;

interface Probe {
  readonly about: string;
  readonly unit: Unit;
  readonly packet: Packet;
}

const textOf = ({ action, rule }: Pick<TwinDecision, 'action' | 'rule'>): string => `${action} ${rule ?? '-'}`;

/** One node's dataplane, as far as the classifier goes. */
export class ClassifierSide {
  readonly twin = new Twin(testSizes(200_000, { tortie_ports: 65_536 }));
  readonly classifier = new Classifier(this.twin);
  readonly evaluator = new MessageEvaluator();
  readonly #random: Random;
  readonly #pods = new Map<string, WorkloadEndpointInfo>();
  readonly #hosts = new Map<string, HostEndpointInfo>();
  readonly #units = new Map<string, Unit>();
  #waiting: Unit[] = [];

  constructor(random: Random) {
    this.#random = random;
  }

  take(updates: readonly DataplaneUpdate[]): void {
    this.evaluator.apply(updates);
    for (const update of updates) {
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
    for (const endpoint of this.#pods.values()) {
      const address = endpoint.ipv4Nets[0]?.split('/')[0];
      if (address !== undefined) add(`pod ${address}`, 'endpoint', endpoint);
    }
    const [host] = this.#hosts.values();
    if (host !== undefined) {
      add('host -', 'endpoint', host);
      add('forward -', 'forward', { tiers: host.forwardTiers, profiles: [] });
    }
    return wanted;
  }

  follow(): void {
    const wanted = this.#wanted();
    const before = new Map(this.#units);
    this.#units.clear();
    for (const [about, lists] of wanted) this.#units.set(about, this.classifier.acquire(lists));
    this.#waiting.push(...before.values());
  }

  /** Flushes; every probe must say the old or the new after each write, by the record then and by the one that it began with. */
  async flush(packets: readonly Packet[]): Promise<number> {
    const probes = this.#probes(packets);
    const began = probes.map(({ unit, packet }) => {
      const record = this.twin.units.get(unit.number) ?? 0;
      return { record, says: this.twin.follow(record, packet).action };
    });
    const seen = probes.map(() => new Set<string>());
    const watched = this.#random.some([...probes.entries()], probesEach, probesEach);
    const look = (write?: MapWrite) => {
      // Most writes are of what nothing refers to yet.
      const isQuiet = write !== undefined && !['addresses', 'named', 'ports', 'units'].includes(write.map);
      for (const [index, { unit, packet }] of isQuiet ? watched.slice(0, 2) : watched) {
        seen[index]?.add(this.twin.classify(unit.number, packet).action);
        seen[index]?.add(this.twin.follow(began[index]?.record ?? 0, packet).action);
      }
    };
    this.twin.onWrite = look;
    await this.#flushFailing();
    look();
    for (const unit of this.#waiting) this.classifier.release(unit);
    this.#waiting = [];
    for (const [index, { about, unit, packet }] of probes.entries()) {
      const now = this.twin.classify(unit.number, packet);
      const allowed = new Set([began[index]?.says, now.action]);
      for (const action of seen[index] ?? []) {
        if (!allowed.has(action as TwinDecision['action']))
          throw new Error(
            `${about} ${packetText(packet)}: ${action} in between, ${began[index]?.says} before, ${now.action} after`,
          );
      }
      this.#compare(about, unit, packet, now);
    }
    return probes.length;
  }

  /** Tidies up, and while it does, nothing changes. */
  async settle(packets: readonly Packet[]): Promise<void> {
    const probes = this.#random.some(this.#probes(packets), probesEach, probesEach);
    const before = probes.map(({ unit, packet }) => textOf(this.twin.classify(unit.number, packet)));
    this.twin.onWrite = () => {
      for (const [index, { about, unit, packet }] of probes.entries()) {
        const now = textOf(this.twin.classify(unit.number, packet));
        if (now !== before[index])
          throw new Error(`${about} ${packetText(packet)}: ${now} while tidying, ${before[index]} before`);
      }
    };
    await this.classifier.settle();
    this.twin.onWrite = () => undefined;
  }

  /** Everything goes, and nothing may be left. */
  async end(): Promise<void> {
    this.twin.onWrite = () => undefined;
    for (const unit of [...this.#units.values(), ...this.#waiting]) this.classifier.release(unit);
    this.#units.clear();
    this.#waiting = [];
    await this.classifier.flush();
    await this.classifier.settle();
    const { sets: _, writes: __, portRuns, ...figures } = this.classifier.figures;
    expect(portRuns).toBe(9);
    expect(Object.entries(figures).filter(([, count]) => count !== 0)).toEqual([]);
    const { addresses, named, rows, units, ports } = this.twin;
    expect([addresses.size, named.size, rows.size]).toEqual([0, 0, 0]);
    expect([...units.values()].every((record) => record === 0)).toBe(true);
    expect(ports.every((table) => Math.max(...table) === 0)).toBe(true);
  }

  /** Now and then the kernel fails in the middle. */
  async #flushFailing(): Promise<void> {
    if (this.#random.chance(0.2)) {
      this.twin.failAfter = this.#random.below(40);
      try {
        await this.classifier.flush();
      } catch (error) {
        expect(error).toMatchObject({ code: 'ENOMEM' });
      }
      this.twin.failAfter = Infinity;
    }
    await this.classifier.flush();
  }

  #probes(packets: readonly Packet[]): Probe[] {
    return packets.flatMap((packet) =>
      [...this.#units]
        .filter(([about]) => about.endsWith(`${familyOf(packet.from)}`))
        .map(([about, unit]) => ({ about, unit, packet })),
    );
  }

  #compare(about: string, unit: Unit, packet: Packet, now: TwinDecision): void {
    const [kind, address, direction] = about.split(' ') as [string, string, Direction];
    const wanted =
      kind === 'pod'
        ? this.evaluator.decide(address, direction, packet)
        : (this.evaluator.decideAtHost(direction, kind === 'forward', packet) ?? {
            action: 'undecided',
            reason: 'passed by all tiers',
          });
    const { published, failure } = unit;
    if (published === undefined) throw new Error(`${about} failed: ${failure}`);
    const { form, firstRule } = published.compiled;
    const reason = now.rule === undefined ? 'nothing' : form.ruleIds[now.rule - firstRule];
    if (now.action !== wanted.action || reason !== wanted.reason)
      throw new Error(
        `${about}, ${packetText(packet)}: ${now.action} by ${reason}, should be ${wanted.action} by ${wanted.reason}`,
      );
  }
}
