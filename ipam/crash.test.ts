/**
 * Kills a node's process at every single call to the datastore (before it takes effect, and after), starts it again from datastore and
 * journal, and looks whether anybody's address is given twice, and whether anything leaks after garbage collection.
 */
import { describe, expect, test } from '@jest/globals';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import { DirectIpam } from './direct-ipam.ts';
import type { Ipam } from './ipam.ts';
import {
  allocatedToPods,
  expectNoFindings,
  expectSoundBlocks,
  ManualClock,
  MortalDatastore,
  plain,
  putPool,
  startNode,
  TestFolder,
  wants,
} from './ipam-for-tests.ts';

/** What callers were told: by handle its addresses. `null`: the answer never came. */
class Told {
  readonly held = new Map<string, readonly string[] | null>();

  addresses(): string[] {
    return [...this.held.values()].flatMap((addresses) => addresses ?? []);
  }

  /** The handles that certainly exist. */
  handles(): Set<string> {
    return new Set([...this.held].flatMap(([handle, addresses]) => (addresses === null ? [] : [handle])));
  }

  async assign(ipam: Ipam, handle: string, more: Parameters<typeof wants>[1] = {}): Promise<void> {
    this.held.set(handle, null);
    const addresses = plain(await ipam.autoAssign(wants(handle, more)));
    expect(addresses.filter((address) => this.addresses().includes(address))).toEqual([]);
    this.held.set(handle, addresses);
  }

  async release(ipam: Ipam, handle: string): Promise<void> {
    this.held.set(handle, null);
    await ipam.releaseHandle(handle);
    this.held.delete(handle);
  }
}

type Flushing = Ipam & {
  flush(): Promise<void>;
  gc(valid: ReadonlySet<string>, live: ReadonlySet<string>): Promise<unknown>;
};
interface Script {
  readonly name: string;
  readonly run: (ipam: Flushing, told: Told) => Promise<void>;
}

const scripts: readonly Script[] = [
  {
    name: 'first block, reserve, hand-over, release',
    run: async (ipam, told) => {
      await told.assign(ipam, 'net.a');
      await ipam.flush();
      await told.assign(ipam, 'net.b');
      await told.assign(ipam, 'net.c');
      await told.release(ipam, 'net.b');
      await ipam.flush();
      await told.release(ipam, 'net.a');
      await told.assign(ipam, 'net.d');
      await ipam.flush();
    },
  },
  {
    name: 'dual stack, released before it is written, and a second time under the same handle',
    run: async (ipam, told) => {
      await told.assign(ipam, 'net.a', { want6: true });
      await ipam.flush();
      await told.assign(ipam, 'net.b', { want6: true });
      await told.release(ipam, 'net.b');
      await told.assign(ipam, 'net.b', { want6: true });
      await told.release(ipam, 'net.a');
      await ipam.flush();
    },
  },
  {
    name: 'a full pool, an exact address, garbage collection',
    run: async (ipam, told) => {
      for (const handle of ['net.1', 'net.2', 'net.3', 'net.4', 'net.5']) {
        await told.assign(ipam, handle, { pools4: ['tiny'] });
      }
      await told.release(ipam, 'net.2');
      await told.assign(ipam, 'net.6', { pools4: ['tiny'] });
      told.held.set('net.4', null);
      told.held.set('net.5', null);
      await ipam.gc(new Set(['net.1', 'net.3', 'net.6']), new Set());
      await ipam.flush();
      told.held.delete('net.4');
      told.held.delete('net.5');
    },
  },
];

async function freshStore(clock: ManualClock): Promise<MemoryDatastore> {
  const store = new MemoryDatastore({ clock });
  await putPool(store, 'v4', '10.65.0.0/26', { blockSize: 27 });
  await putPool(store, 'v6', 'fd00:65::/64');
  await putPool(store, 'tiny', '10.70.0.0/29', { blockSize: 30, assignmentMode: 'Manual' });
  return store;
}

/** Runs the script in a process that dies at this call; returns what callers were told and whether it died. */
async function killedAt(
  script: Script,
  call: number,
  afterEffect: boolean,
  world: { store: MemoryDatastore; clock: ManualClock; folder: TestFolder },
) {
  const told = new Told();
  const mortal = new MortalDatastore(world.store, call, afterEffect);
  const life = (async () => {
    const node = await startNode(mortal, 'n1', world);
    await script.run(node.ipam, told);
    return mortal.calls;
  })();
  const outcome = await Promise.race([life, mortal.death]);
  return { told, outcome };
}

/** Whether the node's own records know who uses which address. */
const records = ['known owners', 'unknown owners', 'nothing wired yet'] as const;

describe.each(scripts)('killed at any call of: $name', (script) => {
  test.each(records.flatMap((record) => [[record, false] as const, [record, true] as const]))(
    'with %s on the node (after the effect: %s)',
    async (record, afterEffect) => {
      for (let call = 1; ; call++) {
        using folder = new TestFolder();
        const clock = new ManualClock();
        const store = await freshStore(clock);
        const world = { store, clock, folder };
        const { told, outcome } = await killedAt(script, call, afterEffect, world);
        const live = new Map(
          record === 'nothing wired yet'
            ? []
            : [...told.held].flatMap(([handle, addresses]) =>
                (addresses ?? []).map(
                  (address) => [address, record === 'known owners' ? { handle } : undefined] as const,
                ),
              ),
        );
        await using node = await startNode(store, 'n1', { folder, clock, facts: { live } });
        expect(node.logs.filter((line) => !line.includes('kept out of use'))).toEqual([]);
        // Whoever was told of an address keeps it, and no new one gets it.
        for (let i = 0; i < 12; i++) {
          await told.assign(node.ipam, `net.new${i}`);
        }
        await node.ipam.flush();
        const stored = await allocatedToPods(store);
        for (const [handle, addresses] of told.held) {
          expect([call, ...(addresses ?? []).map((address) => stored.get(address))]).toEqual([
            call,
            ...(addresses ?? []).map(() => handle),
          ]);
        }
        await node.ipam.gc(told.handles(), new Set());
        await node.ipam.flush();
        expect([call, new Set((await allocatedToPods(store)).keys())]).toEqual([call, new Set(told.addresses())]);
        await expectSoundBlocks(store);
        await expectNoFindings(store);
        await store[Symbol.asyncDispose]();
        if (outcome !== 'dead') {
          expect(call).toBeGreaterThan(20);
          return;
        }
      }
    },
  );
});

test.each([false, true])(
  'a process killed at any call while it lets go of what a reboot left leaks nothing (after the effect: %s)',
  async (afterEffect) => {
    for (let call = 1; ; call++) {
      using folder = new TestFolder();
      const clock = new ManualClock();
      const store = await freshStore(clock);
      const world = { store, clock, folder };
      const told = new Told();
      const beforeReboot = new MortalDatastore(store);
      const first = await startNode(beforeReboot, 'n1', world);
      for (const name of ['a', 'b', 'c']) await told.assign(first.ipam, `net.${name}`, { want6: true });
      await first.ipam.flush();
      beforeReboot.kill();

      const rebooted = { live: new Map<string, undefined>(), valid: new Set<string>() };
      const mortal = new MortalDatastore(store, call, afterEffect);
      const life = (async () => {
        const second = await startNode(mortal, 'n1', { ...world, facts: rebooted });
        await second.ipam.flush();
        return mortal.calls;
      })();
      const outcome = await Promise.race([life, mortal.death]);
      await using third = await startNode(store, 'n1', { ...world, facts: rebooted });
      await third.ipam.flush();
      expect([call, (await allocatedToPods(store)).size]).toEqual([call, 0]);
      await expectNoFindings(store);
      await store[Symbol.asyncDispose]();
      if (outcome !== 'dead') return;
    }
  },
);

test.each([false, true])(
  'a stand-alone process killed at any call leaves nothing that DEL does not find (after the effect: %s)',
  async (afterEffect) => {
    for (let call = 1; ; call++) {
      const clock = new ManualClock();
      const store = await freshStore(clock);
      const told = new Told();
      const mortal = new MortalDatastore(store, call, afterEffect);
      const killed = new DirectIpam(mortal, 'n1', clock);
      const life = (async () => {
        await told.assign(killed, 'net.a', { want6: true });
        await told.assign(killed, 'net.b');
        await told.release(killed, 'net.a');
      })();
      const outcome = await Promise.race([life, mortal.death]);
      const ipam = new DirectIpam(store, 'n1', clock);
      for (let i = 0; i < 5; i++) {
        await told.assign(ipam, `net.new${i}`, { want6: true });
      }
      for (const handle of told.held.keys()) {
        await ipam.releaseHandle(handle);
      }
      expect([call, (await allocatedToPods(store)).size]).toEqual([call, 0]);
      await expectSoundBlocks(store);
      await expectNoFindings(store);
      if (outcome !== 'dead') {
        return;
      }
    }
  },
);
