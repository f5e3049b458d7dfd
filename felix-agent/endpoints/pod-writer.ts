import { annotation, podNetworkAnnotations } from '#api/annotations.ts';
import { objectText, type KindMap } from '#api/kinds.ts';
import { keyText, type ObjectKey } from '#api/meta.ts';
import type { LocalEndpoint } from '#cni/deps.ts';
import type { ClusterWrites } from '#datastore/cluster-writes.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { isDatastoreError } from '#datastore/errors.ts';
import type { Log } from '../log.ts';
import type { ObjectStore } from '../store/object-store.ts';
import type { EndpointWriter } from './endpoint-writer.ts';

type Pod = KindMap['Pod'];

/** The interface that Kubernetes knows a pod's addresses by; others (of Multus) have no place in its annotations. */
const primary = 'eth0';
/** How often a write that lost against another is made anew before the queue's pause is due. */
const maxTries = 5;

/** What a `PodWriter` works with. */
export interface PodWriterParts {
  readonly nodeName: string;
  readonly cluster: Pick<ClusterWrites, 'annotatePod'>;
  readonly datastore: Pick<Datastore, 'get'>;
  readonly store: Pick<ObjectStore, 'of'>;
  readonly log: Log;
}

/**
 * In Kubernetes an endpoint is annotations of its Pod, with Calico's names and rules: addresses and sandbox are written by ADD; DEL blanks the addresses and
 * leaves the sandbox, so that a Pod that is still being deleted is known to have left the network. A container that is no Pod has no object.
 */
export class PodWriter implements EndpointWriter {
  readonly #parts: PodWriterParts;
  /** Pods that exist and were blanked here: the watch may still show what they were before. */
  readonly #blanked = new Set<string>();
  #hasToldOfNameless = false;

  constructor(parts: PodWriterParts) {
    this.#parts = parts;
    parts.store.of('Pod').onChange((key, pod) => {
      if (pod === undefined) this.#blanked.delete(keyText(key));
    });
  }

  subject(local: LocalEndpoint): string {
    const key = podKey(local);
    return key === undefined ? `endpoint ${local.endpoint.metadata.name}` : objectText('Pod', key);
  }

  async put(local: LocalEndpoint): Promise<void> {
    const key = podKey(local);
    if (key === undefined) return this.#tellOfNameless(local);
    const { containerID = '', ipNetworks } = local.endpoint.spec;
    const wanted = podNetworkAnnotations(ipNetworks, containerID);
    await this.#untilItHolds(key, async (tries) => {
      const pod = (tries === 0 ? this.#watched(local, key) : undefined) ?? (await this.#read(key));
      if (pod?.metadata.uid === undefined || !this.#isOf(local, pod) || has(pod, wanted)) return;
      await this.#parts.cluster.annotatePod(key, wanted, { uid: pod.metadata.uid });
    });
  }

  async remove(local: LocalEndpoint): Promise<void> {
    const key = podKey(local);
    if (key === undefined) return;
    const blank = { [annotation.podIP]: '', [annotation.podIPs]: '' };
    await this.#untilItHolds(key, async () => {
      // As it is now: what the watch has may be older than our own last write to it.
      const pod = await this.#read(key);
      if (pod?.metadata.uid === undefined || !this.#isOf(local, pod)) return;
      const { uid, resourceVersion, annotations } = pod.metadata;
      this.#blanked.add(keyText(key));
      if (annotations?.[annotation.containerID] !== local.endpoint.spec.containerID || has(pod, blank)) return;
      await this.#parts.cluster.annotatePod(key, blank, { uid, resourceVersion });
    });
  }

  /** What lost against another write is made anew with what is now there. A Pod that is gone needs nothing. */
  async #untilItHolds(key: ObjectKey, attempt: (tries: number) => Promise<void>): Promise<void> {
    for (let tries = 0; ; tries++) {
      try {
        return await attempt(tries);
      } catch (error) {
        if (isDatastoreError(error, 'not-found')) return;
        if (!isDatastoreError(error, 'conflict') || tries + 1 >= maxTries) throw error;
        this.#parts.log.debug({ pod: key, err: error }, 'the Pod was changed meanwhile; once more');
      }
    }
  }

  /** As the watch has it, which saves a question: it is behind at most, and nobody else writes these annotations. */
  #watched(local: LocalEndpoint, key: ObjectKey): Pod | undefined {
    if (this.#blanked.has(keyText(key))) return undefined;
    const pod = this.#parts.store.of('Pod').get(key);
    return pod !== undefined && this.#isOf(local, pod) ? pod : undefined;
  }

  #read(key: ObjectKey): Promise<Pod | undefined> {
    return this.#parts.datastore.get('Pod', key);
  }

  /** Not a successor of the same name, here or elsewhere. */
  #isOf({ podUid }: LocalEndpoint, { metadata, spec }: Pod): boolean {
    return spec.nodeName === this.#parts.nodeName && (podUid === undefined || podUid === metadata.uid);
  }

  #tellOfNameless({ endpoint, ifname }: LocalEndpoint): void {
    if (this.#hasToldOfNameless) return;
    this.#hasToldOfNameless = true;
    this.#parts.log.info(
      { container: endpoint.spec.containerID, interface: ifname },
      "an interface that is no Pod's eth0 has no object in Kubernetes: it works on this node, and no policy of another node can select it (said once)",
    );
  }
}

function podKey({ endpoint, ifname }: LocalEndpoint): ObjectKey | undefined {
  const { namespace } = endpoint.metadata;
  return endpoint.spec.pod === undefined || ifname !== primary ? undefined : { namespace, name: endpoint.spec.pod };
}

function has({ metadata }: Pod, wanted: Readonly<Record<string, string>>): boolean {
  return Object.entries(wanted).every(([name, value]) => metadata.annotations?.[name] === value);
}
