import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { KindMap } from '#api/kinds.ts';
import type { DataplaneUpdate } from '#dataplanes/messages.ts';
import { CalcGraph } from './calc-graph.ts';

const node = (name: string, ...addresses: string[]): KindMap['Node'] => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name },
  spec: {},
  status: { addresses: addresses.map((address) => ({ type: 'InternalIP', address })), conditions: [] },
});

const pool = (name: string, cidr: string, natOutgoing: boolean): KindMap['IPPool'] => ({
  apiVersion: 'projectcalico.org/v3',
  kind: 'IPPool',
  metadata: { name },
  spec: {
    cidr,
    natOutgoing,
    vxlanMode: 'Never',
    ipipMode: 'Never',
    disabled: false,
    disableBGPExport: false,
    nodeSelector: 'all()',
    allowedUses: ['Workload'],
    assignmentMode: 'Automatic',
  },
});

/** A /30 with the given owner; `used` says which node uses which ordinal. */
const block = (
  cidr: string,
  owner: string | undefined,
  used: Readonly<Record<number, string>> = {},
): KindMap['IPAMBlock'] => {
  const entries = Object.entries(used);
  const allocations: (number | null)[] = [null, null, null, null];
  for (const [index, [ordinal]] of entries.entries()) allocations[Number(ordinal)] = index;
  return {
    apiVersion: 'projectcalico.org/v3',
    kind: 'IPAMBlock',
    metadata: { name: cidr.replaceAll(/[.:/]/g, '-') },
    spec: {
      cidr,
      ...(owner === undefined ? {} : { affinity: `host:${owner}` }),
      allocations,
      unallocated: [],
      attributes: entries.map(([, user]) => ({ handle_id: 'h', secondary: { node: user } })),
      sequenceNumber: 1,
      sequenceNumberForAllocation: {},
      deleted: false,
    },
  };
};

/** One input to the graph. */
type Input = (graph: CalcGraph) => void;

const give = {
  node:
    (name: string, ...addresses: string[]): Input =>
    (graph) =>
      graph.onNode(name, node(name, ...addresses)),
  noNode:
    (name: string): Input =>
    (graph) =>
      graph.onNode(name, undefined),
  pool:
    (name: string, cidr: string, nat = true): Input =>
    (graph) =>
      graph.onPool(name, pool(name, cidr, nat)),
  noPool:
    (name: string): Input =>
    (graph) =>
      graph.onPool(name, undefined),
  block:
    (cidr: string, owner?: string, used?: Readonly<Record<number, string>>): Input =>
    (graph) =>
      graph.onBlock(cidr, block(cidr, owner, used)),
  noBlock:
    (cidr: string): Input =>
    (graph) =>
      graph.onBlock(cidr, undefined),
};

/** What a dataplane that was told these updates believes. */
function believe(
  updates: readonly DataplaneUpdate[],
  state = new Map<string, DataplaneUpdate>(),
): Map<string, DataplaneUpdate> {
  for (const update of updates) {
    switch (update.type) {
      case 'routeUpdate':
        state.set(`route ${update.route.dst}`, update);
        break;
      case 'routeRemove':
        expect(state.delete(`route ${update.dst}`)).toBe(true);
        break;
      case 'poolUpdate':
        state.set(`pool ${update.id}`, update);
        break;
      case 'poolRemove':
        expect(state.delete(`pool ${update.id}`)).toBe(true);
        break;
      case 'hostUpdate':
        state.set(`host ${update.node}`, update);
        break;
      case 'hostRemove':
        expect(state.delete(`host ${update.node}`)).toBe(true);
        break;
      case 'inSync':
        state.set(update.type, update);
        break;
      default:
        throw new Error(`${update.type} is not about networks`);
    }
  }
  return state;
}

function routes(inputs: readonly Input[]): readonly unknown[] {
  const graph = new CalcGraph('me');
  for (const input of inputs) input(graph);
  return graph.flush().flatMap((update) => (update.type === 'routeUpdate' ? [update.route] : []));
}

test('addresses and networks are said in canonical text, however the objects spell them', () => {
  const graph = new CalcGraph('me');
  const inputs = [
    give.node('other', 'FD00:0::0002', 'fd00::3', 'not an address', '192.0.2.2'),
    give.pool('p', 'FD10:0::/64'),
    give.block('fd10:0:0::/126', 'other'),
  ];
  for (const input of inputs) input(graph);
  expect(graph.flush()).toEqual([
    { type: 'hostUpdate', node: 'other', host: { ipv4: '192.0.2.2', ipv6: 'fd00::2' } },
    { type: 'poolUpdate', id: 'p', pool: { cidr: 'fd10::/64', masquerade: true } },
    {
      type: 'routeUpdate',
      route: { dst: 'fd10::/126', nodeName: 'other', type: 'remoteBlock', nodeIp: 'fd00::2' },
    },
  ]);
});

describe('calc: routes from blocks', () => {
  const other = give.node('other', '192.0.2.2', '2001:db8::2');

  test.each([
    [
      "another node's block goes to that node",
      [other, give.block('10.0.0.0/30', 'other')],
      [{ dst: '10.0.0.0/30', type: 'remoteBlock', nodeName: 'other', nodeIp: '192.0.2.2' }],
    ],
    [
      'its IPv6 block goes to its IPv6 address',
      [other, give.block('fd00::/126', 'other')],
      [{ dst: 'fd00::/126', type: 'remoteBlock', nodeName: 'other', nodeIp: '2001:db8::2' }],
    ],
    [
      'our own block is a local one',
      [give.block('10.0.0.0/30', 'me', { 1: 'me' })],
      [{ dst: '10.0.0.0/30', type: 'localBlock', nodeName: 'me' }],
    ],
    [
      'our own block of one address is none: it would be in its pod’s way',
      [give.block('10.0.0.1/32', 'me', { 0: 'me' })],
      [],
    ],
    [
      'an address that a node borrowed from ours goes there',
      [other, give.block('10.0.0.0/30', 'me', { 2: 'other' })],
      [
        { dst: '10.0.0.0/30', type: 'localBlock', nodeName: 'me' },
        { dst: '10.0.0.2/32', type: 'borrowed', nodeName: 'other', nodeIp: '192.0.2.2' },
      ],
    ],
    [
      'an address that we borrowed makes no route: the pod has its own',
      [other, give.block('10.0.0.0/30', 'other', { 2: 'me' })],
      [{ dst: '10.0.0.0/30', type: 'remoteBlock', nodeName: 'other', nodeIp: '192.0.2.2' }],
    ],
    ['a block whose node is unknown waits', [give.block('10.0.0.0/30', 'other')], []],
    [
      'a block whose node has no address of its family waits',
      [give.node('other', '192.0.2.2'), give.block('fd00::/126', 'other')],
      [],
    ],
    ["nobody's block makes no route", [give.block('10.0.0.0/30')], []],
  ] satisfies [string, Input[], unknown[]][])('%s', (_title, inputs, expected) => {
    expect(routes(inputs)).toEqual(expected);
  });

  test('a waiting block gets its route when its node comes, and loses it when the node goes', () => {
    const graph = new CalcGraph('me');
    give.block('10.0.0.0/30', 'other')(graph);
    expect(graph.flush()).toEqual([]);
    other(graph);
    expect(graph.flush().map(({ type }) => type)).toEqual(['hostUpdate', 'routeUpdate']);
    give.noNode('other')(graph);
    expect(graph.flush().map(({ type }) => type)).toEqual(['routeRemove', 'hostRemove']);
  });

  test('a node that is deleted and added again with another address has its routes by that one', () => {
    const graph = new CalcGraph('me');
    give.block('10.0.0.0/30', 'other')(graph);
    const gateways = () =>
      graph.flush().flatMap((update) => {
        if (update.type === 'routeUpdate') return [update.route.nodeIp];
        return update.type === 'routeRemove' ? ['none'] : [];
      });
    give.node('other', '192.0.2.2')(graph);
    expect(gateways()).toEqual(['192.0.2.2']);
    give.noNode('other')(graph);
    expect(gateways()).toEqual(['none']);
    give.node('other')(graph);
    expect(gateways()).toEqual([]);
    give.node('other', '192.0.2.3')(graph);
    expect(gateways()).toEqual(['192.0.2.3']);
    give.noNode('other')(graph);
    give.node('other', '192.0.2.4')(graph);
    expect(gateways()).toEqual(['192.0.2.4']);
  });

  test('what was set and set back between two flushes says nothing', () => {
    const graph = new CalcGraph('me');
    give.pool('p', '10.0.0.0/16')(graph);
    graph.flush();
    give.noPool('p')(graph);
    give.pool('p', '10.0.0.0/16')(graph);
    expect(graph.flush()).toEqual([]);
  });

  test('inSync is said once', () => {
    const graph = new CalcGraph('me');
    graph.onInSync();
    expect(graph.flush()).toEqual([{ type: 'inSync' }]);
    graph.onInSync();
    expect(graph.flush()).toEqual([]);
  });
});

test('any order, split or squash of the same inputs reaches the same state', () => {
  const names = fc.constantFrom('me', 'a', 'b');
  const cidrs = fc.constantFrom('10.0.0.0/30', '10.0.0.4/30', '10.0.0.8/30');
  const used = fc.dictionary(fc.constantFrom('0', '1', '2', '3'), names, { maxKeys: 3 });
  const input = fc.oneof(
    names.map((name) => ({
      key: `node ${name}`,
      present: give.node(name, `192.0.2.${name.charCodeAt(0)}`),
      gone: give.noNode(name),
    })),
    fc.record({ name: fc.constantFrom('p', 'q'), nat: fc.boolean() }).map(({ name, nat }) => ({
      key: `pool ${name}`,
      present: give.pool(name, name === 'p' ? '10.0.0.0/16' : '10.1.0.0/16', nat),
      gone: give.noPool(name),
    })),
    fc.record({ cidr: cidrs, owner: names, used }).map(({ cidr, owner, used: by }) => ({
      key: `block ${cidr}`,
      present: give.block(cidr, owner, by),
      gone: give.noBlock(cidr),
    })),
  );
  const step = fc.record({ input, isPresent: fc.boolean(), flush: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), fc.infiniteStream(fc.nat()), (steps, shuffle) => {
      const live = new CalcGraph('me');
      const state = new Map<string, DataplaneUpdate>();
      const last = new Map<string, Input>();
      for (const {
        input: { key, present, gone },
        isPresent,
        flush,
      } of steps) {
        (isPresent ? present : gone)(live);
        last.set(key, isPresent ? present : gone);
        if (flush) believe(live.flush(), state);
      }
      believe(live.flush(), state);

      const fresh = new CalcGraph('me');
      const shuffled = [...last.values()]
        .map((apply) => ({ apply, at: shuffle.next().value ?? 0 }))
        .toSorted((a, b) => a.at - b.at);
      for (const { apply } of shuffled) apply(fresh);
      const expected = believe(fresh.flush());
      expect(Object.fromEntries(state)).toEqual(Object.fromEntries(expected));
    }),
    { numRuns: 300 },
  );
});
