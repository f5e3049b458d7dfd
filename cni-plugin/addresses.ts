import { parsePodAnnotations, parseNamespaceAnnotations, annotation, type PodAnnotations } from '#api/annotations.ts';
import { hostCidr, parseIp, tryParseIp, type Ip, type IpText } from '#api/cidr.ts';
import { bareIp } from './args.ts';
import type { Call } from './call.ts';
import { wantedFamilies } from './conf.ts';
import type { CniDeps, PodFacts } from './deps.ts';
import { cniCode, CniError, errorText } from './errors.ts';
import type { CniResult } from './result.ts';

/** The addresses of an attachment, and how to give them back. */
export interface Allocation {
  /** With /32 and /128, IPv4 first. */
  readonly addresses: readonly string[];
  /** What a delegated plugin said besides. */
  readonly delegated: CniResult | undefined;
  release(): Promise<unknown>;
}

/** What the pod and its namespace ask for; nothing for a container that is no pod. Throws `AnnotationError`. */
export function annotationsOf(facts: PodFacts | undefined): PodAnnotations {
  const pod = parsePodAnnotations(facts?.pod.metadata.annotations);
  const namespace = parseNamespaceAnnotations(facts?.namespace?.metadata.annotations);
  return {
    ...pod,
    ipv4Pools: pod.ipv4Pools ?? namespace.ipv4Pools,
    ipv6Pools: pod.ipv6Pools ?? namespace.ipv6Pools,
    ipFamilies: pod.ipFamilies ?? namespace.ipFamilies,
  };
}

/**
 * Gets addresses: from the delegated plugin; or exactly those that are asked for (annotation, then runtimeConfig.ips, then CNI_ARGS' IP);
 * or any, from the pod's pools, else the namespace's, else the conf's, else all.
 */
export async function allocate(
  deps: CniDeps,
  call: Call,
  facts: PodFacts | undefined,
  wishes: PodAnnotations,
): Promise<Allocation> {
  const { conf } = call.conf;
  if (wishes.ipAddrsNoIpam !== undefined) {
    requireOwnIpam(call, annotation.ipAddrsNoIpam);
    if (conf.feature_control?.ip_addrs_no_ipam !== true) {
      throw new CniError(
        cniCode.podRefused,
        `annotation ${annotation.ipAddrsNoIpam} needs feature_control.ip_addrs_no_ipam in the network configuration`,
      );
    }
    return { addresses: inOrder(wishes.ipAddrsNoIpam), delegated: undefined, release: async () => {} };
  }
  const exact = exactAddresses(call, wishes);
  if (call.delegate !== undefined) {
    const { delegate } = call;
    const delegated = await delegate.add();
    return {
      // The prefix length of the plugin's subnet has no meaning here: everything goes through the gateway.
      addresses: inOrder(delegated.ips.map(({ address }) => parseIp(bareIp(address)))),
      delegated,
      release: () => delegate.run('DEL'),
    };
  }
  const owner = { handle: call.handle, attributes: attributesOf(deps, call) };
  const { addresses } =
    exact.length > 0
      ? await deps.ipam.assignIps({ ...owner, addresses: exact })
      : await deps.ipam.autoAssign({ ...owner, ...wantedFrom(call, wishes), ...namespaceOf(call, facts) });
  return { addresses, delegated: undefined, release: () => deps.ipam.releaseHandle(call.handle) };
}

/** Addresses that must be these; empty: any will do. */
function exactAddresses(call: Call, wishes: PodAnnotations): readonly IpText[] {
  if (wishes.ipAddrs !== undefined) {
    requireOwnIpam(call, annotation.ipAddrs);
    return wishes.ipAddrs.map(({ text }) => text);
  }
  let asked: readonly IpText[];
  try {
    asked = (call.conf.conf.runtimeConfig?.ips ?? []).map(bareIp);
  } catch (error) {
    throw new CniError(cniCode.invalidConf, `network configuration: runtimeConfig.ips: ${errorText(error)}`, {
      cause: error,
    });
  }
  if (asked.length === 0) asked = call.environment.args.ips;
  const families = asked.map((text) => tryParseIp(text)?.family);
  if (new Set(families).size < families.length) {
    throw new CniError(
      cniCode.invalidEnvironment,
      `one address of each family may be asked for, not ${asked.join(', ')}`,
    );
  }
  return asked;
}

function wantedFrom(call: Call, wishes: PodAnnotations) {
  const { conf } = call.conf;
  const { ipFamilies } = wishes;
  const wanted =
    ipFamilies === undefined ? wantedFamilies(conf) : { want4: ipFamilies.includes(4), want6: ipFamilies.includes(6) };
  if (!wanted.want4 && !wanted.want6) {
    throw new CniError(
      cniCode.invalidConf,
      'network configuration: ipam.assign_ipv4 and ipam.assign_ipv6 are both false: no address would be given',
    );
  }
  const pools4 = wishes.ipv4Pools ?? nonEmpty(conf.ipam?.ipv4_pools);
  const pools6 = wishes.ipv6Pools ?? nonEmpty(conf.ipam?.ipv6_pools);
  return { ...wanted, ...(pools4 === undefined ? {} : { pools4 }), ...(pools6 === undefined ? {} : { pools6 }) };
}

function namespaceOf({ pod }: Call, facts: PodFacts | undefined) {
  if (pod === undefined) return {};
  return { namespace: { name: pod.namespace, labels: facts?.namespace?.metadata.labels ?? {} } };
}

/** Calico's names, and `network`: handles can't tell network `a` and container `b.c` from network `a.b` and container `c`. */
function attributesOf(deps: CniDeps, { pod, attachment }: Call): Readonly<Record<string, string>> {
  return {
    node: deps.nodeName,
    timestamp: new Date().toISOString(),
    ...(pod === undefined ? {} : { namespace: pod.namespace, pod: pod.name }),
    network: attachment.network,
  };
}

function requireOwnIpam({ delegate, conf }: Call, name: string): void {
  if (delegate === undefined) return;
  throw new CniError(
    cniCode.podRefused,
    `annotation ${name} can't be used with ipam.type ${conf.conf.ipam?.type ?? ''}`,
  );
}

function inOrder(ips: readonly Ip[]): readonly string[] {
  return ips.toSorted((a, b) => a.family - b.family).map((ip) => hostCidr(ip).text);
}

function nonEmpty(list: readonly string[] | undefined): readonly string[] | undefined {
  return list === undefined || list.length === 0 ? undefined : list;
}
