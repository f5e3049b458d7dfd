import { withoutPrefix } from '#api/cidr.ts';
import type { KindMap } from '#api/kinds.ts';
import type { LocalEndpoint } from '#cni/deps.ts';
import { aliasPart, isHashed, parseAlias, PRIMARY_IFNAME } from '#cni/names.ts';
import type { Datastore } from '#datastore/datastore.ts';
import type { Link, Netlink } from '#native/types.ts';

type WorkloadEndpoint = KindMap['WorkloadEndpoint'];

/** Where endpoints are looked for of which the state dir knows nothing. */
export interface LostEndpointSources {
  readonly nodeName: string;
  readonly datastore: Pick<Datastore, 'list' | 'derived'>;
  readonly host: Pick<Netlink, 'link' | 'links' | 'neighbours'>;
}

/**
 * Endpoints of this node that the state dir has lost, from the datastore; their network is from their device's alias, empty where that tells only a
 * hash. Where WorkloadEndpoints are derived from Pods, those say less than an object: device, MAC and, if it was never annotated, sandbox are read from the
 * kernel; and nothing is asked while the state dir knows each of our devices, since that is a list of all the cluster's Pods.
 */
export async function lostEndpoints(
  sources: LostEndpointSources,
  known: readonly LocalEndpoint[],
): Promise<readonly LocalEndpoint[]> {
  const { nodeName, datastore, host } = sources;
  const isDerived = datastore.derived.has('WorkloadEndpoint');
  const devices = isDerived ? await unknownDevices(host, known) : [];
  if (isDerived && devices.length === 0) return [];
  const names = new Set(known.map(({ endpoint: { metadata } }) => `${metadata.namespace}/${metadata.name}`));
  const { items } = await datastore.list('WorkloadEndpoint');
  const lost = items.filter(
    ({ spec, metadata }) => spec.node === nodeName && !names.has(`${metadata.namespace}/${metadata.name}`),
  );
  return isDerived ? onDevices(host, lost, devices) : lost.map((endpoint) => asStored(host, endpoint));
}

function asStored(host: LostEndpointSources['host'], endpoint: WorkloadEndpoint): LocalEndpoint {
  const { network = '' } = parseAlias(host.link(endpoint.spec.interfaceName)?.alias) ?? {};
  return { endpoint, network: isHashed(network) ? '' : network, ifname: endpoint.spec.endpoint, netns: '' };
}

async function unknownDevices(
  host: LostEndpointSources['host'],
  known: readonly LocalEndpoint[],
): Promise<readonly Link[]> {
  const names = new Set(known.map(({ endpoint }) => endpoint.spec.interfaceName));
  return (await host.links()).filter(({ name, alias }) => parseAlias(alias) !== undefined && !names.has(name));
}

async function onDevices(
  host: LostEndpointSources['host'],
  endpoints: readonly WorkloadEndpoint[],
  devices: readonly Link[],
): Promise<readonly LocalEndpoint[]> {
  const found: LocalEndpoint[] = [];
  for (const endpoint of endpoints) {
    const device = devices.find((link) => isDeviceOf(link, endpoint));
    const alias = parseAlias(device?.alias);
    if (device === undefined || alias === undefined || endpoint.spec.ipNetworks.length === 0) continue;
    const mac = await macBehind(host, device, endpoint);
    const { name, namespace, labels, uid } = endpoint.metadata;
    const { spec } = endpoint;
    found.push({
      endpoint: {
        ...endpoint,
        metadata: { name, namespace, ...(labels === undefined ? {} : { labels }) },
        spec: {
          ...spec,
          containerID: spec.containerID ?? alias.containerId,
          interfaceName: device.name,
          ...(mac === undefined ? {} : { mac }),
        },
      },
      network: isHashed(alias.network) ? '' : alias.network,
      ifname: PRIMARY_IFNAME,
      netns: '',
      ...(uid === undefined ? {} : { podUid: uid }),
    });
  }
  return found;
}

/** By the sandbox in its alias; a Pod that was never annotated by the name of its device. */
function isDeviceOf({ name, alias }: Link, { spec }: WorkloadEndpoint): boolean {
  const owner = parseAlias(alias);
  if (owner?.ifname !== PRIMARY_IFNAME) return false;
  return spec.containerID === undefined
    ? name === spec.interfaceName && !isHashed(owner.containerId)
    : owner.containerId === aliasPart(spec.containerID);
}

/** The MAC address of the pod's end, as the permanent neighbour says that the dataplane wrote. */
async function macBehind(
  host: LostEndpointSources['host'],
  { index }: Link,
  { spec }: WorkloadEndpoint,
): Promise<string | undefined> {
  const own = new Set(spec.ipNetworks.map(withoutPrefix));
  return (await host.neighbours({ link: index })).find(({ address }) => own.has(address))?.mac;
}
