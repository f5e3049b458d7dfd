import { fileURLToPath } from 'node:url';
import { must } from '#test/lab/exec.ts';
import { Lab } from '#test/lab/lab.ts';
import { median, quantile } from '../lib/report.ts';
import { localPods, macOf, remoteAddress } from './cluster.ts';
import type { LabelChanges, LabelPlaces } from './label-change-process.ts';
import { Collected, type PartResult } from './results.ts';
import { inTurn, type Run } from './run.ts';
import { enforcing } from './sides.ts';
import { clientCpu, pinnedTo, serve } from './traffic.ts';

const program = fileURLToPath(new URL('label-change-process.ts', import.meta.url));

/** As `felix-agent/tortie.sh` begins; the process sets the rest itself, as the agent does. */
const agentFlags = ['--max-semi-space-size=1'];

/** Of each kind in a round. */
const changes = 60;

/** What every pod has as its gateway. */
const gateway = '169.254.1.1';

/** One label change, from the change to the first packet that the kernel lets through. */
export async function labelPart(run: Run): Promise<PartResult> {
  const { kinds, absent } = await enforcing();
  const collected = new Collected();
  for (const round of run.turns('label')) {
    for (const kind of inTurn(kinds, round)) {
      const found = await run.within((stack) => labelChanges(stack, kind));
      for (const [name, { packetMs, gapMs, settledMs, processes, mapWrites }] of Object.entries(found)) {
        collected.add(
          round,
          { case: name, side: kind },
          {
            p50Ms: median(packetMs),
            p99Ms: quantile(packetMs, 0.99),
            settledMs: median(settledMs),
            gapMs: quantile(gapMs, 0.9),
            processes: processes / changes,
            ...(mapWrites === null ? {} : { mapWrites: mapWrites / changes }),
          },
        );
      }
    }
  }
  const to = (cell: { readonly case: string }) => ({ case: cell.case, side: 'iptables' });
  const ratios = [{ title: 'p50 to iptables', figure: 'p50Ms', to }];
  return {
    name: 'label',
    title: 'One label change, until the kernel acts on it',
    method: `Calculation, driver, host network and dataplane in one process as in the agent, 1,000 pods (ten here), 200 policies, ${changes} changes of each kind a round. From the change to the sending of the first SYN that is answered: one every 0.1 ms, each of a new flow; the agent has one CPU, who sends and answers them the other. "Told" is until the driver says that all is in the kernel.`,
    figures: [
      { key: 'p50Ms', title: 'p50 ms', digits: 2 },
      { key: 'p99Ms', title: 'p99 ms', digits: 2 },
      { key: 'settledMs', title: 'told p50 ms', digits: 2 },
      { key: 'gapMs', title: 'exact to (p90) ms', digits: 2 },
      { key: 'processes', title: 'processes a change', digits: 1 },
      { key: 'mapWrites', title: 'map writes a change', digits: 1 },
    ],
    ratios: ratios.map(({ title }) => title),
    cells: collected.cells(ratios),
    absent,
  };
}

/** A node without an agent; pods 0 (served) and 1 with namespaces, the rest of the ten with devices only; all others are "outside". */
async function labelChanges(
  stack: AsyncDisposableStack,
  kind: string,
): Promise<Readonly<Record<string, LabelChanges>>> {
  const lab = stack.use(await Lab.create({ nodes: 1 }));
  const node = lab.node(0);
  const fabric = (...args: string[]) => must('ip', '-n', lab.fabric, ...args);
  await fabric('route', 'add', `${remoteAddress(0)}/28`, 'via', node.ipv4);
  // Any of these may be a sender's address there.
  for (let high = 1; high < 4; high++)
    await fabric('route', 'add', 'local', `${remoteAddress(high << 8)}/24`, 'dev', 'lo');
  const namespaces: string[] = [];
  for (let index = 0; index < localPods; index++) {
    const name = `${node.netns}-p${index}`;
    await must('ip', 'netns', 'add', name);
    stack.defer(async () => void (await must('ip', 'netns', 'del', name)));
    await wire(node.netns, name, index);
    namespaces.push(`/run/netns/${name}`);
  }
  const [served = '', sender = ''] = namespaces;
  stack.use(await serve(served, 'echo'));
  const places: LabelPlaces = {
    dataplane: kind,
    changes,
    runDir: node.runDir,
    stateDir: lab.dir,
    bpffs: node.bpffs,
    outside: `/run/netns/${lab.fabric}`,
    sender,
  };
  const flags = [...agentFlags, '--disable-warning=ExperimentalWarning'];
  const output = await must(
    'nsenter',
    `--net=${node.netnsPath}`,
    ...pinnedTo(clientCpu),
    process.execPath,
    ...flags,
    program,
    JSON.stringify(places),
  );
  return JSON.parse(output.trim().split('\n').at(-1) ?? '') as Readonly<Record<string, LabelChanges>>;
}

/** What an ADD makes of a pod's namespace. */
async function wire(node: string, own: string, index: number): Promise<void> {
  const device = `cali${index}`;
  const inPod = (...args: string[]) => must('ip', '-n', own, ...args);
  await must('ip', '-n', node, 'link', 'add', device, 'type', 'veth', 'peer', 'eth0', 'netns', own);
  await must('ip', '-n', node, 'link', 'set', device, 'address', 'ee:ee:ee:ee:ee:ee', 'up');
  await inPod('link', 'set', 'eth0', 'address', macOf(index), 'up');
  await inPod('addr', 'add', `${remoteAddress(index)}/32`, 'dev', 'eth0');
  await inPod('route', 'add', gateway, 'dev', 'eth0', 'scope', 'link');
  await inPod('route', 'add', 'default', 'via', gateway);
  await inPod('neigh', 'add', gateway, 'lladdr', 'ee:ee:ee:ee:ee:ee', 'dev', 'eth0', 'nud', 'permanent');
}
