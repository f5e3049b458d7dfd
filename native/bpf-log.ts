/**
 * The lines of a verifier log that say why: the last ones before its statistics, from the last source line or jump it shows on.
 * A log is mostly register states; what people need is at its end.
 */
export function verifierSummary(log: string, most = 6): readonly string[] {
  const lines = log
    .split('\n')
    .map((line) => line.trimEnd())
    .filter((line) => line !== '' && !statistics.test(line));
  // The last instruction that was looked at, with the source line above it, explains the complaint below it.
  const source = lines.findLastIndex((line) => line.startsWith('; '));
  const from = Math.max(lines.length - most, source < 0 ? 0 : source, 0);
  return lines.slice(from);
}

/** `processed 12 insns (limit 1000000) max_states_per_insn 0 ...`, `verification time 73 usec`, `stack depth 8`, `mark_precise: ...`. */
const statistics = /^(processed \d+ insns|verification time \d+|stack depth [\d+]+|mark_precise: )/;
