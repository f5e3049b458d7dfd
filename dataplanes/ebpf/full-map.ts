import type { BpfMap } from '#native/bpf.ts';
import { sizeSetting } from './sizes.ts';

/** What is used of a map. */
export type ElementMap = Pick<BpfMap, 'get' | 'set' | 'delete' | 'entries' | 'shape' | 'cpus' | 'valueStride'>;

/** The error of a map that has no more room: `BPF_MAP_FULL`, with the setting to raise. `room`: how much it has, in words (`4095 slots`); `effect`: what comes of it. */
export function mapFull(name: string, room: string, effect?: string, options?: ErrorOptions): Error {
  const setting = sizeSetting(name);
  const cure = setting === undefined ? '' : ` (raise ${setting})`;
  const words = `map ${name} is full: all of its ${room} are in use${cure}`;
  const error = new Error(effect === undefined ? words : `${words}; ${effect}`, options);
  return Object.assign(error, { code: 'BPF_MAP_FULL' });
}

/** The kernel says E2BIG (hash) or ENOSPC (LPM trie) of a full map: that becomes `BPF_MAP_FULL`, with the map's name, size, and what comes of it. */
export function orFull(
  { shape }: Pick<ElementMap, 'shape'>,
  write: () => void,
  effect = 'the endpoint stays closed',
): void {
  try {
    write();
  } catch (error) {
    if (!['E2BIG', 'ENOSPC'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    throw mapFull(shape.name, `${shape.maxEntries} entries`, effect, { cause: error });
  }
}
