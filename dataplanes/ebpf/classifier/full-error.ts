import type { MapSizes, SizedMap } from './classifier-maps.ts';

/** A map has no room. What needed it is denied until there is some. */
export class ClassifierFull extends Error {
  override readonly name = 'ClassifierFull';
  readonly code = 'CLASSIFIER_FULL';
  readonly map: SizedMap;
  /** Entries that it takes, as far as that is known. */
  readonly need: number;

  constructor(map: SizedMap, sizes: MapSizes, need = 1) {
    const { entries, setting } = sizes[map];
    super(`${map} is full (${entries} entries; setting ${setting})`);
    this.map = map;
    this.need = need;
  }
}
