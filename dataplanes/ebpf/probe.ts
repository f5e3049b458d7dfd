import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { probeBpf, type ProbeRequest } from '#native/bpf.ts';
import { prepareBpffs } from './bpffs.ts';
import { mapShapes } from './bpf-types.gen.ts';
import { objectFiles } from './programs.ts';
import { type KernelIdentity, runningKernel, softirqRefusal } from './softirqs.ts';

/** BPF_PROG_TYPE_SCHED_CLS of linux/bpf.h. */
const SCHED_CLS = 3;

const needs: readonly { readonly what: ProbeRequest; readonly text: string }[] = [
  { what: { map: mapShapes.tortie_devices }, text: 'device maps (which pods are announced)' },
  { what: { map: mapShapes.tortie_sources }, text: 'LPM maps (which addresses a pod may use)' },
  { what: { map: mapShapes.tortie_counters }, text: 'per-CPU hash maps (counters)' },
  { what: { map: mapShapes.tortie_jump }, text: 'program arrays (what the filters go on with)' },
  { what: { map: mapShapes.tortie_pods }, text: 'mappable arrays (policy)' },
  { what: { map: mapShapes.tortie_new4 }, text: 'LRU hash maps (new flows)' },
  { what: { program: SCHED_CLS }, text: 'traffic control programs (everything a pod sends and gets)' },
  { what: { clsact: true }, text: 'clsact with BPF filters (CONFIG_NET_SCH_INGRESS, CONFIG_NET_CLS_BPF)' },
];

/**
 * Tries what the programs need, each by itself. Kernel type information (BTF) is not among it: the programs read only the stable
 * user-space ABI. Mounts a bpf file system if there is none where pins go. Empty when all is there. `kernel`: another than the running one, for tests.
 */
export async function probeEbpf(
  dir: string,
  objects: string,
  kernel: KernelIdentity = runningKernel(),
): Promise<readonly string[]> {
  const missing: string[] = [];
  for (const { what, text } of needs) {
    const answer = await probeBpf(what);
    if (answer.answer === 'no') missing.push(`this kernel has no ${text}: ${answer.reason}`);
    if (answer.answer === 'unknown') missing.push(`could not try ${text}: ${answer.reason}`);
  }
  const softirqs = softirqRefusal(kernel);
  if (softirqs !== undefined) missing.push(softirqs);
  const bpffs = prepareBpffs(dir);
  if (bpffs !== undefined) missing.push(bpffs);
  try {
    for (const file of Object.values(objectFiles)) accessSync(join(objects, file), constants.R_OK);
  } catch (error) {
    missing.push(`the programs are not installed: ${(error as Error).message}: run \`make bpf\``);
  }
  return missing;
}
