import { randomInt } from 'node:crypto';
import type { BpfMap } from '#native/bpf.ts';
import type { NetlinkFailure } from '#native/types.ts';
import {
  type Flow,
  type FlowExportItem,
  type FlowImportReport,
  FlowImportTally,
  type FlowScope,
  type FlowTuple,
  sameTuple,
} from '../../flows.ts';
import { FlowFlag } from '../bpf-types.gen.ts';
import { type FamilyFlowMaps, flowShard } from './flow-maps.ts';
import {
  type FlowElement,
  flowElements,
  type FlowEnd,
  type FlowRecord,
  ICMP,
  ICMPV6,
  isUntouched,
  SCTP,
  TCP,
} from './flow-record.ts';

/** Flows that are written at a time: some ms of the main thread for what is encoded. */
const slice = 512;

/** A flow's elements on their way. */
interface Pending {
  readonly flow: Flow;
  readonly element: FlowElement;
  readonly pointer?: FlowElement;
}

/**
 * Writes flows of another dataplane as answered records, both legs allowed, since that one judged them. What programs have made themselves stays
 * (BPF_NOEXIST).
 *
 * A flow that netfilter translates goes on through netfilter, whose entry knows how: the records are what a pod's device sees of it, at the opener's
 * end before translation and at the other end after. Only where both ends are here and nothing but the destination is translated do the programs
 * translate, so that it is handed from pod to pod. (With its backend on another node the translated packets would go to the stack, where the entry
 * that has their answers' tuple makes netfilter give them another source port.)
 */
export class FlowImporter {
  readonly #maps: ReadonlyMap<number, FamilyFlowMaps>;
  readonly #scope: FlowScope;
  readonly #tally = new FlowImportTally();

  constructor(maps: readonly FamilyFlowMaps[], scope: FlowScope) {
    this.#maps = new Map(maps.map((ofFamily) => [ofFamily.family, ofFamily]));
    this.#scope = scope;
  }

  async run(
    items: AsyncIterable<FlowExportItem>,
    onWhole?: (report: FlowImportReport) => void,
  ): Promise<FlowImportReport> {
    let isWhole = false;
    for await (const item of items) {
      if (item.type === 'flows') {
        for (let at = 0; at < item.flows.length; at += slice) await this.#write(item.flows.slice(at, at + slice));
      } else if (item.type === 'gone') this.#forget(item.flows);
      else if (item.type === 'whole' && !isWhole) {
        isWhole = true;
        onWhole?.(this.#tally.report);
      }
    }
    return this.#tally.report;
  }

  async #write(flows: readonly Flow[]): Promise<void> {
    const byMap = new Map<BpfMap, Pending[]>();
    for (const flow of flows) {
      const reason = reasonToSkip(flow);
      if (reason !== undefined) {
        if (flow.state === 'closed') {
          // It was taken over, perhaps just now, and is over.
          await this.#insertAll(byMap);
          this.#forget([flow]);
        }
        this.#tally.addSkipped(reason);
        continue;
      }
      const records = recordsOf(flow, this.#scope);
      if (records.length === 0) this.#tally.addSkipped('no end is a pod of this node');
      for (const record of records) {
        const { record: element, pointer } = flowElements(record);
        if (this.#isKnown(flow, element) || (pointer !== undefined && this.#isKnown(flow, pointer))) {
          this.#tally.addPresent();
          continue;
        }
        const map = this.#mapOf(flow, element.key);
        const pending = { flow, element, ...(pointer !== undefined && { pointer }) };
        const list = byMap.get(map);
        if (list === undefined) byMap.set(map, [pending]);
        else list.push(pending);
      }
    }
    await this.#insertAll(byMap);
  }

  /** Leaves nothing to be done in the map. */
  async #insertAll(byMap: Map<BpfMap, Pending[]>): Promise<void> {
    for (const [map, pending] of byMap) await this.#insert(map, pending);
    byMap.clear();
  }

  /** The map's elements, those whose records are in their way left out; then the pointers of what is in. */
  async #insert(map: BpfMap, all: readonly Pending[]): Promise<void> {
    let left = all;
    while (left.length > 0) {
      const done = await this.#insertSome(map, left);
      for (const { flow, element, pointer } of left.slice(0, done)) {
        if (pointer === undefined || this.#point(flow, map, element, pointer)) this.#tally.addImported();
      }
      left = left.slice(done + 1);
    }
  }

  /** How many are in; the one behind them isn't, which is counted here. */
  async #insertSome(map: BpfMap, some: readonly Pending[]): Promise<number> {
    try {
      await map.setMany(
        some.map(({ element }) => element),
        'create',
      );
      return some.length;
    } catch (error) {
      const { completed, code, message } = error as NetlinkFailure & { completed?: number; message: string };
      const refused = some[completed ?? 0];
      if (refused !== undefined) this.#refuse(refused.flow, code, message);
      return completed ?? 0;
    }
  }

  /** The pointer, or neither. True if it is in. */
  #point(flow: Flow, map: BpfMap, element: FlowElement, pointer: FlowElement): boolean {
    try {
      this.#mapOf(flow, pointer.key).set(pointer.key, pointer.value, 'create');
      return true;
    } catch (error) {
      const { code, message } = error as NetlinkFailure & { message: string };
      map.delete(element.key);
      this.#refuse(flow, code, message);
      return false;
    }
  }

  #refuse(flow: Flow, code: string, message: string): void {
    if (code === 'EEXIST') this.#tally.addPresent();
    else this.#tally.addFailed(flow, message);
  }

  /** Takes back what was taken over, unless programs have seen packets of it since: then it is theirs. */
  #forget(flows: readonly Flow[]): void {
    for (const flow of flows) {
      if (flow.protocol === ICMP || flow.protocol === ICMPV6) continue;
      for (const record of recordsOf(flow, this.#scope)) {
        const { record: element, pointer } = flowElements(record);
        const map = this.#mapOf(flow, element.key);
        const value = map.get(element.key);
        if (value === undefined || !isUntouched(flow.family, value)) continue;
        map.delete(element.key);
        if (pointer !== undefined) this.#mapOf(flow, pointer.key).delete(pointer.key);
      }
    }
  }

  /** Programs have made one that nobody has answered yet. */
  #isKnown({ family }: Flow, { key }: FlowElement): boolean {
    return this.#maps.get(family)?.fresh.get(key) !== undefined;
  }

  #mapOf({ family }: Flow, key: Uint8Array): BpfMap {
    const map = this.#maps.get(family)?.shards[flowShard(key)];
    if (map === undefined) throw new RangeError(`there are no maps of IPv${family} flows`);
    return map;
  }
}

function reasonToSkip({ protocol, state, bound }: Flow): string | undefined {
  if (bound !== undefined) return bound;
  if (state === 'new') return 'nobody has answered';
  if (state === 'closed') return 'closed';
  if (protocol === ICMP || protocol === ICMPV6) return 'ICMP: the next request makes a flow';
  return undefined;
}

/** What this node's pods see of a flow; none if no end is one. */
function recordsOf(flow: Flow, { local }: FlowScope): readonly FlowRecord[] {
  const { family, protocol, asked, delivered, finished } = flow;
  const common = { family, protocol, cookie: randomInt(1, 2 ** 32), at: process.hrtime.bigint() };
  const flags =
    FlowFlag.egressOk |
    FlowFlag.ingressOk |
    FlowFlag.answered |
    FlowFlag.adopted |
    (protocol === TCP ? FlowFlag.established : 0) |
    (finished?.opener === true ? FlowFlag.finOpener : 0) |
    (finished?.other === true ? FlowFlag.finOther : 0);
  const seen = (tuple: FlowTuple, viaStack: boolean): FlowRecord => ({
    ...common,
    opener: openerOf(tuple),
    other: otherOf(tuple),
    flags: flags | (viaStack ? FlowFlag.viaStack : 0),
  });
  const isOpenerHere = local.has(asked.source);
  const isOtherHere = local.has(delivered.destination);
  const areBothHere = isOpenerHere && isOtherHere;
  if (sameTuple(asked, delivered)) return isOpenerHere || isOtherHere ? [seen(asked, !areBothHere)] : [];
  if (areBothHere && isDestinationOnly(flow)) return [{ ...seen(delivered, false), before: otherOf(asked) }];
  return [...(isOpenerHere ? [seen(asked, true)] : []), ...(isOtherHere ? [seen(delivered, true)] : [])];
}

/** SCTP's ports can't be changed by programs. */
function isDestinationOnly({ protocol, asked, delivered }: Flow): boolean {
  return (
    asked.source === delivered.source &&
    asked.sourcePort === delivered.sourcePort &&
    (protocol !== SCTP || asked.destinationPort === delivered.destinationPort)
  );
}

function openerOf({ source, sourcePort }: FlowTuple): FlowEnd {
  return { address: source, port: sourcePort ?? 0 };
}

function otherOf({ destination, destinationPort }: FlowTuple): FlowEnd {
  return { address: destination, port: destinationPort ?? 0 };
}
