/** Flows go from nf_conntrack to records and back, with real connections through a router that translates. */
import { describe, expect, test } from '@jest/globals';
import { FlowFlag } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { flowLayouts } from '#dataplanes/ebpf/flows/flow-maps.ts';
import { flowElements } from '#dataplanes/ebpf/flows/flow-record.ts';
import { FlowTable } from '#dataplanes/ebpf/flows/flow-table.ts';
import type { Flow, FlowExportItem } from '#dataplanes/flows.ts';
import { conntrackPort, NetfilterFlows } from '#dataplanes/netfilter/conntrack-flows.ts';
import type { RunningStream } from '#test/lab/peer-client.ts';
import { defaultTimeouts, FlowBed, flowRecord } from './ebpf-flows-bed.ts';
import {
  eventually,
  RouterLab,
  type RouterFamily,
  routerFamilies,
  serverPort,
  servicePort,
} from './native-conntrack-lab.ts';

const protocols = [
  { protocol: 'tcp', number: 6 },
  { protocol: 'udp', number: 17 },
] as const;
const rows = routerFamilies.flatMap((row) => protocols.map((protocol) => ({ ...row, ...protocol, row })));

/** No sysctls: the kernel's defaults. */
const netfilterOf = (lab: RouterLab): NetfilterFlows => new NetfilterFlows(conntrackPort(() => undefined, lab.ref));
const tableOf = (bed: FlowBed): FlowTable => new FlowTable(bed.maps, () => defaultTimeouts);
const scopeOf = ({ client, server }: RouterFamily) => ({ local: new Set([client, server]) });

async function goesOn(stream: RunningStream): Promise<void> {
  const { answered } = await stream.progress();
  await eventually(async () => (await stream.progress()).answered > answered + 5);
}

async function flowsTo(flows: NetfilterFlows, { service }: RouterFamily, protocol: number): Promise<Flow[]> {
  const found: Flow[] = [];
  for await (const some of flows.list({ addresses: [service], protocol, states: ['established'] })) found.push(...some);
  return found;
}

/** What is exported up to `whole`, as one list. */
async function exported(items: AsyncIterable<FlowExportItem>, signal: AbortController): Promise<Flow[]> {
  const flows: Flow[] = [];
  for await (const item of items) {
    if (item.type === 'flows') flows.push(...item.flows);
    if (item.type === 'whole') signal.abort();
  }
  return flows;
}

describe.each(rows)('a running $protocol flow, IPv$family', ({ row, protocol, number, service, client, server }) => {
  test('of nf_conntrack becomes records of what each pod sees; closing ends it there, too', async () => {
    await using lab = await RouterLab.start();
    await lab.translate(row);
    // Else an entry from before somebody listened ends untold.
    await lab.router.exec('sh', '-c', 'echo 1 >/proc/sys/net/netfilter/nf_conntrack_events');
    const stream = await lab.client.stream(service, 10, { protocol, port: servicePort });
    await goesOn(stream);
    const netfilter = netfilterOf(lab);
    const [flow, ...others] = await flowsTo(netfilter, row, number);
    expect(others).toEqual([]);
    expect(flow).toMatchObject({
      asked: { source: client, destination: service, destinationPort: servicePort },
      delivered: { source: row.toServer, destination: server, destinationPort: serverPort },
      crossesNetfilter: true,
    });
    using bed = await FlowBed.make();
    const stop = new AbortController();
    const whole = Promise.withResolvers<void>();
    const importing = tableOf(bed).importFlows(netfilter.exportFlows(scopeOf(row), stop.signal), scopeOf(row), () =>
      whole.resolve(),
    );
    await whole.promise;
    expect(await bed.sweep(row.family)).toMatchObject({ visited: 2, marked: 0 });
    const after = await lab.client.probe(service, { protocol, port: servicePort });
    expect(after).toMatchObject({ verdict: 'reaches' });
    // The second one comes by its events.
    await eventually(async () => ((await bed.sweep(row.family))['visited'] ?? 0) >= 4 || protocol === 'tcp');
    await stream.stop();
    // TCP's entries say that it is over; UDP's would last for minutes.
    if (protocol === 'udp') await netfilter.delete({ addresses: [service] });
    let round = 0;
    await eventually(async () => (await bed.sweep(row.family, defaultTimeouts, (round += 1)))['visited'] === 0);
    stop.abort();
    expect(await importing).toMatchObject({ failed: { count: 0 } });
  });

  test('of records goes on as an entry of nf_conntrack that translates', async () => {
    await using lab = await RouterLab.start();
    await lab.translate(row);
    const stream = await lab.client.stream(service, 10, { protocol, port: servicePort });
    await goesOn(stream);
    const netfilter = netfilterOf(lab);
    const [flow] = await flowsTo(netfilter, row, number);
    if (flow === undefined) throw new Error('no flow');
    using bed = await FlowBed.make();
    putTranslated(bed, flow);
    await lab.onlyHooks(row);
    expect(await netfilter.delete({ addresses: [service] })).toMatchObject({ failed: [] });
    const signal = new AbortController();
    const report = await netfilter.importFlows(tableOf(bed).exportFlows(scopeOf(row), signal.signal), scopeOf(row));
    expect(report).toEqual({ imported: 1, present: 0, skipped: {}, failed: { count: 0, examples: [] } });
    await goesOn(stream);
    expect(await flowsTo(netfilter, row, number)).toMatchObject([{ asked: flow.asked, delivered: flow.delivered }]);
    expect((await stream.stop()).failure).toBeNull();
    expect(await lab.invalidPackets(row)).toBe(0);
  });
});

test('an export tells what was there, and ends with its signal; a flow that netfilter sees anyway stays its own', async () => {
  await using lab = await RouterLab.start();
  const row = routerFamilies[0]!;
  await lab.translate(row);
  const stream = await lab.client.stream(row.service, 10, { protocol: 'tcp', port: servicePort });
  await goesOn(stream);
  const netfilter = netfilterOf(lab);
  const stop = new AbortController();
  const flows = await exported(netfilter.exportFlows(scopeOf(row), stop.signal), stop);
  expect(flows.filter(({ protocol }) => protocol === 6)).toHaveLength(1);
  const nobody = new AbortController();
  expect(await exported(netfilter.exportFlows({ local: new Set() }, nobody.signal), nobody)).toEqual([]);
  const plain = flows.map((flow) => ({ ...flow, delivered: flow.asked }));
  async function* said(): AsyncGenerator<FlowExportItem> {
    yield { type: 'flows', flows: plain };
  }
  expect(await netfilter.importFlows(said(), scopeOf(row))).toMatchObject({ imported: 0, failed: { count: 0 } });
  expect(await netfilter.importFlows(said(), { local: new Set() })).toMatchObject({ imported: 0, present: 0 });
  await goesOn(stream);
  await stream.stop();
});

/** A record that programs would have translated at both ends: destination and source. */
function putTranslated(bed: FlowBed, { family, protocol, asked, delivered }: Flow): void {
  const { answered, established, destination, source, egressOk, ingressOk } = FlowFlag;
  const { record } = flowElements(
    flowRecord(family, protocol, answered | established | destination | source | egressOk | ingressOk, 0, {
      opener: { address: delivered.source, port: delivered.sourcePort ?? 0 },
      other: { address: delivered.destination, port: delivered.destinationPort ?? 0 },
    }),
  );
  const ends = flowElements(
    flowRecord(family, protocol, 0, 0, {
      opener: { address: asked.source, port: asked.sourcePort ?? 0 },
      other: { address: delivered.destination, port: delivered.destinationPort ?? 0 },
      before: { address: asked.destination, port: asked.destinationPort ?? 0 },
    }),
  );
  const { End, Record } = flowLayouts[family];
  // A pointer says both ends of the record behind it: `before` the other's, `source_before` the opener's.
  const { before, sourceBefore } = Record.offsets;
  record.value.set(ends.record.value.subarray(before, before + End.size), before);
  record.value.set(ends.pointer!.value.subarray(sourceBefore, sourceBefore + End.size), sourceBefore);
  bed.mapOf(family, record.key).set(record.key, record.value);
}
