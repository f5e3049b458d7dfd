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
 * Takes an attachment away. The order matters: while the link is there its policy stays, and the address is given back only when nothing
 * can use it any more. So a step that fails stops the rest, and the next DEL goes on from there.
 */
export async function release(deps: CniDeps, { attachment, hostDevice, endpoint, giveBack }: Held): Promise<void> {
  await removeOwnLink(deps, hostDevice, aliasOf(attachment));
  if (endpoint !== undefined) {
    await deps.endpoints.remove(
      endpoint.metadata.namespace ?? 'default',
      endpoint.metadata.name,
      attachment.containerId,
    );
  }
  await giveBack();
}
