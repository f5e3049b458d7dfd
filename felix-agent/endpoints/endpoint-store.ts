import type { KindMap } from '#api/kinds.ts';
import type { EndpointRegistry, LocalEndpoint } from '#cni/deps.ts';
import type { EndpointId } from '#dataplanes/messages.ts';
import { labelKeys } from '../calc/convert/convert.ts';
import { sameData } from '../calc/same-data.ts';
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
 * The endpoints of this node. Memory is the truth while the agent runs, the files are what the next agent starts from, and what the
 * datastore says (WorkloadEndpoint objects, or annotations of Pods) is a copy for everybody else, written in the background.
 */
export class EndpointStore implements EndpointRegistry {
  readonly #files: EndpointFiles;
  readonly #publisher: EndpointPublisher;
  readonly #sink: EndpointSink;
  readonly #status: EndpointStatusFiles;
  readonly #endpoints = new Map<string, LocalEndpoint>();
  /** Those whose ADD waits for the kernel. */
  readonly #adding = new Set<string>();

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
    this.#publisher.put(endpoint);
  }

  get(namespace: string, name: string): LocalEndpoint | undefined {
    return this.#endpoints.get(key(namespace, name));
  }

  list(): readonly LocalEndpoint[] {
    return [...this.#endpoints.values()];
  }

  /** Those whose ADD is done: the others may not be in the kernel, though nothing of them has failed. */
  added(): readonly LocalEndpoint[] {
    return [...this.#endpoints].flatMap(([each, endpoint]) => (this.#adding.has(each) ? [] : [endpoint]));
  }

  async add(endpoint: LocalEndpoint): Promise<void> {
    const id = endpointId(endpoint.endpoint);
    this.#files.save(endpoint);
    this.#endpoints.set(keyOf(endpoint), endpoint);
    this.#adding.add(keyOf(endpoint));
    try {
      this.#sink.set(id, endpoint);
      await this.#sink.programmed(id, AbortSignal.timeout(programTimeoutMs));
    } catch (error) {
      const { namespace, name } = endpoint.endpoint.metadata;
      const present = this.get(namespace, name);
      if (present !== undefined && containerOf(present) === containerOf(endpoint)) this.#forget(present);
      throw error;
    } finally {
      this.#adding.delete(keyOf(endpoint));
    }
    this.#status.programmed(endpoint.endpoint);
    this.#publisher.put(this.#endpoints.get(keyOf(endpoint)) ?? endpoint);
  }

  /**
   * A pod of this node as it is now: its labels are kept with its endpoints. Should its object go before its processes do (a forced deletion), they are
   * judged by these until the DEL, here, by other nodes and by the next agent, and not by the labels that the pod was started with. A successor of the same
   * name has labels of its own, which come with its ADD; only a static pod's mirror in the API may come anew and stand for the same pod.
   * Throws when a file can't be written; the labels hold all the same as long as the agent runs.
   */
  relabel({ metadata }: KindMap['Pod']): void {
    const isMirror = metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined;
    const unsaved: unknown[] = [];
    for (const [key, known] of this.#endpoints) {
      const { endpoint, podUid } = known;
      if (podUid !== undefined && podUid !== metadata.uid && !isMirror) continue;
      if (endpoint.spec.pod !== metadata.name || endpoint.metadata.namespace !== metadata.namespace) continue;
      const before = endpoint.metadata.labels ?? {};
      const given = [labelKeys.namespace, labelKeys.orchestrator, labelKeys.serviceAccount].flatMap((label) =>
        before[label] === undefined ? [] : [[label, before[label]] as const],
      );
      const labels = { ...metadata.labels, ...Object.fromEntries(given) };
      if (sameData(labels, before)) continue;
      const next = { ...known, endpoint: { ...endpoint, metadata: { ...endpoint.metadata, labels } } };
      this.#endpoints.set(key, next);
      this.#sink.set(endpointId(next.endpoint), next);
      this.#publisher.put(next);
      try {
        this.#files.save(next);
      } catch (error) {
        unsaved.push(error); // The pod's other endpoints have their new labels all the same.
      }
    }
    if (unsaved.length > 0) throw unsaved[0];
  }

  async remove(namespace: string, name: string, containerId: string): Promise<void> {
    const endpoint = this.get(namespace, name);
    if (endpoint === undefined || containerOf(endpoint) !== containerId) return;
    this.#forget(endpoint);
    await this.#sink.programmed(endpointId(endpoint.endpoint), AbortSignal.timeout(programTimeoutMs));
  }

  #forget(endpoint: LocalEndpoint): void {
    const { namespace, name } = endpoint.endpoint.metadata;
    this.#endpoints.delete(keyOf(endpoint));
    this.#sink.set(endpointId(endpoint.endpoint), undefined);
    this.#files.remove(namespace ?? '', name);
    this.#publisher.remove(endpoint);
    this.#status.removed(endpoint.endpoint);
  }
}

function key(namespace: string, name: string): string {
  return `${namespace}/${name}`;
}

function containerOf({ endpoint }: LocalEndpoint): string | undefined {
  return endpoint.spec.containerID;
}

function keyOf({ endpoint }: LocalEndpoint): string {
  return key(endpoint.metadata.namespace ?? '', endpoint.metadata.name);
}
