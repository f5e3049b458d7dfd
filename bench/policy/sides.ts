import { setTimeout as sleep } from 'node:timers/promises';
import { AdminError, askAgent } from '#agent/admin/client.ts';
import type { EndpointPolicyReport } from '#agent/explain/policy-report.ts';
import { Lab, type LabOptions } from '#test/lab/lab.ts';
import { capabilitiesOf, combinations } from '../../test/contract/combinations.ts';
import { PtpPods } from './ptp-pods.ts';
import { connects } from './traffic.ts';

/** A pod of a side. */
export interface BenchPod {
  readonly netnsPath: string;
  readonly ipv4: string;
}

/** One of what is compared, in a lab of its own. */
export interface Side {
  readonly name: string;
  readonly lab: Lab;
  /** On that node of the lab. Labels are ignored where there is no policy. */
  pod(node: number, name: string, labels?: Readonly<Record<string, string>>): Promise<BenchPod>;
}

/** A side that can't be measured, and why. */
export interface Absent {
  readonly side: string;
  readonly reason: string;
}

/** The dataplanes that a node of ours can run, as FelixConfiguration chooses them; the variant of iptables is left to the agent. */
const choices = [
  { kind: 'iptables', bpfEnabled: false },
  { kind: 'ebpf', bpfEnabled: true },
] as const;

/** Which dataplanes take part where policy must be enforced: those that say that they do it. */
export async function enforcing(): Promise<{ readonly kinds: readonly string[]; readonly absent: readonly Absent[] }> {
  const kinds: string[] = [];
  const absent: Absent[] = [];
  for (const { kind } of choices) {
    const combination = combinations.find((each) => each.kind === kind);
    const enforces = combination !== undefined && (await capabilitiesOf(combination)).enforcesPolicy;
    if (enforces) kinds.push(kind);
    else absent.push({ side: kind, reason: 'not yet: does not enforce policy' });
  }
  return { kinds, absent };
}

/** The dataplanes, whatever they enforce. */
export const allKinds: readonly string[] = choices.map(({ kind }) => kind);

/**
 * A lab for each of these dataplanes, with an agent on every node; who can't run here is absent with the agent's words. The stack takes them down.
 */
export async function agentSides(
  stack: AsyncDisposableStack,
  kinds: readonly string[],
  options: LabOptions,
): Promise<{ readonly sides: readonly Side[]; readonly absent: readonly Absent[] }> {
  const sides: Side[] = [];
  const absent: Absent[] = [];
  for (const { kind, bpfEnabled } of choices.filter((choice) => kinds.includes(choice.kind))) {
    const lab = stack.use(await Lab.create(options));
    lab.setBpfEnabled(bpfEnabled);
    const states = await Promise.all(
      lab.nodes.map(async (node) => {
        await node.startAgent({ wait: false });
        return node.waitFor(({ ready, dataplane }) => ready || dataplane.reasons.length > 0);
      }),
    );
    const other = states.find(({ dataplane }) => dataplane.active !== kind);
    if (other !== undefined) {
      absent.push({ side: kind, reason: `not here: ${other.dataplane.reasons.join('; ')}` });
      continue;
    }
    const pod: Side['pod'] = (node, name, labels = {}) => lab.node(node).addPod(name, { labels });
    sides.push({ name: kind, lab, pod });
  }
  return { sides, absent };
}

/** Nodes without an agent, whose pods the reference plugins wire. */
export async function ptpSide(stack: AsyncDisposableStack, options: LabOptions): Promise<Side> {
  const lab = stack.use(await Lab.create(options));
  const pods = stack.use(new PtpPods(lab));
  await pods.joinNodes();
  return { name: 'ptp', lab, pod: (node, name) => pods.add(node, name) };
}

/**
 * Resolves with true when the node's agent has `count` ingress rules for the pod in the kernel and nothing has failed, with false when that isn't so
 * after `patienceMs`. An agent that is busy with them may not answer for a while.
 */
export async function rulesInForce(
  { lab }: Side,
  { node: index, pod, count }: { readonly node: number; readonly pod: string; readonly count: number },
  patienceMs = 60_000,
): Promise<boolean> {
  const node = lab.node(index);
  const query = new URLSearchParams({ endpoint: `default/${pod}` });
  const isSo = async () => {
    const { dataplane } = await node.status();
    if (dataplane.failures.length > 0) return false;
    const { ingress } = (await askAgent(node.runDir, `/policy?${query.toString()}`)) as EndpointPolicyReport;
    const rules = ingress.tiers.flatMap(({ policies }) => policies.flatMap((policy) => policy.rules));
    return rules.length === count && rules.every(({ counter }) => counter !== null);
  };
  const deadline = performance.now() + patienceMs;
  while (performance.now() < deadline) {
    try {
      if (await isSo()) return true;
    } catch (error) {
      if (node.agentPid === undefined || !(error instanceof AdminError)) throw error;
    }
    await sleep(20);
  }
  return false;
}

/** What is measured is a dataplane that judges: a pod that no rule names must not get through to these. */
export async function mustBeClosed(side: Side, servers: readonly BenchPod[]): Promise<void> {
  const stranger = await side.pod(0, 'stranger');
  await Promise.all(
    servers.map(async ({ ipv4 }) => {
      if (await connects(stranger.netnsPath, ipv4)) throw new Error(`${side.name}: a stranger gets through to ${ipv4}`);
    }),
  );
}
