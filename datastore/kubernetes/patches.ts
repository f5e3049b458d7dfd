import type { Clock } from '#api/clock.ts';
import { objectText, type KindName } from '#api/kinds.ts';
import type { ObjectKey } from '#api/meta.ts';
import type { ClusterWrites } from '../cluster-writes.ts';
import { isDatastoreError } from '../errors.ts';
import { checkKey } from '../stored-object.ts';
import { objectPath } from './path.ts';
import type { Requests } from './requests.ts';

/**
 * Writes to Pods and Nodes: patches of their status subresources, which carry annotations as well. So `patch` of `pods/status` and
 * `nodes/status` are all the rights that are needed, and a patch can't change what the object is to do.
 */
export class Patches implements ClusterWrites {
  readonly #requests: Requests;
  readonly #clock: Clock;

  constructor(requests: Requests, clock: Clock) {
    this.#requests = requests;
    this.#clock = clock;
  }

  async annotatePod(
    key: ObjectKey,
    annotations: Readonly<Record<string, string>>,
    { uid, resourceVersion }: { readonly uid: string; readonly resourceVersion?: string | undefined },
  ): Promise<void> {
    // The server compares both with the object's: another pod of this name is a conflict.
    const metadata = { uid, ...(resourceVersion === undefined ? {} : { resourceVersion }), annotations };
    try {
      await this.#patch('annotate', 'Pod', key, 'merge', { metadata });
    } catch (error) {
      // With a resourceVersion a lost answer and its repetition make a conflict with ourselves.
      const isOurs =
        resourceVersion !== undefined &&
        isDatastoreError(error, 'conflict') &&
        (await this.#has(key, uid, annotations).catch(() => false));
      if (!isOurs) throw error;
    }
  }

  async annotateNode(name: string, annotations: Readonly<Record<string, string | null>>): Promise<void> {
    await this.#patch('annotate', 'Node', { name }, 'merge', { metadata: { annotations } });
  }

  async reportNetworkAvailable(name: string, reason: string, message: string): Promise<void> {
    const now = new Date(this.#clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
    const condition = {
      type: 'NetworkUnavailable',
      status: 'False',
      reason,
      message,
      lastHeartbeatTime: now,
      lastTransitionTime: now,
    };
    // Strategic: conditions are merged by their type. By a merge patch the others would go.
    await this.#patch('report the network of', 'Node', { name }, 'strategic-merge', {
      status: { conditions: [condition] },
    });
  }

  async #patch(
    verb: string,
    kind: KindName,
    key: ObjectKey,
    type: 'merge' | 'strategic-merge',
    patch: Readonly<Record<string, unknown>>,
  ): Promise<void> {
    checkKey(verb, kind, key);
    await this.#requests.json({
      verb,
      kind,
      subject: objectText(kind, key),
      method: 'PATCH',
      path: objectPath(kind, key, 'status'),
      contentType: `application/${type}-patch+json`,
      body: JSON.stringify(patch),
      repeatable: true,
    });
  }

  async #has(key: ObjectKey, uid: string, annotations: Readonly<Record<string, string>>): Promise<boolean> {
    const call = { verb: 'get', kind: 'Pod', subject: objectText('Pod', key), method: 'GET' } as const;
    const pod = (await this.#requests.json({ ...call, path: objectPath('Pod', key) })) as {
      readonly metadata: { readonly uid?: string; readonly annotations?: Readonly<Record<string, string>> };
    };
    const { uid: stored, annotations: found } = pod.metadata;
    return stored === uid && Object.entries(annotations).every(([name, value]) => found?.[name] === value);
  }
}
