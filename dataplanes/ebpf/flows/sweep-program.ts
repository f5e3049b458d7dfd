import { type BpfMap, type BpfProgram, loadObject } from '#native/bpf.ts';
import type { Family } from '#native/types.ts';
import { flowConstants, flowMapShapes, OneWayShare, SweepContext, type SweepCounts } from '../bpf-types.gen.ts';
import { u32Key } from '../keys.ts';
import { type FamilyFlowMaps, shardNames } from './flow-maps.ts';
import type { FlowTimeouts } from './flow-timeouts.ts';

/** What one call met in its hash. */
export type SweepResult = { readonly [K in keyof SweepCounts]: number };

/** Expires the flows of one hash a call, on a thread of the addon. */
export interface SweepProgram extends Disposable {
  /**
   * `round` counts up from one sweep of all hashes to the next: of the pointers one in four is looked at in each. Rejects with a NetlinkFailure; `code`
   * `SWEEP_REFUSED` when the program knows no such hash.
   */
  sweep(family: Family, shard: number, timeouts: FlowTimeouts, round: number): Promise<SweepResult>;
}

const noCounts: SweepCounts = {
  visited: 0n,
  pointers: 0n,
  marked: 0n,
  deletedTcp: 0n,
  deletedUdp: 0n,
  deletedIcmp: 0n,
  deletedOther: 0n,
  deletedPointers: 0n,
};

/**
 * How many elements of a family's hashes flows may take that nobody answers (`ONE_WAY`), all together and of one opener's address. Half of one
 * hash: whatever tuples somebody chooses, each has room for answered ones.
 */
export function oneWayLimits(shards: readonly Pick<BpfMap, 'shape'>[]): {
  readonly total: number;
  readonly ofAddress: number;
} {
  const total = Math.max(1, Math.floor(Math.min(...shards.map(({ shape }) => shape.maxEntries)) / 2));
  return { total, ofAddress: Math.max(1, Math.floor(total / 8)) };
}

/** Says the limits to the programs; what is counted begins at zero, and is right after the first round of the sweep. */
async function limitOneWay({ oneWay, shards }: FamilyFlowMaps): Promise<void> {
  const { total, ofAddress } = oneWayLimits(shards);
  await oneWay.setMany(
    Array.from({ length: 1 + flowConstants.oneWayShares }, (_, index) => ({
      key: u32Key(index),
      value: OneWayShare.encode({ now: 0, next: 0, limit: index === 0 ? total : ofAddress }),
    })),
  );
}

/**
 * Loads sweep.bpf.o onto these hashes, and says how much of them unanswered flows may take. The object's other maps (it knows all that flows need) are made as small as they can be, and are gone
 * when this returns, since the program doesn't use them. Throws as `loadObject` does.
 */
export async function loadSweep(maps: readonly FamilyFlowMaps[], elf: string | Uint8Array): Promise<SweepProgram> {
  for (const ofFamily of maps) await limitOneWay(ofFamily);
  const given = maps.flatMap(({ family, fresh, shards, oneWay }) => [
    [`tortie_new${family}`, { use: fresh }] as const,
    [`tortie_oneway${family}`, { use: oneWay }] as const,
    ...shardNames(family).flatMap((name, shard) => {
      const use = shards[shard];
      return use === undefined ? [] : [[name, { use }] as const];
    }),
  ]);
  const unused = (['tortie_frag4', 'tortie_frag6'] as const).map((name) => [
    flowMapShapes[name].name,
    { maxEntries: 1 },
  ]);
  const object = await loadObject({
    name: 'tortie_sweep',
    elf,
    maps: Object.fromEntries([...given, ...unused]) as Record<string, { readonly maxEntries?: number }>,
  });
  for (const name of [...given.map(([name]) => name), ...unused.map(([name]) => name as string)])
    object.map(name)[Symbol.dispose]();
  return new LoadedSweep(object.program('tortie_sweep'));
}

class LoadedSweep implements SweepProgram {
  readonly #program: BpfProgram;

  constructor(program: BpfProgram) {
    this.#program = program;
  }

  async sweep(family: Family, shard: number, timeouts: FlowTimeouts, round: number): Promise<SweepResult> {
    const context = SweepContext.encode({
      family,
      shard,
      round: round >>> 0,
      // What Node reads is CLOCK_MONOTONIC.
      now: process.hrtime.bigint(),
      timeouts: {
        creation: BigInt(timeouts.creation),
        tcpSynSent: BigInt(timeouts.tcpSynSent),
        tcpEstablished: BigInt(timeouts.tcpEstablished),
        tcpFinsSeen: BigInt(timeouts.tcpFinsSeen),
        tcpResetSeen: BigInt(timeouts.tcpResetSeen),
        udp: BigInt(timeouts.udp),
        icmp: BigInt(timeouts.icmp),
        generic: BigInt(timeouts.generic),
      },
      counts: noCounts,
    });
    const { returned, context: after } = await this.#program.run({ context });
    if (returned !== 0)
      throw Object.assign(new Error(`the sweep of IPv${family} flows has no hash ${shard}: it returned ${returned}`), {
        code: 'SWEEP_REFUSED',
      });
    const { counts } = SweepContext.read(new DataView(after.buffer, after.byteOffset, after.byteLength));
    return Object.fromEntries(Object.entries(counts).map(([name, count]) => [name, Number(count)])) as SweepResult;
  }

  [Symbol.dispose](): void {
    this.#program[Symbol.dispose]();
  }
}
