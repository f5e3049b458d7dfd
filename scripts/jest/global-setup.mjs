// @ts-check
// Before all tests: what of ours is on the machine already, and a mark on every process that the run will start.
import { keyOf, RUN_MARK, traces } from '../leftovers.mjs';
import { state } from './run-state.mjs';

export default function setup() {
  state.mark = String(process.pid);
  process.env[RUN_MARK] = state.mark;
  state.before = new Set(traces((problem) => console.warn(`leftover check: ${problem}`)).map(keyOf));
}
