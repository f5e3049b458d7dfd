/**
 * Sequence numbers of IPAM blocks. Calico starts them at the clock's nanoseconds and writes them as JSON numbers, which JavaScript
 * would round: 2^53 nanoseconds are 104 days. They must come through exactly, since a release is refused when its number is not the
 * stored one. So: a number where that is exact, else a bigint; JSON goes through `parseJson` and `stringifyJson`. Our own start at
 * microseconds, which stay exact numbers until the year 2255.
 */

/** A number where that is exact (up to 2^53 - 1), else a bigint. Compare by `sameSequence`. */
export type SequenceNumber = number | bigint;

/** The number that a new block starts with. `nowMs`: milliseconds since the epoch. */
export function initialSequence(nowMs: number): SequenceNumber {
  return Math.trunc(nowMs) * 1000;
}

/** The number after this one. */
export function nextSequence(sequence: SequenceNumber): SequenceNumber {
  return smallest(BigInt(sequence) + 1n);
}

/** True if both are the same number. */
export function sameSequence(a: SequenceNumber, b: SequenceNumber): boolean {
  return BigInt(a) === BigInt(b);
}

/** `JSON.parse`, but whole numbers that JavaScript would round become bigints. */
export function parseJson(text: string): unknown {
  // The careful way is ten times slower, and only numbers from 9 * 10^15 on need it.
  if (!/[:[,]\s*-?(?:9\d{15}|\d{17})/.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_key, value: unknown, context?: { readonly source?: string }) =>
    typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? '')
      ? BigInt(context?.source ?? value)
      : value,
  );
}

/** `JSON.stringify`, with bigints as whole numbers. */
export function stringifyJson(value: unknown, indent?: number): string {
  return JSON.stringify(
    value,
    (_key, member: unknown) => (typeof member === 'bigint' ? rawJson(member) : member),
    indent,
  );
}

function smallest(sequence: bigint): SequenceNumber {
  return sequence <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(sequence) : sequence;
}

function rawJson(value: bigint): unknown {
  return (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(value.toString());
}
