/** How Calico names objects that stand for something else. Other Calico programs read these names: they may not change. */
import { createHash } from 'node:crypto';
import type { CidrText } from './cidr.ts';

/** What a WorkloadEndpoint's name is made of. */
export interface WorkloadEndpointParts {
  readonly node: string;
  /** `k8s` for pods, `cni` for any other container. */
  readonly orchestrator: string;
  /** The pod's name (without its namespace), or the container id. */
  readonly workload: string;
  /** Always `eth0`. */
  readonly endpoint: string;
}

/**
 * `<node>-<orchestrator>-<workload>-<endpoint>`, where a `-` inside a part is doubled: `node--1-k8s-web--0-eth0`.
 * Throws if a part is empty, or starts or ends with `-`: the name could not be read back.
 */
export function workloadEndpointName(parts: WorkloadEndpointParts): string {
  return [parts.node, parts.orchestrator, parts.workload, parts.endpoint].map(escapeDashes).join('-');
}

/**
 * The same as an object's name, for any workload and interface: object names are DNS subdomains, container ids may hold capitals and `_`, and
 * interfaces as well. Then a hash stands for them; a name that gets too long is cut, and a hash added.
 */
export function workloadEndpointObjectName(parts: WorkloadEndpointParts): string {
  const name = workloadEndpointName({
    ...parts,
    workload: namePart(parts.workload),
    endpoint: namePart(parts.endpoint),
  });
  if (name.length <= 253) return name;
  return `${name.slice(0, 230)}-${createHash('sha256').update(name).digest('hex').slice(0, 20)}`;
}

/** The host's end of what belongs to a pod (`namespace.pod`) or container: the prefix and 11 hex digits of SHA-1 over the owner. */
export function hostDeviceName(prefix: string, owner: string): string {
  return prefix + createHash('sha1').update(owner).digest('hex').slice(0, 11);
}

/** The parts of a WorkloadEndpoint's name; undefined if it is not made of four. */
export function parseWorkloadEndpointName(name: string): WorkloadEndpointParts | undefined {
  // A dash that has no dash on either side separates; parts neither start nor end with one, so pairs can't be misread.
  const [node, orchestrator, workload, endpoint, ...rest] = name
    .split(/(?<!-)-(?!-)/)
    .map((part) => part.replaceAll('--', '-'));
  if (!node || !orchestrator || !workload || !endpoint || rest.length > 0) {
    return undefined;
  }
  const parts = { node, orchestrator, workload, endpoint };
  return isReadable(parts) && workloadEndpointName(parts) === name ? parts : undefined;
}

/** A block's object name: `10.65.0.0/26` is `10-65-0-0-26`, `fd00:10::/122` is `fd00-10---122`. */
export function blockName(cidr: CidrText): string {
  return cidr.replaceAll(/[./:]/g, '-');
}

/** A BlockAffinity's name, `<node>-<block name>`; a node name that makes it too long is cut, and a hash added. */
export function blockAffinityName(node: string, cidr: CidrText): string {
  const block = blockName(cidr);
  const name = `${node}-${block}`;
  if (name.length < 253) {
    return name;
  }
  const hash = createHash('sha256').update(`${node}+${block}`).digest('hex').slice(0, 11);
  return `${node.slice(0, 252 - block.length - 13)}-${block}-${hash}`;
}

/** An IPAMHandle's object name: the handle in lower case. */
export function handleName(handle: string): string {
  return handle.toLowerCase();
}

/** A block's `affinity` when it belongs to a node. */
export function hostAffinity(node: string): string {
  return `host:${node}`;
}

/** The node that a block's `affinity` names; undefined for none, and for virtual ones. */
export function hostOfAffinity(affinity: string | undefined): string | undefined {
  return affinity?.startsWith('host:') === true ? affinity.slice('host:'.length) : undefined;
}

function namePart(text: string): string {
  return /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(text) && !/\.[.-]|-\./.test(text)
    ? text
    : `h${createHash('sha256').update(text).digest('hex').slice(0, 32)}`;
}

function escapeDashes(part: string): string {
  if (!isReadablePart(part)) {
    throw new RangeError(
      `"${part}" can't be part of a WorkloadEndpoint's name: it must not be empty, nor start or end with '-'`,
    );
  }
  return part.replaceAll('-', '--');
}

function isReadable(parts: WorkloadEndpointParts): boolean {
  return [parts.node, parts.orchestrator, parts.workload, parts.endpoint].every(isReadablePart);
}

function isReadablePart(part: string): boolean {
  return part !== '' && !part.startsWith('-') && !part.endsWith('-');
}
