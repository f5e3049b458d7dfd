import { annotation } from '#api/annotations.ts';
import type { Pod } from '#api/core/pod.ts';
import { tryParseIp, withoutPrefix } from '#api/cidr.ts';

/**
 * True if the pod is on that node and may use one of these addresses: it says so, or it says nothing yet. A pod that has ended uses none; one that is
 * being deleted still does.
 */
export function mayUse(pod: Pod | undefined, nodeName: string, addresses: readonly string[]): boolean {
  if (pod?.spec.nodeName !== nodeName || pod.status.phase === 'Succeeded' || pod.status.phase === 'Failed') {
    return false;
  }
  const said = addressesOf(pod);
  return said.size === 0 || addresses.some((address) => said.has(address));
}

/** What its status says and what was written to its annotations, in canonical form. */
function addressesOf({ metadata, status }: Pod): ReadonlySet<string> {
  const annotated = [annotation.podIP, annotation.podIPs].flatMap(
    (name) => metadata.annotations?.[name]?.split(',') ?? [],
  );
  const texts = [status.podIP ?? '', ...status.podIPs.map(({ ip }) => ip), ...annotated];
  return new Set(texts.flatMap((text) => tryParseIp(withoutPrefix(text.trim()))?.text ?? []));
}
