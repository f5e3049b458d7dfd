/**
 * Several nodes over one datastore whose calls take place in random order; nodes are killed and started again at random. A failure prints
 * its seed: IPAM_SEED=<seed> repeats it.
 */
import { expect, test } from '@jest/globals';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import { DirectIpam } from './direct-ipam.ts';
import { IpamError, type Ipam } from './ipam.ts';
import {
  allocatedToPods,
  expectNoFindings,
  expectSoundBlocks,
  ManualClock,
  MortalDatastore,
  plain,
  put,
  putPool,
  Random,
  startNode,
  TestFolder,
  wants,
  type TestNode,
} from './ipam-for-tests.ts';

const budgetMs = Number(process.env['SOAK_SECONDS'] ?? 2) * 1000;
const firstSeed = Number(process.env['IPAM_SEED'] ?? Date.now() % 1_000_000);

/** Addresses that callers were given and have not asked to release. */
class Model {
  readonly byAddress = new Map<string, string>();

  given(handle: string, addresses: readonly string[]): void {
    for (const address of addresses) {
      const other = this.byAddress.get(address);
      if (other !== undefined) {
        throw new Error(`${address} was given to ${handle}, but ${other} has it`);
      }
      this.byAddress.set(address, handle);
    }
  }

  of(handle: string): string[] {
    return [...this.byAddress].filter(([, owner]) => owner === handle).map(([address]) => address);
  }

  forget(handle: string): void {
    for (const address of this.of(handle)) {
      this.byAddress.delete(address);
    }
  }
}

/** One node: its process, and what its runtime knows. */
class SimulatedNode {
  readonly #world: World;
  readonly name: string;
  readonly handles = new Set<string>();
  #mortal: MortalDatastore;
  #node: TestNode | undefined;
  #count = 0;

  constructor(world: World, name: string) {
    this.#world = world;
    this.name = name;
    this.#mortal = new MortalDatastore(world.store);
  }

  /** Starts the process, or starts it again after a kill. Sometimes it dies while it starts. */
  async start(options: { readonly mayDie: boolean } = { mayDie: true }): Promise<void> {
    const { random, model, store, folder, clock } = this.#world;
    for (;;) {
      this.#mortal =
        options.mayDie && random.below(4) === 0
          ? new MortalDatastore(store, 1 + random.below(25), random.below(2) === 0)
          : new MortalDatastore(store);
      const knowsOwners = random.below(2) === 0;
      const live = new Map(
        [...this.handles].flatMap((handle) =>
          model.of(handle).map((address) => [address, knowsOwners ? { handle } : undefined] as const),
        ),
      );
      const starting = startNode(this.#mortal, this.name, { folder, clock, facts: { live } });
      const started = await Promise.race([starting, this.#mortal.death]);
      if (started !== 'dead') {
        this.#node = started;
        return;
      }
    }
  }

  get ipam(): TestNode['ipam'] {
    if (this.#node === undefined) {
      throw new Error(`${this.name} was not started`);
    }
    return this.#node.ipam;
  }

  /** A few calls at once, of which some may never return because the process dies. */
  async step(): Promise<void> {
    const { random } = this.#world;
    const calls = Array.from({ length: 1 + random.below(4) }, () => this.#call());
    if (random.below(4) === 0) {
      calls.push(this.ipam.flush().catch(() => {}));
    }
    if (random.below(6) === 0) {
      for (let turn = random.below(20); turn > 0; turn--) {
        await new Promise(setImmediate);
      }
      this.#mortal.kill();
    }
    const outcome = await Promise.race([Promise.all(calls), this.#mortal.death]);
    if (outcome === 'dead') {
      await this.start();
    }
  }

  async #call(): Promise<void> {
    const { random, model } = this.#world;
    const mortal = this.#mortal;
    const handle = random.pick([...this.handles]);
    if (handle !== undefined && random.below(5) < 2) {
      this.handles.delete(handle);
      model.forget(handle); // From now on it may be given to others.
      await this.ipam.releaseHandle(handle);
      return;
    }
    const fresh = `net.${this.name}-${this.#count++}`;
    const more = random.pick([{}, {}, {}, { want6: true }, { pools4: ['manual'] }]);
    try {
      const addresses = plain(await this.ipam.autoAssign(wants(fresh, more)));
      if (this.#mortal === mortal && !mortal.isDead) {
        model.given(fresh, addresses);
        this.handles.add(fresh);
      }
    } catch (error) {
      if (!(error instanceof IpamError) || error.code !== 'no-free-address') {
        throw error;
      }
    }
  }

  /** Kills it, and starts one that lives. */
  async revive(): Promise<void> {
    this.#mortal.kill();
    await this.start({ mayDie: false });
  }

  async end(): Promise<void> {
    await this.#node?.[Symbol.asyncDispose]();
  }
}

interface World {
  readonly store: MemoryDatastore;
  readonly clock: ManualClock;
  readonly folder: TestFolder;
  readonly random: Random;
  readonly model: Model;
}

async function simulate(seed: number): Promise<void> {
  const random = new Random(seed);
  const clock = new ManualClock();
  using folder = new TestFolder();
  const pause = async (): Promise<void> => {
    for (let turn = random.below(3); turn > 0; turn--) {
      await new Promise(setImmediate);
    }
  };
  const store = new MemoryDatastore({ clock, pause });
  await putPool(store, 'v4', '10.65.0.0/25', { blockSize: 28 });
  await putPool(store, 'v6', 'fd00:65::/118', { blockSize: 122 });
  await putPool(store, 'manual', '10.70.0.0/28', { blockSize: 30, assignmentMode: 'Manual' });
  if (random.below(3) === 0) {
    await put(store, 'IPAMConfiguration', 'default', { spec: { strictAffinity: true } });
  }
  const world: World = { store, clock, folder, random, model: new Model() };
  const nodes = ['n1', 'n2', 'n3'].map((name) => new SimulatedNode(world, name));
  await Promise.all(nodes.map((node) => node.start()));
  const direct = new DirectIpam(store, 'n4', clock);
  const directHandles: string[] = [];
  for (let round = 0; round < 8; round++) {
    await Promise.all([...nodes.map((node) => node.step()), directStep(direct, world, directHandles, round)]);
    clock.advance(random.below(40_000));
  }
  for (const node of nodes) {
    await node.revive();
    await node.ipam.gc(node.handles, new Set());
    await node.ipam.flush();
  }
  expect(Object.fromEntries(await allocatedToPods(store))).toEqual(Object.fromEntries(world.model.byAddress));
  await expectSoundBlocks(store);
  await expectNoFindings(store);
  await Promise.all(nodes.map((node) => node.end()));
  await store[Symbol.asyncDispose]();
}

async function directStep(ipam: Ipam, { model, random }: World, handles: string[], round: number): Promise<void> {
  const handle = `net.n4-${round}`;
  try {
    model.given(handle, plain(await ipam.autoAssign(wants(handle))));
    handles.push(handle);
  } catch (error) {
    if (!(error instanceof IpamError) || error.code !== 'no-free-address') {
      throw error;
    }
  }
  if (random.below(2) === 0) {
    const old = handles.shift();
    if (old !== undefined) {
      model.forget(old);
      await ipam.releaseHandle(old);
    }
  }
}

test(
  'no address is given twice and none leaks, in any order of calls and with kills at any moment',
  async () => {
    const end = Date.now() + budgetMs;
    for (let seed = firstSeed; Date.now() < end; seed++) {
      try {
        await simulate(seed);
      } catch (error) {
        throw new Error(`IPAM_SEED=${seed}: ${error instanceof Error ? error.message : String(error)}`, {
          cause: error,
        });
      }
    }
  },
  budgetMs + 300_000,
);
