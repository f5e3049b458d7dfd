import type { KindMap } from '#api/kinds.ts';
import { keyText, type ObjectKey } from '#api/meta.ts';
import type { LocalEndpoint } from '#cni/deps.ts';
import type { DataplaneConfig, EndpointId } from '#dataplanes/messages.ts';
import type { CalcGraph } from './calc/calc-graph.ts';
import { convertPolicy, policyKinds } from './calc/convert/convert.ts';
import { policyId } from './calc/convert/policy.ts';
import type { Driver } from './driver/driver.ts';
import { endpointId, endpointInfo } from './endpoints/endpoint-info.ts';
import type { EndpointSink } from './endpoints/endpoint-store.ts';
import type { ObjectStore, WatchedKind } from './store/object-store.ts';

/**
 * Carries changes from the object store and from this node's endpoints into calc, and calc's messages to the driver. Changes that
 * come together are flushed together; an endpoint is flushed at once, since an ADD waits for it.
 */
export class CalcFeed implements EndpointSink {
  readonly #graph: CalcGraph;
  readonly #driver: Driver;
  readonly #onProblems: (() => void)[] = [];
  #scheduled = false;
  /** A policy or profile has changed since the last flush, or problems of Services have. */
  #mayHaveNewProblems = false;

  constructor(graph: CalcGraph, driver: Driver) {
    this.#graph = graph;
    this.#driver = driver;
  }

  /** Told, after a flush, that calc's problems may be others than before. */
  onProblems(listener: () => void): void {
    this.#onProblems.push(listener);
  }

  /** Subscribes to the kinds that calc reads. */
  follow(store: ObjectStore): void {
    const graph = this.#graph;
    const on = <K extends WatchedKind>(kind: K, record: (key: ObjectKey, object: KindMap[K] | undefined) => void) =>
      store.of(kind).onChange((key, object) => this.#change(() => record(key, object)));
    on('Node', ({ name }, node) => graph.onNode(name, node));
    on('IPPool', ({ name }, pool) => graph.onPool(name, pool));
    on('IPAMBlock', ({ name }, block) => graph.onBlock(name, block));
    on('BGPConfiguration', ({ name }, configuration) => graph.onBgpConfiguration(name, configuration));
    on('Namespace', ({ name }, namespace) => graph.onNamespace(name, namespace));
    on('ServiceAccount', ({ namespace = '', name }, account) => graph.onServiceAccount(namespace, name, account));
    on('Profile', ({ name }, profile) => {
      graph.onProfile(name, profile);
      this.#mayHaveNewProblems = true;
    });
    on('Pod', (key, pod) => graph.onPod(keyText(key), pod));
    on('WorkloadEndpoint', (key, object) =>
      graph.onWorkloadEndpoint(keyText(key), object === undefined ? undefined : { id: endpointId(object), object }),
    );
    on('HostEndpoint', ({ name }, object) => graph.onHostEndpoint(name, object));
    on('NetworkSet', (key, object) => graph.onNetworkSet(keyText(key), object));
    on('GlobalNetworkSet', ({ name }, object) => graph.onGlobalNetworkSet(name, object));
    on('EndpointSlice', (key, slice) => graph.onEndpointSlice(keyText(key), slice));
    on('Service', (key, service) => graph.onService(keyText(key), service));
    on('Tier', ({ name }, tier) => graph.onTier(name, tier));
    for (const kind of policyKinds) {
      on(kind, (key, object) => {
        graph.onPolicy(policyId({ kind, ...key }), object === undefined ? undefined : convertPolicy(kind, object));
        this.#mayHaveNewProblems = true;
      });
    }
  }

  onConfig(config: DataplaneConfig): void {
    this.#change(() => this.#graph.onConfig(config));
  }

  onInSync(): void {
    this.#graph.onInSync();
    this.#flush();
  }

  set(id: EndpointId, endpoint: LocalEndpoint | undefined): void {
    const local = endpoint && { device: endpointInfo(endpoint.endpoint), object: endpoint.endpoint };
    this.#graph.onLocalEndpoint(id, local);
    this.#flush();
  }

  programmed(id: EndpointId, signal: AbortSignal): Promise<void> {
    return this.#driver.programmed(id, signal);
  }

  #change(record: () => void): void {
    record();
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => this.#flush());
  }

  #flush(): void {
    this.#scheduled = false;
    this.#driver.push(this.#graph.flush());
    if (this.#graph.takeServiceProblemsChanged()) this.#mayHaveNewProblems = true;
    if (!this.#mayHaveNewProblems) return;
    this.#mayHaveNewProblems = false;
    for (const listener of this.#onProblems) listener();
  }
}
