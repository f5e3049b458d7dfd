import type { ServiceInfo } from '../../services.ts';

const SCTP = 132;

/** What of a Service this dataplane doesn't do as kube-proxy does, in words; empty for most. */
export function serviceLimits({ ports, clientIpAffinityS }: ServiceInfo): readonly string[] {
  const limits: string[] = [];
  if (clientIpAffinityS !== undefined) {
    limits.push('sessionAffinity ClientIP is not kept: each connection from a pod goes to any backend');
  }
  const moved = ports.filter(
    ({ protocol, port, ipv4Backends, ipv6Backends }) =>
      protocol === SCTP && [...ipv4Backends, ...ipv6Backends].some((backend) => backend.port !== port),
  );
  if (moved.length > 0) {
    const list = moved.map(({ port }) => port).join(', ');
    limits.push(`SCTP port ${list} is refused: its backends have another port, and SCTP's checksum can't follow that`);
  }
  return limits;
}
