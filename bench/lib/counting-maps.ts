import {
  type ClassifierMaps,
  type MapSizes,
  type MapWrite,
  sizedMaps,
} from '#dataplanes/ebpf/classifier/classifier-maps.ts';

/** Maps of the classifier with room for everything, that only count what is written. */
export class CountingMaps implements ClassifierMaps {
  readonly sizes = Object.fromEntries(
    sizedMaps.map((map) => [map, { entries: map === 'tortie_ports' ? 65_536 : 16_777_216, setting: map }]),
  ) as unknown as MapSizes;
  writes = 0;
  write(writes: readonly MapWrite[]): Promise<void> {
    this.writes += writes.length;
    return Promise.resolve();
  }
  grace(): Promise<void> {
    return Promise.resolve();
  }
  hits() {
    return { packets: 0, bytes: 0 };
  }
}
