import type { Family } from '#api/cidr.ts';
import type { ClassEntry } from './class-space.ts';
import type { MapWrite, SizedMap } from './classifier-maps.ts';
import type { Signature } from './signature.ts';

/** What has a class: an address or prefix, a run of ports, a named {address, protocol, port}. */
export interface Element {
  /** The units whose packets it can be in; undefined: of both families. */
  readonly family: Family | undefined;
  /** Its class is written into this map; undefined: a table that has room for all. */
  readonly map: SizedMap | undefined;
  /** Written in this order, small first: what is more exact comes before what stands around it. */
  readonly rank: number;
  /** The class that its own entry has; undefined: it has none. */
  written: ClassEntry | undefined;
  /** Nothing is said of it any more: its entry may go when what stands around it says the same. */
  readonly isLeaving: boolean;
  /** What it is for a packet now, by its own entry or by what stands around it. */
  now(): Signature;
  /** What it has to become. */
  wanted(): Signature;
  /** True if more than the class of its entry has to change. */
  readonly hasOtherChange: boolean;
  /** Writes its entry. */
  write(to: ClassEntry): MapWrite;
  /** True if without an entry it would be just the same. `isFinal`: whether a class is the one of its signature that stays. */
  canGo(isFinal: (entry: ClassEntry) => boolean): boolean;
  /** Takes its entry out, and forgets it; undefined if it had none. */
  remove(): MapWrite | undefined;
}
