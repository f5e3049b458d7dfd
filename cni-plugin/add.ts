import { randomBytes } from 'node:crypto';
import { allocate, annotationsOf, type Allocation } from './addresses.ts';
import { isIngressQdiscToCome, linkDevice } from './bandwidth.ts';
import { isOf, newDevice, type Call } from './call.ts';
import type { CniDeps, PodFacts } from './deps.ts';
import { makeEndpoint } from './endpoint.ts';
import { cniCode, CniError, errorText } from './errors.ts';
import { aliasOf, parseAlias } from './names.ts';
import type { HeldNetns } from './namespaces.ts';
import { openNetns } from './open-netns.ts';
import { release } from './release.ts';
import type { CniResult } from './result.ts';
import { UndoStack } from './undo.ts';
import { wire } from './wiring.ts';
import { HOST_MAC, planWiring, type WiringSpec } from './wiring-plan.ts';

/**
 * ADD: addresses, wires, and the endpoint with its policy in the kernel. A failure at any point takes back what was done, and reports the
 * first cause. The caller holds the workload's lock.
 */
export async function cmdAdd(deps: CniDeps, call: Call): Promise<CniResult> {
  using netns = openContainerNetns(deps, call);
  const reason = await deps.notReadyReason();
  if (reason !== undefined) throw new CniError(cniCode.tryAgain, `this node can't wire pods at present: ${reason}`);
  const facts = await findPod(deps, call);
  const wishes = annotationsOf(facts);
  await clearEarlier(deps, call);

  const undo = new UndoStack();
  try {
    const allocation = await allocate(deps, call, facts, wishes);
    undo.push(`addresses ${allocation.addresses.join(', ')}`, () => allocation.release());
    const mac =
      wishes.hwAddr ?? call.conf.conf.runtimeConfig?.mac?.toLowerCase() ?? call.environment.args.mac ?? randomMac();
    const hostDevice = newDevice(deps, call);
    const endpoint = makeEndpoint(call, {
      nodeName: deps.nodeName,
      hostDevice,
      facts,
      wishes,
      addresses: allocation.addresses,
      mac,
    });
    const isLinked = isIngressQdiscToCome(call, facts);
    const spec = wiringSpec(deps, call, allocation, { hostDevice, mac, netnsPath: netns.path, isLinked });
    await wire(deps, planWiring(spec), undo, isLinked ? () => linkDevice(deps, call, hostDevice) : undefined);
    const { namespace, name } = call.identity;
    undo.push(`WorkloadEndpoint ${namespace}/${name}`, () =>
      deps.endpoints.remove(namespace, name, call.attachment.containerId),
    );
    const { network, ifname } = call.attachment;
    const podUid = facts?.pod.metadata.uid;
    const local = {
      endpoint,
      network,
      ifname,
      netns: call.environment.netns,
      ...(podUid === undefined ? {} : { podUid }),
    };
    await deps.endpoints.add(local).catch((error: unknown) => {
      throw new CniError(
        cniCode.tryAgain,
        `policy of WorkloadEndpoint ${namespace}/${name} is not in force: ${errorText(error)}`,
        { cause: error },
      );
    });
    return resultOf(call, spec, allocation);
  } catch (error) {
    throw await undo.unwind(error);
  }
}

/** A namespace that is missing, or the node's own (where we would cut off the node), is refused before anything is done. */
function openContainerNetns(deps: CniDeps, { environment, netnsSeen }: Call): HeldNetns {
  const held = openNetns(deps.namespaces, environment.netns, netnsSeen);
  if (held.inode !== deps.namespaces.hostInode()) return held;
  held[Symbol.dispose]();
  throw new CniError(
    cniCode.invalidEnvironment,
    `CNI_NETNS (${environment.netns}) is the node's own network namespace, not a container's`,
  );
}

async function findPod(deps: CniDeps, { pod }: Call): Promise<PodFacts | undefined> {
  if (pod === undefined) return undefined;
  const facts = await deps.pod(pod.namespace, pod.name, pod.uid);
  if (facts === undefined) {
    throw new CniError(cniCode.tryAgain, `Pod ${pod.namespace}/${pod.name} is not in the datastore (yet)`);
  }
  const { uid, annotations } = facts.pod.metadata;
  // The kubelet knows a static pod by the hash of its manifest; its mirror in the API has another uid.
  const isMirror = annotations?.['kubernetes.io/config.mirror'] !== undefined;
  if (pod.uid !== undefined && uid !== undefined && pod.uid !== uid && !isMirror) {
    throw new CniError(
      cniCode.tryAgain,
      `Pod ${pod.namespace}/${pod.name} in the datastore has uid ${uid}; the runtime started the one with ${pod.uid}`,
    );
  }
  return facts;
}

/**
 * What is there of an earlier ADD for this workload. The same attachment: it is replaced, address included (Calico gives it a second
 * address, which nothing ever uses). An earlier sandbox: its link and endpoint go now, because ours get the same names; its address stays
 * its own until its DEL.
 */
async function clearEarlier(deps: CniDeps, call: Call): Promise<void> {
  const { namespace, name } = call.identity;
  const earlier = deps.endpoints.get(namespace, name);
  if (earlier === undefined) return;
  const { containerID = '', interfaceName } = earlier.endpoint.spec;
  deps.log('info', 'replacing an earlier endpoint of this workload', {
    endpoint: `${namespace}/${name}`,
    container: containerID,
  });
  if (isOf(earlier, call.attachment)) {
    await release(deps, {
      attachment: call.attachment,
      hostDevice: interfaceName,
      endpoint: earlier.endpoint,
      giveBack: addressReleaser(deps, call),
    });
    return;
  }
  const link = deps.host.link(interfaceName);
  if (link !== undefined && parseAlias(link.alias) !== undefined) await deps.namespaces.removeHostLink(link.index);
  await deps.endpoints.remove(namespace, name, containerID);
}

/** Gives the attachment's addresses back, to whoever gave them. */
export function addressReleaser(deps: CniDeps, { delegate, handle }: Call): () => Promise<unknown> {
  return () => (delegate === undefined ? deps.ipam.releaseHandle(handle) : delegate.run('DEL'));
}

function wiringSpec(
  deps: CniDeps,
  call: Call,
  { addresses }: Allocation,
  {
    hostDevice,
    mac,
    netnsPath,
    isLinked,
  }: {
    readonly hostDevice: string;
    readonly mac: string;
    readonly netnsPath: string;
    /** The dataplane puts its programs on the device by itself. */
    readonly isLinked: boolean;
  },
): WiringSpec {
  const { conf } = call.conf;
  return {
    hostDevice,
    alias: aliasOf(call.attachment),
    replacesOthers: call.pod !== undefined,
    ifname: call.attachment.ifname,
    netns: call.environment.netns,
    netnsPath,
    mac,
    mtu: conf.mtu || deps.defaultMtu(),
    queues: conf.num_queues || undefined,
    addresses,
    customRoutes: conf.ipam?.routes?.map(({ dst }) => dst),
    includeDefaultRoutes: conf.include_default_routes ?? false,
    allowForwarding: conf.container_settings?.allow_ip_forwarding ?? false,
    deviceOps: isLinked ? [] : deps.podDeviceOps(hostDevice),
    routes: deps.podRoutes(),
  };
}

/** portmap and bandwidth, chained after us, read the sandbox, the addresses with their interface, and the host's device from it. */
function resultOf({ conf }: Call, spec: WiringSpec, { delegated }: Allocation): CniResult {
  const dns = delegated?.dns ?? {};
  return {
    interfaces: [
      { name: spec.hostDevice, mac: HOST_MAC, mtu: spec.mtu },
      { name: spec.ifname, mac: spec.mac, mtu: spec.mtu, sandbox: spec.netns },
    ],
    ips: spec.addresses.map((address) => ({ address, interface: 1 })),
    routes: delegated?.routes ?? conf.conf.ipam?.routes ?? [],
    dns: Object.keys(dns).length > 0 ? dns : (conf.conf.dns ?? {}),
  };
}

/** Unicast, locally administered (IEEE 802: bits 0 and 1 of the first byte). */
function randomMac(): string {
  const bytes = randomBytes(6);
  bytes[0] = ((bytes[0] ?? 0) & 0xfc) | 0x02;
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}
