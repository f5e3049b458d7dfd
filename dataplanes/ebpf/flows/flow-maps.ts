import type { BpfMap } from '#native/bpf.ts';
import type { Family } from '#native/types.ts';
import {
  FlowEnd4,
  FlowEnd6,
  FlowKey4,
  FlowKey6,
  FlowRecord4,
  FlowRecord6,
  type flowConstants,
} from '../bpf-types.gen.ts';

/** The hashes of one family that flows are in. */
export interface FamilyFlowMaps {
  readonly family: Family;
  /** Flows that nobody has answered, and TCP handshakes (LRU). */
  readonly fresh: BpfMap;
  /** Answered ones, by shard (`flowShard`). */
  readonly shards: readonly BpfMap[];
  /** How much of them those take that nobody answers: `OneWayShare` of all, then of openers' addresses. */
  readonly oneWay: BpfMap;
}

/** The structs of a family, which differ in the length of addresses only. */
export const flowLayouts = {
  4: { Key: FlowKey4, End: FlowEnd4, Record: FlowRecord4, addressBytes: 4 },
  6: { Key: FlowKey6, End: FlowEnd6, Record: FlowRecord6, addressBytes: 16 },
} as const;

const letters = ['a', 'b', 'c', 'd'] as const satisfies { readonly length: typeof flowConstants.flowShards };

/** The names of a family's hashes, in the order of their numbers. */
export function shardNames(family: Family): readonly string[] {
  return letters.map((letter) => `tortie_flow${family}${letter}`);
}

/** Both families' maps, from whoever has them by name (a loaded object, pins). */
export function flowMapsOf(mapOf: (name: string) => BpfMap): readonly FamilyFlowMaps[] {
  return ([4, 6] as const).map((family) => ({
    family,
    fresh: mapOf(`tortie_new${family}`),
    shards: shardNames(family).map(mapOf),
    oneWay: mapOf(`tortie_oneway${family}`),
  }));
}

/**
 * Which of its family's hashes an element is in, by its key's bytes; bpf/flow-shard.h says it for the programs. A word at a time, in the machine's
 * order (little-endian wherever we run).
 */
export function flowShard(key: Uint8Array): number {
  const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
  let hash = 0;
  for (let at = 0; at < key.length; at += 4) {
    hash = Math.imul(hash ^ view.getUint32(at, true), 0x9e3779b1);
    hash ^= hash >>> 15;
  }
  return Math.imul(hash, 0x9e3779b1) >>> 30;
}
