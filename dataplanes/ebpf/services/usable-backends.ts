import type { BackendInfo, ServiceInfo } from '../../services.ts';

/**
 * Who may get a new connection, by kube-proxy's rules: those that are ready; without any, those that terminate and still serve. With
 * internalTrafficPolicy `local` both are asked of this node's only. Empty: the connection is refused. The order is kept.
 */
export function usableBackends(
  backends: readonly BackendInfo[],
  policy: ServiceInfo['internalTrafficPolicy'],
  nodeName: string,
): readonly BackendInfo[] {
  const inReach = policy === 'local' ? backends.filter((backend) => backend.nodeName === nodeName) : backends;
  const ready = inReach.filter((backend) => backend.ready);
  return ready.length > 0 ? ready : inReach.filter((backend) => backend.serving && backend.terminating);
}
