import { RenderError } from './errors.ts';
import type { Marks } from './types.ts';

/** Names of the bits, from the lowest bit of the mask up: the first two as Calico places them, so that `iptables -L` reads the same. */
const BITS = ['accept', 'pass', 'scratch0', 'scratch1', 'received'] as const satisfies readonly (keyof Marks)[];

/** Shares out the mask's lowest bits. Throws `E_MARK_BITS` where it has too few. */
export function parseMarks(markMask: number): Marks {
  const bits = Array.from({ length: 32 }, (_, index) => 2 ** index).filter((bit) => (markMask & bit) !== 0);
  if (bits.length < BITS.length) {
    throw new RenderError(
      'E_MARK_BITS',
      `iptablesMarkMask (FELIX_IPTABLESMARKMASK) is ${hex(markMask >>> 0)}, which has ${bits.length} bits: ` +
        `at least ${BITS.length} are needed (${BITS.join(', ')}); set it to a mask with more bits that no other program uses`,
    );
  }
  return Object.fromEntries(BITS.map((name, index) => [name, bits[index]])) as unknown as Marks;
}

/** All bits of ours. */
export const allMarks = (marks: Marks): number => BITS.reduce((sum, name) => sum + marks[name], 0);

/** Match: every bit of `bits` is set. */
export const markedWith = (bits: number): string => `-m mark --mark ${hex(bits)}/${hex(bits)}`;

/** Match: at least one of `bits` is set. */
export const markedWithAny = (bits: number): string => `-m mark ! --mark 0x0/${hex(bits)}`;

/** Match: none of `bits` is set. */
export const notMarkedWith = (bits: number): string => `-m mark --mark 0x0/${hex(bits)}`;

/** Target: sets the bits of `set`, clears those of `clear`, leaves the others, which may be other programs'. */
export const setMark = (set: number, clear = 0): string => `-j MARK --set-xmark ${hex(set)}/${hex(set + clear)}`;

const hex = (value: number): string => `0x${value.toString(16)}`;
