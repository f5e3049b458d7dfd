import type { EndpointRegistry, LocalEndpoint } from '#cni/deps.ts';
import type { EndpointId } from '#dataplanes/messages.ts';
import type { EndpointFiles } from './endpoint-files.ts';
import { endpointId } from './endpoint-info.ts';
import type { EndpointPublisher } from './endpoint-publisher.ts';
import type { EndpointStatusFiles } from './endpoint-status-files.ts';

/** Tells calc about one of this node's endpoints, and waits for the kernel to have it. */
export interface EndpointSink {
  set(id: EndpointId, endpoint: LocalEndpoint | undefined): void;
  programmed(id: EndpointId, signal: AbortSignal): Promise<void>;
}

/** How long an ADD waits for the endpoint's policy; a DEL for its removal. In ms. */
const programTimeoutMs = 30_000;

/**
 * The endpoints of this node. Memory is the truth while the agent runs, the files are what the next agent starts from, and the
 * WorkloadEndpoint objects in the datastore are a copy for everybody else, written in the background.
 */
export class EndpointStore implements EndpointRegistry {
  readonly #files: EndpointFiles;
  readonly #publisher: EndpointPublisher;
  readonly #sink: EndpointSink;
  readonly #status: EndpointStatusFiles;
  readonly #endpoints = new Map<string, LocalEndpoint>();

  constructor(files: EndpointFiles, publisher: EndpointPublisher, sink: EndpointSink, status: EndpointStatusFiles) {
    this.#files = files;
    this.#publisher = publisher;
    this.#sink = sink;
    this.#status = status;
  }

  /** Takes over an endpoint that was there before this agent. */
  adopt(endpoint: LocalEndpoint): void {
    this.#endpoints.set(keyOf(endpoint), endpoint);
    this.#sink.set(endpointId(endpoint.endpoint), endpoint);
    this.#publisher.put(endpoint.endpoint);
  }

  get(namespace: string, name: string): LocalEndpoint | undefined {
    return this.#endpoints.get(key(namespace, name));
  }

  list(): readonly LocalEndpoint[] {
    return [...this.#endpoints.values()];
  }

  async add(endpoint: LocalEndpoint): Promise<void> {
    const id = endpointId(endpoint.endpoint);
    this.#files.save(endpoint);
    this.#endpoints.set(keyOf(endpoint), endpoint);
    this.#sink.set(id, endpoint);
    try {
      await this.#sink.programmed(id, AbortSignal.timeout(programTimeoutMs));
    } catch (error) {
      if (this.#endpoints.get(keyOf(endpoint)) === endpoint) this.#forget(endpoint);
      throw error;
    }
    this.#status.programmed(endpoint.endpoint);
    this.#publisher.put(endpoint.endpoint);
  }

  async remove(namespace: string, name: string, containerId: string): Promise<void> {
    const endpoint = this.get(namespace, name);
    if (endpoint === undefined || endpoint.endpoint.spec.containerID !== containerId) return;
    this.#forget(endpoint);
    await this.#sink.programmed(endpointId(endpoint.endpoint), AbortSignal.timeout(programTimeoutMs));
  }

  #forget(endpoint: LocalEndpoint): void {
    const { namespace, name } = endpoint.endpoint.metadata;
    this.#endpoints.delete(keyOf(endpoint));
    this.#sink.set(endpointId(endpoint.endpoint), undefined);
    this.#files.remove(namespace ?? '', name);
    this.#publisher.remove(endpoint.endpoint);
    this.#status.removed(endpoint.endpoint);
  }
}

function key(namespace: string, name: string): string {
  return `${namespace}/${name}`;
}

function keyOf({ endpoint }: LocalEndpoint): string {
  return key(endpoint.metadata.namespace ?? '', endpoint.metadata.name);
}
