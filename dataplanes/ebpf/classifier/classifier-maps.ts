import type { Family } from '#api/cidr.ts';
import type { Counter } from '../../contract.ts';
import { classifierConstants, type UnitRecord } from '../bpf-types.gen.ts';

/** Rules of one chunk, and the 32-bit words that their bits take. */
export const CHUNK_RULES = classifierConstants.chunkRules;
export const CHUNK_WORDS = CHUNK_RULES / 32;

/** An address as a number: IPv4 below 2^32, IPv6 as a BigInt. */
export type AddressValue = number | bigint;

/**
 * One write. Without a value (or class, or row): deletes. Made twice in a row it changes nothing; a series that was made must not be begun
 * anew, because numbers come back in it.
 */
export type MapWrite =
  | {
      /** `tortie_addr*` where the prefix is the whole address, else `tortie_net*`. */
      readonly map: 'addresses';
      readonly family: Family;
      readonly address: AddressValue;
      readonly prefix: number;
      readonly value: { readonly class: number; readonly hop: number } | undefined;
    }
  | {
      readonly map: 'named';
      readonly family: Family;
      readonly address: AddressValue;
      readonly protocol: number;
      readonly port: number;
      readonly class: number | undefined;
    }
  | {
      readonly map: 'rows';
      readonly record: number;
      readonly dimension: number;
      readonly class: number;
      readonly row: number | undefined;
    }
  /** From `min` to `max`, both included. */
  | {
      readonly map: 'ports';
      readonly table: number;
      readonly min: number;
      readonly max: number;
      readonly class: number;
    }
  | { readonly map: 'rowtab'; readonly index: number; readonly words: readonly number[] }
  | { readonly map: 'chunks'; readonly index: number; readonly words: Uint32Array }
  /** The words' counters begin at zero. */
  | { readonly map: 'rules'; readonly index: number; readonly words: Uint32Array }
  | { readonly map: 'records'; readonly index: number; readonly record: UnitRecord }
  /** One aligned store. */
  | { readonly map: 'units'; readonly index: number; readonly record: number };

/** The maps that can be full. */
export const sizedMaps = [
  'tortie_addr4',
  'tortie_addr6',
  'tortie_net4',
  'tortie_net6',
  'tortie_named4',
  'tortie_named6',
  'tortie_ports',
  'tortie_units',
  'tortie_records',
  'tortie_rows',
  'tortie_rowtab',
  'tortie_chunks',
  'tortie_rules',
] as const;
export type SizedMap = (typeof sizedMaps)[number];

/** Elements that a map holds, and the setting that says so. `tortie_ports`: classes of ports, at most 65,536. */
export type MapSizes = Readonly<Record<SizedMap, { readonly entries: number; readonly setting: string }>>;

/** Elements in one call that are made one by one, without a worker: a batch that has no memory at once goes on so. */
export const WRITES_SINGLY = 32;

/** A map refused a write. `code` is the kernel's word for it (`ENOMEM`, `E2BIG`, ...), `cause` what it threw. */
export class WriteFailure extends Error {
  override readonly name = 'WriteFailure';
  readonly code: string;
  /**
   * How many of the call's writes, from the first on, are made: the next is the one that was refused. Of those behind it only such may be
   * made already that nothing refers to (rows, chunks, rule words, records), so they are made again without harm.
   */
  readonly made: number;

  constructor(made: number, cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    const { code } = cause as { readonly code?: unknown };
    this.code = typeof code === 'string' ? code : 'UNKNOWN';
    this.made = made;
  }
}

/** What the classifier writes to: the kernel's maps, or their twin in tests. */
export interface ClassifierMaps {
  readonly sizes: MapSizes;
  /** In this order, each visible before the next. Throws `WriteFailure` at the first that fails. */
  write(writes: readonly MapWrite[]): Promise<void>;
  /** Resolves when no lookup that began before the call is under way any more. */
  grace(): Promise<void>;
  /** What the rule word of this index has counted since its last write. */
  hits(rule: number): Counter;
}
