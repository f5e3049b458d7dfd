import { addressReleaser } from './add.ts';
import { ownEndpoint, presentDevice, type Call } from './call.ts';
import type { CniDeps } from './deps.ts';
import { release } from './release.ts';

/**
 * DEL: succeeds whatever is left of the attachment, down to nothing; a missing namespace, link, endpoint or address is what was asked for.
 * A DEL that comes after the pod's next sandbox leaves that one's link and endpoint alone. The caller holds the workload's lock.
 */
export async function cmdDel(deps: CniDeps, call: Call): Promise<void> {
  const endpoint = ownEndpoint(deps, call)?.endpoint;
  await release(deps, {
    attachment: call.attachment,
    hostDevice: presentDevice(deps, call),
    endpoint,
    giveBack: addressReleaser(deps, call),
  });
}
