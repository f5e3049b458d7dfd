import type { BpfMap } from '#native/bpf.ts';
import type { Counter, DeviceCounters as Report } from '../contract.ts';
import {
  Counter as CounterRecord,
  DeviceCounters,
  type Direction,
  directionCount,
  directionTexts,
  type Verdict,
  verdictCount,
  verdictTexts,
} from './bpf-types.gen.ts';
import { readU32 } from './keys.ts';

const slots = DeviceCounters.dims.by[1];

/**
 * Every named device's counters, all CPUs together; verdicts that never happened are left out. Each number is exact, but they are not
 * all of one moment. Devices that `nameOf` doesn't know are passed over.
 */
export async function readCounters(map: BpfMap, nameOf: (ifindex: number) => string | undefined): Promise<Report[]> {
  const reports: Report[] = [];
  for (const { key, value } of await map.entries()) {
    const ifaceName = nameOf(readU32(key));
    if (ifaceName === undefined) continue;
    const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
    for (let direction = 0; direction < directionCount; direction += 1) {
      const verdicts: Record<string, Counter> = {};
      for (let verdict = 0; verdict < verdictCount; verdict += 1) {
        const offset = DeviceCounters.offsets.by + (direction * slots + verdict) * CounterRecord.size;
        const sum = sumOf(view, offset, map.cpus, map.valueStride);
        if (sum.packets > 0) verdicts[verdictTexts[verdict as Verdict]] = sum;
      }
      reports.push({ ifaceName, direction: directionTexts[direction as Direction], verdicts });
    }
  }
  return reports.sort((a, b) => (a.ifaceName < b.ifaceName ? -1 : a.ifaceName > b.ifaceName ? 1 : 0));
}

function sumOf(view: DataView, offset: number, cpus: number, stride: number): Counter {
  let packets = 0n;
  let bytes = 0n;
  for (let cpu = 0; cpu < cpus; cpu += 1) {
    const record = CounterRecord.read(view, cpu * stride + offset);
    packets += record.packets;
    bytes += record.bytes;
  }
  return { packets: Number(packets), bytes: Number(bytes) };
}
