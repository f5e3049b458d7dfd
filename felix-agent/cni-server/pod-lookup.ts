import type { PodFacts } from '#cni/deps.ts';
import { cniCode, CniError } from '#cni/errors.ts';
import type { KindMap } from '#api/kinds.ts';
import { keyText, type ObjectKey } from '#api/meta.ts';
import type { Datastore } from '#datastore/datastore.ts';
import { defaultAccount } from '../calc/endpoints/identity.ts';
import type { ObjectStore } from '../store/object-store.ts';

/** How long the pod's watch event is waited for before it is read directly, and how long in all, in ms. */
const patienceMs = { watch: 1_000, total: 10_000 };

/**
 * The pod with its namespace. The runtime may call before the watch has delivered the pod: wait for it, then ask the datastore once,
 * then wait on; undefined when the time is up. Policy is calculated from what the watches have brought, so the pod may not start while they are
 * behind: its predecessor's labels, or none of its namespace and service account, could let through what is denied. Throws `CniError` then.
 */
export async function lookUpPod(
  store: Pick<ObjectStore, 'of'>,
  datastore: Pick<Datastore, 'get'>,
  namespace: string,
  name: string,
  uid?: string,
  patience = patienceMs,
): Promise<PodFacts | undefined> {
  const pods = store.of('Pod');
  const key = { namespace, name };
  const deadline = AbortSignal.timeout(patience.total);
  // With a uid, a predecessor of the same name is not the pod. A static pod's uid is its manifest's hash, which its mirror in the API hasn't.
  const isIt = ({ metadata }: KindMap['Pod']) =>
    uid === undefined ||
    metadata.uid === undefined ||
    metadata.uid === uid ||
    metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined;
  // Without any Pod of the name calc takes the labels that the endpoint is made with; with a predecessor, those of the predecessor.
  const read = async () => (pods.get(key) === undefined ? matching(await datastore.get('Pod', key), isIt) : undefined);
  const pod =
    (await pods.waitFor(key, AbortSignal.timeout(patience.watch), isIt)) ??
    (await read()) ??
    (await pods.waitFor(key, deadline, isIt));
  if (pod === undefined) return undefined;
  const account = pod.spec.serviceAccountName || defaultAccount;
  const [ofNamespace] = await Promise.all([
    watched(store, datastore, 'Namespace', { name: namespace }, deadline),
    watched(store, datastore, 'ServiceAccount', { namespace, name: account }, deadline),
  ]);
  return { pod, namespace: ofNamespace };
}

/** What exists, once the watch has brought it; undefined where there is none. */
async function watched<K extends 'Namespace' | 'ServiceAccount'>(
  store: Pick<ObjectStore, 'of'>,
  datastore: Pick<Datastore, 'get'>,
  kind: K,
  key: ObjectKey,
  deadline: AbortSignal,
) {
  const informer = store.of(kind);
  const known = informer.get(key);
  if (known !== undefined || (await datastore.get(kind, key)) === undefined) return known;
  const brought = await informer.waitFor(key, deadline);
  if (brought === undefined) {
    throw new CniError(
      cniCode.tryAgain,
      `${kind} ${keyText(key)} is in the datastore, but the agent's watch has not brought it in time`,
    );
  }
  return brought;
}

function matching<T>(object: T | undefined, isIt: (object: T) => boolean): T | undefined {
  return object !== undefined && isIt(object) ? object : undefined;
}
