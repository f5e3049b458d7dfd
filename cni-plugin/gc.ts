import { isOf } from './call.ts';
import { delegatedIpam, type ParsedConf } from './conf.ts';
import { DelegatedIpam } from './delegate-ipam.ts';
import type { CniDeps, CniRequest } from './deps.ts';
import { cniCode, CniError, errorText } from './errors.ts';
import { aliasOf, aliasPart, handleOf, parseAlias, type Attachment } from './names.ts';
import { release } from './release.ts';

/**
 * GC: takes away what this network has on this node for attachments that the runtime no longer knows: endpoints, links, addresses. Goes on
 * after a failure and reports all of them (code 106). The caller has the node alone: what an ADD under way
 * has just made would look like garbage.
 */
export async function cmdGc(deps: CniDeps, request: CniRequest, parsed: ParsedConf): Promise<void> {
  const network = parsed.conf.name;
  // Go's runtimes write an empty list as null, and the reference library as nothing at all. The older name is the specification's misprint.
  const listed = parsed.conf['cni.dev/valid-attachments'] ?? parsed.conf['cni.dev/attachments'] ?? [];
  const valid = listed.map(({ containerID, ifname }): Attachment => ({ network, containerId: containerID, ifname }));
  const failures: string[] = [];
  const attempt = async (what: string, action: () => Promise<unknown>): Promise<void> => {
    try {
      await action();
      deps.log('info', `GC removed ${what}`, { network });
    } catch (error) {
      failures.push(`${what}: ${errorText(error)}`);
    }
  };

  await collectEndpoints(deps, network, valid, attempt);
  await collectLinks(deps, network, valid, attempt);
  // Addresses last, and not while a link may still have them.
  if (failures.length === 0) await collectAddresses(deps, network, valid, attempt);
  const type = delegatedIpam(parsed.conf);
  if (type !== undefined) {
    await new DelegatedIpam(deps, type, parsed, request.env)
      .run('GC')
      .catch((error: unknown) => failures.push(errorText(error)));
  }
  if (failures.length > 0)
    throw new CniError(cniCode.incomplete, `GC of network ${network} left something: ${failures.join('; ')}`);
}

type Attempt = (what: string, action: () => Promise<unknown>) => Promise<void>;

async function collectEndpoints(
  deps: CniDeps,
  network: string,
  valid: readonly Attachment[],
  attempt: Attempt,
): Promise<void> {
  const stale = deps.endpoints
    .list()
    .filter((local) => local.network === network && !valid.some((attachment) => isOf(local, attachment)));
  for (const { endpoint, ifname } of stale) {
    const { namespace, name } = endpoint.metadata;
    await attempt(`WorkloadEndpoint ${namespace ?? 'default'}/${name}`, async () => {
      const attachment = { network, containerId: endpoint.spec.containerID ?? '', ifname };
      await release(deps, {
        attachment,
        hostDevice: endpoint.spec.interfaceName,
        endpoint,
        giveBack: () => deps.ipam.releaseHandle(handleOf(attachment)),
      });
    });
  }
}

async function collectLinks(
  deps: CniDeps,
  network: string,
  valid: readonly Attachment[],
  attempt: Attempt,
): Promise<void> {
  const wanted = new Set(valid.map(aliasOf));
  for (const { name, index, alias } of await deps.host.links()) {
    if (parseAlias(alias)?.network !== aliasPart(network) || wanted.has(alias ?? '')) continue;
    await attempt(`device ${name}`, () => deps.namespaces.removeHostLink(index));
  }
}

async function collectAddresses(
  deps: CniDeps,
  network: string,
  valid: readonly Attachment[],
  attempt: Attempt,
): Promise<void> {
  // Handles are objects' names, which have no capitals.
  const wanted = new Set(valid.map((attachment) => handleOf(attachment).toLowerCase()));
  for (const [handle, { addresses, attributes }] of await deps.ipam.allocations()) {
    if (!isOfNetwork(handle, attributes, network) || wanted.has(handle.toLowerCase())) continue;
    await attempt(`addresses ${addresses.join(', ')}`, () => deps.ipam.releaseHandle(handle));
  }
}

/** By the attribute that our ADD writes; what Calico allocated has none, and then the rest of the handle must be a plain container id. */
function isOfNetwork(handle: string, attributes: Readonly<Record<string, string>>, network: string): boolean {
  const owner = attributes['network'];
  if (owner !== undefined) return owner === network;
  return (
    attributes['pod'] !== undefined &&
    handle.startsWith(`${network}.`) &&
    /^[0-9a-f]{64}$/.test(handle.slice(network.length + 1))
  );
}
