/**
 * Runs in an empty network namespace: calc, driver and the iptables dataplane in one process with 1,000 pods (ten of them here) and 200
 * policies that are all in use. Prints one line of JSON: times from a label's change to the kernel having it.
 */
import 'reflect-metadata/lite';
import { Container } from 'inversify';
import { pino } from 'pino';
import { systemClock } from '#api/clock.ts';
import { parseAs } from '#api/kinds.ts';
import { CalcGraph } from '#agent/calc/calc-graph.ts';
import { convertPolicy } from '#agent/calc/convert/convert.ts';
import { resolveAgentConfig } from '#agent/config/agent-config.ts';
import { Driver } from '#agent/driver/driver.ts';
import { nodeModule } from '#agent/node.module.ts';
import { DataplaneFactory } from '#dataplanes/contract.ts';
import { iptablesModule } from '#dataplanes/iptables/iptables.module.ts';
import { sharedModule } from '#dataplanes/shared/shared.module.ts';
import { CommandRunner, systemCommandRunner } from '#native/command-runner.ts';
import { openIpset } from '#native/ipset.ts';
import { quantile } from '../lib/report.ts';
import { labelsOf, manyPolicy, remotePod, remoteAddress } from './cluster.ts';

/** Per kind of change. */
export type LabelChangeData = Readonly<
  Record<string, { readonly p50Ms: number; readonly p99Ms: number; readonly processes: number }>
>;

const podCount = 1000;
const localCount = 10;
const policyCount = 200;

const log = pino({ level: 'warn' }, pino.destination({ dest: 2, sync: true }));
let processes = 0;
const settings = { nodeName: 'node1', runDir: '/nowhere', stateDir: '/nowhere', bpffs: '/nowhere' };
const container = new Container({ defaultScope: 'Singleton' });
container.load(nodeModule(settings, log), sharedModule, iptablesModule);
(await container.rebindAsync(CommandRunner)).toConstantValue({
  run: (...call: Parameters<CommandRunner['run']>) => {
    processes++;
    return systemCommandRunner.run(...call);
  },
});
const dataplane = container.get<DataplaneFactory>(DataplaneFactory).create();
const graph = new CalcGraph('node1');
const driver = new Driver(systemClock, log);
const push = () => driver.push(graph.flush());

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
for (let index = 0; index < localCount; index++) {
  const pod = `far-${index}`;
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
      interfaceName: `cali${index}`,
      ipNetworks: [`${remoteAddress(index)}/32`],
    },
  }).object;
  const device = {
    ifaceName: `cali${index}`,
    mac: '',
    ipv4Nets: [`${remoteAddress(index)}/32`],
    ipv6Nets: [],
    allowedSourcePrefixes: [],
  };
  graph.onLocalEndpoint(`k8s/default/${pod}/eth0`, { device, object });
}
graph.onInSync();
push();
driver.add(dataplane);
await driver.settled();
await dataplane.activate();
const [failure] = driver.failures();
if (failure !== undefined) throw new Error(`${failure.object}: ${failure.reason}`);

const count = Number(process.argv[2] ?? 200);
const data: LabelChangeData = {
  "another node's pod gets another role": await measure((round) => {
    const index = localCount + (round % (podCount - localCount));
    setPod(index, { ...labelsOf(index), role: `role-${(index + 1 + Math.floor(round / 990)) % 10}` });
  }),
  "this node's pod gets another role (same policies)": await measure((round) => {
    const index = round % localCount;
    setPod(index, { ...labelsOf(index), role: `role-${round % 10}` });
  }),
  "this node's pod gets the app, and with it the policies, of another": await measure((round) => {
    setPod(0, { ...labelsOf(0), app: `app-${1 + (round % 9)}` });
  }),
};
await verify();
console.log(JSON.stringify(data));
await driver.remove(dataplane);
await dataplane.cleanup();
await dataplane[Symbol.asyncDispose]();
await driver[Symbol.asyncDispose]();
process.exit(0);

function setPod(index: number, labels: Readonly<Record<string, string>>): void {
  graph.onPod(`default/far-${index}`, parseAs('Pod', remotePod(index, labels)).object);
}

async function measure(change: (round: number) => void): Promise<LabelChangeData[string]> {
  const times: number[] = [];
  change(0);
  push();
  await driver.settled();
  const before = processes;
  for (let round = 1; round <= count; round++) {
    await new Promise((resolve) => setTimeout(resolve, 2));
    const began = performance.now();
    change(round);
    push();
    await driver.settled();
    times.push(performance.now() - began);
  }
  return { p50Ms: quantile(times, 0.5), p99Ms: quantile(times, 0.99), processes: processes - before };
}

/** What was measured has to have happened: the last change's address is in exactly one set more than in none. */
async function verify(): Promise<void> {
  const address = remoteAddress(0);
  using sets = openIpset();
  const holding: string[] = [];
  for (const { name, members } of await sets.contents('cali')) {
    if (members.some((member) => member === address || member.startsWith(`${address},`))) holding.push(name);
  }
  // Its app's set, its unit and the anti-spoofing set (its role's is in use by policies of another app only).
  if (holding.length !== 3) throw new Error(`${address} is only in ${holding.join(', ')}`);
}
