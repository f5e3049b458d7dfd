/**
 * Runs in a node's network namespace whose pod devices exist: calc, driver, host network and one dataplane in one process, as in the agent, with
 * 1,000 pods (ten of them here) and 200 policies that are all in use. Prints one line of JSON: times from a label's change to the kernel acting
 * on it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import 'reflect-metadata/lite';
import { Container } from 'inversify';
import { pino } from 'pino';
import { systemClock } from '#api/clock.ts';
import { parseAs } from '#api/kinds.ts';
import { CalcGraph } from '#agent/calc/calc-graph.ts';
import { convertPolicy } from '#agent/calc/convert/convert.ts';
import { resolveAgentConfig } from '#agent/config/agent-config.ts';
import { Driver } from '#agent/driver/driver.ts';
import { HeapGrowth } from '#agent/heap-growth.ts';
import { nodeModule } from '#agent/node.module.ts';
import { DataplaneFactory } from '#dataplanes/contract.ts';
import { ebpfModule } from '#dataplanes/ebpf/ebpf.module.ts';
import { iptablesModule } from '#dataplanes/iptables/iptables.module.ts';
import { HostNetworkId } from '#dataplanes/shared/services.ts';
import { sharedModule } from '#dataplanes/shared/shared.module.ts';
import { CommandRunner, systemCommandRunner } from '#native/command-runner.ts';
import { labelsOf, localPods, macOf, manyPolicy, remotePod, remoteAddress } from './cluster.ts';
import { ConnectWatch } from './traffic.ts';

/** What the process is told, as JSON. */
export interface LabelPlaces {
  readonly dataplane: string;
  /** Of each kind. */
  readonly changes: number;
  readonly runDir: string;
  readonly stateDir: string;
  readonly bpffs: string;
  /** Network namespace that has the other nodes' pods' addresses. */
  readonly outside: string;
  /** That of pod 1 of this node. Pod 0 is served. */
  readonly sender: string;
}

/** Of one kind of change, one of each a change. */
export interface LabelChanges {
  /** To the first packet that got through. */
  readonly packetMs: readonly number[];
  /** Between that packet and the one before. */
  readonly gapMs: readonly number[];
  /** Until the driver says that all is in the kernel. */
  readonly settledMs: readonly number[];
  /** Programs run by all changes, those that undo them included. */
  readonly processes: number;
  /** Elements of policy's BPF maps written by all changes, without the undoing; null where the dataplane has no such maps. */
  readonly mapWrites: number | null;
}

/** A change that lets connects from `from` to pod 0 through, and the state before it, which doesn't. */
interface Change {
  readonly watch: ConnectWatch;
  readonly from: string;
  readonly before: () => void;
  readonly change: () => void;
}

const podCount = 1000;
const policyCount = 200;
const roles = 10;
/** Other nodes' pods from this one on have an address outside. */
const firstOutside = 256;
/** Between two changes, so that each finds everybody idle. */
const quietMs = 5;

// As the agent: at the beginning they would mean more (docs/performance.md).
setFlagsFromString('--no-opt');
using _growth = new HeapGrowth(systemClock);
const { dataplane: kind, changes, outside, sender, ...node } = JSON.parse(process.argv[2] ?? '') as LabelPlaces;
const log = pino({ level: 'warn' }, pino.destination({ dest: 2, sync: true }));
let processes = 0;
const container = new Container({ defaultScope: 'Singleton' });
container.load(nodeModule({ nodeName: 'node1', ...node }, log), sharedModule, iptablesModule, ebpfModule);
(await container.rebindAsync(CommandRunner)).toConstantValue({
  run: (...call: Parameters<CommandRunner['run']>) => {
    processes++;
    return systemCommandRunner.run(...call);
  },
});
const factory = container.getAll<DataplaneFactory>(DataplaneFactory).find((each) => each.kind === kind);
if (factory === undefined) throw new Error(`no dataplane ${kind}`);
const dataplane = factory.create();
const hostNetwork = container.get(HostNetworkId);
const graph = new CalcGraph('node1');
const driver = new Driver(systemClock, log);
const push = () => driver.push(graph.flush());

const lacks = await dataplane.probe();
if (lacks.length > 0) throw new Error(`${kind}: ${lacks.join('; ')}`);
graph.onConfig(resolveAgentConfig({}, undefined, undefined).dataplane);
graph.onNamespace(
  'default',
  parseAs('Namespace', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'default' } }).object,
);
for (let index = 0; index < policyCount; index++) {
  const policy = parseAs('NetworkPolicy', manyPolicy(index)).object;
  graph.onPolicy(`NetworkPolicy default/many-${index}`, convertPolicy('NetworkPolicy', policy));
}
for (let index = 0; index < podCount; index++) setPod(index, labelsOf(index));
for (let index = 0; index < localPods; index++) setEndpoint(index);
graph.onInSync();
push();
driver.add(hostNetwork);
driver.add(dataplane);
await settled();
await dataplane.activate();
await settled();

using fromOutside = new ConnectWatch(outside);
using fromHere = new ConnectWatch(sender);
const data: Readonly<Record<string, LabelChanges>> = {
  "another node's pod: other role": await measure((round) => {
    const index = firstOutside + (round % 500);
    return {
      watch: fromOutside,
      from: remoteAddress(index),
      before: () => setPod(index, { ...labelsOf(index), role: `role-${1 + (round % (roles - 1))}` }),
      change: changeOf(index, { ...labelsOf(index), role: 'role-0' }),
    };
  }),
  "this node's pod: other role": await measure((round) => ({
    watch: fromHere,
    from: remoteAddress(1),
    before: () => setPod(1, { ...labelsOf(1), role: `role-${1 + (round % (roles - 1))}` }),
    change: changeOf(1, { ...labelsOf(1), role: 'role-0' }),
  })),
  "this node's pod: other policies": await measure((round) => {
    const app = 1 + (round % 9);
    return {
      watch: fromOutside,
      // Of role `app`, and not one whose role was changed above.
      from: remoteAddress(podCount - roles + app),
      before: () => setPod(0, { ...labelsOf(0), app: `app-${1 + (app % 9)}` }),
      change: changeOf(0, { ...labelsOf(0), app: `app-${app}` }),
    };
  }),
};
console.log(JSON.stringify(data));
await driver.remove(dataplane);
await driver.remove(hostNetwork);
await dataplane.cleanup();
await hostNetwork.cleanup();
await dataplane[Symbol.asyncDispose]();
await hostNetwork[Symbol.asyncDispose]();
await driver[Symbol.asyncDispose]();
process.exit(0);

async function measure(kindOf: (round: number) => Change): Promise<LabelChanges> {
  const packetMs: number[] = [];
  const gapMs: number[] = [];
  const settledMs: number[] = [];
  let mapWrites = 0;
  let processesBefore = 0;
  // The first one warms up.
  for (let round = 0; round <= changes; round++) {
    if (round === 1) processesBefore = processes;
    const { watch, from, before, change } = kindOf(round);
    before();
    push();
    await settled();
    await sleep(quietMs);
    const { accepted } = await watch.watch(from, remoteAddress(0));
    const writesBefore = dataplane.mapWrites ?? 0;
    const began = process.hrtime.bigint();
    change();
    push();
    await driver.settled();
    const ended = process.hrtime.bigint();
    const { ns, gapNs } = await accepted;
    await settled();
    if (round === 0) continue;
    packetMs.push((ns - Number(began)) / 1e6);
    gapMs.push(gapNs / 1e6);
    settledMs.push(Number(ended - began) / 1e6);
    mapWrites += (dataplane.mapWrites ?? 0) - writesBefore;
  }
  return {
    packetMs,
    gapMs,
    settledMs,
    processes: processes - processesBefore,
    mapWrites: dataplane.mapWrites === undefined ? null : mapWrites,
  };
}

/** All is in the kernel, or it says what isn't. */
async function settled(): Promise<void> {
  await driver.settled();
  const [failure] = driver.failures();
  if (failure !== undefined) throw new Error(`${failure.object}: ${failure.reason}`);
}

function setPod(index: number, labels: Readonly<Record<string, string>>): void {
  changeOf(index, labels)();
}

/** The same as it comes from the datastore, which has read and parsed it. */
function changeOf(index: number, labels: Readonly<Record<string, string>>): () => void {
  const pod = parseAs('Pod', remotePod(index, labels)).object;
  return () => graph.onPod(`default/far-${index}`, pod);
}

function setEndpoint(index: number): void {
  const pod = `far-${index}`;
  const ifaceName = `cali${index}`;
  const address = `${remoteAddress(index)}/32`;
  const object = parseAs('WorkloadEndpoint', {
    apiVersion: 'projectcalico.org/v3',
    kind: 'WorkloadEndpoint',
    metadata: { name: `node1-k8s-${pod}-eth0`, namespace: 'default' },
    spec: {
      orchestrator: 'k8s',
      node: 'node1',
      pod,
      endpoint: 'eth0',
      containerID: pod,
      interfaceName: ifaceName,
      ipNetworks: [address],
    },
  }).object;
  const device = { ifaceName, mac: macOf(index), ipv4Nets: [address], ipv6Nets: [], allowedSourcePrefixes: [] };
  graph.onLocalEndpoint(`k8s/default/${pod}/eth0`, { device, object });
}
