import { randomBytes } from 'node:crypto';
import { networkOf, parseIp, tryParseNet, type Cidr } from '#api/cidr.ts';
import type { Clock } from '#api/clock.ts';
import { objectText, type KindMap } from '#api/kinds.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { isDatastoreError } from '#datastore/errors.ts';
import type { Netlink } from '#native/types.ts';
import { aborted } from '../aborted.ts';
import type { Log } from '../log.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { clusterConfigKey, parseClusterConfig } from './cluster-config.ts';
import {
  clusterInformation,
  defaultPool,
  defaultPoolNames,
  defaultSettings,
  managedBy,
  type DefaultObject,
} from './default-objects.ts';
import { kubeadmConfigKey, kubeadmRanges } from './kubeadm.ts';
import { decideRanges, hasPodCidr } from './pool-ranges.ts';

/** Pauses between tries, in ms. */
const retryMs = { first: 500, longest: 10_000 };
/** How long a Node without a podCIDR may still get one (the controller manager gives it a moment after the Node has come), in ms. */
const podCidrPatienceMs = 10_000;

/** What `ClusterDefaults` works with. */
export interface ClusterDefaultsParts {
  readonly datastore: Datastore;
  readonly store: Pick<ObjectStore, 'of'>;
  readonly host: Pick<Netlink, 'routes' | 'addresses'>;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Makes what a cluster needs and nobody has made: settings, tiers, IPAM's configuration, the first pools, and last of all ClusterInformation. Any
 * number of agents may do it at once: each object has a fixed name, so the API server lets one of them make it, and the others take that one. Pools are
 * made only while there is none; what exists is never changed. ClusterInformation comes last, so that who finds it knows that the set is whole; without it,
 * a set of which one agent made a part before it ended is completed by any other.
 */
export class ClusterDefaults implements AsyncDisposable {
  readonly #parts: ClusterDefaultsParts;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #problems: readonly string[] = [];
  #isDone = false;

  constructor(parts: ClusterDefaultsParts) {
    this.#parts = parts;
  }

  /** Begins, from informers that have synced. Resolves when all is made, or when it is stopped; what is in the way stands in `problems`. */
  start(): Promise<void> {
    this.#running ??= this.#run();
    return this.#running;
  }

  /** Why not all is made yet. */
  get problems(): readonly string[] {
    return this.#problems;
  }

  /** Why no pod may be wired: the cluster has not been set up, and can't be. Undefined otherwise. */
  get unavailableReason(): string | undefined {
    if (this.#isDone || this.#isSetUp()) return undefined;
    return ['the cluster is not set up yet', ...this.#problems].join(': ');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, log } = this.#parts;
    const { signal } = this.#stop;
    const stopped = aborted(signal).catch(() => undefined);
    let pauseMs = retryMs.first;
    while (!signal.aborted) {
      // A datastore that hangs must not hold up a stop.
      const problems = await Promise.race([this.#try(), stopped]);
      if (problems === undefined) return;
      const isNews = problems.join() !== this.#problems.join();
      this.#problems = problems;
      this.#isDone = problems.length === 0;
      if (this.#isDone) return;
      if (isNews) log.warn({ problems, retryMs: pauseMs }, 'the defaults of the cluster could not be made');
      await clock.sleep(pauseMs, signal).catch(() => {});
      pauseMs = Math.min(pauseMs * 2, retryMs.longest);
    }
  }

  async #try(): Promise<readonly string[]> {
    try {
      return await this.#make();
    } catch (error) {
      return [error instanceof Error ? error.message : String(error)];
    }
  }

  /** One try: all that is missing, or, where it can't be decided, nothing and why. */
  async #make(): Promise<readonly string[]> {
    const pools = await this.#missingPools();
    if ('problems' in pools) return pools.problems;
    const wanted = [
      ...defaultSettings(),
      ...pools.pools,
      ...(this.#isSetUp() ? [] : [clusterInformation(randomBytes(16).toString('hex'))]),
    ];
    for (const one of wanted) if (!this.#exists(one)) await this.#create(one);
    return [];
  }

  async #missingPools(): Promise<
    { readonly pools: readonly DefaultObject[] } | { readonly problems: readonly string[] }
  > {
    const { datastore, store, log } = this.#parts;
    if (!(await this.#mayMakePools())) return { pools: [] };
    const config = parseClusterConfig((await datastore.get('ConfigMap', clusterConfigKey))?.data);
    if (config.problems.length > 0) return { problems: config.problems };
    if (!config.defaultPools) return { pools: [] };
    const kubeadm = kubeadmRanges((await datastore.get('ConfigMap', kubeadmConfigKey))?.data);
    if (kubeadm.problems.length > 0 && config.ranges[4] === undefined) return { problems: kubeadm.problems };
    if (config.ranges[4] === undefined && kubeadm.ranges.length === 0) await this.#nodesHavePodCidrs();
    const decision = decideRanges({
      config,
      kubeadm: kubeadm.ranges,
      nodes: [...store.of('Node').all()],
      hostNetworks: await this.#hostNetworks(),
      uniqueLocal,
    });
    if (decision.problems.length > 0) return decision;
    for (const { cidr, because } of decision.ranges) {
      log.info({ pool: defaultPoolNames[cidr.family], cidr: cidr.text, because }, 'the range of a default pool');
    }
    return { pools: decision.ranges.map(({ cidr }) => defaultPool(cidr)) };
  }

  /** There is no pool; or the cluster is not set up and all that are there are of a set that an agent has begun. */
  async #mayMakePools(): Promise<boolean> {
    const { datastore, store } = this.#parts;
    if (this.#isSetUp() && store.of('IPPool').size > 0) return false;
    const { items } = await datastore.list('IPPool');
    if (items.length === 0) return true;
    const isSetUp = (await datastore.get('ClusterInformation', { name: 'default' })) !== undefined;
    return !isSetUp && items.every(isOurs);
  }

  #isSetUp(): boolean {
    return this.#parts.store.of('ClusterInformation').get({ name: 'default' }) !== undefined;
  }

  #exists({ kind, object }: DefaultObject): boolean {
    return this.#parts.store.of(kind).get(object.metadata) !== undefined;
  }

  async #create({ kind, object }: DefaultObject): Promise<void> {
    const { datastore, log } = this.#parts;
    try {
      await datastore.create(kind, object);
      log.info({ object: objectText(kind, object.metadata) }, 'made, because there was none');
    } catch (error) {
      // Another agent was first: it is as good.
      if (!isDatastoreError(error, 'already-exists')) throw error;
    }
  }

  async #nodesHavePodCidrs(): Promise<void> {
    const { store, clock } = this.#parts;
    const deadline = clock.now() + podCidrPatienceMs;
    while (!hasPodCidr(store.of('Node').all()) && clock.now() < deadline) {
      await clock.sleep(250, this.#stop.signal);
    }
  }

  async #hostNetworks(): Promise<readonly Cidr[]> {
    const [routes, addresses] = await Promise.all([this.#parts.host.routes(), this.#parts.host.addresses()]);
    return [...routes.map(({ dst }) => dst), ...addresses.map(({ address }) => address)].flatMap(
      (text) => tryParseNet(text) ?? [],
    );
  }
}

function isOurs({ metadata }: KindMap['IPPool']): boolean {
  const names: readonly string[] = Object.values(defaultPoolNames);
  return (
    names.includes(metadata.name) && Object.entries(managedBy).every(([key, value]) => metadata.labels?.[key] === value)
  );
}

/** A random /48 of fd00::/8: 40 random bits, as RFC 4193 has it. */
export function uniqueLocal(): Cidr {
  const [first = '', ...rest] = `fd${randomBytes(5).toString('hex')}`.match(/.{4}/g) ?? [];
  return networkOf(parseIp(`${[first, ...rest].join(':')}::`), 48);
}
