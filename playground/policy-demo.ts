import type { Lab } from '../test/lab/lab.ts';
import type { LabPod } from '../test/lab/lab-pod.ts';
import type { Report } from './report.ts';

/** How long a probe waits that must get no answer, in ms. */
const silenceMs = 250;
/** How long a change may take until every node acts on it, in ms: a slow machine is no failure. */
const patienceMs = 60_000;

/** The label `role` of each node's pods, in turn. */
const roles = ['front', 'back', 'test'] as const;
type Role = (typeof roles)[number];

/** By the last digit of the pod's name. */
export const roleOf = ({ name }: Pick<LabPod, 'name'>): Role =>
  roles[(Number(name.at(-1)) - 1) % roles.length] ?? 'test';

const isRole = (pod: LabPod, role: Role): boolean => roleOf(pod) === role;

/** One set of policies, and who may then reach whom. */
interface Scene {
  readonly title: string;
  readonly objects: readonly object[];
  readonly allowed: (from: LabPod, to: LabPod) => boolean;
}

const kubernetesPolicy = {
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'back-from-front', namespace: 'default' },
  spec: {
    podSelector: { matchLabels: { role: 'back' } },
    policyTypes: ['Ingress'],
    ingress: [{ from: [{ podSelector: { matchLabels: { role: 'front' } } }] }],
  },
};

const tier = {
  apiVersion: 'projectcalico.org/v3',
  kind: 'Tier',
  metadata: { name: 'security' },
  spec: { order: 100, defaultAction: 'Pass' },
};

const tieredPolicy = {
  apiVersion: 'projectcalico.org/v3',
  kind: 'GlobalNetworkPolicy',
  metadata: { name: 'security.quarantine' },
  spec: {
    tier: 'security',
    order: 10,
    selector: 'role == "test"',
    types: ['Ingress', 'Egress'],
    ingress: [{ action: 'Deny' }],
    egress: [{ action: 'Deny' }],
  },
};

const fromFront = (from: LabPod, to: LabPod): boolean => !isRole(to, 'back') || isRole(from, 'front') || from === to;

const scenes: readonly Scene[] = [
  {
    title: 'a Kubernetes NetworkPolicy: role=back accepts role=front only',
    objects: [kubernetesPolicy],
    allowed: fromFront,
  },
  {
    title: 'besides, a tier before all others, whose policy cuts role=test off (and passes the rest on)',
    objects: [kubernetesPolicy, tier, tieredPolicy],
    allowed: (from, to) => from === to || (!isRole(from, 'test') && !isRole(to, 'test') && fromFront(from, to)),
  },
];

/** Who may reach whom under all policies: what stands when `policyDemo` is over. */
export const allowedAtLast: Scene['allowed'] = (from, to) => scenes.at(-1)?.allowed(from, to) ?? true;

/** Applies policies and checks who reaches whom after each, in both families; then asks `tortie explain` for the reason. They stay. */
export async function policyDemo(report: Report, lab: Lab, pods: readonly LabPod[]): Promise<void> {
  for (const { title, objects, allowed } of scenes) {
    report.line(`\n  ${title}`);
    lab.apply('policy', objects);
    await checkMatrix(report, pods, allowed);
  }
  await explain(report, lab, pods);
}

/** The same policies in the dataplane that is active now: who reaches whom, and why not. */
export async function policyAgain(report: Report, lab: Lab, pods: readonly LabPod[], kind: string): Promise<void> {
  report.line(`\n  the same policies in ${kind}`);
  await checkMatrix(report, pods, allowedAtLast);
  await explain(report, lab, pods);
}

/** Takes the policies away. */
export async function endPolicies(lab: Lab, pods: readonly LabPod[]): Promise<void> {
  lab.apply('policy', []);
  await until(async () => (await differences(pods, () => true)).length === 0);
}

async function checkMatrix(report: Report, pods: readonly LabPod[], allowed: Scene['allowed']): Promise<void> {
  let wrong: readonly string[] = [];
  await until(async () => (wrong = await differences(pods, allowed)).length === 0);
  const width = Math.max(...pods.map(({ name }) => name.length));
  report.line(`  ${' '.repeat(width)}  ${pods.map(({ name }) => name).join('  ')}`);
  for (const from of pods) {
    const cells = pods.map((to) => (allowed(from, to) !== wrong.includes(pair(from, to)) ? '+' : '-').padEnd(width));
    report.line(`  ${from.name.padEnd(width)}  ${cells.join('  ')}  (role=${roleOf(from)})`);
  }
  report.check(wrong.length === 0, 'exactly the allowed connections pass (TCP, IPv4 and IPv6)', wrong.join('; '));
}

/** Pairs that are not as they should be in one of the families. */
async function differences(pods: readonly LabPod[], allowed: Scene['allowed']): Promise<readonly string[]> {
  const pairs = pods.flatMap((from) => pods.map((to) => ({ from, to })));
  const answers = await Promise.all(
    pairs.map(async ({ from, to }) => {
      const peer = await from.peer();
      const reached = await Promise.all([to.ipv4, to.ipv6].map((host) => peer.connect(host, silenceMs)));
      return reached.every(({ ok }) => ok === allowed(from, to)) ? [] : [pair(from, to)];
    }),
  );
  return answers.flat();
}

const pair = (from: LabPod, to: LabPod): string => `${from.name} -> ${to.name}`;

/** Waits until it is so, or until patience ends; returns whether it was, at the last look. One look more might meet a packet that a switch still loses. */
export async function until(isSo: () => Promise<boolean>): Promise<boolean> {
  const deadline = Date.now() + patienceMs;
  while (!(await isSo())) {
    if (Date.now() >= deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return true;
}

/** The connection that only the Kubernetes policy denies: its answer must name that policy or tier. */
async function explain(report: Report, lab: Lab, pods: readonly LabPod[]): Promise<void> {
  const back = pods.find((pod) => isRole(pod, 'back'));
  const other = pods.find((pod) => isRole(pod, 'back') && pod !== back);
  const test = pods.find((pod) => isRole(pod, 'test'));
  if (back === undefined || other === undefined || test === undefined) throw new Error('the roles are not there');
  for (const [from, expected] of [
    [other, 'tier default'],
    [test, 'security.quarantine'],
  ] as const) {
    const node = lab.nodes.find(({ name }) => name === (from === test ? test : back).node.name);
    const args = ['explain', `default/${from.name}`, `default/${back.name}`, 'tcp', '80'];
    const { stdout, stderr } = (await node?.tortie(...args)) ?? { stdout: '', stderr: 'no such node' };
    report.line(`\n  ${node?.name ?? ''}# tortie ${args.join(' ')}`);
    for (const line of (stdout || stderr).trimEnd().split('\n')) report.line(`  ${line}`);
    const ok = stdout.startsWith('DENY') && stdout.includes(expected);
    report.check(ok, `explain says deny, and names ${expected}`, stderr || stdout);
  }
}
