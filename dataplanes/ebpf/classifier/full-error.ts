import type { MapSizes, SizedMap } from './classifier-maps.ts';

/** A map has no room. What needed it is denied until there is some. */
export class ClassifierFull extends Error {
  override readonly name = 'ClassifierFull';
  readonly code = 'CLASSIFIER_FULL';
  readonly map: SizedMap;

  constructor(map: SizedMap, sizes: MapSizes) {
    const { entries, setting } = sizes[map];
    super(`${map} is full (${entries} entries; setting ${setting})`);
    this.map = map;
  }
}
