import { setImmediate as nextTurn } from 'node:timers/promises';
import type { BpfMap, PackedElements } from '#native/bpf.ts';
import type { Family } from '#native/types.ts';
import {
  type DataplaneFlows,
  type Flow,
  type FlowDeletion,
  type FlowExportItem,
  type FlowFilter,
  type FlowImportReport,
  flowMatcher,
  type FlowScope,
  type FlowTableStats,
  isInScope,
  sameTuple,
} from '../../flows.ts';
import { flowConstants, FlowFlag, flowFlagTexts } from '../bpf-types.gen.ts';
import { FlowImporter } from './flow-import.ts';
import { type FamilyFlowMaps, flowLayouts, flowShard } from './flow-maps.ts';
import { pointerKeyOf, readFlow, TCP } from './flow-record.ts';
import { flowSieve } from './flow-sieve.ts';
import type { FlowTimeouts } from './flow-timeouts.ts';

/** Records that are read, and that are passed over, in one turn of the event loop: some ms. */
const slice = 1000;
const passedSlice = 50_000;

/** A record's place in a dump. */
interface Place {
  readonly flow: Flow;
  /** A copy. */
  readonly key: () => Uint8Array;
  readonly value: () => Uint8Array;
}

/** The flows that the programs remember. Hashes are read and emptied on workers; what is decoded here is so in slices. */
export class FlowTable implements DataplaneFlows {
  readonly #maps: readonly FamilyFlowMaps[];
  readonly #timeouts: () => FlowTimeouts;
  readonly #stats: () => FlowTableStats | undefined;

  /** `timeouts` are those of the sweep: they say how long a flow has left. `stats` are the sweep's. */
  constructor(
    maps: readonly FamilyFlowMaps[],
    timeouts: () => FlowTimeouts,
    stats: () => FlowTableStats | undefined = () => undefined,
  ) {
    this.#maps = maps;
    this.#timeouts = timeouts;
    this.#stats = stats;
  }

  get stats(): FlowTableStats | undefined {
    return this.#stats();
  }

  async *list(filter: FlowFilter): AsyncGenerator<readonly Flow[], void, undefined> {
    const matches = flowMatcher(filter);
    for (const maps of this.#maps) {
      for (const [map, isSwept] of mapsOf(maps)) {
        for await (const places of this.#read(maps.family, map, isSwept, filter)) {
          const flows = places.map(({ flow }) => flow).filter(matches);
          if (flows.length > 0) yield flows;
        }
      }
    }
  }

  /** The record first: a pointer without one is a miss. `isMeant` is asked of those that the filter lets pass. */
  async delete(filter: FlowFilter, isMeant: (flow: Flow) => boolean = () => true): Promise<FlowDeletion> {
    const matches = flowMatcher(filter);
    const failed: string[] = [];
    let deleted = 0;
    for (const maps of this.#maps) {
      const { family } = maps;
      for (const [map, isSwept] of mapsOf(maps)) {
        try {
          const keys: Uint8Array[] = [];
          const pointers: Uint8Array[] = [];
          for await (const places of this.#read(family, map, isSwept, filter)) {
            for (const { flow, key, value } of places) {
              if (!matches(flow) || !isMeant(flow)) continue;
              keys.push(key());
              const pointer = pointerKeyOf(family, value());
              if (pointer !== undefined) pointers.push(pointer);
            }
          }
          deleted += keys.length === 0 ? 0 : await map.deleteMany(keys);
          await this.#deletePointers(maps, isSwept, pointers);
        } catch (error) {
          failed.push(`IPv${family} flows in ${map.shape.name}: ${(error as Error).message}`);
        }
      }
    }
    return { deleted, failed };
  }

  /**
   * Answered flows, and at last handshakes that are under way, once: what changes meanwhile is in the next export. A flow whose destination programs translate before the stack has it
   * (`isTranslatedForStack`) is in nf_conntrack under its translated tuple. The entry that is to translate it can't stand beside that one: were it
   * made while translated packets still come, the next of them would get another source port, and TCP's other end would reset the connection. So
   * it is told last, and TCP's packets to the frontend, which has no pointer then, are dropped (`mid-flow`) until filters are off: they are sent again.
   */
  async *exportFlows(scope: FlowScope, signal: AbortSignal): AsyncGenerator<FlowExportItem, void, undefined> {
    const isLeaving = scope.isLeaving === true;
    for (const maps of this.#maps) {
      // First, so that no handshake is missed that ends in between; told last, since the entry's time is that of a handshake.
      for (const [map, isShard] of mapsOf(maps)) {
        if (!isShard && !isLeaving) continue;
        for await (const places of this.#read(maps.family, map, isShard, {})) {
          if (signal.aborted) return;
          const told = places.filter(
            ({ flow }) =>
              isInScope(flow, scope) && (isLeaving || !isTranslatedForStack(flow)) && (isShard || isHandshake(flow)),
          );
          if (isLeaving) await this.#deletePointers(maps, true, pointersToHold(maps.family, told));
          if (told.length > 0) yield { type: 'flows', flows: told.map(({ flow }) => flow) };
        }
      }
    }
    yield { type: 'whole' };
  }

  async importFlows(
    items: AsyncIterable<FlowExportItem>,
    scope: FlowScope,
    onWhole?: (report: FlowImportReport) => void,
  ): Promise<FlowImportReport> {
    return await new FlowImporter(this.#maps, scope).run(items, onWhole);
  }

  async #deletePointers(
    { fresh, shards }: FamilyFlowMaps,
    isSwept: boolean,
    pointers: readonly Uint8Array[],
  ): Promise<void> {
    if (pointers.length === 0) return;
    if (!isSwept) {
      await fresh.deleteMany(pointers);
      return;
    }
    for (const [shard, target] of shards.entries()) {
      const keys = pointers.filter((key) => flowShard(key) === shard);
      if (keys.length > 0) await target.deleteMany(keys);
    }
  }

  /** A map's records, in slices: all that the filter means, and perhaps others. */
  async *#read(
    family: Family,
    map: BpfMap,
    isSwept: boolean,
    filter: FlowFilter,
  ): AsyncGenerator<readonly Place[], void, undefined> {
    const sieve = flowSieve(family, filter);
    const { count, keys, values } = await map.dump();
    const { Key, Record } = flowLayouts[family];
    const now = process.hrtime.bigint();
    const reading = isSwept ? { now, timeouts: this.#timeouts() } : { now };
    const view = viewOf(values);
    for (let next = 0; next < count;) {
      const places: Place[] = [];
      const end = Math.min(next + passedSlice, count);
      for (let read = 0; next < end && read < slice; next += 1) {
        const i = next;
        if (sieve?.(values, i * Record.size) === false) continue;
        read += 1;
        const found = readFlow(family, view, i * Record.size, reading);
        const flow = isSwept || found === undefined ? found : newFlow(found);
        if (flow === undefined) continue;
        places.push({
          flow,
          key: () => keys.slice(i * Key.size, (i + 1) * Key.size),
          value: () => values.subarray(i * Record.size, (i + 1) * Record.size),
        });
      }
      yield places;
      await nextTurn();
    }
  }
}

const ofHost = flowFlagTexts[FlowFlag.ofHost];

/**
 * Programs translate its destination, and what they have translated goes by the node's stack; or by an uplink, and so by the stack as soon as the
 * uplink's programs leave, which go before those of pods.
 */
const isTranslatedForStack = ({ crossesNetfilter, way, asked, delivered }: Flow): boolean =>
  crossesNetfilter
    ? !sameTuple(asked, delivered)
    : way === 'net' &&
      (asked.destination !== delivered.destination || asked.destinationPort !== delivered.destinationPort);

/** Whether it is TCP that was answered, which the opener may confirm any moment. */
const isHandshake = ({ protocol, state }: Flow): boolean => protocol === TCP && state !== 'new' && state !== 'closed';

/** A flow of the new ones, which nobody sweeps; undefined: one that programs pass over (`is_given_up` in bpf/track.h). */
function newFlow(flow: Flow): Flow | undefined {
  if (flow.protocol !== TCP || !sameTuple(flow.asked, flow.delivered)) return flow;
  const leftSeconds = flowConstants.handshakeSeconds - (flow.idleSeconds ?? 0);
  return leftSeconds > 0 ? { ...flow, leftSeconds } : undefined;
}

/**
 * Without these no packet of a TCP flow that is translated for the stack gets there. Others' senders wouldn't send again; and the node's own packets,
 * which netfilter has seen before they were translated, would go out as they are.
 */
function pointersToHold(family: Family, places: readonly Place[]): Uint8Array[] {
  return places
    .filter(({ flow }) => flow.protocol === TCP && isTranslatedForStack(flow) && !flow.details.includes(ofHost))
    .flatMap(({ value }) => pointerKeyOf(family, value()) ?? []);
}

/** Each map, and whether the sweep goes through it. */
function mapsOf({ fresh, shards }: FamilyFlowMaps): readonly (readonly [BpfMap, boolean])[] {
  return [[fresh, false], ...shards.map((map) => [map, true] as const)];
}

function viewOf(values: PackedElements['values']): DataView {
  return new DataView(values.buffer, values.byteOffset, values.byteLength);
}
