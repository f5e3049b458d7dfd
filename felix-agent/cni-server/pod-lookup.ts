import type { PodFacts } from '#cni/deps.ts';
import type { Datastore } from '#datastore/datastore.ts';
import type { ObjectStore } from '../store/object-store.ts';

/** How long the pod's watch event is waited for before it is read directly, and how long in all, in ms. */
const patienceMs = { watch: 1_000, total: 10_000 };

/**
 * The pod with its namespace. The runtime may call before the watch has delivered the pod: wait for it, then ask the datastore once,
 * then wait on; undefined when the time is up.
 */
export async function lookUpPod(
  store: ObjectStore,
  datastore: Datastore,
  namespace: string,
  name: string,
  uid?: string,
): Promise<PodFacts | undefined> {
  const pods = store.of('Pod');
  const key = { namespace, name };
  const deadline = AbortSignal.timeout(patienceMs.total);
  // With a uid, a predecessor of the same name is not the pod.
  const isIt = (candidate: { readonly metadata: { readonly uid?: string | undefined } }) =>
    uid === undefined || candidate.metadata.uid === undefined || candidate.metadata.uid === uid;
  const pod =
    (await pods.waitFor(key, AbortSignal.timeout(patienceMs.watch), isIt)) ??
    matching(await datastore.get('Pod', key), isIt) ??
    (await pods.waitFor(key, deadline, isIt));
  if (pod === undefined) return undefined;
  const namespaces = store.of('Namespace');
  return {
    pod,
    namespace: namespaces.get({ name: namespace }) ?? (await datastore.get('Namespace', { name: namespace })),
  };
}

function matching<T>(object: T | undefined, isIt: (object: T) => boolean): T | undefined {
  return object !== undefined && isIt(object) ? object : undefined;
}
