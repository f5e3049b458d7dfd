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
} from '../../flows.ts';
import { FlowImporter } from './flow-import.ts';
import { type FamilyFlowMaps, flowLayouts, flowShard } from './flow-maps.ts';
import { pointerKeyOf, readFlow } from './flow-record.ts';
import type { FlowTimeouts } from './flow-timeouts.ts';

/** Records that are looked at in one turn of the event loop: some ms. */
const slice = 1000;

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
        for await (const places of this.#read(maps.family, map, isSwept)) {
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
          for await (const places of this.#read(family, map, isSwept)) {
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

  /** Answered flows, once: what changes meanwhile is in the next export. */
  async *exportFlows(scope: FlowScope, signal: AbortSignal): AsyncGenerator<FlowExportItem, void, undefined> {
    for (const { family, shards } of this.#maps) {
      for (const map of shards) {
        for await (const places of this.#read(family, map, true)) {
          if (signal.aborted) return;
          const flows = places.map(({ flow }) => flow).filter((flow) => isInScope(flow, scope));
          if (flows.length > 0) yield { type: 'flows', flows };
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

  /** A map's records, in slices. */
  async *#read(family: Family, map: BpfMap, isSwept: boolean): AsyncGenerator<readonly Place[], void, undefined> {
    const { count, keys, values } = await map.dump();
    const { Key, Record } = flowLayouts[family];
    const now = process.hrtime.bigint();
    const reading = isSwept ? { now, timeouts: this.#timeouts() } : { now };
    const view = viewOf(values);
    for (let from = 0; from < count; from += slice) {
      const places: Place[] = [];
      for (let i = from; i < Math.min(from + slice, count); i += 1) {
        const flow = readFlow(family, view, i * Record.size, reading);
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

/** Each map, and whether the sweep goes through it. */
function mapsOf({ fresh, shards }: FamilyFlowMaps): readonly (readonly [BpfMap, boolean])[] {
  return [[fresh, false], ...shards.map((map) => [map, true] as const)];
}

function viewOf(values: PackedElements['values']): DataView {
  return new DataView(values.buffer, values.byteOffset, values.byteLength);
}
