import { annotation } from '#api/annotations.ts';
import type { Call } from './call.ts';
import type { CniDeps, PodFacts } from './deps.ts';
import { cniCode, CniError, errorText } from './errors.ts';

/**
 * Whether the plugin `bandwidth`, where it is behind us in the chain, will put the qdisc `ingress` on the node's end: it does so to limit what the pod
 * sends. Runtimes tell it what the Pod's annotation says; or the conf tells it and us.
 */
export function isIngressQdiscToCome({ conf }: Call, facts: PodFacts | undefined): boolean {
  const rate = conf.conf.runtimeConfig?.bandwidth?.egressRate ?? 0;
  return rate > 0 || facts?.pod.metadata.annotations?.[annotation.egressBandwidth] !== undefined;
}

/** Has the dataplane put its programs beside where that qdisc will be. Code 102 when this can't be. */
export async function linkDevice(deps: CniDeps, { identity, pod }: Call, device: string): Promise<void> {
  try {
    await deps.linkPodDevice(device);
  } catch (error) {
    const name = pod === undefined ? identity.name : `Pod ${pod.namespace}/${pod.name}`;
    throw new CniError(
      cniCode.podRefused,
      `${name} asks for a limit of what it sends, and its device ${device} can't have policy then: ${errorText(error)}`,
      { cause: error },
    );
  }
}
