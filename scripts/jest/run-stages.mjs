// @ts-check
// Runs Jest once for each stage, one after the other, and says the sum as the last line: the tests on a real Kubernetes want both
// processors for themselves. Arguments go to each run: what they select nothing of passes.
import { fileURLToPath } from 'node:url';
import { runStages } from './stages.mjs';
import { totalLine } from './total-reporter.mjs';

const STAGES = [
  ['--selectProjects', 'unit', 'kernel'],
  ['--selectProjects', 'cluster', '--runInBand'],
];
const JEST = [
  '--experimental-vm-modules',
  '--disable-warning=ExperimentalWarning',
  fileURLToPath(new URL('../../node_modules/jest/bin/jest.js', import.meta.url)),
  '--passWithNoTests',
];

// The selection last: it takes every word that follows it.
const sum = runStages(STAGES.map((stage) => [...JEST, ...process.argv.slice(2), ...stage]));
console.log(totalLine(sum));
process.exitCode = sum.failed === 0 ? 0 : 1;
