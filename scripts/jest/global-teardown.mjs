// @ts-check
// After all tests: what is there now and was not before fails the run, by name.
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { keyOf, LOST, makerOf, othersRun, processesOf, tracesAndProblems, UNREAD } from '../leftovers.mjs';
import { state } from './run-state.mjs';

/** The kernel takes namespaces and BPF objects apart in the background, after the process that held them is gone. */
const PATIENCE_MS = Number(process.env['TORTIE_LEFTOVERS_MS'] ?? 30_000);

export default async function teardown() {
  const deadline = Date.now() + PATIENCE_MS;
  let found = leftovers();
  while (found.length > 0 && Date.now() < deadline) {
    await sleep(100);
    found = leftovers();
  }
  const left = found.filter(({ kind }) => kind !== LOST);
  const lost = found.length - left.length;
  if (lost > 0)
    console.log(`${lost} program arrays of the tests' are lost in the kernel: nobody has them (scripts/leftovers.mjs)`);
  if (left.length === 0) return;
  state.leftovers = left.length;
  throw new Error(`the tests left behind:\n${left.map((trace) => `  ${keyOf(trace)}`).join('\n')}`);
}

function leftovers() {
  const fresh = tracesAndProblems().filter((trace) => !state.before.has(keyOf(trace)));
  // Another run on this machine has names like ours: what says no maker can't be laid at our door then.
  const shared = fresh.length > 0 && othersRun(state.mark);
  const ours = fresh.filter((trace) => {
    // A source that could be read before the tests, and can't now: what they left there would stay unseen.
    if (trace.kind === UNREAD) return true;
    const maker = makerOf(trace);
    return maker === undefined ? !shared : maker === process.pid || !existsSync(`/proc/${maker}`);
  });
  return [...processesOf(state.mark), ...ours];
}
