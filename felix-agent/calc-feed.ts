import type { KindMap } from '#api/kinds.ts';
import { keyText, type ObjectKey } from '#api/meta.ts';
import type { LocalEndpoint } from '#cni/deps.ts';
import type { DataplaneConfig, EndpointId } from '#dataplanes/messages.ts';
import type { CalcGraph } from './calc/calc-graph.ts';
import type { Driver } from './driver/driver.ts';
import { endpointInfo } from './endpoints/endpoint-info.ts';
import type { EndpointSink } from './endpoints/endpoint-store.ts';
import type { ObjectStore } from './store/object-store.ts';

/**
 * Carries changes from the object store and from this node's endpoints into calc, and calc's messages to the driver. Changes that
 * come together are flushed together; an endpoint is flushed at once, since an ADD waits for it.
 */
export class CalcFeed implements EndpointSink {
  readonly #graph: CalcGraph;
  readonly #driver: Driver;
  #scheduled = false;

  constructor(graph: CalcGraph, driver: Driver) {
    this.#graph = graph;
    this.#driver = driver;
  }

  /** Subscribes to the kinds that calc reads. */
  follow(store: ObjectStore): void {
    store.of('Node').onChange((key, node) => this.#change(() => this.#graph.onNode(key.name, node)));
    store.of('IPPool').onChange((key, pool) => this.#change(() => this.#graph.onPool(key.name, pool)));
    store
      .of('IPAMBlock')
      .onChange((key: ObjectKey, block: KindMap['IPAMBlock'] | undefined) =>
        this.#change(() => this.#graph.onBlock(keyText(key), block)),
      );
  }

  onConfig(config: DataplaneConfig): void {
    this.#change(() => this.#graph.onConfig(config));
  }

  onInSync(): void {
    this.#graph.onInSync();
    this.#flush();
  }

  set(id: EndpointId, endpoint: LocalEndpoint | undefined): void {
    this.#graph.onEndpoint(id, endpoint === undefined ? undefined : endpointInfo(endpoint.endpoint));
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
  }
}
