import { tryParseIpInNetwork } from '#api/cidr.ts';
import type { Counter } from '../../contract.ts';
import type { CidrText, DataplaneUpdate } from '../../messages.ts';
import type { RuleId, SetId } from '../../policy.ts';
import type { ClassEntry } from './class-space.ts';
import { type ClassifierMaps, type SizedMap, sizedMaps } from './classifier-maps.ts';
import { type CompiledUnit, CompiledUnits, type RuleAt } from './compiled-units.ts';
import type { Element } from './element.ts';
import { ClassifierFull } from './full-error.ts';
import { Membership, type Space } from './membership.ts';
import { Mover } from './mover.ts';
import { each, inPieces, type Pieces } from './pieces.ts';
import { Records } from './records.ts';
import { Retirement } from './retirement.ts';
import { RowStore } from './row-store.ts';
import { RuleCounters } from './rule-counters.ts';
import { UnknownSet } from './sets.ts';
import { Turns } from './turns.ts';
import type { UnitLists } from './unit-lists.ts';
import { type Unit, Units } from './units.ts';
import { type Pending, UnitsInForce } from './units-in-force.ts';
import { type Queued, type Refusal, WriteQueue } from './write-queue.ts';

/** The messages that policy consists of. */
export type ClassifierUpdate = Extract<
  DataplaneUpdate,
  {
    type:
      | 'ipSetUpdate'
      | 'ipSetDelta'
      | 'ipSetRemove'
      | 'policyUpdate'
      | 'policyRemove'
      | 'profileUpdate'
      | 'profileRemove';
  }
>;

/** What was said of a network's next hop. */
interface HopMessage {
  readonly type: 'hop';
  readonly net: CidrText;
  readonly hop: number;
}

/** What a grace period ends. */
interface Ended {
  readonly done: readonly (() => void)[];
  readonly transitions: ReturnType<Mover['takeTransitions']>;
  readonly retired: number;
}

/** How full everything is. */
export interface ClassifierFigures {
  readonly units: number;
  readonly failedUnits: number;
  readonly sets: number;
  readonly traits: number;
  readonly addresses: number;
  readonly namedPorts: number;
  readonly portRuns: number;
  readonly addressClasses: number;
  readonly serviceClasses: number;
  readonly records: number;
  readonly rows: number;
  readonly rowEntries: number;
  readonly chunks: number;
  readonly ruleWords: number;
  /** Since the start. */
  readonly writes: number;
}

/**
 * Keeps the classifier's maps as the announced policy says (docs/design/ebpf-policy.md). Messages and units are taken in at once; `flush`
 * brings them into force, so that each unit changes at one moment; `settle` waits for lookups that still follow what was before, and frees it.
 */
export class Classifier {
  readonly #maps: ClassifierMaps;
  readonly #queue: WriteQueue;
  readonly #retirement = new Retirement();
  readonly #counters = new RuleCounters();
  readonly #rows: RowStore;
  readonly #compiled: CompiledUnits;
  readonly #records: Records;
  readonly #membership: Membership;
  readonly #units: Units;
  readonly #inForce: UnitsInForce;
  readonly #mover: Mover;
  #onNumber: (unit: Unit) => void = () => undefined;
  #settling: Promise<void> | undefined;
  /** Plans and writes of flushes and of tidying, one after the other: a plan in pieces must find nothing changed between two. */
  readonly #turns = new Turns();
  /** What the next plan begins with. */
  #inbox: (ClassifierUpdate | HopMessage)[] = [];
  /** Sets that were announced, the inbox included. */
  readonly #announced = new Set<SetId>();
  /** Units that nobody uses, and that a plan hasn't come to yet. */
  readonly #unused = new Set<Unit>();

  /** `sleep` waits some milliseconds; for tests. */
  constructor(maps: ClassifierMaps, sleep?: (ms: number) => Promise<unknown>) {
    const { sizes } = maps;
    this.#maps = maps;
    this.#queue = new WriteQueue(maps, (queued) => this.#onRefused(queued), sleep);
    const queue = this.#queue;
    this.#rows = new RowStore(sizes, queue, this.#retirement);
    this.#compiled = new CompiledUnits(maps, queue, this.#retirement, this.#counters);
    this.#records = new Records(sizes, queue, this.#retirement, this.#rows, this.#compiled);
    this.#membership = new Membership(sizes, this.#retirement, (space, entry) => this.#onClassFree(space, entry));
    this.#units = new Units(sizes.tortie_units.entries, this.#counters);
    const [membership, records] = [this.#membership, this.#records];
    this.#inForce = new UnitsInForce({
      sizes,
      queue,
      membership,
      records,
      units: this.#units,
      compiled: this.#compiled,
      room: (map) => this.#roomIn(map),
    });
    this.#mover = new Mover({ sizes, queue, membership, records, units: this.#inForce });
  }

  /**
   * Takes in what was announced. It has no effect before the next flush that begins after it. A set's member that is none breaks the units that
   * ask for the set; throws `UnknownSet` where members change of a set that was never announced.
   */
  onUpdate(message: ClassifierUpdate): void {
    if (message.type === 'ipSetUpdate') this.#announced.add(message.id);
    if (message.type === 'ipSetRemove') this.#announced.delete(message.id);
    if (message.type === 'ipSetDelta' && !this.#announced.has(message.id)) {
      throw new UnknownSet(`set ${message.id} changes, and was never announced`);
    }
    this.#inbox.push(message);
  }

  /** All that it was told of policy, to be told to another. Not while a flush or `settle` is under way. */
  *said(): Generator<ClassifierUpdate, void, undefined> {
    yield* this.#membership.sets.said();
    yield* this.#units.said();
    for (const message of this.#inbox) if (message.type !== 'hop') yield message;
  }

  /**
   * The unit of these lists, with one user more. It denies everything until the next flush has made it. `number` is 0 where there is no room
   * for it: `onNumber` says when it gets one.
   */
  acquire(lists: UnitLists): Unit {
    const unit = this.#units.acquire(lists);
    if (unit.number === 0) {
      const { message } = new ClassifierFull('tortie_units', this.#maps.sizes);
      this.#units.setFailure(unit, {
        text: message,
        full: { map: 'tortie_units', room: 0, need: 1 },
        sets: new Set(),
      });
    }
    return unit;
  }

  /** One user less. What the kernel looks up must not name the unit any more by the next flush, if this was the last. */
  release(unit: Unit): void {
    this.#units.release(unit);
  }

  /** `listener` is told of units that had the number 0 and have another now, which is in force: who uses them has to name it anew. */
  onNumber(listener: (unit: Unit) => void): void {
    this.#onNumber = listener;
  }

  /** Packets to this address or network go by this next hop; 0: by none of their own. In force with the next flush. `RangeError`: not a network. */
  setHop(net: CidrText, hop: number): void {
    if (tryParseIpInNetwork(net) === undefined) throw new RangeError(`${net} is no address or network`);
    this.#inbox.push({ type: 'hop', net, hop });
  }

  /**
   * Brings everything into force. Throws what the maps say (`WriteFailure`); the next call goes on where this one failed. May wait for a
   * grace period, if a unit in force was replaced since the last; settles where rules have room only in the words of what was replaced. Others have
   * turns while it plans: what they say then is the next flush's.
   */
  async flush(): Promise<void> {
    await this.#turns.take(async () => {
      await inPieces(this.#plan('all'));
      await this.#queue.drain();
      this.#tellNumbers();
    });
    if (this.#units.postponed.size > 0) await this.settle();
  }

  /** Waits for lookups that may follow what was, frees it, and tidies up: as long as there is something. Calls don't overlap. */
  async settle(): Promise<void> {
    while (this.#settling !== undefined) await this.#settling.catch(() => undefined);
    this.#settling = this.#settleAll();
    try {
      await this.#settling;
    } finally {
      this.#settling = undefined;
    }
  }

  /** Units that deny everything because they could not be made; each says why in `failure`. */
  get failed(): readonly Unit[] {
    return this.#units.failed;
  }

  /** The unit of a number of `tortie_units`; undefined: nobody has it. */
  unitByNumber(number: number): Unit | undefined {
    return this.#units.at(number);
  }

  /**
   * What stands at an index of `tortie_rules`, as decisions name it: the unit, and its rule or which end. An index is used for something else
   * a grace period after its unit has changed, so ask soon. undefined: nothing is there.
   */
  ruleOf(word: number): RuleAt | undefined {
    return this.#compiled.at(word);
  }

  /**
   * What each rule has counted (first packets of flows), over all units that have it and those that had it; for as long as it is announced.
   * Rules of staged policies count too. Rules that are in no unit aren't there. Reads a counter for each rule of each unit.
   */
  ruleCounters(): Map<RuleId, Counter> {
    return this.#compiled.counters();
  }

  get figures(): ClassifierFigures {
    const { addresses, named, ports, sets, traits, addressSpace, serviceSpace } = this.#membership;
    const { records, rows } = this.#records.used;
    return {
      units: this.#units.size,
      failedUnits: this.#units.failed.length,
      sets: sets.size,
      traits: traits.size,
      addresses: addresses.size,
      namedPorts: named.size,
      portRuns: ports.size,
      addressClasses: addressSpace.classes.size,
      serviceClasses: serviceSpace.classes.size,
      records,
      rows,
      rowEntries: this.#rows.entriesUsed,
      chunks: this.#rows.chunksUsed,
      ruleWords: this.#compiled.used,
      writes: this.#queue.made,
    };
  }

  /** Entries of each map that are taken, or kept for what is being freed, and how many it has. */
  get fill(): readonly { readonly map: SizedMap; readonly used: number; readonly size: number }[] {
    return sizedMaps.map((map) => {
      const { entries } = this.#maps.sizes[map];
      return { map, used: entries - this.#roomIn(map), size: entries };
    });
  }

  async #settleAll(): Promise<void> {
    await this.#tidy();
    if (this.#units.failed.length === 0 && this.#units.postponed.size === 0) return;
    // What was freed may be what they lacked.
    await this.#turns.take(() => inPieces(this.#plan('all', false)));
    await this.#tidy();
    this.#tellNumbers();
  }

  async #tidy(): Promise<void> {
    const [mover, records] = [this.#mover, this.#records];
    let left = -1;
    for (;;) {
      const ended = await this.#turns.take(() => this.#takeEnded(left));
      if (ended === undefined) return;
      const { done, transitions, retired } = ended;
      left = mover.leaving;
      if (done.length + transitions.length > 0) {
        try {
          await this.#maps.grace();
        } catch (error) {
          // Not over: nothing may be freed yet.
          for (const free of done) this.#retirement.add(free);
          mover.putBack(transitions);
          throw error;
        }
        records.onGrace(retired);
      }
      await this.#turns.take(() => inPieces(this.#free(ended)));
    }
  }

  /** When all writes are made: what a grace period may end now; undefined: there is nothing to do. */
  async #takeEnded(left: number): Promise<Ended | undefined> {
    const [mover, records] = [this.#mover, this.#records];
    await this.#queue.drain();
    const [done, transitions, retired] = [this.#retirement.take(), mover.takeTransitions(), records.retired];
    // What leaves may have to wait for room around it, and then nothing but the next flush helps.
    const isStuck = mover.leaving === left;
    const isOver = done.length + transitions.length === 0 && !this.#membership.traits.hasUnused && !records.hasGrown;
    return isOver && (isStuck || mover.leaving === 0) ? undefined : { done, transitions, retired };
  }

  *#free({ done, transitions }: Ended): Pieces<void> {
    const { traits, ports } = this.#membership;
    const mover = this.#mover;
    yield* each(done, (free) => free());
    yield* each(transitions, (transition) => mover.endTransition(transition));
    yield* traits.endUnused();
    // Who failed isn't tried here: what it takes and gives back would go on for ever.
    yield* this.#plan('tidying');
    yield* mover.removeLeaving();
    ports.join();
  }

  /** What was said since the last time, in its order. */
  *#readInbox(): Pieces<void> {
    const { sets, addresses } = this.#membership;
    const inbox = this.#inbox;
    this.#inbox = [];
    for (const message of inbox) {
      switch (message.type) {
        case 'ipSetUpdate':
        case 'ipSetDelta':
        case 'ipSetRemove':
          yield* sets.onUpdate(message);
          this.#units.onSet(message.id);
          break;
        case 'hop':
          addresses.setHop(message.net, message.hop);
          break;
        default:
          this.#units.onUpdate(message);
      }
      yield;
    }
  }

  /**
   * Everything that has changed, as writes in the order of the note. If it throws, nothing that had changed is forgotten. `mayWait`: units are
   * postponed for which there is room when what was replaced is freed.
   */
  *#plan(what: 'all' | 'tidying', mayWait = true): Pieces<void> {
    const [units, inForce] = [this.#units, this.#inForce];
    const pending: Pending = new Map();
    let elements: readonly Element[] = [];
    try {
      yield* this.#readInbox();
      for (const unit of units.takeUnused()) this.#unused.add(unit);
      for (const { trait, error } of this.#membership.sets.takeBroken()) {
        for (const unit of inForce.users.of([trait])) inForce.fail(unit, pending, error);
      }
      const room = what === 'all' ? (map: SizedMap) => this.#roomIn(map) : undefined;
      for (const unit of units.takeDirty(room)) yield* inForce.compile(unit, pending, mayWait);
      if (what === 'tidying') {
        for (const { compiled } of this.#records.takeWasteful([this.#membership.addressSpace])) {
          inForce.renew(compiled.unit, pending);
        }
      }
      elements = yield* this.#membership.takeDirty();
      yield* this.#mover.move(elements, pending);
      for (const unit of this.#inOrder(pending)) {
        yield* inForce.publish(unit, pending);
        yield;
      }
    } catch (error) {
      for (const compiled of pending.values()) this.#compiled.release(compiled);
      units.touchAll();
      for (const element of elements) this.#membership.mark(element);
      throw error;
    }
    for (const unit of this.#unused) {
      this.#unused.delete(unit);
      inForce.unpublish(unit);
      this.#retirement.add(() => units.giveBack(unit));
    }
  }

  /** What is in force comes before what is new, and the small before the large. */
  #inOrder(pending: Pending): Unit[] {
    const order = ([unit, { form }]: [Unit, CompiledUnit]): number =>
      unit.published === undefined ? form.words.length + form.traits.length : 0;
    return [...pending].sort((one, other) => order(one) - order(other)).map(([unit]) => unit);
  }

  /** Entries that are free in a map. */
  #roomIn(map: SizedMap): number {
    switch (map) {
      case 'tortie_units':
        return this.#units.freeNumbers;
      case 'tortie_records':
      case 'tortie_rows':
        return this.#records.free[map];
      case 'tortie_rowtab':
      case 'tortie_chunks':
        return this.#rows.free[map];
      case 'tortie_rules':
        return this.#compiled.free;
      case 'tortie_ports':
        return this.#membership.serviceSpace.classes.free;
      default:
        return this.#mover.roomIn(map);
    }
  }

  #onClassFree(space: Space, entry: ClassEntry): void {
    this.#inForce.removeClass(space, entry);
  }

  /** A map has no room for a write although it was counted: units that would be wrong without it deny. */
  #onRefused({ write, about }: Queued): Refusal {
    const failed = new Set<Unit>();
    let map: SizedMap = 'tortie_rows';
    let after: Refusal['after'] = [];
    if (write?.map === 'rows') {
      const unit = this.#inForce.ofRecord(write.record);
      if (unit !== undefined) failed.add(unit);
    } else if (write !== undefined && about.owner !== undefined) {
      const element = about.owner;
      const refused = this.#mover.onRefused(element, write);
      ({ after } = refused);
      map = element.map ?? map;
      for (const unit of this.#inForce.users.of(refused.traits)) failed.add(unit);
    }
    const error = new ClassifierFull(map, this.#maps.sizes);
    for (const unit of failed) this.#inForce.fail(unit, new Map(), error);
    return { deny: new Set([...failed].map(({ number }) => number)), after };
  }

  #tellNumbers(): void {
    for (const unit of this.#units.takeNumbered()) this.#onNumber(unit);
  }
}
