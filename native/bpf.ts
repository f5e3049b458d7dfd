/**
 * bpf(2): objects, maps, programs, pins, probes. Errors are Errors with NetlinkFailure's fields. Handles own their file descriptor: dispose
 * of them (`using`); one that was forgotten is closed by the garbage collector.
 */
export { probeFeatures, type BpfFeature } from './bpf-features.ts';
export { bpfGrace } from './bpf-grace.ts';
export {
  attachCgroup,
  attachedPrograms,
  attachTcx,
  attachXdp,
  BpfLink,
  openPinnedLink,
  tcxPrograms,
  type AttachedProgram,
  type AttachedXdp,
  type AttachPlace,
  type CgroupHook,
  type DeviceTarget,
  type Direction,
  type LinkInfo,
  type Position,
  type TcxPrograms,
} from './bpf-links.ts';
export {
  BpfMap,
  mapDifferences,
  openPinnedMap,
  type MapElement,
  type MapShape,
  type PackedElements,
  type SetMode,
} from './bpf-map.ts';
export { type BpfTypes, type TypeField } from './bpf-types.ts';
export { MappedArray } from './bpf-mapped-array.ts';
export { mountBpffs, unmountBpffs } from './bpf-mount.ts';
export { loadObject, LoadedObject, type ObjectSpec, type VerifierFailure } from './bpf-object.ts';
export { probeBpf, type ProbeAnswer, type ProbeRequest } from './bpf-probe.ts';
export { BpfProgram, openPinnedProgram, type TestResult, type TestRun } from './bpf-program.ts';
export { openBpfRing } from './bpf-ring.ts';
