import ipaddr from 'ipaddr.js';
import type { Family } from '#native/types.ts';
import type { FlowFilter } from '../../flows.ts';
import { flowLayouts } from './flow-maps.ts';

/** False: the record whose first byte is there is none of those that are meant. True: it has to be looked at. */
export type FlowSieve = (bytes: Uint8Array, at: number) => boolean;

/** All pairs of bytes. */
const pairs = 65_536;

/**
 * Tells by the last two bytes of its addresses, after and before translation, that a record isn't meant: some ns, where reading it as a flow takes
 * microseconds. Undefined where the filter names no address.
 */
export function flowSieve(family: Family, { addresses, peers }: FlowFilter): FlowSieve | undefined {
  const wanted = addresses ?? peers;
  if (wanted === undefined) return undefined;
  const { Record, Key, End, addressBytes } = flowLayouts[family];
  const ends = [
    Record.offsets.key + Key.offsets.end,
    Record.offsets.key + Key.offsets.end + End.size,
    Record.offsets.before,
    Record.offsets.sourceBefore,
  ] as const;
  const [first, second, third, fourth] = ends.map((end) => end + End.offsets.address + addressBytes - 2) as [
    number,
    number,
    number,
    number,
  ];
  const isWanted = new Uint8Array(pairs);
  for (const address of wanted) {
    const bytes = ipaddr.parse(address).toByteArray();
    if (bytes.length === addressBytes) isWanted[pairAt(bytes, addressBytes - 2)] = 1;
  }
  return (bytes, at) =>
    isWanted[pairAt(bytes, at + first)] === 1 ||
    isWanted[pairAt(bytes, at + second)] === 1 ||
    isWanted[pairAt(bytes, at + third)] === 1 ||
    isWanted[pairAt(bytes, at + fourth)] === 1;
}

const pairAt = (bytes: ArrayLike<number>, at: number): number => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
