import type { KindMap } from '#api/kinds.ts';
import { keyText, type ObjectKey } from '#api/meta.ts';
import type { ClusterWrites } from '#datastore/cluster-writes.ts';
import { DatastoreError } from '#datastore/errors.ts';
import type { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';

/** A cluster's Pods and Nodes in a datastore in memory: checks what an API server checks, and keeps a list of what was written. For tests. */
export class MemoryClusterWrites implements ClusterWrites {
  readonly written: string[] = [];
  readonly #datastore: MemoryDatastore;
  #failures: Error[] = [];

  constructor(datastore: MemoryDatastore) {
    this.#datastore = datastore;
  }

  /** The next writes fail with these errors, one each. */
  failNext(...errors: readonly Error[]): void {
    this.#failures.push(...errors);
  }

  async annotatePod(
    key: ObjectKey,
    annotations: Readonly<Record<string, string>>,
    only: { readonly uid: string; readonly resourceVersion?: string | undefined },
  ): Promise<void> {
    this.#fail();
    const pod = await this.#read('Pod', key);
    const { uid, resourceVersion } = pod.metadata;
    if (uid !== only.uid || (only.resourceVersion !== undefined && resourceVersion !== only.resourceVersion)) {
      throw new DatastoreError('conflict', `annotate Pod ${keyText(key)}: it is another`);
    }
    this.written.push(`Pod ${keyText(key)} ${JSON.stringify(annotations)}`);
    await this.#datastore.update('Pod', {
      ...pod,
      metadata: { ...pod.metadata, annotations: { ...pod.metadata.annotations, ...annotations } },
    });
  }

  async annotateNode(name: string, annotations: Readonly<Record<string, string | null>>): Promise<void> {
    this.#fail();
    const node = await this.#read('Node', { name });
    const merged = Object.entries({ ...node.metadata.annotations, ...annotations });
    this.written.push(`Node ${name} ${JSON.stringify(annotations)}`);
    await this.#datastore.update('Node', {
      ...node,
      metadata: {
        ...node.metadata,
        annotations: Object.fromEntries(merged.filter((entry): entry is [string, string] => entry[1] !== null)),
      },
    });
  }

  async reportNetworkAvailable(name: string, reason: string): Promise<void> {
    this.#fail();
    const node = await this.#read('Node', { name });
    this.written.push(`Node ${name} ${reason}`);
    const others = node.status.conditions.filter(({ type }) => type !== 'NetworkUnavailable');
    await this.#datastore.update('Node', {
      ...node,
      status: { ...node.status, conditions: [...others, { type: 'NetworkUnavailable', status: 'False' }] },
    });
  }

  #fail(): void {
    const error = this.#failures.shift();
    if (error !== undefined) throw error;
  }

  async #read<K extends 'Pod' | 'Node'>(kind: K, key: ObjectKey): Promise<KindMap[K]> {
    const object = await this.#datastore.get(kind, key);
    if (object === undefined) throw new DatastoreError('not-found', `${kind} ${keyText(key)} is gone`);
    return object;
  }
}
