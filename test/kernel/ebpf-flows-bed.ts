import { fileURLToPath } from 'node:url';
import { type BpfMap, loadObject, type LoadedObject } from '#native/bpf.ts';
import type { Family } from '#native/types.ts';
import { FlowFlag } from '#dataplanes/ebpf/bpf-types.gen.ts';
import {
  type FamilyFlowMaps,
  flowLayouts,
  flowMapsOf,
  flowShard,
  shardNames,
} from '#dataplanes/ebpf/flows/flow-maps.ts';
import { flowElements, type FlowEnd, type FlowRecord } from '#dataplanes/ebpf/flows/flow-record.ts';
import type { FlowTimeouts } from '#dataplanes/ebpf/flows/flow-timeouts.ts';
import { loadSweep, type SweepProgram } from '#dataplanes/ebpf/flows/sweep-program.ts';
import { resolveTimeouts } from '#dataplanes/ebpf/flows/flow-timeouts.ts';
import { TEST_CONFIG } from '#dataplanes/shared/test-config.ts';

const at = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
export const nsPerSecond = 1_000_000_000;
/** Calico's defaults. */
export const defaultTimeouts: FlowTimeouts = resolveTimeouts(TEST_CONFIG.flowTimeouts, () => undefined);

export const client: Readonly<Record<Family, FlowEnd>> = {
  4: { address: '10.65.0.2', port: 40_000 },
  6: { address: 'fd65::2', port: 40_000 },
};
export const server: Readonly<Record<Family, FlowEnd>> = {
  4: { address: '10.65.0.3', port: 8080 },
  6: { address: 'fd65::3', port: 8080 },
};
export const frontend: Readonly<Record<Family, FlowEnd>> = {
  4: { address: '10.96.0.1', port: 80 },
  6: { address: 'fd96::1', port: 80 },
};

/** The maps of flows alone, made anew for each test, and the sweep on them. */
export class FlowBed implements Disposable {
  readonly maps: readonly FamilyFlowMaps[];
  readonly sweeper: SweepProgram;
  readonly #object: LoadedObject;

  private constructor(object: LoadedObject, maps: readonly FamilyFlowMaps[], sweeper: SweepProgram) {
    this.#object = object;
    this.maps = maps;
    this.sweeper = sweeper;
  }

  /** `entries`: of each hash. */
  static async make(entries = 1024): Promise<FlowBed> {
    const sized = [...shardNames(4), ...shardNames(6), 'tortie_new4', 'tortie_new6'];
    const object = await loadObject({
      name: 'tortie_flows',
      elf: at('build/bpf/flow.bpf.o'),
      maps: Object.fromEntries(sized.map((name) => [name, { maxEntries: entries }])),
      programs: { tortie_flow_test: {} },
    });
    try {
      const maps = flowMapsOf((name) => object.map(name));
      return new FlowBed(object, maps, await loadSweep(maps, at('dist/bpf/sweep.bpf.o')));
    } catch (error) {
      object[Symbol.dispose]();
      throw error;
    }
  }

  of(family: Family): FamilyFlowMaps {
    return this.maps.find((maps) => maps.family === family)!;
  }

  mapOf(family: Family, key: Uint8Array): BpfMap {
    return this.of(family).shards[flowShard(key)]!;
  }

  /** Writes a flow's record, and its pointer if it has one. */
  put(record: FlowRecord): ReturnType<typeof flowElements> {
    const elements = flowElements(record);
    for (const element of [elements.record, elements.pointer])
      if (element !== undefined) this.mapOf(record.family, element.key).set(element.key, element.value);
    return elements;
  }

  /** Flags of what is under the key; undefined when nothing is. */
  flagsOf(family: Family, key: Uint8Array): number | undefined {
    const value = this.mapOf(family, key).get(key);
    return value === undefined
      ? undefined
      : new DataView(value.buffer, value.byteOffset).getUint32(stateAt(family), true);
  }

  /** What a packet does to a record: the mark goes, and it has been seen now. */
  touch(family: Family, key: Uint8Array, now = process.hrtime.bigint()): void {
    const map = this.mapOf(family, key);
    const value = map.get(key)!;
    const view = new DataView(value.buffer, value.byteOffset);
    view.setUint32(stateAt(family), view.getUint32(stateAt(family), true) & ~FlowFlag.marked, true);
    view.setBigUint64(flowLayouts[family].Record.offsets.lastSeen, now, true);
    map.set(key, value, 'replace');
  }

  /** Every hash of a family once, added up. The round is by default one that looks at pointers of `flowRecord`. */
  async sweep(family: Family, timeouts = defaultTimeouts, round = 3): Promise<Record<string, number>> {
    const total: Record<string, number> = {};
    for (const shard of this.of(family).shards.keys())
      for (const [name, count] of Object.entries(await this.sweeper.sweep(family, shard, timeouts, round)))
        total[name] = (total[name] ?? 0) + count;
    return total;
  }

  [Symbol.dispose](): void {
    this.sweeper[Symbol.dispose]();
    this.#object[Symbol.dispose]();
  }
}

const stateAt = (family: Family): number => flowLayouts[family].Record.offsets.state;

/**
 * Times that are all different, and shorter than any machine that runs a test has been up: nothing is older than its start
 * (the defaults: `flow-timeouts.test.ts`).
 */
export const shortTimeouts: FlowTimeouts = {
  creation: 10 * nsPerSecond,
  tcpSynSent: 20 * nsPerSecond,
  tcpEstablished: 36 * nsPerSecond,
  tcpFinsSeen: 16 * nsPerSecond,
  tcpResetSeen: 24 * nsPerSecond,
  udp: 28 * nsPerSecond,
  icmp: 5 * nsPerSecond,
  generic: 32 * nsPerSecond,
};

/** A flow whose last packet was so many seconds ago. */
export function flowRecord(
  family: Family,
  protocol: number,
  flags: number,
  seconds: number,
  more: Partial<FlowRecord> = {},
): FlowRecord {
  const at = process.hrtime.bigint() - BigInt(Math.round(seconds * nsPerSecond));
  if (at < 0n) throw new RangeError(`${seconds} s ago this machine wasn't up`);
  return {
    family,
    protocol,
    opener: client[family],
    other: server[family],
    flags,
    cookie: 7,
    at,
    ...more,
  };
}
