/** Slots, units, announcements and ways of endpoints, over the classifier's twin. */
import { beforeEach, describe, expect, test } from '@jest/globals';
import { type Cidr, containsIp, parseIp } from '#api/cidr.ts';
import type { WorkloadEndpointInfo } from '../messages.ts';
import { ALLOW_ALL, ANY_PEER, ANY_RULE, testEndpoint } from '../shared/test-config.ts';
import { AfterFlush } from './after-flush.ts';
import { Announcements } from './announcements.ts';
import { flowConstants, Hop, HopKind, mapShapes, PodSlot } from './bpf-types.gen.ts';
import { Classifier } from './classifier/classifier.ts';
import { testSizes, Twin } from './classifier/twin-for-tests.ts';
import { FakeArray, FakeMap } from './fake-map.ts';
import { Hops } from './hops.ts';
import { u32Key } from './keys.ts';
import { PodWiring } from './pod-wiring.ts';
import { SlotAddresses } from './slot-addresses.ts';
import { SlotTable } from './slot-table.ts';

const POLICY = 'NetworkPolicy default/p';
const viewOf = ({ buffer, byteOffset, byteLength }: Uint8Array): DataView =>
  new DataView(buffer as ArrayBuffer, byteOffset, byteLength);

class Bed {
  readonly twin = new Twin(testSizes(64));
  readonly classifier = new Classifier(this.twin);
  readonly afterFlush = new AfterFlush();
  readonly slotMap = new FakeMap(mapShapes.tortie_slots, 8);
  readonly pods = new FakeArray(mapShapes.tortie_pods, 5);
  readonly hopArray = new FakeArray(mapShapes.tortie_hops, 6);
  readonly slots = new SlotTable({ slots: this.slotMap, pods: this.pods }, this.afterFlush);
  readonly addresses = new SlotAddresses(this.pods);
  readonly hops = new Hops(
    this.hopArray,
    (net, hop) => this.classifier.setHop(net, hop),
    this.addresses,
    this.afterFlush,
  );
  readonly devices = new FakeMap(mapShapes.tortie_devices);
  readonly wiring = new PodWiring(
    this,
    new Announcements({
      devices: this.devices,
      sources: new FakeMap(mapShapes.tortie_sources),
      counters: new FakeMap(mapShapes.tortie_counters),
    }),
  );

  /** What the kernel's tables of addresses hold, the longest prefixes first. */
  readonly #addresses = new Map<string, { readonly net: Cidr; readonly hop: number }>();

  constructor() {
    this.twin.onWrite = (write) => {
      if (write.map !== 'addresses') return;
      const { family, address, prefix, value } = write;
      const key = `${family} ${address} ${prefix}`;
      this.#addresses.delete(key);
      const net = { family, first: address, prefix, text: key } as Cidr;
      if (value !== undefined) this.#addresses.set(key, { net, hop: value.hop });
    };
  }

  async flush(): Promise<void> {
    const leaving = this.afterFlush.beginFlush();
    await this.classifier.flush();
    leaving.done();
  }

  async settle(): Promise<void> {
    await this.classifier.settle();
    await this.afterFlush.settle(() => Promise.resolve());
  }

  /** Ifindexes of devices with qdiscs of their own. */
  readonly shaped = new Set<number>();

  prepare(id: string, n: number, more: Partial<WorkloadEndpointInfo> = {}, mac = '0a:00:00:00:00:01'): void {
    const endpoint = testEndpoint(n, { profiles: ['kns.default'], ...more });
    const sources = [...endpoint.ipv4Nets, ...endpoint.ipv6Nets];
    const device = { ifindex: n, podMac: mac, hostMac: 'ee:ee:ee:ee:ee:ee', isShaped: this.shaped.has(n) };
    this.wiring.prepare(id, endpoint, device, sources);
  }

  async wire(id: string, n: number, more: Partial<WorkloadEndpointInfo> = {}, mac?: string): Promise<void> {
    this.prepare(id, n, more, mac);
    await this.flush();
    this.wiring.commit(id);
    await this.flush();
  }

  /** What programs find of a device. */
  slotOf(ifindex: number): PodSlot | undefined {
    const value = this.slotMap.get(u32Key(ifindex));
    if (value === undefined) return undefined;
    const view = viewOf(value);
    expect(view.getUint32(4, true)).toBe(ifindex);
    return PodSlot.read(viewOf(this.pods.value(view.getUint32(0, true))));
  }

  /** The way to an address, as the programs find it. */
  hopTo(address: string): Hop | undefined {
    const ip = parseIp(address);
    const [found] = [...this.#addresses.values()]
      .filter(({ net }) => net.family === ip.family && containsIp(net, ip))
      .sort((a, b) => b.net.prefix - a.net.prefix);
    const hop = found?.hop ?? 0;
    return hop === 0 ? undefined : Hop.read(viewOf(this.hopArray.value(hop)));
  }

  /** Devices in whose slots an IPv4 address stands, whether anything names the slot or not. */
  slotsNaming(address: string): number[] {
    const slots = Array.from({ length: this.pods.length }, (_, i) => PodSlot.read(viewOf(this.pods.value(i))));
    return slots.filter(({ address4 }) => address4.join('.') === address).map(({ ifindex }) => ifindex);
  }

  isOpen(ifindex: number): boolean {
    return this.devices.get(u32Key(ifindex)) !== undefined;
  }
}

let bed: Bed;

beforeEach(() => {
  bed = new Bed();
  if (ALLOW_ALL.type === 'profileUpdate') bed.classifier.onUpdate(ALLOW_ALL);
});

const tiers = [{ name: 'default', defaultAction: 'deny' as const, ingress: [POLICY], egress: [] }];

const sayPolicy = (sets: readonly string[] = []): void =>
  bed.classifier.onUpdate({
    type: 'policyUpdate',
    id: POLICY,
    policy: {
      tier: 'default',
      staged: false,
      ingress: [{ ...ANY_RULE, source: { ...ANY_PEER, sets }, id: `${POLICY} ingress 0`, action: 'allow' }],
      egress: [],
    },
  });

describe('an endpoint', () => {
  test('gets slot, units of both directions and families, announcement and ways, in that order', async () => {
    bed.prepare('a', 1);
    expect([bed.slotOf(1), bed.isOpen(1)]).toEqual([undefined, false]);
    await bed.flush();
    bed.wiring.commit('a');
    const slot = bed.slotOf(1);
    expect(slot?.unit.every((number) => bed.classifier.unitByNumber(number)?.published !== undefined)).toBe(true);
    expect(new Set(slot?.unit).size).toBe(4);
    expect(bed.isOpen(1)).toBe(true);
    expect(bed.hopTo('10.65.0.1')).toBeUndefined(); // Only when the slot is there.
    await bed.flush();
    for (const address of ['10.65.0.1', 'fd00:65::1']) {
      expect(bed.hopTo(address)).toMatchObject({ kind: HopKind.pod, ifindex: 1 });
    }
  });

  test('without an address of a family has no unit there: nothing passes', async () => {
    await bed.wire('a', 1, { ipv6Nets: [] });
    const [egress4 = 0, egress6, ingress4 = 0, ingress6] = bed.slotOf(1)?.unit ?? [];
    expect([egress4 > 0, egress6, ingress4 > 0, ingress6]).toEqual([true, 0, true, 0]);
  });

  test('with another policy goes over by numbers, and keeps slot and way', async () => {
    await bed.wire('a', 1);
    const [before, way] = [bed.slotOf(1), bed.hopTo('10.65.0.1')];
    sayPolicy();
    bed.prepare('a', 1, { tiers });
    await bed.flush();
    expect(bed.slotOf(1)).toEqual(before);
    bed.wiring.commit('a');
    await bed.flush();
    const after = bed.slotOf(1);
    expect(after?.unit.slice(0, 2)).toEqual(before?.unit.slice(0, 2)); // It says nothing of egress.
    expect(after?.unit.slice(2)).not.toEqual(before?.unit.slice(2));
    expect(bed.hopTo('10.65.0.1')).toEqual(way);
    expect(bed.slots.used).toBe(1);
  });

  test('whose device has the number of one that is gone: nothing goes there that is for the pod before', async () => {
    await bed.wire('a', 1);
    await bed.wire('b', 1, { ipv4Nets: ['10.65.0.9/32'], ipv6Nets: [] }, '0a:00:00:00:00:02');
    expect(bed.hopTo('10.65.0.1')).toBeUndefined();
    expect(bed.hopTo('10.65.0.9')).toMatchObject({ kind: HopKind.pod, ifindex: 1 });
    expect(bed.slotsNaming('10.65.0.1')).toEqual([]);
    bed.wiring.close('a');
    expect(bed.isOpen(1)).toBe(true);
  });

  test('on a device with qdiscs of its own is not passed by, from then on and until they are gone', async () => {
    const seen: [number | undefined, number | undefined][] = [];
    for (const isShaped of [false, true, false]) {
      if (isShaped) bed.shaped.add(1);
      else bed.shaped.delete(1);
      await bed.wire('a', 1);
      await bed.wire('b', 2);
      seen.push([bed.slotOf(1)?.flags, bed.hopTo('10.65.0.1')?.flags]);
      expect([bed.slotOf(2)?.flags, bed.hopTo('10.65.0.2')?.flags]).toEqual([0, 0]);
    }
    const { podShaped, hopShaped } = flowConstants;
    expect(seen).toEqual([
      [0, 0],
      [podShaped, hopShaped],
      [0, 0],
    ]);
  });

  test('with another MAC has another slot and way, and the former are free a grace period after nothing names them', async () => {
    await bed.wire('a', 1);
    await bed.wire('a', 1, {}, '0a:00:00:00:00:02');
    expect([...(bed.slotOf(1)?.podMac ?? [])]).toEqual([10, 0, 0, 0, 0, 2]);
    expect([bed.slots.used, bed.hops.used]).toEqual([2, 2]);
    await bed.settle();
    expect([bed.slots.used, bed.hops.used]).toEqual([1, 1]);
  });

  test('that is closed is so at once, and leaves nothing', async () => {
    await bed.wire('a', 1);
    const slot = viewOf(bed.slotMap.get(u32Key(1)) ?? new Uint8Array(8)).getUint32(0, true);
    bed.wiring.close('a');
    expect(bed.isOpen(1)).toBe(false);
    expect(PodSlot.read(viewOf(bed.pods.value(slot))).unit).toEqual([0, 0, 0, 0]);
    expect(bed.slots.used).toBe(1); // Somebody may still read it.
    await bed.flush();
    await bed.settle();
    expect(bed.hopTo('10.65.0.1')).toBeUndefined();
    expect([bed.slots.used, bed.hops.used, bed.classifier.figures.units]).toEqual([0, 0, 0]);
    expect(bed.wiring.ifindex('a')).toBeUndefined();
  });

  test('on a device that another one had takes it over; the end of the first one takes nothing from it', async () => {
    await bed.wire('a', 1);
    await bed.wire('b', 1);
    bed.wiring.close('a');
    await bed.flush();
    expect(bed.isOpen(1)).toBe(true);
    expect(bed.hopTo('10.65.0.1')).toMatchObject({ kind: HopKind.pod, ifindex: 1 });
  });

  test('whose address another one has too yields it to the later, and gets it back', async () => {
    await bed.wire('a', 1);
    await bed.wire('b', 2, { ipv4Nets: ['10.65.0.1/32'] });
    expect(bed.hopTo('10.65.0.1')).toMatchObject({ ifindex: 2 });
    await bed.wire('a', 1, { tiers }); // Changed, not moved.
    expect(bed.hopTo('10.65.0.1')).toMatchObject({ ifindex: 2 });
    bed.wiring.close('b');
    await bed.flush();
    expect(bed.hopTo('10.65.0.1')).toMatchObject({ ifindex: 1 });
  });

  test('for which there is no slot says so; one is there again after a grace period', async () => {
    for (let n = 1; n <= 4; n++) await bed.wire(`e${n}`, n);
    expect(() => bed.prepare('e5', 5)).toThrow(expect.objectContaining({ code: 'BPF_MAP_FULL' }));
    bed.wiring.close('e1');
    expect(() => bed.prepare('e5', 5)).toThrow(expect.objectContaining({ code: 'BPF_MAP_FULL' }));
    await bed.flush();
    await bed.settle();
    await bed.wire('e5', 5);
    expect(bed.isOpen(5)).toBe(true);
  });
});

describe('a unit that can not be made', () => {
  test('denies its endpoint with the reason, keeps being asked for, and is noticed when it is made', async () => {
    sayPolicy(['unheard']);
    bed.prepare('a', 1, { tiers });
    await bed.flush();
    expect(bed.wiring.failure('a')).toContain('unheard');
    bed.wiring.deny('a');
    expect([bed.isOpen(1), bed.slotOf(1)]).toEqual([false, undefined]);
    await bed.flush();
    await bed.settle();
    expect(bed.wiring.failure('a')).toContain('unheard');
    bed.classifier.onUpdate({ type: 'ipSetUpdate', id: 'unheard', setType: 'net', members: [] });
    await bed.flush();
    expect(bed.wiring.failure('a')).toBeUndefined();
    await bed.wire('a', 1, { tiers });
    expect(bed.isOpen(1)).toBe(true);
  });
});

describe('the address in a slot', () => {
  test('is that of its endpoint, of each family the first, and the next when that is taken away', async () => {
    await bed.wire('a', 1, { ipv4Nets: ['10.65.0.1/32', '10.65.0.2/32'] });
    expect([bed.slotsNaming('10.65.0.1'), bed.slotsNaming('10.65.0.2')]).toEqual([[1], []]);
    expect([...(bed.slotOf(1)?.address6 ?? [])]).toEqual([0xfd, 0, 0, 0x65, ...Array<number>(11).fill(0), 1]);
    await bed.wire('a', 1, { ipv4Nets: ['10.65.0.2/32'] });
    expect([bed.slotsNaming('10.65.0.1'), bed.slotsNaming('10.65.0.2')]).toEqual([[], [1]]);
  });

  test('is gone as soon as the endpoint is closed, before any flush', async () => {
    await bed.wire('a', 1);
    bed.wiring.close('a');
    expect(bed.slotsNaming('10.65.0.1')).toEqual([]);
  });

  test('goes over to the endpoint that has it now, and back', async () => {
    const both = { ipv4Nets: ['10.65.0.1/32'] };
    await bed.wire('a', 1, both);
    await bed.wire('b', 2, both);
    expect(bed.slotsNaming('10.65.0.1')).toEqual([2]);
    bed.wiring.close('b');
    expect(bed.slotsNaming('10.65.0.1')).toEqual([1]);
  });

  test('goes over to the slot of another MAC', async () => {
    await bed.wire('a', 1);
    await bed.wire('a', 1, {}, '0a:00:00:00:00:02');
    expect(bed.slotsNaming('10.65.0.1')).toHaveLength(1);
    expect([...(bed.slotOf(1)?.address4 ?? [])]).toEqual([10, 65, 0, 1]);
  });

  test('is none for a network', async () => {
    await bed.wire('a', 1, { ipv4Nets: ['10.65.0.0/24'] });
    expect([...(bed.slotOf(1)?.address4 ?? [])]).toEqual([0, 0, 0, 0]);
  });
});

describe('ways', () => {
  test('of one kind to many networks are one record; a pod comes before the node, and that before a pool', async () => {
    bed.hops.set('pool a', '10.65.0.0/16', { kind: 'pool' });
    bed.hops.set('pool b', '10.66.0.0/16', { kind: 'pool' });
    bed.hops.set('node', '10.65.0.1/32', { kind: 'host' });
    await bed.wire('a', 1);
    expect(bed.hopTo('10.65.0.1')).toMatchObject({ kind: HopKind.pod });
    expect(bed.hopTo('10.65.9.9')).toEqual({ kind: HopKind.stack, flags: 1, ifindex: 0, slot: 0 });
    expect(bed.hopTo('10.66.9.9')).toEqual(bed.hopTo('10.65.9.9'));
    bed.wiring.close('a');
    await bed.flush();
    expect(bed.hopTo('10.65.0.1')).toMatchObject({ kind: HopKind.host });
    bed.hops.set('node', '10.65.0.1/32', undefined);
    await bed.flush();
    await bed.settle();
    expect(bed.hopTo('10.65.0.1')).toMatchObject({ kind: HopKind.stack });
    expect(bed.hops.used).toBe(1);
  });

  test('for which there is no record are the stack, without an error', async () => {
    for (let n = 1; n <= 4; n++) await bed.wire(`e${n}`, n);
    bed.hops.set('node', '192.0.2.1/32', { kind: 'host' });
    bed.hops.set('pool', '10.65.0.0/16', { kind: 'pool' });
    await bed.flush();
    expect(bed.hopTo('192.0.2.1')).toMatchObject({ kind: HopKind.host });
    expect(bed.hopTo('10.65.1.1')).toBeUndefined();
    expect(bed.hopTo('10.65.0.1')).toMatchObject({ kind: HopKind.pod });
  });

  test('a number is not given away while a flush that takes it from its address has failed', async () => {
    await bed.wire('a', 1);
    bed.wiring.close('a');
    bed.afterFlush.beginFlush().putBack();
    await bed.afterFlush.settle(() => Promise.resolve());
    expect([bed.slots.used, bed.hops.used]).toEqual([1, 1]);
    await bed.flush();
    await expect(
      bed.afterFlush.settle(() => Promise.reject(Object.assign(new Error('no'), { code: 'ENOMEM' }))),
    ).rejects.toMatchObject({ code: 'ENOMEM' });
    expect(bed.slots.used).toBe(1);
    await bed.settle();
    expect([bed.slots.used, bed.hops.used]).toEqual([0, 0]);
  });
});
