import type { Clock } from '#api/clock.ts';
import type { Lease } from '#api/core/lease.ts';
import { coordinationV1 } from '#api/core/lease.ts';
import { keyText } from '#api/meta.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { isDatastoreError } from '#datastore/errors.ts';
import type { Log } from '../log.ts';

/** The lease that says which agent collects. */
const key = { namespace: 'kube-system', name: 'tortie-controllers' } as const;

/**
 * In ms. A lease that has not changed for `duration` may be taken. The leader renews every `renew`, tries again after `retry`, and stops what it
 * does when it could not for `giveUp`, which is before anybody may take it.
 */
export const leaseTimes = { duration: 30_000, renew: 10_000, retry: 2_000, giveUp: 20_000 } as const;
const times = leaseTimes;

/** All who don't lead look at the lease so often together, per second: once in this many ms for each node of the cluster. */
const lookMsPerNode = 2_000;
const shortestLookMs = 10_000;
/** After the start the first look of each node comes within this many ms for each node. */
const firstLookMsPerNode = 20;

/** What of a lease changes whenever its holder renews it, or another takes it. */
interface Seen {
  readonly text: string;
  /** When this process saw it so first, by its own clock. */
  readonly since: number;
}

/** What a `LeaderLease` works with. */
export interface LeaderLeaseDeps {
  readonly datastore: Datastore;
  readonly clock: Clock;
  readonly log: Log;
  /** Unique for the process: its node's name and something random. */
  readonly identity: string;
  /** How many nodes the cluster has, about. */
  readonly nodes: () => number;
  /** From 0 to 1; for the jitter. */
  readonly random: () => number;
}

/**
 * One process of the cluster at a time leads, by a Lease and compare-and-swap. Clocks of different nodes are never compared: a lease is judged by
 * when this process saw it change. (What its holder wrote as time is only a hint to look again soon.) Who doesn't lead reads it the more seldom the
 * more nodes there are.
 */
export class LeaderLease {
  readonly #deps: LeaderLeaseDeps;
  #seen: Seen | undefined;
  #isSuspicious = false;
  #holder: string | undefined;
  #failure: string | undefined;

  constructor(deps: LeaderLeaseDeps) {
    this.#deps = deps;
  }

  /** Who held it when it was looked at last; undefined for nobody, or before the first look. */
  get holder(): string | undefined {
    return this.#holder;
  }

  /** Why the lease could not be read or written at the last try. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Until `signal` aborts: becomes leader when it can, and then runs `lead`, whose signal aborts when it must stop. Never rejects. */
  async run(lead: (signal: AbortSignal) => Promise<void>, signal: AbortSignal): Promise<void> {
    const { nodes, random } = this.#deps;
    await this.#sleep(Math.min(shortestLookMs, nodes() * firstLookMsPerNode) * random(), signal);
    while (!signal.aborted) {
      const held = await this.#try(() => this.#acquire());
      if (held !== undefined) {
        await this.#lead(held, lead, signal);
      }
      await this.#sleep(this.#pauseMs(), signal);
    }
  }

  /** The lease as written, if it is ours now. */
  async #acquire(): Promise<Lease | undefined> {
    const { datastore, clock, identity } = this.#deps;
    const lease = await datastore.get('Lease', key);
    const now = clock.now();
    if (lease === undefined) {
      return this.#written(await datastore.create('Lease', this.#lease(now, 0)));
    }
    const holder = lease.spec.holderIdentity ?? '';
    this.#holder = holder === '' ? undefined : holder;
    const text = `${lease.metadata.uid} ${lease.metadata.resourceVersion}`;
    if (this.#seen?.text !== text) {
      this.#seen = { text, since: now };
    }
    this.#isSuspicious = now - Date.parse(lease.spec.renewTime ?? '') > times.duration;
    const isFree = holder === '' || now - this.#seen.since >= times.duration;
    if (!isFree && holder !== identity) {
      return undefined;
    }
    const { spec } = this.#lease(now, (lease.spec.leaseTransitions ?? 0) + 1);
    return this.#written(await datastore.update('Lease', { ...lease, spec }));
  }

  async #lead(held: Lease, lead: (signal: AbortSignal) => Promise<void>, outer: AbortSignal): Promise<void> {
    const { clock, log } = this.#deps;
    const lost = new AbortController();
    const stop = () => lost.abort(new Error('this node does not lead any more'));
    const signal = AbortSignal.any([outer, lost.signal]);
    log.info({ lease: keyText(key) }, 'this node collects addresses for the cluster now');
    const leading = lead(signal).catch((error: unknown) => {
      if (!signal.aborted) log.error({ err: error }, 'collecting addresses ended');
    });
    let lease = held;
    let deadline = clock.after(times.giveUp, stop);
    for (let pauseMs: number = times.renew; !signal.aborted;) {
      await this.#sleep(pauseMs, signal);
      if (signal.aborted) break;
      // From before the write: the others may see it as early as that.
      const startedAt = clock.now();
      const answered = new AbortController();
      // A server that doesn't answer must not keep us from stopping.
      const silence = this.#sleep(times.giveUp, AbortSignal.any([signal, answered.signal]));
      const renewed = await Promise.race([this.#renew(lease), silence.then(() => undefined)]);
      answered.abort();
      if (renewed === 'lost') {
        stop();
      } else if (renewed !== undefined && !signal.aborted) {
        lease = renewed;
        deadline[Symbol.dispose]();
        deadline = clock.after(startedAt + times.giveUp - clock.now(), stop);
      }
      pauseMs = renewed === undefined ? times.retry : times.renew;
    }
    deadline[Symbol.dispose]();
    await leading;
    await this.#handBack(lease);
  }

  /** Undefined: it could not be written this time. */
  #renew(lease: Lease): Promise<Lease | 'lost' | undefined> {
    const { datastore, clock, identity } = this.#deps;
    const spec = { ...lease.spec, renewTime: microTime(clock.now()) };
    return this.#try(async () => {
      try {
        return await datastore.update('Lease', { ...lease, spec });
      } catch (error) {
        if (isDatastoreError(error, 'not-found')) return 'lost' as const;
        if (!isDatastoreError(error, 'conflict')) throw error;
        // An earlier renewal may have been written although its answer was lost.
        const now = await datastore.get('Lease', key);
        return now?.spec.holderIdentity === identity ? now : ('lost' as const);
      }
    });
  }

  /** So that the next one need not wait. What can't be written runs out by itself. */
  async #handBack(lease: Lease): Promise<void> {
    this.#deps.log.info({ lease: keyText(key) }, 'this node does not collect addresses any more');
    const spec = { ...lease.spec, holderIdentity: '', renewTime: microTime(this.#deps.clock.now()) };
    const written = await this.#try(() => this.#deps.datastore.update('Lease', { ...lease, spec }));
    if (written !== undefined) this.#holder = undefined;
  }

  #written(lease: Lease): Lease {
    this.#holder = lease.spec.holderIdentity ?? undefined;
    this.#seen = undefined;
    return lease;
  }

  #lease(now: number, leaseTransitions: number): Lease {
    return {
      apiVersion: coordinationV1,
      kind: 'Lease',
      metadata: { ...key },
      spec: {
        holderIdentity: this.#deps.identity,
        leaseDurationSeconds: times.duration / 1000,
        acquireTime: microTime(now),
        renewTime: microTime(now),
        leaseTransitions,
      },
    };
  }

  /** Until the next look: soon if the lease looks old, to see whether it changes. */
  #pauseMs(): number {
    const { nodes, random } = this.#deps;
    const usual = Math.max(shortestLookMs, nodes() * lookMsPerNode);
    const pause = this.#isSuspicious ? times.duration : usual;
    return Math.min(pause, usual) * (1 + random() / 4);
  }

  async #try<T>(action: () => Promise<T>): Promise<T | undefined> {
    try {
      const result = await action();
      this.#failure = undefined;
      return result;
    } catch (error) {
      // Somebody else was faster: the next look says who.
      const isRace = isDatastoreError(error, 'already-exists') || isDatastoreError(error, 'conflict');
      const message = error instanceof Error ? error.message : String(error);
      this.#failure = isRace ? undefined : `Lease ${keyText(key)}: ${message}`;
      return undefined;
    }
  }

  async #sleep(ms: number, signal: AbortSignal): Promise<void> {
    await this.#deps.clock.sleep(ms, signal).catch(() => {}); // Aborted: the caller looks at the signal.
  }
}

/** RFC 3339 with microseconds, as the API server writes it. */
function microTime(ms: number): string {
  return new Date(ms).toISOString().replace('Z', '000Z');
}
