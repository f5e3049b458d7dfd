/** Flows in real maps: listed, deleted, taken over, handed out. */
import { describe, expect, test } from '@jest/globals';
import { flowConstants, FlowFlag } from '#dataplanes/ebpf/bpf-types.gen.ts';
import { flowElements } from '#dataplanes/ebpf/flows/flow-record.ts';
import { FlowTable } from '#dataplanes/ebpf/flows/flow-table.ts';
import { entryOfFlow, entryTimeouts } from '#dataplanes/netfilter/conntrack-entries.ts';
import type { Flow, FlowExportItem, FlowFilter } from '#dataplanes/flows.ts';
import type { Family } from '#native/types.ts';
import { client, defaultTimeouts, FlowBed, flowRecord, frontend, server, shortTimeouts } from './ebpf-flows-bed.ts';

const { answered, established, finOther, viaStack, adopted, egressOk, ingressOk, destination, byNet, ofHost } =
  FlowFlag;
const up = answered | established;
const tableOf = (bed: FlowBed): FlowTable => new FlowTable(bed.maps, () => defaultTimeouts);

async function listed(table: FlowTable, filter: FlowFilter = {}): Promise<Flow[]> {
  const all: Flow[] = [];
  for await (const flows of table.list(filter)) all.push(...flows);
  return all;
}

async function* said(...items: FlowExportItem[]): AsyncGenerator<FlowExportItem> {
  yield* items;
}

/** From the client to the server. */
const flowBetween = (family: Family, more: Partial<Flow> = {}): Flow => {
  const tuple = {
    source: client[family].address,
    sourcePort: client[family].port,
    destination: server[family].address,
    destinationPort: server[family].port,
  };
  return {
    family,
    protocol: 6,
    asked: tuple,
    delivered: tuple,
    state: 'established',
    crossesNetfilter: true,
    details: [],
    ...more,
  };
};
const askedOf = (family: Family): Flow['asked'] => ({
  ...flowBetween(family).asked,
  destination: frontend[family].address,
  destinationPort: frontend[family].port,
});
const scopeOf = (...addresses: string[]) => ({ local: new Set(addresses) });

describe.each([4, 6] as const)('IPv%i flows', (family) => {
  test('a translated flow is listed once, with what was asked for and what became of it', async () => {
    using bed = await FlowBed.make();
    const began = performance.now();
    bed.put(flowRecord(family, 6, up | finOther | egressOk, 30, { before: frontend[family] }));
    const [flow, ...others] = await listed(tableOf(bed));
    expect(others).toEqual([]);
    expect(flow).toMatchObject({
      family,
      protocol: 6,
      asked: askedOf(family),
      delivered: flowBetween(family).delivered,
      state: 'closing',
      finished: { opener: false, other: true },
      crossesNetfilter: false,
      packets: { opener: 0, other: 0 },
    });
    expect(flow?.details).toEqual(['egress-ok', 'answered', 'established', 'fin-other', 'destination']);
    // However long it took to ask.
    const { idleSeconds = 0, leftSeconds = 0 } = flow ?? {};
    expect(idleSeconds).toBeGreaterThan(29.5);
    expect(idleSeconds).toBeLessThan(30.5 + (performance.now() - began) / 1000);
    expect(Math.round(idleSeconds + leftSeconds)).toBe(3600);
  });

  test('what nobody has answered is listed without a time that it has left', async () => {
    using bed = await FlowBed.make();
    const { record } = flowElements(flowRecord(family, 17, 0, 1));
    bed.of(family).fresh.set(record.key, record.value);
    const [flow] = await listed(tableOf(bed));
    expect(flow).toMatchObject({ state: 'new', protocol: 17 });
    expect(flow).not.toHaveProperty('leftSeconds');
  });

  test('deletion takes the record and its pointer, and leaves what the filter does not name', async () => {
    using bed = await FlowBed.make();
    const translated = bed.put(flowRecord(family, 6, up, 0, { before: frontend[family] }));
    const other = bed.put(flowRecord(family, 17, answered, 0));
    const fresh = flowElements(
      flowRecord(family, 6, 0, 0, { before: frontend[family], other: { ...server[family], port: 1 } }),
    );
    for (const { key, value } of [fresh.record, fresh.pointer!]) bed.of(family).fresh.set(key, value);
    const table = tableOf(bed);
    expect(await table.delete({ addresses: [frontend[family].address] })).toEqual({ deleted: 2, failed: [] });
    for (const { key } of [translated.record, translated.pointer!]) expect(bed.flagsOf(family, key)).toBeUndefined();
    for (const { key } of [fresh.record, fresh.pointer!]) expect(bed.of(family).fresh.get(key)).toBeUndefined();
    expect(bed.flagsOf(family, other.record.key)).toBeDefined();
    expect(await table.delete({ port: 9 })).toEqual({ deleted: 0, failed: [] });
  });

  test.each([
    ['both ends here: handed from pod to pod', {}, [client, server], [egressOk | ingressOk | up | adopted]],
    ['one end here: by the stack', {}, [server], [egressOk | ingressOk | up | adopted | viaStack]],
    [
      'closing',
      { state: 'closing', finished: { opener: false, other: true } },
      [client, server],
      [egressOk | ingressOk | up | adopted | finOther],
    ],
    ['UDP', { protocol: 17 }, [client, server], [egressOk | ingressOk | answered | adopted]],
  ] as const)('a flow of another dataplane is taken over, %s', async (_, more, local, flags) => {
    using bed = await FlowBed.make();
    const flow = flowBetween(family, more);
    const scope = scopeOf(...local.map((end) => end[family].address));
    const report = await tableOf(bed).importFlows(said({ type: 'flows', flows: [flow] }, { type: 'whole' }), scope);
    expect(report).toEqual({ imported: 1, present: 0, skipped: {}, failed: { count: 0, examples: [] } });
    const { record } = flowElements(flowRecord(family, flow.protocol, 0, 0));
    expect([bed.flagsOf(family, record.key)! & ~FlowFlag.opener1]).toEqual(flags);
    expect(await listed(tableOf(bed))).toMatchObject([
      { asked: flow.asked, delivered: flow.delivered, state: flow.state },
    ]);
  });

  test('a Service between two pods of this node: one record that translates, and its pointer', async () => {
    using bed = await FlowBed.make();
    const flow = flowBetween(family, { asked: askedOf(family) });
    const scope = scopeOf(client[family].address, server[family].address);
    const report = await tableOf(bed).importFlows(said({ type: 'flows', flows: [flow] }), scope);
    expect(report).toMatchObject({ imported: 1, present: 0 });
    const { record, pointer } = flowElements(flowRecord(family, 6, 0, 0, { before: frontend[family] }));
    expect(bed.flagsOf(family, record.key)! & (destination | viaStack)).toBe(destination);
    expect(bed.flagsOf(family, pointer!.key)! & FlowFlag.pointer).toBe(FlowFlag.pointer);
    expect(await bed.sweep(family)).toMatchObject({ visited: 2, pointers: 1, marked: 0 });
  });

  test.each([
    ['its backend on another node', [client], {}, 1],
    ['a client elsewhere', [server], {}, 1],
    [
      'its source translated, too',
      [client, server],
      { delivered: { ...flowBetween(family).delivered, sourcePort: 61_000 } },
      2,
    ],
  ] as const)('a Service, %s: netfilter goes on translating', async (_, local, more, records) => {
    using bed = await FlowBed.make();
    const flow = { ...flowBetween(family, { asked: askedOf(family) }), ...more };
    const scope = scopeOf(...local.map((end) => end[family].address));
    expect(await tableOf(bed).importFlows(said({ type: 'flows', flows: [flow] }), scope)).toMatchObject({
      imported: records,
    });
    const flows = await listed(tableOf(bed));
    expect(flows).toHaveLength(records);
    for (const { asked, delivered, crossesNetfilter } of flows) {
      expect(asked).toEqual(delivered);
      expect(crossesNetfilter).toBe(true);
      expect([flow.asked, flow.delivered]).toContainEqual(asked);
    }
  });

  test('what programs have made themselves stays: a record, a flow that nobody has answered, a pointer', async () => {
    const flow = flowBetween(family, { asked: askedOf(family) });
    const scope = scopeOf(client[family].address, server[family].address);
    const { record, pointer } = flowElements(flowRecord(family, 6, 0, 0, { before: frontend[family], cookie: 99 }));
    for (const place of ['record', 'fresh', 'fresh pointer', 'pointer'] as const) {
      using bed = await FlowBed.make();
      const element = place.endsWith('pointer') ? pointer! : record;
      const map = place.startsWith('fresh') ? bed.of(family).fresh : bed.mapOf(family, element.key);
      map.set(element.key, element.value);
      expect(await tableOf(bed).importFlows(said({ type: 'flows', flows: [flow] }), scope)).toMatchObject({
        imported: 0,
        present: 1,
        failed: { count: 0 },
      });
      expect(map.get(element.key)).toEqual(element.value);
      expect(await bed.sweep(family)).toMatchObject({ visited: place.startsWith('fresh') ? 0 : 1 });
    }
  });

  test('what ended before a packet was seen of it is taken back; afterwards it is the programs own', async () => {
    using bed = await FlowBed.make();
    const flow = flowBetween(family, { asked: askedOf(family) });
    const scope = scopeOf(client[family].address, server[family].address);
    const gone = [{ type: 'flows', flows: [flow] }, { type: 'whole' }, { type: 'gone', flows: [flow] }] as const;
    await tableOf(bed).importFlows(said(...gone), scope);
    expect(await bed.sweep(family)).toMatchObject({ visited: 0 });
    await tableOf(bed).importFlows(said(gone[0]), scope);
    const { record } = flowElements(flowRecord(family, 6, 0, 0));
    bed.touch(family, record.key);
    await tableOf(bed).importFlows(said(gone[2], { type: 'flows', flows: [{ ...flow, state: 'closed' }] }), scope);
    expect(await bed.sweep(family)).toMatchObject({ visited: 2 });
  });

  test('a flow that is over in the same piece in which it began leaves nothing', async () => {
    using bed = await FlowBed.make();
    const flow = flowBetween(family, { asked: askedOf(family) });
    const scope = scopeOf(client[family].address, server[family].address);
    const flows = [flow, { ...flow, state: 'closed' as const }];
    expect(await tableOf(bed).importFlows(said({ type: 'flows', flows }), scope)).toMatchObject({ imported: 1 });
    expect(await bed.sweep(family)).toMatchObject({ visited: 0 });
  });

  test('what can not be taken over is said by reason', async () => {
    using bed = await FlowBed.make();
    const flows = [
      flowBetween(family, { state: 'new' }),
      flowBetween(family, { state: 'closed' }),
      flowBetween(family, { bound: 'a helper follows it' }),
      flowBetween(family, { protocol: family === 4 ? 1 : 58 }),
    ];
    const scope = scopeOf(client[family].address);
    const report = await tableOf(bed).importFlows(said({ type: 'flows', flows }), scope);
    expect(report).toMatchObject({
      imported: 0,
      skipped: {
        'nobody has answered': 1,
        closed: 1,
        'a helper follows it': 1,
        'ICMP: the next request makes a flow': 1,
      },
    });
    const elsewhere = await tableOf(bed).importFlows(said({ type: 'flows', flows: [flowBetween(family)] }), scopeOf());
    expect(elsewhere.skipped).toEqual({ 'no end is a pod of this node': 1 });
  });

  test('a handshake under way is told last; one that nobody has gone on with is not', async () => {
    using bed = await FlowBed.make();
    const at = (port: number, seconds: number, flags: number) => {
      const opener = { ...client[family], port };
      const { record } = flowElements(flowRecord(family, 6, flags, seconds, { opener }));
      bed.of(family).fresh.set(record.key, record.value);
    };
    at(1, 1, answered);
    at(2, flowConstants.handshakeSeconds + 5, answered);
    at(3, 1, 0);
    at(4, 1, answered | FlowFlag.resetOther);
    bed.put(flowRecord(family, 6, up, 0));
    const told = async (isLeaving: boolean) => {
      const ports: (number | undefined)[] = [];
      const scope = { ...scopeOf(client[family].address), isLeaving };
      for await (const item of tableOf(bed).exportFlows(scope, new AbortController().signal))
        if ('flows' in item) ports.push(...item.flows.map(({ asked }) => asked.sourcePort));
      return ports;
    };
    expect(await told(false)).toEqual([client[family].port]);
    expect(await told(true)).toEqual([1, client[family].port]);
    // As for the programs, it is over.
    const listed: Flow[] = [];
    for await (const flows of tableOf(bed).list({})) listed.push(...flows);
    listed.sort((a, b) => (a.asked.sourcePort ?? 0) - (b.asked.sourcePort ?? 0));
    expect(listed.map(({ asked }) => asked.sourcePort)).toEqual([1, 3, 4, client[family].port]);
    for (const { leftSeconds = 0 } of listed.slice(0, 3)) expect(Math.abs(leftSeconds - 100)).toBeLessThan(20);
  });

  test('what went by the net is listed so, and handed out to be masqueraded as before', async () => {
    using bed = await FlowBed.make();
    const opener = { address: family === 4 ? '192.0.2.9' : '2001:db8::9', port: 33_000 };
    const masqueraded = flowRecord(family, 17, answered | byNet | egressOk, 0, {
      opener,
      sourceBefore: client[family],
    });
    const { pointer } = bed.put(masqueraded);
    bed.put(flowRecord(family, 6, up | byNet | egressOk, 0));
    const table = tableOf(bed);
    const flows: Flow[] = [];
    for await (const item of table.exportFlows(scopeOf(client[family].address), new AbortController().signal))
      if ('flows' in item) flows.push(...item.flows);
    flows.sort((a, b) => b.protocol - a.protocol);
    expect(flows).toMatchObject([
      {
        protocol: 17,
        way: 'net',
        crossesNetfilter: false,
        asked: { source: client[family].address, sourcePort: client[family].port },
        delivered: { source: opener.address, sourcePort: opener.port, destination: server[family].address },
      },
      { protocol: 6, way: 'net', crossesNetfilter: false },
    ]);
    const timeouts = entryTimeouts(() => undefined);
    const entries = flows.map((flow) => entryOfFlow(flow, timeouts));
    expect(entries[0]).toMatchObject({
      original: { source: client[family].address, sourcePort: client[family].port },
      nat: { source: opener },
    });
    expect(entries[0]).not.toHaveProperty('nat.destination');
    expect(entries[1]).not.toHaveProperty('nat');
    expect(await bed.sweep(family)).toMatchObject({ visited: 3, pointers: 1, marked: 0 });
    expect(await table.delete({ addresses: [client[family].address] })).toEqual({ deleted: 2, failed: [] });
    expect(bed.flagsOf(family, pointer!.key)).toBeUndefined();
  });

  test('what the node asks of a Service: told last, its pointer stays; swept as any', async () => {
    using bed = await FlowBed.make();
    const node = { address: family === 4 ? '192.0.2.9' : '2001:db8::9', port: 33_000 };
    const flags = up | viaStack | ofHost | ingressOk;
    const asked = flowRecord(family, 6, flags, 0, { opener: node, before: frontend[family] });
    const { pointer } = bed.put(asked);
    const table = tableOf(bed);
    const told = async (isLeaving: boolean): Promise<number> => {
      let count = 0;
      const scope = { ...scopeOf(server[family].address), isLeaving };
      for await (const item of table.exportFlows(scope, new AbortController().signal))
        count += 'flows' in item ? item.flows.length : 0;
      return count;
    };
    expect(await told(false)).toBe(0);
    expect(await told(true)).toBe(1);
    expect(bed.flagsOf(family, pointer!.key)).toBeDefined();
    expect(await bed.sweep(family)).toMatchObject({ visited: 2, pointers: 1, marked: 0 });
    bed.put(flowRecord(family, 6, flags, 40, { opener: node, before: frontend[family] }));
    expect(await bed.sweep(family, shortTimeouts)).toMatchObject({ marked: 1 });
    expect(await bed.sweep(family, shortTimeouts)).toMatchObject({ deletedTcp: 1 });
  });

  test('full maps: what does not fit is counted, and told of the first few', async () => {
    using bed = await FlowBed.make(64);
    const flows = Array.from({ length: 2000 }, (_, index) => {
      const tuple = { ...flowBetween(family).asked, sourcePort: 1000 + index };
      return flowBetween(family, { asked: tuple, delivered: tuple });
    });
    const report = await tableOf(bed).importFlows(said({ type: 'flows', flows }), scopeOf(client[family].address));
    expect(report.imported + report.failed.count).toBe(2000);
    expect(report.failed.count).toBeGreaterThan(0);
    expect(report.failed.examples.length).toBe(10);
    expect(report.failed.examples[0]).toMatch(/^tcp .* > .* 8080: .*E2BIG/);
    expect(await listed(tableOf(bed))).toHaveLength(report.imported);
  });
});

test('100,000 records are taken over, listed, handed out, swept and deleted', async () => {
  using bed = await FlowBed.make(131_072);
  const table = tableOf(bed);
  const count = 100_000;
  const flows = Array.from({ length: count }, (_, index) => {
    const tuple = {
      ...flowBetween(4).asked,
      destination: `10.${66 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`,
    };
    return flowBetween(4, { asked: tuple, delivered: tuple });
  });
  const scope = scopeOf(client[4].address);
  expect(await table.importFlows(said({ type: 'flows', flows }), scope)).toMatchObject({ imported: count });
  // The hash spreads them: no shard has much more than a quarter.
  for (const shard of [0, 1, 2, 3]) {
    const { visited } = await bed.sweeper.sweep(4, shard, defaultTimeouts, 0);
    expect(visited).toBeGreaterThan(count / 5);
    expect(visited).toBeLessThan(count / 3);
  }
  let exported = 0;
  for await (const item of table.exportFlows(scope, new AbortController().signal))
    exported += 'flows' in item ? item.flows.length : 0;
  expect(exported).toBe(count);
  expect(await listed(table, { addresses: ['10.66.1.7'] })).toMatchObject([{ asked: { destination: '10.66.1.7' } }]);
  expect(await table.delete({ addresses: [client[4].address] })).toEqual({ deleted: count, failed: [] });
  expect(await listed(table)).toEqual([]);
});

test('an ICMP flow says type and identifier', async () => {
  using bed = await FlowBed.make();
  const { record } = flowElements(
    flowRecord(4, 1, answered, 0, { opener: { ...client[4], port: 77 }, other: { ...server[4], port: 8 << 1 } }),
  );
  bed.mapOf(4, record.key).set(record.key, record.value);
  expect(await listed(tableOf(bed))).toMatchObject([
    { asked: { source: client[4].address, destination: server[4].address, icmp: { type: 8, id: 77 } } },
  ]);
});
