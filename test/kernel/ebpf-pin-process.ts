/**
 * Gives the pinned maps of flows another size as an agent does, as a process of its own that kills itself: `DIR FLOWS RENAMES`, right before the next
 * rename of a pin of flows after so many.
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { cpus } from 'node:os';
import { TEST_CONFIG } from '#dataplanes/shared/test-config.ts';

const [dir = '', flows = '', renames = ''] = process.argv.slice(2);
let left = Number(renames);
const rename = fs.renameSync;
fs.renameSync = (from, to) => {
  if (/tortie_(?:flow|new)/.test(String(from)) && left-- === 0) process.kill(process.pid, 'SIGKILL');
  rename(from, to);
};
syncBuiltinESMExports();

const { mapEntries } = await import('#dataplanes/ebpf/sizes.ts');
const { loadEndpointPrograms, openFilters } = await import('#dataplanes/ebpf/programs.ts');
const { podConfig } = await import('./bpf-flow-node.ts');
const place = { dir, objects: new URL('../../dist/bpf', import.meta.url).pathname };
const sizes = mapEntries({ ...TEST_CONFIG.mapSizes, flows: Number(flows) }, cpus().length);
using filters = await openFilters(place, sizes);
using programs = await loadEndpointPrograms(place, filters, { config: podConfig, sizes });
filters.pin();
programs.pin();
