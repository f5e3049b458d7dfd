import {
  FlowEnd4,
  FlowEnd6,
  FlowFlag,
  FlowKey4,
  FlowKey6,
  FlowRecord4,
  FlowRecord6,
  FragmentKey4,
  FragmentKey6,
  FragmentPorts,
  Jump,
  mapShapes,
  SourceKey,
} from './bpf-types.gen.ts';
import { pinnedMaps } from './programs.ts';

/** What a layout consists of, so that two can be compared. */
export interface Layout {
  /** By map: what can't be another one without a new layout. */
  readonly maps: Readonly<Record<string, string>>;
  /** By struct: its size, and where each field is. */
  readonly structs: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** By enum: its members' values. New members are no new layout. */
  readonly enums: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

const structs = {
  FlowEnd4,
  FlowEnd6,
  FlowKey4,
  FlowKey6,
  FlowRecord4,
  FlowRecord6,
  FragmentKey4,
  FragmentKey6,
  FragmentPorts,
  SourceKey,
};

/** The layout of what this build pins. */
export function presentLayout(): Layout {
  return {
    maps: Object.fromEntries(
      pinnedMaps.map((name) => {
        const { type, keySize, valueSize, flags } = mapShapes[name];
        return [name, `type ${type}, key ${keySize}, value ${valueSize}, flags ${flags}`];
      }),
    ),
    structs: Object.fromEntries(
      Object.entries(structs).map(([name, { size, offsets }]) => [name, { ...offsets, size }]),
    ),
    enums: { FlowFlag, Jump },
  };
}
