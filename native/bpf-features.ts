import { helpers, mmapable, programTypes } from './bpf-numbers.ts';
import { probeBpf, type ProbeAnswer, type ProbeRequest } from './bpf-probe.ts';

/** Map types of linux/bpf.h. */
const ARRAY = 2;
const RINGBUF = 27;

const requests = {
  tcx: { tcx: true },
  ringBuffer: { map: { type: RINGBUF, keySize: 0, valueSize: 0, flags: 0, entries: 1 << 16 } },
  mappedArray: { map: { type: ARRAY, keySize: 4, valueSize: 8, flags: mmapable } },
  loop: { helper: helpers.loop, program: programTypes.schedCls },
  forEachElement: { helper: helpers.forEachMapElem, program: programTypes.schedCls },
  redirectPeer: { helper: helpers.redirectPeer, program: programTypes.schedCls },
  destroyTcpSockets: { sockDestroy: 'tcp' },
  destroyUdpSockets: { sockDestroy: 'udp' },
} as const satisfies Record<string, ProbeRequest>;

/**
 * Abilities that kernels have or lack whole, and since when: `tcx` links (6.6), `ringBuffer` maps (5.8), `mappedArray` (arrays in shared
 * memory, 5.5), `loop` (bpf_loop, 5.17), `forEachElement` (5.13), `redirectPeer` (5.10), iterators that destroy sockets (6.5). Versions are
 * for orientation: distributions take things over early, or leave them out.
 */
export type BpfFeature = keyof typeof requests;

/** Tries each by itself, on workers; nothing stays. */
export async function probeFeatures(): Promise<Readonly<Record<BpfFeature, ProbeAnswer>>> {
  const answers = await Promise.all(
    Object.entries(requests).map(async ([feature, what]) => [feature, await probeBpf(what)] as const),
  );
  return Object.fromEntries(answers) as Record<BpfFeature, ProbeAnswer>;
}
