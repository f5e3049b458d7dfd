/** Records what the verifier goes through on this kernel: `make bpf-instructions`. */
import { writeFileSync } from 'node:fs';
import { compareCounts, countInstructions, readRecords, recordLine, recordsFile } from './instructions.ts';

const line = recordLine();
const counts = await countInstructions();
const records = readRecords();
const { wrong, told } = compareCounts(counts, records[line] ?? {});
for (const words of [...wrong, ...told]) process.stdout.write(`${words}\n`);
const lines = Object.entries({ ...records, [line]: counts }).sort(([a], [b]) => (a < b ? -1 : 1));
writeFileSync(recordsFile, `${JSON.stringify(Object.fromEntries(lines), undefined, 2)}\n`);
process.stdout.write(`bpf/instructions.json: ${line} is recorded\n`);
