// @ts-check
// Before all tests: what of ours is on the machine already, and a mark on every process that the run will start.
import { keyOf, RUN_MARK, tracesAndProblems, UNREAD } from '../leftovers.mjs';
import { state } from './run-state.mjs';

export default function setup() {
  state.mark = String(process.pid);
  process.env[RUN_MARK] = state.mark;
  const before = tracesAndProblems();
  for (const { kind, name } of before) if (kind === UNREAD) console.warn(`leftover check: ${name}`);
  state.before = new Set(before.map(keyOf));
}
