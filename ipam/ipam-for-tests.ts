/** What IPAM's tests share: a world of objects, a clock moved by hand, crashes, and the invariants. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from '@jest/globals';
import type { Clock } from '#api/clock.ts';
import { parseAs, type KindMap, type KindName } from '#api/kinds.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { addressesIn, reserveHandle } from './allocations.ts';
import { allocationsOf } from './block.ts';
import type { Assignment, AutoAssignRequest } from './ipam.ts';
import { NodeIpam } from './node-ipam.ts';
import type { NodeFacts } from './reconcile-node.ts';
import { checkIpam } from './report.ts';
import { WatchedFacts } from './watched-facts-for-tests.ts';

const v3 = 'projectcalico.org/v3';

/** Time that stands still until a test moves it. */
export class ManualClock implements Clock {
  #now = Date.parse('2026-11-21T00:00:00Z');
  readonly #timers = new Set<{ readonly at: number; readonly action: () => void }>();

  now(): number {
    return this.#now;
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      this.after(ms, resolve);
      signal?.addEventListener('abort', () => reject(signal.reason as Error));
    });
  }

  after(ms: number, action: () => void): Disposable {
    const timer = { at: this.#now + ms, action };
    this.#timers.add(timer);
    return { [Symbol.dispose]: () => this.#timers.delete(timer) };
  }

  advance(ms: number): void {
    this.#now += ms;
    for (const timer of this.#timers) {
      if (timer.at <= this.#now) {
        this.#timers.delete(timer);
        timer.action();
      }
    }
  }
}

/** Stores an object given as YAML would be. */
export async function put<K extends KindName>(
  datastore: Datastore,
  kind: K,
  name: string,
  rest: object,
): Promise<KindMap[K]> {
  const apiVersion = ['Node', 'Namespace', 'Pod'].includes(kind) ? 'v1' : v3;
  const { metadata, ...spec } = rest as { metadata?: object };
  return datastore.create(kind, parseAs(kind, { apiVersion, kind, metadata: { name, ...metadata }, ...spec }).object);
}

/** Stores an IPPool. */
export function putPool(
  datastore: Datastore,
  name: string,
  cidr: string,
  spec: object = {},
): Promise<KindMap['IPPool']> {
  return put(datastore, 'IPPool', name, { spec: { cidr, ...spec } });
}

/** Replaces fields of an object's spec. */
export async function patchSpec(
  datastore: Datastore,
  kind: 'IPPool' | 'IPAMConfiguration',
  name: string,
  fields: object,
): Promise<void> {
  const object = await datastore.get(kind, { name });
  if (object === undefined) {
    throw new Error(`no ${kind} ${name}`);
  }
  await datastore.update(kind, { ...object, spec: { ...object.spec, ...fields } } as never);
}

/** A request for one IPv4 address. */
export function wants(handle: string, more: Partial<AutoAssignRequest> = {}): AutoAssignRequest {
  return { handle, attributes: { namespace: 'default', pod: handle }, want4: true, want6: false, ...more };
}

/** Addresses without their prefix lengths. */
export function plain(assignment: Assignment): readonly string[] {
  return assignment.addresses.map((address) => address.split('/')[0] ?? '');
}

/** A folder for journals that is removed by `using`. */
export class TestFolder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), `tortie-ipam-${process.pid}-`));

  journal(node: string): string {
    return join(this.path, node, 'ipam.journal');
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** A node's IPAM with its watches; end it by `await using`. */
export interface TestNode extends AsyncDisposable {
  readonly name: string;
  readonly ipam: NodeIpam;
  readonly facts: WatchedFacts;
  readonly logs: string[];
}

/** Starts a node's IPAM. */
export async function startNode(
  datastore: Datastore,
  name: string,
  options: {
    readonly folder: TestFolder;
    readonly clock?: Clock;
    readonly facts?: NodeFacts;
    readonly reserveSize?: number;
  },
): Promise<TestNode> {
  const clock = options.clock ?? new ManualClock();
  const logs: string[] = [];
  const facts = new WatchedFacts(datastore, name, clock, (error) => logs.push(String(error)));
  await facts.start();
  const ipam = new NodeIpam({
    datastore,
    nodeName: name,
    clock,
    facts,
    journalPath: options.folder.journal(name),
    log: (_, message) => logs.push(message),
    ...(options.reserveSize === undefined ? {} : { reserveSize: options.reserveSize }),
  });
  await ipam.start(options.facts ?? { live: new Map() });
  return {
    name,
    ipam,
    facts,
    logs,
    [Symbol.asyncDispose]: async () => {
      await ipam.close().catch(() => {}); // The test may have broken its datastore.
      await facts[Symbol.asyncDispose]();
    },
  };
}

/** A process's view of the datastore that ends at one call: from there on nothing returns, as if the process had been killed. */
export class MortalDatastore implements Datastore {
  readonly location = 'memory';
  readonly derived: ReadonlySet<KindName> = new Set();
  readonly #real: Datastore;
  #dieAt: number;
  readonly #afterEffect: boolean;
  readonly #death = Promise.withResolvers<'dead'>();
  /** Ends its watches, as the end of a process does. */
  readonly #killed = new AbortController();
  #calls = 0;

  /** Dies at the call number `dieAt` (from 1), before it takes effect or after. */
  constructor(real: Datastore, dieAt = Infinity, afterEffect = false) {
    this.#real = real;
    this.#dieAt = dieAt;
    this.#afterEffect = afterEffect;
  }

  get calls(): number {
    return this.#calls;
  }

  /** Kills it now: calls under way may still take effect, but are never answered. */
  kill(): void {
    this.#dieAt = 0;
    this.#death.resolve('dead');
    this.#killed.abort();
  }

  get isDead(): boolean {
    return this.#calls >= this.#dieAt;
  }

  /** Resolves when the process is dead. */
  get death(): Promise<'dead'> {
    return this.#death.promise;
  }

  get: Datastore['get'] = (kind, key) => this.#call(() => this.#real.get(kind, key));
  list: Datastore['list'] = (kind, options) => this.#call(() => this.#real.list(kind, options));
  create: Datastore['create'] = (kind, object) => this.#call(() => this.#real.create(kind, object));
  update: Datastore['update'] = (kind, object) => this.#call(() => this.#real.update(kind, object));
  delete: Datastore['delete'] = (kind, key, only) => this.#call(() => this.#real.delete(kind, key, only));
  watch: Datastore['watch'] = (kind, options) =>
    this.#real.watch(kind, {
      ...options,
      signal: AbortSignal.any([this.#killed.signal, ...(options.signal === undefined ? [] : [options.signal])]),
    });

  absent(): readonly KindName[] {
    return this.#real.absent();
  }

  problems(): readonly [] {
    return [];
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  async #call<T>(action: () => Promise<T>): Promise<T> {
    this.#calls++;
    if (this.#calls > this.#dieAt || (this.#calls === this.#dieAt && !this.#afterEffect)) {
      return this.#die();
    }
    const result = await action();
    return this.#calls >= this.#dieAt ? this.#die() : result;
  }

  #die(): Promise<never> {
    this.#death.resolve('dead');
    this.#killed.abort();
    return new Promise(() => {});
  }
}

/** Every allocated address with its handle, from the blocks. */
export async function allocated(datastore: Datastore): Promise<ReadonlyMap<string, string>> {
  const { items } = await datastore.list('IPAMBlock');
  return new Map(
    items
      .filter(({ spec }) => !spec.deleted)
      .flatMap(({ spec }) => addressesIn(spec).map(({ address, handle }) => [address, handle ?? ''] as const)),
  );
}

/** The same without the reserves. */
export async function allocatedToPods(datastore: Datastore): Promise<ReadonlyMap<string, string>> {
  return new Map([...(await allocated(datastore))].filter(([, handle]) => !handle.startsWith(reserveHandle(''))));
}

/** Every block is in itself consistent. */
export async function expectSoundBlocks(datastore: Datastore): Promise<void> {
  for (const { spec } of (await datastore.list('IPAMBlock')).items) {
    const used = spec.allocations.flatMap((index, ordinal) => (index === null ? [] : [ordinal]));
    expect([...used, ...spec.unallocated].sort((a, b) => a - b)).toEqual(spec.allocations.map((_, ordinal) => ordinal));
    expect(new Set(spec.allocations.filter((index) => index !== null))).toEqual(new Set(spec.attributes.keys()));
    expect(
      Object.keys(spec.sequenceNumberForAllocation)
        .map(Number)
        .sort((a, b) => a - b),
    ).toEqual(allocationsOf(spec).map(({ ordinal }) => ordinal));
  }
}

/** Nothing contradicts itself: blocks, affinities, handles. What only says that test pods and nodes have no objects is left out. */
export async function expectNoFindings(datastore: Datastore): Promise<void> {
  const findings = await checkIpam(datastore);
  expect(
    findings.filter(({ kind }) => kind !== 'allocation-without-node' && kind !== 'allocation-without-pod'),
  ).toEqual([]);
}

/** Pseudo-random numbers from a seed (mulberry32), so that a failure can be repeated. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** From 0 to `n` - 1. */
  below(n: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % n;
  }

  pick<T>(items: readonly T[]): T | undefined {
    return items[this.below(items.length)];
  }
}
