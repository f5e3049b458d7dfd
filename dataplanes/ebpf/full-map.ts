import type { BpfMap } from '#native/bpf.ts';

/** What is used of a map. */
export type ElementMap = Pick<BpfMap, 'get' | 'set' | 'delete' | 'entries' | 'shape' | 'cpus' | 'valueStride'>;

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
    throw Object.assign(
      new Error(`map ${shape.name} is full: all of its ${shape.maxEntries} entries are in use; ${effect}`, {
        cause: error,
      }),
      { code: 'BPF_MAP_FULL' },
    );
  }
}
