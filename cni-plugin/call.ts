import type { CniDeps, CniRequest, LocalEndpoint } from './deps.ts';
import { delegatedIpam, type ParsedConf } from './conf.ts';
import { DelegatedIpam } from './delegate-ipam.ts';
import type { Environment } from './environment.ts';
import type { PodRef } from './args.ts';
import {
  aliasOf,
  endpointIdentity,
  handleOf,
  hostDeviceNames,
  parseAlias,
  type Attachment,
  type EndpointIdentity,
} from './names.ts';
import { NETNS_VARIABLE } from './protocol.ts';

/** One ADD, DEL or CHECK, parsed, with all names that follow from it. */
export interface Call {
  readonly conf: ParsedConf;
  readonly environment: Environment;
  /** How the launcher has CNI_NETNS open; undefined: it didn't say. */
  readonly netnsSeen: string | undefined;
  readonly attachment: Attachment;
  readonly pod: PodRef | undefined;
  readonly identity: EndpointIdentity;
  /** What the host's device may be called, the preferred name first. */
  readonly hostDevices: readonly string[];
  readonly handle: string;
  /** Undefined: addresses are ours to give. */
  readonly delegate: DelegatedIpam | undefined;
}

/** Puts together what the verbs need. `pod` is CNI_ARGS' or, in a DEL without them, the recorded endpoint's. */
export function makeCall(deps: CniDeps, request: CniRequest, conf: ParsedConf, environment: Environment): Call {
  const { containerId, ifname } = environment;
  const attachment = { network: conf.conf.name, containerId, ifname };
  const pod = environment.args.pod ?? recordedPod(deps, attachment);
  const type = delegatedIpam(conf.conf);
  return {
    conf,
    environment,
    netnsSeen: request.env[NETNS_VARIABLE],
    attachment,
    pod,
    identity: endpointIdentity(deps.nodeName, pod, attachment),
    hostDevices: hostDeviceNames(deps.interfacePrefix, pod, attachment),
    handle: handleOf(attachment),
    delegate: type === undefined ? undefined : new DelegatedIpam(deps, type, conf, request.env),
  };
}

/** The endpoint that stands for this very attachment; undefined when there is none, or another sandbox's has taken its place. */
export function ownEndpoint(deps: CniDeps, { identity, attachment }: Call): LocalEndpoint | undefined {
  const present = deps.endpoints.get(identity.namespace, identity.name);
  return present !== undefined && isOf(present, attachment) ? present : undefined;
}

/** The device that this attachment has, by record or by alias; else the preferred name. */
export function presentDevice(deps: CniDeps, call: Call): string {
  const recorded = ownEndpoint(deps, call)?.endpoint.spec.interfaceName;
  const alias = aliasOf(call.attachment);
  return (
    recorded ?? call.hostDevices.find((name) => deps.host.link(name)?.alias === alias) ?? call.hostDevices[0] ?? ''
  );
}

/** The name for a new device: the first that no other container's device of ours has. A pod's earlier sandbox gives its device up. */
export function newDevice(deps: CniDeps, { hostDevices, attachment }: Call): string {
  const [preferred = '', ...others] = hostDevices;
  if (others.length === 0) return preferred;
  const alias = aliasOf(attachment);
  const isFree = (name: string): boolean => {
    const present = deps.host.link(name)?.alias;
    return parseAlias(present) === undefined || present === alias;
  };
  return hostDevices.find(isFree) ?? preferred;
}

/** True if the endpoint was made for this attachment. */
export function isOf({ endpoint, network, ifname }: LocalEndpoint, attachment: Attachment): boolean {
  return (
    network === attachment.network &&
    ifname === attachment.ifname &&
    endpoint.spec.containerID === attachment.containerId
  );
}

/** Not every runtime repeats CNI_ARGS in DEL. */
function recordedPod(deps: CniDeps, attachment: Attachment): PodRef | undefined {
  const spec = deps.endpoints.list().find((candidate) => isOf(candidate, attachment))?.endpoint;
  return spec?.spec.pod === undefined
    ? undefined
    : { namespace: spec.metadata.namespace ?? 'default', name: spec.spec.pod, uid: undefined };
}
