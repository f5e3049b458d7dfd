import { checkTable, type CheckId, type CheckInfo } from './check-table.ts';
import type { CheckSettings, NodeFacts } from './facts.ts';
import { judgeNetfilter } from './judge-netfilter.ts';
import { judgeNode } from './judge-node.ts';
import { judgePlugins } from './judge-plugins.ts';
import { judgeSysctls } from './judge-sysctls.ts';
import type { CheckResult, Finding, Severity } from './result.ts';

const order = Object.keys(checkTable) as CheckId[];

/** What a node's facts mean: every check's results, in the table's order. Pure. */
export function evaluate(facts: NodeFacts, settings: CheckSettings): readonly CheckResult[] {
  const findings = [
    ...facts.features,
    ...judgeSysctls(facts, settings),
    ...judgeNetfilter(facts, settings),
    ...judgePlugins(facts),
    ...judgeNode(facts, settings),
  ];
  return findings
    .map((finding) => resultOf(finding, settings))
    .toSorted((a, b) => order.indexOf(a.id) - order.indexOf(b.id));
}

/** What a finding leaves open is the table's. */
function resultOf(finding: Finding, { wanted }: CheckSettings): CheckResult {
  const info: CheckInfo = checkTable[finding.id];
  const isOfOther = info.dataplane !== undefined && info.dataplane !== wanted;
  const severity: Severity = isOfOther ? 'note' : (finding.severity ?? info.severity);
  return {
    id: finding.id,
    subject: finding.subject ?? '',
    outcome: finding.outcome,
    detail: finding.detail,
    severity,
    disables: finding.disables ?? info.disables,
    todo: finding.todo ?? info.todo,
  };
}

/** What is not fine: it keeps pods from their network, or a part of Tortie from working. */
export function problemsOf(results: readonly CheckResult[]): readonly CheckResult[] {
  return results.filter(({ outcome, severity }) => outcome === 'no' && severity !== 'note');
}

/**
 * The exit status of `tortie check`: 0, pods will have their network (parts of Tortie may not work, there may be notes); 1, something blocks;
 * 3, nothing is known to block, but something that would could not be told.
 */
export function exitStatusOf(results: readonly CheckResult[]): 0 | 1 | 3 {
  const blocking = results.filter(({ severity }) => severity === 'blocks');
  if (blocking.some(({ outcome }) => outcome === 'no')) return 1;
  return blocking.some(({ outcome }) => outcome === 'unknown') ? 3 : 0;
}
