/** Packets one after the other at the devices of a FlowBed, as a test's table says them. */
import { expect } from '@jest/globals';
import type { FlowBed } from './bpf-flow-bed.ts';
import type { Version } from './classifier-bed.ts';

/** A row of a table. */
export interface Case {
  /** Who refuses what; nobody unless said. */
  readonly legs?: Parameters<FlowBed['policy']>[0];
  /** `one sends ... -> outcome`, see FlowBed.run; or what changes in between. */
  readonly way: readonly (string | ((bed: FlowBed) => void | Promise<void>))[];
  /** All records afterwards, as FlowBed.records tells them. */
  readonly records?: readonly string[];
}

/** Walks a case's way and compares each outcome, then the records. */
export async function check(bed: FlowBed, version: Version, { legs, way, records }: Case): Promise<void> {
  bed.policy(legs);
  const lines: string[] = [];
  for (const line of way) {
    if (typeof line === 'string') {
      const [step = ''] = line.split(' -> ');
      lines.push(`${step} -> ${bed.run(version, step)}`);
    } else await line(bed);
  }
  expect(lines).toEqual(way.filter((line) => typeof line === 'string'));
  if (records === undefined) return;
  expect((await bed.records(version)).map(({ map, text }) => `${map} ${text}`)).toEqual(records);
}
