import { randomUUID } from 'node:crypto';
import type { Clock } from '#api/clock.ts';
import { messageOf } from '#api/errors.ts';
import type { Datastore } from '#datastore/datastore.ts';
import type { NodeIpam } from '#ipam/node-ipam.ts';
import type { Log } from '../log.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { AddressMetrics } from './address-metrics.ts';
import { DepartedNodes } from './departed-nodes.ts';
import { LeakedAddresses, type LocalEndpoints } from './leaked-addresses.ts';
import { LeaderLease } from './lease.ts';

/**
 * In ms. The leader looks through everything each `scan`, and each `soonScan` while a gone node still has something; a second after a Node is deleted
 * or a Pod that kept its address there (others may follow); after a failure, `retry`.
 */
const pauses = { scan: 300_000, soonScan: 60_000, afterDeletion: 1_000, retry: 30_000 } as const;
/** How often a node looks after its own leaks when nothing is ever taken for one: there are spare blocks. In ms. */
const idleLookMs = 450_000;
const shortestLookMs = 1_000;
/**
 * How long the agent of a deleted node has to say that it is alive, in ms, or the time of grace if that is shorter: longer than an informer's longest
 * pause between two tries to watch, so that only one that can't reach the API server misses the question.
 */
const answerMs = 30_000;

/** What `tortie status` says of them. */
export interface ControllersStatus {
  /** Who collects for the cluster, as this node saw last; null for nobody. */
  readonly leader: string | null;
  readonly leads: boolean;
  /** When this node looked after its own addresses last, and, if it leads, after those of deleted nodes; RFC 3339. */
  readonly lastScan: { readonly ownNode: string | null; readonly deletedNodes: string | null };
  /** Addresses of this node that look unused; they are released after the time of grace. */
  readonly candidates: readonly string[];
  readonly problems: readonly string[];
}

/** What `AddressControllers` works with. */
export interface AddressControllersParts {
  readonly nodeName: string;
  readonly datastore: Datastore;
  readonly clock: Clock;
  readonly log: Log;
  readonly store: Pick<ObjectStore, 'of'>;
  readonly ipam: NodeIpam;
  readonly endpoints: LocalEndpoints;
  /** How long an address must look unused before it is released, in ms; 0: never. */
  readonly leakGraceMs: number;
  readonly addresses: AddressMetrics;
}

/**
 * Garbage collection of addresses in a cluster. Each agent looks after its own node; one of them, by a Lease, after nodes that were deleted.
 * Also the way by which this node's IPAM hears of what others do to its blocks.
 */
export class AddressControllers implements AsyncDisposable {
  readonly #parts: AddressControllersParts;
  readonly #stop = new AbortController();
  readonly #lease: LeaderLease;
  readonly #leaked: LeakedAddresses;
  readonly #departed: DepartedNodes;
  readonly #identity: string;
  #wake = Promise.withResolvers<void>();
  #running: readonly Promise<void>[] = [];
  #leads = false;
  #lastLook: number | undefined;
  #lastScan: number | undefined;
  #lookFailure: string | undefined;
  #scanProblems: readonly string[] = [];

  constructor(parts: AddressControllersParts) {
    const { nodeName, datastore, clock, log, store, ipam, endpoints, leakGraceMs, addresses } = parts;
    this.#parts = parts;
    this.#identity = `${nodeName}_${randomUUID()}`;
    this.#lease = new LeaderLease({
      datastore,
      clock,
      log,
      identity: this.#identity,
      nodes: () => store.of('Node').size,
      random: Math.random,
    });
    const pod = (namespace: string, name: string) => store.of('Pod').get({ namespace, name });
    this.#leaked = new LeakedAddresses({
      nodeName,
      datastore,
      clock,
      log,
      ipam,
      endpoints,
      pod,
      blocks: () => store.of('IPAMBlock').all(),
      graceMs: leakGraceMs > 0 ? leakGraceMs : Infinity,
      onReleased: (released) => addresses.onReclaimed(nodeName, released),
    });
    addresses.watchCandidates(() => this.#leaked.candidates());
    this.#departed = new DepartedNodes({
      datastore,
      clock,
      log,
      view: {
        blocks: () => store.of('IPAMBlock').all(),
        node: (name) => store.of('Node').get({ name }),
        pod,
        pods: () => store.of('Pod').all(),
      },
      cooldownSeconds: () => store.of('IPAMConfiguration').get({ name: 'default' })?.spec.ipCooldownSeconds ?? 0,
      answerMs: leakGraceMs > 0 ? Math.min(answerMs, leakGraceMs) : answerMs,
      onFreed: (node, freed) => addresses.onReclaimed(node, freed),
    });
  }

  /** Begins; the informers have synced, and this node's addresses have been compared with the datastore. */
  start(): void {
    if (this.#running.length > 0) return;
    const { store, ipam } = this.#parts;
    const blocks = store.of('IPAMBlock');
    blocks.onChange(({ name }, block) => ipam.noticeBlock(name, block));
    for (const block of blocks.all()) ipam.noticeBlock(block.metadata.name, block);
    store.of('Node').onChange((_key, node) => {
      if (node === undefined) this.#wake.resolve();
    });
    store.of('Pod').onChange((key, pod) => {
      if (pod === undefined && this.#departed.isWaitingFor(key)) this.#wake.resolve();
    });
    const { signal } = this.#stop;
    this.#running = [this.#lookAfterOwnNode(signal), this.#lease.run((leading) => this.#lead(leading), signal)];
  }

  status(): ControllersStatus {
    const time = (ms: number | undefined) => (ms === undefined ? null : new Date(ms).toISOString());
    return {
      leader: this.#lease.holder ?? null,
      leads: this.#leads,
      lastScan: { ownNode: time(this.#lastLook), deletedNodes: time(this.#lastScan) },
      candidates: this.#leaked.candidates(),
      problems: [this.#lease.failure, this.#lookFailure, ...this.#scanProblems].filter(
        (problem) => problem !== undefined,
      ),
    };
  }

  /** Ends; gives the lease back, if it can be written. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error('the agent is stopping'));
    this.#wake.resolve();
    await Promise.all(this.#running);
  }

  async #lookAfterOwnNode(signal: AbortSignal): Promise<void> {
    const { clock, leakGraceMs, log } = this.#parts;
    const usual = leakGraceMs > 0 ? Math.max(shortestLookMs, leakGraceMs / 2) : idleLookMs;
    while (!signal.aborted) {
      try {
        await this.#leaked.scan();
        this.#lastLook = clock.now();
        this.#lookFailure = undefined;
      } catch (error) {
        this.#lookFailure = `looking for unused addresses of this node: ${messageOf(error)}`;
        if (!signal.aborted)
          log.warn({ err: error }, 'looking for unused addresses failed; nothing is released meanwhile');
      }
      await clock.sleep(usual * (1 + Math.random() / 4), signal).catch(() => {});
    }
  }

  async #lead(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#parts;
    this.#leads = true;
    try {
      while (!signal.aborted) {
        this.#wake = Promise.withResolvers();
        let pause: number = pauses.scan;
        try {
          const { waiting } = await this.#departed.scan(signal);
          this.#lastScan = clock.now();
          this.#scanProblems = [...waiting].map(([node, why]) => `deleted node ${node}: ${why}`);
          if (waiting.size > 0) pause = pauses.soonScan;
        } catch (error) {
          if (signal.aborted) return;
          this.#scanProblems = [`freeing what deleted nodes had: ${messageOf(error)}`];
          log.warn({ err: error, retryMs: pauses.retry }, 'freeing what deleted nodes had failed');
          pause = pauses.retry;
        }
        await this.#rest(pause, signal);
      }
    } finally {
      this.#leads = false;
      this.#scanProblems = [];
    }
  }

  /** Until the time is over, or a moment after there may be something to do. */
  async #rest(ms: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts;
    const over = new AbortController();
    const sleep = clock.sleep(ms, AbortSignal.any([signal, over.signal])).catch(() => {});
    const woken = this.#wake.promise.then(() => true);
    const isWoken = await Promise.race([sleep.then(() => false), woken]);
    over.abort();
    if (isWoken) await clock.sleep(pauses.afterDeletion, signal).catch(() => {});
  }
}
