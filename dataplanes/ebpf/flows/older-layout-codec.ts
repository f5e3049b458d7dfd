import type { BpfTypes, TypeField } from '#native/bpf.ts';

/** An element in the shape of now, or why it can't be. */
export type Converted =
  | { readonly key: Uint8Array; readonly value: Uint8Array; readonly reason?: never }
  | { readonly reason: string };

/** What is used of a map's types. */
export type FlowTypes = Pick<BpfTypes, 'key' | 'value' | 'enum'>;

/** Brings elements of a map of flows into the shape of another. */
export interface FlowCodec {
  /** They have the same shape: elements are taken as they are. */
  readonly isSame: boolean;
  convert(key: Uint8Array, value: Uint8Array, now: bigint): Converted;
  /** When the last packet of the flow was, from a value in the new shape, ns of CLOCK_MONOTONIC. */
  lastSeen(value: Uint8Array): bigint;
}

/** A run of bytes from one shape to the other. */
interface Move {
  readonly path: string;
  readonly from: number;
  readonly to: number;
  readonly fromSize: number;
  readonly toSize: number;
}

/** The enum whose names the low half of a record's state has, and the one flag that says nothing to another agent. */
const FLAGS = 'flow_flag';
const SWEEPS_OWN = 'FLOW_FLAG_MARKED';
/** ns of CLOCK_MONOTONIC: a shape that has none says nothing of a flow's age, so that it begins now. */
const times: ReadonlySet<string> = new Set(['created', 'last_seen']);
/** Without these a record is no flow. */
const needed = ['state'];

/**
 * Converts field by field, by name; flags by the names of `enum flow_flag`. What the older shape doesn't have is zero (times: now), what the newer one
 * doesn't have is left out, but for a flag: an element with one whose name isn't known any more means something that nobody can say, and is refused. The
 * names of fields keep their meaning from one layout to the next; who gives one another meaning gives it another name. Throws (`code`
 * `FLOWS_UNREADABLE`) for shapes between which nothing can be converted.
 */
export function flowCodec(older: FlowTypes | undefined, newer: FlowTypes): FlowCodec {
  if (older === undefined) throw unreadable('the older map says nothing of its types');
  const [olderKey, newerKey, olderValue, newerValue] = [older.key, newer.key, older.value, newer.value];
  const [olderFlags, newerFlags] = [older.enum(FLAGS), newer.enum(FLAGS)];
  if (olderFlags === undefined || newerFlags === undefined)
    throw unreadable(`it doesn't name its flags (enum ${FLAGS})`);
  const keyMoves = movesOf(olderKey, newerKey, (field) => field.kind === 'bytes');
  const valueMoves = movesOf(olderValue, newerValue, ({ path }) => needed.includes(path));
  const stateAt = newerValue.find(({ path }) => path === 'state')?.offset ?? 0;
  const lastSeenAt = newerValue.find(({ path }) => path === 'last_seen')?.offset ?? 0;
  const missingTimes = newerValue.filter(
    ({ path }) => times.has(path) && !olderValue.some((field) => field.path === path),
  );
  const [keySize, valueSize] = [sizeOf(newerKey), sizeOf(newerValue)];
  const flags = flagTable(olderFlags, newerFlags);
  return {
    isSame: isDeepSame(olderKey, newerKey) && isDeepSame(olderValue, newerValue) && isSameEnum(olderFlags, newerFlags),
    lastSeen: (value) => viewOf(value).getBigUint64(lastSeenAt, true),
    convert: (key, value, now) => {
      const nextKey = new Uint8Array(keySize);
      const nextValue = new Uint8Array(valueSize);
      const lost = moveAll(keyMoves, key, nextKey) ?? moveAll(valueMoves, value, nextValue);
      if (lost !== undefined) return { reason: `${lost} is too large for the field it has now` };
      const view = viewOf(nextValue);
      for (const { offset } of missingTimes) view.setBigUint64(offset, now, true);
      const before = view.getUint32(stateAt, true);
      let after = 0;
      for (let bit = 0; bit < 32; bit++) {
        if (((before >>> bit) & 1) === 0) continue;
        const flag = flags.get(2 ** bit);
        if (flag === undefined) return { reason: `it has flag ${bit}, which has no name` };
        if (flag.now === undefined) return { reason: `it has ${flag.name}, which is not known any more` };
        after |= flag.now;
      }
      view.setUint32(stateAt, after >>> 0, true);
      return { key: nextKey, value: nextValue };
    },
  };
}

/** From the value of a flag in the older shape to its name, and its value now. */
function flagTable(
  older: ReadonlyMap<string, number>,
  newer: ReadonlyMap<string, number>,
): ReadonlyMap<number, { readonly name: string; readonly now: number | undefined }> {
  return new Map([...older].map(([name, value]) => [value, { name, now: name === SWEEPS_OWN ? 0 : newer.get(name) }]));
}

/** Fields of both shapes; throws where the older one lacks one that must be there, or has it as something else. */
function movesOf(
  older: readonly TypeField[],
  newer: readonly TypeField[],
  mustBe: (field: TypeField) => boolean,
): readonly Move[] {
  const known = new Map(older.map((field) => [field.path, field]));
  return newer.filter(isMeant).flatMap((field) => {
    const { path, offset, size, kind } = field;
    const before = known.get(path);
    if (before === undefined) {
      if (mustBe(field)) throw unreadable(`it has no ${path}`);
      return [];
    }
    if (before.kind !== kind || (kind === 'bytes' && before.size !== size))
      throw unreadable(`${path} is something else`);
    return [{ path, from: before.offset, to: offset, fromSize: before.size, toSize: size }];
  });
}

/** Returns the field whose number has no room. */
function moveAll(moves: readonly Move[], from: Uint8Array, to: Uint8Array): string | undefined {
  for (const move of moves) {
    const bytes = from.subarray(move.from, move.from + move.fromSize);
    // Little-endian wherever we run: what is left over is the upper part.
    if (bytes.subarray(move.toSize).some((byte) => byte !== 0)) return move.path;
    to.set(bytes.subarray(0, move.toSize), move.to);
  }
  return undefined;
}

/** Padding has a name that begins with _. */
function isMeant({ path }: TypeField): boolean {
  return !/(?:^|\.)_[^.]*$/.test(path);
}

/** Bytes of the whole; structs of ours end in a field or in padding that has a name. */
function sizeOf(fields: readonly TypeField[]): number {
  return Math.max(...fields.map(({ offset, size }) => offset + size));
}

function isDeepSame(one: readonly TypeField[], other: readonly TypeField[]): boolean {
  return JSON.stringify(one.filter(isMeant)) === JSON.stringify(other.filter(isMeant)) && sizeOf(one) === sizeOf(other);
}

function isSameEnum(one: ReadonlyMap<string, number>, other: ReadonlyMap<string, number>): boolean {
  return one.size === other.size && [...one].every(([name, value]) => other.get(name) === value);
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

function unreadable(what: string): Error {
  return Object.assign(new Error(`flows of an older layout can't be read: ${what}`), { code: 'FLOWS_UNREADABLE' });
}
