import type { KindMap } from '#api/kinds.ts';
import type { CniDeps } from './deps.ts';
import { aliasOf, type Attachment } from './names.ts';
import { removeOwnLink } from './wiring.ts';

/** What an attachment has on this node, as far as it is known. */
export interface Held {
  readonly attachment: Attachment;
  /** The host's device, if it is still this attachment's. */
  readonly hostDevice: string;
  /** Its endpoint, if it is still this attachment's. */
  readonly endpoint: KindMap['WorkloadEndpoint'] | undefined;
  readonly giveBack: () => Promise<unknown>;
}

/**
 * Takes an attachment away. Endpoint and link go at the same time: a device that isn't announced passes nothing, so it is no matter
 * which is first, and each waits for the kernel. The address is given back only when nothing can use it any more; a step that fails stops
 * that, and the next DEL goes on from there.
 */
export async function release(deps: CniDeps, { attachment, hostDevice, endpoint, giveBack }: Held): Promise<void> {
  const { namespace = 'default', name } = endpoint?.metadata ?? {};
  const steps = await Promise.allSettled([
    name === undefined ? undefined : deps.endpoints.remove(namespace, name, attachment.containerId),
    removeOwnLink(deps, hostDevice, aliasOf(attachment)),
  ]);
  const failed = steps.find((step) => step.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
  await giveBack();
}
