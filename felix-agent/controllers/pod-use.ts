import { annotation } from '#api/annotations.ts';
import type { Pod } from '#api/core/pod.ts';
import { tryParseIp, withoutPrefix } from '#api/cidr.ts';

/**
 * True if the pod may use one of these addresses: it says so (wherever it is), or it is on that node and says nothing yet. A pod that has ended uses none;
 * one that is being deleted still does.
 */
export function mayUse(pod: Pod | undefined, nodeName: string, addresses: readonly string[]): boolean {
  if (pod === undefined || hasEnded(pod)) return false;
  const said = addressesSaidBy(pod);
  return said.size === 0 ? pod.spec.nodeName === nodeName : addresses.some((address) => said.has(address));
}

/** Which of these pods say that they have one of the wanted addresses, by address. */
export function usersOf(pods: Iterable<Pod>, wanted: ReadonlySet<string>): ReadonlyMap<string, Pod> {
  const users = new Map<string, Pod>();
  for (const pod of pods) {
    for (const address of addressesSaidBy(pod)) {
      if (wanted.has(address) && !hasEnded(pod)) users.set(address, pod);
    }
  }
  return users;
}

function hasEnded({ status }: Pod): boolean {
  return status.phase === 'Succeeded' || status.phase === 'Failed';
}

/** What its status says and what was written to its annotations, in canonical form. */
function addressesSaidBy({ metadata, status }: Pod): ReadonlySet<string> {
  const annotated = [annotation.podIP, annotation.podIPs].flatMap(
    (name) => metadata.annotations?.[name]?.split(',') ?? [],
  );
  const texts = [status.podIP ?? '', ...status.podIPs.map(({ ip }) => ip), ...annotated];
  return new Set(texts.flatMap((text) => canonical(withoutPrefix(text.trim())) ?? []));
}

/** IPv4 has one way to be written: a cluster's Pods need not be parsed one by one. */
function canonical(text: string): string | undefined {
  if (text === '') return undefined;
  return text.includes(':') ? tryParseIp(text)?.text : text;
}
