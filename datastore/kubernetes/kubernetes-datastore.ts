import type { Clock } from '#api/clock.ts';
import { messageOf } from '#api/errors.ts';
import { kinds, objectText, type KindMap, type KindName } from '#api/kinds.ts';
import type { ObjectKey } from '#api/meta.ts';
import { parseWorkloadEndpointName } from '#api/names.ts';
import { stringifyJson } from '#api/sequence.ts';
import type { ClusterWrites } from '../cluster-writes.ts';
import type { Datastore, DatastoreProblem, Listing, WatchEvent } from '../datastore.ts';
import { DatastoreError, isDatastoreError } from '../errors.ts';
import { ProblemLog } from '../problem-log.ts';
import { checkCreate, checkKey, checkUpdate, keyOf, validated } from '../stored-object.ts';
import { Credentials, serviceAccountDir } from './credentials.ts';
import { workloadEndpointOf } from './derived.ts';
import { InForce } from './in-force.ts';
import { listCollection, probeCollection } from './lists.ts';
import { Patches } from './patches.ts';
import { collectionPath, objectPath } from './path.ts';
import { readObject, type Reading } from './reading.ts';
import { Requests, type Call } from './requests.ts';
import { Sharing } from './slim.ts';
import { KindMissingError } from './status.ts';
import { Transport } from './transport.ts';
import { watchCollection } from './watch.ts';

/** What a `KubernetesDatastore` works with. */
export interface KubernetesDatastoreOptions {
  /** A kubeconfig's path; absent: the service account of the pod that this process runs in. */
  readonly kubeconfig: string | undefined;
  readonly clock: Clock;
  readonly log: (level: 'info' | 'warn', message: string) => void;
  /** Where KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are read from, and the service account: the process' own if absent. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly serviceAccountDir?: string;
}

/** A cluster's API server as datastore. */
export interface KubernetesDatastore extends Datastore, ClusterWrites {}

/** Opens it. Rejects, naming the setting, when credentials or address can't be used; a server that is away is no reason. */
export async function openKubernetesDatastore(options: KubernetesDatastoreOptions): Promise<KubernetesDatastore> {
  const credentials = new Credentials(
    {
      kubeconfig: options.kubeconfig,
      environment: options.environment ?? process.env,
      serviceAccountDir: options.serviceAccountDir ?? serviceAccountDir,
    },
    options.clock,
  );
  return new ApiServerDatastore(credentials, options);
}

/** Kinds that a cluster may do without: others give them. */
const optionalKinds: ReadonlySet<KindName> = new Set(['ClusterNetworkPolicy']);

/** The point of a listing of a kind that isn't served; and how often it is looked for, in ms. */
const absent = { point: 'absent', lookMs: 60_000 };

/** For so long after a listing or watch the last valid versions of a kind are kept, if nobody watches it (again). In ms. */
const keepMs = 60_000;

/** Kinds that are written by compare-and-swap: what can't be read of them must not be taken for missing, nor for what it was. */
const ownedKinds: ReadonlySet<KindName> = new Set(['IPAMBlock', 'BlockAffinity', 'IPAMHandle', 'Lease']);

/** So many watches in a row that broke at the same point: what comes next there can't be read, by us or by the server. */
const mostBroken = 5;

/** What is known of one kind. */
interface KindState<K extends KindName> {
  readonly inForce: InForce<K>;
  watchers: number;
  /** Where watches broke that the server had taken up, and how many. */
  broken: { readonly point: string; readonly times: number };
  forgetting: Disposable | undefined;
}

/**
 * Objects of a cluster's API server. Nothing is kept here but what may be needed when an object turns invalid: who wants to know all, lists and
 * watches. Kinds of Kubernetes come slim and can't be written; a WorkloadEndpoint is made of its Pod.
 */
class ApiServerDatastore implements KubernetesDatastore {
  readonly location = 'kubernetes';
  readonly derived: ReadonlySet<KindName> = new Set(['WorkloadEndpoint']);
  readonly annotatePod: ClusterWrites['annotatePod'];
  readonly annotateNode: ClusterWrites['annotateNode'];
  readonly reportNetworkAvailable: ClusterWrites['reportNetworkAvailable'];
  readonly #requests: Requests;
  readonly #transport: Transport;
  readonly #clock: Clock;
  readonly #log: KubernetesDatastoreOptions['log'];
  readonly #closing = new AbortController();
  readonly #sharing = new Sharing();
  readonly #states = new Map<KindName, KindState<KindName>>();
  readonly #absent = new Set<KindName>();
  readonly #problems: ProblemLog;
  /** Fields that we don't know, by kind and path: each is worth one line, not one for each object. */
  readonly #remarks = new Map<string, string>();

  constructor(credentials: Credentials, { clock, log }: KubernetesDatastoreOptions) {
    this.#clock = clock;
    this.#log = log;
    this.#problems = new ProblemLog(log);
    this.#transport = new Transport(credentials, clock, log);
    this.#requests = new Requests(this.#transport, credentials, clock, this.#closing.signal);
    const patches = new Patches(this.#requests, clock);
    this.annotatePod = patches.annotatePod.bind(patches);
    this.annotateNode = patches.annotateNode.bind(patches);
    this.reportNetworkAvailable = patches.reportNetworkAvailable.bind(patches);
  }

  absent(): readonly KindName[] {
    return [...this.#absent];
  }

  problems(): readonly DatastoreProblem[] {
    return this.#problems.problems;
  }

  async get<K extends KindName>(kind: K, key: ObjectKey): Promise<KindMap[K] | undefined> {
    checkKey('get', kind, key);
    if (kind === 'WorkloadEndpoint') return (await this.#derive(key)) as KindMap[K] | undefined;
    const reading = await this.#get(kind, key);
    if (reading === undefined || reading.object !== undefined) return reading?.object;
    if (ownedKinds.has(kind)) {
      throw new DatastoreError('unavailable', `get ${objectText(kind, key)}: it can't be used: ${reading.wrong}`);
    }
    return this.#state(kind).inForce.look([reading])[0];
  }

  async list<K extends KindName>(kind: K, options: { readonly namespace?: string } = {}): Promise<Listing<K>> {
    const { namespace } = options;
    if (kind === 'WorkloadEndpoint') return (await this.#deriveAll(namespace)) as unknown as Listing<K>;
    try {
      const read = (raw: Record<string, unknown>) => this.#read(kind, raw);
      const { items, resourceVersion } = await listCollection(this.#requests, kind, namespace, read);
      if (this.#absent.delete(kind)) this.#log('info', `${kind} is served by the API server now`);
      const { inForce, watchers } = this.#state(kind);
      // A watch goes by events, and what is known has to follow those: a listing is older or newer than its last one.
      if (namespace !== undefined || watchers > 0) return { items: inForce.look(items), resourceVersion };
      const had = inForce.hasProblems;
      const listed = inForce.list(items);
      this.#forgetUnlessWatched(kind);
      if (had || inForce.hasProblems || this.#remarks.size > this.#problems.remarks.length) this.#report();
      return { items: listed, resourceVersion };
    } catch (error) {
      if (!(error instanceof KindMissingError) || !optionalKinds.has(kind)) throw error;
      if (!this.#absent.has(kind)) this.#log('info', `${kind} is not served by the API server: there are none`);
      this.#absent.add(kind);
      this.#state(kind).inForce.list([]);
      this.#report();
      return { items: [], resourceVersion: absent.point };
    }
  }

  watch<K extends KindName>(
    kind: K,
    { resourceVersion, signal }: { readonly resourceVersion: string; readonly signal?: AbortSignal },
  ): AsyncIterable<WatchEvent<K>> {
    const either = signal === undefined ? this.#closing.signal : AbortSignal.any([this.#closing.signal, signal]);
    if (this.derived.has(kind)) {
      throw new DatastoreError('invalid', `watch ${kind} objects: they are made of Pods; watch those`);
    }
    return resourceVersion === absent.point && optionalKinds.has(kind)
      ? this.#watchAbsent(kind, either)
      : this.#watch(kind, resourceVersion, either);
  }

  async create<K extends KindName>(kind: K, object: KindMap[K]): Promise<KindMap[K]> {
    checkWritable('create', kind, object.metadata);
    const valid = validated('create', kind, object);
    checkCreate(kind, undefined, valid);
    const { namespace } = keyOf(kind, valid);
    return this.#write('create', kind, valid, { method: 'POST', path: collectionPath(kind, namespace) });
  }

  async update<K extends KindName>(kind: K, object: KindMap[K]): Promise<KindMap[K]> {
    checkWritable('update', kind, object.metadata);
    const valid = validated('update', kind, object);
    checkUpdate(kind, valid, valid);
    const key = keyOf(kind, valid);
    const { resourceVersion = '' } = valid.metadata;
    if (!isPoint(resourceVersion)) {
      const message = `update ${objectText(kind, key)}: resourceVersion ${JSON.stringify(resourceVersion)} is none of an API server's; read it again`;
      throw new DatastoreError('conflict', message);
    }
    return this.#write('update', kind, valid, { method: 'PUT', path: objectPath(kind, key) });
  }

  async delete(
    kind: KindName,
    key: ObjectKey,
    only: { readonly resourceVersion?: string | undefined; readonly uid?: string | undefined } = {},
  ): Promise<void> {
    checkKey('delete', kind, key);
    if (this.derived.has(kind)) checkWritable('delete', kind, key);
    const { uid, resourceVersion } = only;
    await this.#requests.json({
      verb: 'delete',
      kind,
      subject: objectText(kind, key),
      method: 'DELETE',
      path: objectPath(kind, key),
      body: JSON.stringify({ kind: 'DeleteOptions', apiVersion: 'v1', preconditions: { uid, resourceVersion } }),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    this.#transport.close();
    for (const { forgetting } of this.#states.values()) forgetting?.[Symbol.dispose]();
    await Promise.resolve();
  }

  async #get<K extends KindName>(kind: K, key: ObjectKey): Promise<Reading<K> | undefined> {
    const call: Call = {
      verb: 'get',
      kind,
      subject: objectText(kind, key),
      method: 'GET',
      path: objectPath(kind, key),
    };
    try {
      return this.#read(kind, (await this.#requests.json(call)) as Record<string, unknown>);
    } catch (error) {
      const isNone =
        isDatastoreError(error, 'not-found') || (error instanceof KindMissingError && optionalKinds.has(kind));
      if (isNone) return undefined;
      throw error;
    }
  }

  async #write<K extends KindName>(
    verb: string,
    kind: K,
    object: KindMap[K],
    how: Pick<Call, 'method' | 'path'>,
  ): Promise<KindMap[K]> {
    const key = keyOf(kind, object);
    const subject = objectText(kind, key);
    const answer = await this.#requests.json({ ...how, verb, kind, subject, body: bodyOf(object) });
    const { object: stored, wrong } = this.#read(kind, answer as Record<string, unknown>);
    if (stored !== undefined) return stored;
    throw new DatastoreError(
      'unavailable',
      `${verb} ${subject}: done, but the API server's answer can't be used: ${wrong}`,
    );
  }

  async *#watch<K extends KindName>(
    kind: K,
    point: string,
    signal: AbortSignal,
  ): AsyncGenerator<WatchEvent<K>, void, undefined> {
    // An empty one would mean "from now on", and a made-up one be refused as a mistake.
    if (!isPoint(point)) {
      const message = `watch ${kind} objects from resourceVersion ${JSON.stringify(point)}: it is no point in an API server's history; list again`;
      throw new DatastoreError('expired', message);
    }
    const state = this.#state(kind);
    state.watchers++;
    let reached: string | undefined;
    try {
      for await (const { type, object, resourceVersion } of watchCollection(
        this.#requests,
        this.#clock,
        kind,
        point,
        signal,
      )) {
        reached = resourceVersion;
        if (type === 'BOOKMARK') {
          yield { type: 'bookmark', resourceVersion };
          continue;
        }
        const had = state.inForce.hasProblems;
        const event = state.inForce.event(type, this.#read(kind, object as Record<string, unknown>), resourceVersion);
        if (had || state.inForce.hasProblems) this.#report();
        yield event;
      }
    } catch (error) {
      const isGone = error instanceof KindMissingError && optionalKinds.has(kind);
      if (!isGone && !this.#isStuck(state, reached)) throw error;
      throw new DatastoreError('expired', `${messageOf(error)}; list again`, { cause: error });
    } finally {
      state.watchers--;
      this.#forgetUnlessWatched(kind);
    }
  }

  /** True if watches break at this point again and again, so that only a listing leads past it. */
  #isStuck(state: KindState<KindName>, reached: string | undefined): boolean {
    if (reached === undefined) return false;
    const times = state.broken.point === reached ? state.broken.times + 1 : 1;
    state.broken = times < mostBroken ? { point: reached, times } : { point: '', times: 0 };
    return times >= mostBroken;
  }

  /** Looks for a kind that was not served, now and then; `expired` once it is. */
  async *#watchAbsent<K extends KindName>(
    kind: K,
    signal: AbortSignal,
  ): AsyncGenerator<WatchEvent<K>, void, undefined> {
    yield { type: 'bookmark', resourceVersion: absent.point };
    for (;;) {
      await this.#clock.sleep(absent.lookMs * (0.75 + Math.random() / 2), signal).catch(() => {});
      if (signal.aborted) return;
      const isServed = await probeCollection(this.#requests, kind).then(
        () => true,
        // Not served yet, or the server is away: other kinds' watches say that.
        () => false,
      );
      if (isServed) throw new DatastoreError('expired', `watch ${kind} objects: they are served now; list them`);
    }
  }

  async #derive(key: ObjectKey): Promise<KindMap['WorkloadEndpoint'] | undefined> {
    const pod = parseWorkloadEndpointName(key.name)?.workload;
    if (pod === undefined) {
      // Its name was cut, or a hash stands for a part of it.
      const { items } = await this.#deriveAll(key.namespace);
      return items.find(({ metadata }) => metadata.name === key.name);
    }
    const reading = await this.#get('Pod', { namespace: key.namespace, name: pod });
    const endpoint = reading?.object && workloadEndpointOf(reading.object);
    return endpoint?.metadata.name === key.name ? endpoint : undefined;
  }

  async #deriveAll(namespace: string | undefined): Promise<Listing<'WorkloadEndpoint'>> {
    const { items, resourceVersion } = await listCollection(this.#requests, 'Pod', namespace, (raw) => {
      const { object } = readObject('Pod', raw, this.#sharing);
      return object && workloadEndpointOf(object);
    });
    return { items: items.filter((endpoint) => endpoint !== undefined), resourceVersion };
  }

  #read<K extends KindName>(kind: K, raw: Record<string, unknown>): Reading<K> {
    const reading = readObject(kind, raw, this.#sharing);
    for (const field of reading.unknownFields) {
      const id = `${kind} ${field.replaceAll(/\[\d+\]/g, '')}`;
      if (this.#remarks.has(id)) continue;
      this.#remarks.set(id, `${objectText(kind, reading.key)}: the field ${field} is unknown`);
    }
    return reading;
  }

  #state<K extends KindName>(kind: K): KindState<K> {
    let state = this.#states.get(kind);
    if (state === undefined) {
      state = { inForce: new InForce(kind), watchers: 0, broken: { point: '', times: 0 }, forgetting: undefined };
      this.#states.set(kind, state);
    }
    return state as unknown as KindState<K>;
  }

  #forgetUnlessWatched(kind: KindName): void {
    const state = this.#state(kind);
    state.forgetting?.[Symbol.dispose]();
    state.forgetting =
      state.watchers > 0 || this.#closing.signal.aborted
        ? undefined
        : this.#clock.after(keepMs, () => {
            if (state.watchers === 0) state.inForce.forget();
          });
  }

  #report(): void {
    const problems = [...this.#states.values()].flatMap(({ inForce }) => inForce.problems());
    this.#problems.update(problems, [...this.#remarks.values()]);
  }
}

/** An API server's resourceVersions are numbers. */
function isPoint(resourceVersion: string): boolean {
  return /^[1-9]\d*$/.test(resourceVersion);
}

function checkWritable(verb: string, kind: KindName, key: ObjectKey): void {
  const subject = `${verb} ${objectText(kind, key)}`;
  if (kind === 'WorkloadEndpoint') {
    throw new DatastoreError('invalid', `${subject}: with Kubernetes it is made of its Pod, and can't be written`);
  }
  if (kinds[kind].unknownFields === 'drop') {
    throw new DatastoreError('invalid', `${subject}: only parts of it are read, so it can't be written whole`);
  }
}

/** What only the server sets stays out: a different time of creation would be refused. */
function bodyOf(object: KindMap[KindName]): string {
  const { creationTimestamp: _c, deletionTimestamp: _d, generation: _g, ...metadata } = object.metadata;
  return stringifyJson({ ...object, metadata });
}
