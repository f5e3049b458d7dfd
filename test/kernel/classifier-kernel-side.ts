/** One node's messages through the classifier into the kernel's maps, and the messages judged as they stand beside it. */
import { familyOf } from '#api/cidr.ts';
import { RuleAction, ruleActionTexts } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { Classifier, type ClassifierUpdate } from '#dataplanes/ebpf/classifier/classifier.ts';
import { KernelMaps } from '#dataplanes/ebpf/classifier/kernel-maps.ts';
import { unitLists, type UnitLists } from '#dataplanes/ebpf/classifier/unit-lists.ts';
import type { Unit } from '#dataplanes/ebpf/classifier/units.ts';
import type { DataplaneUpdate, WorkloadEndpointInfo } from '#dataplanes/messages.ts';
import type { HostEndpointInfo } from '#dataplanes/policy.ts';
import { type Decision, MessageEvaluator } from '#test/oracle/evaluate-messages.ts';
import type { Direction, Packet } from '#test/oracle/policy-model.ts';
import { packetText } from '#test/oracle/report.ts';
import { ClassifierBed } from './classifier-bed.ts';

const directions = ['ingress', 'egress'] as const;

/** What the messages say where they say anything. */
type Wanted = Pick<Decision, 'reason'> & { readonly action: Decision['action'] | 'undecided' };

interface Owner {
  readonly unit: Unit;
  readonly wanted: (packet: Packet) => Wanted;
}

/** Disposing takes the maps away. */
export class KernelSide implements Disposable {
  readonly #bed: ClassifierBed;
  readonly #maps: KernelMaps;
  readonly #classifier: Classifier;
  readonly #evaluator = new MessageEvaluator();
  readonly #pods = new Map<string, WorkloadEndpointInfo>();
  readonly #hosts = new Map<string, HostEndpointInfo>();
  #owners = new Map<string, Owner>();

  private constructor(bed: ClassifierBed) {
    this.#bed = bed;
    this.#maps = new KernelMaps(
      (name) => bed.map(name),
      (name) => `${name}Size`,
    );
    this.#classifier = new Classifier(this.#maps);
  }

  static async create(): Promise<KernelSide> {
    return new KernelSide(await ClassifierBed.load());
  }

  take(updates: readonly DataplaneUpdate[]): void {
    this.#evaluator.apply(updates);
    for (const update of updates) {
      if (update.type === 'workloadEndpointUpdate') this.#pods.set(update.id, update.endpoint);
      else if (update.type === 'workloadEndpointRemove') this.#pods.delete(update.id);
      else if (update.type === 'hostEndpointUpdate') this.#hosts.set(update.id, update.endpoint);
      else if (update.type === 'hostEndpointRemove') this.#hosts.delete(update.id);
      else if (/^(ipSet|policy|profile)/.test(update.type)) this.#classifier.onUpdate(update as ClassifierUpdate);
    }
  }

  /** Brings all that was taken into force. */
  async flush(): Promise<void> {
    const before = this.#owners;
    this.#owners = new Map();
    for (const [id, endpoint] of this.#pods) {
      const [address] = endpoint.ipv4Nets[0]?.split('/') ?? [];
      if (address === undefined) continue;
      this.#own(`pod ${id}`, 'endpoint', endpoint, (packet, direction) =>
        this.#evaluator.decide(address, direction, packet),
      );
    }
    const [host] = this.#hosts.values();
    if (host !== undefined) {
      this.#own('host', 'endpoint', host, (packet, direction) => this.#atHost(packet, direction, false));
      this.#own('forwarded', 'forward', { tiers: host.forwardTiers, profiles: [] }, (packet, direction) =>
        this.#atHost(packet, direction, true),
      );
    }
    await this.#classifier.flush();
    for (const { unit } of before.values()) this.#classifier.release(unit);
  }

  /** Waits for a grace period and frees what nothing uses any more. */
  async settle(): Promise<void> {
    await this.#classifier.settle();
  }

  /** Every unit of the packet's family must say what the messages say, by the same rule. Returns how many did. */
  check(packet: Packet): number {
    let checked = 0;
    for (const [about, { unit, wanted }] of this.#owners) {
      if (!about.endsWith(String(familyOf(packet.from)))) continue;
      const { action, rule } = this.#bed.judge(unit.number, packet);
      if (unit.published === undefined) throw new Error(`${about} failed: ${unit.failure}`);
      const { form, firstRule } = unit.published.compiled;
      const said = { action: ruleActionTexts[action], reason: form.ruleIds[rule - firstRule] };
      const { action: wantedAction, reason } = wanted(packet);
      if (said.action !== wantedAction || said.reason !== reason)
        throw new Error(
          `${about}, ${packetText(packet)}: ${said.action} by ${said.reason}, should be ${wantedAction} by ${reason}`,
        );
      checked += 1;
    }
    return checked;
  }

  [Symbol.dispose](): void {
    this.#maps[Symbol.dispose]();
    this.#bed[Symbol.dispose]();
  }

  #atHost(packet: Packet, direction: Direction, isForwarding: boolean): Wanted {
    const undecided = { action: ruleActionTexts[RuleAction.undecided], reason: 'passed by all tiers' } as const;
    return this.#evaluator.decideAtHost(direction, isForwarding, packet) ?? undecided;
  }

  #own(
    about: string,
    kind: UnitLists['kind'],
    lists: Parameters<typeof unitLists>[3],
    wanted: (packet: Packet, direction: Direction) => Wanted,
  ): void {
    for (const direction of directions) {
      for (const family of [4, 6] as const) {
        const unit = this.#classifier.acquire(unitLists(kind, direction, family, lists));
        this.#owners.set(`${about} ${direction} ${family}`, { unit, wanted: (packet) => wanted(packet, direction) });
      }
    }
  }
}
