/** How much work members of sets are, counted: it grows with their number, and no faster. */
import { describe, expect, jest, test } from '@jest/globals';
import { Addresses } from './addresses.ts';
import { ClassSpace } from './class-space.ts';
import { NamedPorts } from './named-ports.ts';
import { Ports } from './ports.ts';
import { atOnce } from './pieces.ts';
import { Retirement } from './retirement.ts';
import { Signatures } from './signature.ts';
import { PortTable } from '../bpf-types.gen.ts';

function bed() {
  const signatures = new Signatures();
  const { zero } = new ClassSpace(signatures.empty, new Retirement(), 1000, () => undefined);
  return { signatures, zero };
}

describe('addresses and prefixes', () => {
  /** Elements put into sets and met in walks of sets (the forest is made of them), for each of `count` prefixes. */
  function stepsFor(count: number, act: (addresses: Addresses) => void): number {
    const { signatures, zero } = bed();
    const addresses = new Addresses(signatures, zero);
    const walk = Object.getPrototypeOf(new Set().values()) as SetIterator<unknown>;
    const spies = [jest.spyOn(Set.prototype, 'add'), jest.spyOn(walk, 'next')];
    try {
      act(addresses);
      return spies.reduce((sum, { mock }) => sum + mock.calls.length, 0) / count;
    } finally {
      for (const spy of spies) spy.mockRestore();
    }
  }
  const prefix = (index: number) => `${1 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}.0/24`;

  test('prefixes side by side, then what is around them all, then the same gone', () => {
    const work = (count: number) =>
      stepsFor(count, (addresses) => {
        for (let index = 0; index < count; index++) addresses.addTrait(prefix(index), 1);
        addresses.addTrait('0.0.0.0/1', 2);
        expect(atOnce(addresses.takeDirty())).toHaveLength(count + 1);
        addresses.removeTrait('0.0.0.0/1', 2);
        for (const element of atOnce(addresses.takeDirty())) if (element.prefix === 1) element.remove();
      });
    expect(work(4000)).toBeLessThan(work(400) * 1.1);
  });

  test('a hundred sets that change around many prefixes have each of them looked at once', () => {
    const count = 500;
    const work = stepsFor(count, (addresses) => {
      for (let index = 0; index < count; index++) addresses.addTrait(prefix(index), 1);
      for (let trait = 2; trait < 102; trait++) addresses.addTrait('0.0.0.0/1', trait);
      expect(atOnce(addresses.takeDirty())).toHaveLength(count + 1);
    });
    expect(work).toBeLessThan(10);
  });

  test('what is between two others is around the one and in the other, and hands on both', () => {
    const { signatures, zero } = bed();
    const addresses = new Addresses(signatures, zero);
    addresses.addTrait('10.1.2.3/32', 1);
    addresses.addTrait('10.0.0.0/8', 2);
    addresses.addTrait('10.1.0.0/16', 3);
    addresses.setHop('10.0.0.0/8', 7);
    const of = (length: number) => atOnce(addresses.takeDirty()).find((element) => element.prefix === length);
    const inner = of(32);
    expect([inner?.wanted().key, inner?.hop]).toEqual(['1,2,3', 7]);
    addresses.setHop('10.1.0.0/16', 8);
    const between = of(16);
    expect([between?.wanted().key, between?.hop, inner?.hop]).toEqual(['2,3', 8, 8]);
    expect(between?.around?.prefix).toBe(8);
    between?.remove();
    expect([inner?.wanted().key, inner?.hop, inner?.around?.prefix]).toEqual(['1,2', 7, 8]);
  });
});

describe('named ports', () => {
  const member = (port: number) => `10.0.0.1,6:${port}`;

  test.each<[string, number, { readonly min: number; readonly max: number; readonly table?: number }]>([
    ['a narrow range beside many names', 30_000, { min: 5, max: 9 }],
    ['a wide range beside few names', 5, { min: 1, max: 65_535 }],
    ['a range of another table', 30_000, { min: 1, max: 65_535, table: PortTable.udp }],
  ])('%s is little work', (_, names, run) => {
    const { signatures, zero } = bed();
    const named = new NamedPorts(signatures);
    named.follow(new Ports(signatures, zero, () => undefined));
    for (let port = 1; port <= names; port++) named.addTrait(member(port), 1);
    expect(named.takeDirty()).toHaveLength(names);
    const walk = Object.getPrototypeOf(new Map().entries()) as MapIterator<unknown>;
    const spies = [jest.spyOn(Map.prototype, 'get'), jest.spyOn(walk, 'next')];
    try {
      named.touch({ table: PortTable.tcp, ...run } as Parameters<NamedPorts['touch']>[0]);
      expect(spies.reduce((sum, { mock }) => sum + mock.calls.length, 0)).toBeLessThan(15);
    } finally {
      for (const spy of spies) spy.mockRestore();
    }
    const expected = run.table === undefined ? 5 : 0;
    expect(named.takeDirty()).toHaveLength(expected);
  });

  test('those that are gone are not touched, neither as destination nor as source', () => {
    const { signatures, zero } = bed();
    const named = new NamedPorts(signatures);
    const ports = new Ports(signatures, zero, (run) => named.touch(run));
    named.follow(ports);
    named.addTrait(member(80), 1);
    const [element] = named.takeDirty();
    for (const table of [PortTable.tcp, PortTable.sourceTcp]) {
      ports.addTrait(table, 80, 80, 2);
      expect(named.takeDirty()).toEqual([element]);
    }
    element?.remove();
    ports.addTrait(PortTable.tcp, 80, 80, 3);
    expect([named.takeDirty(), named.size]).toEqual([[], 0]);
  });
});
