import { tryParseIpInNetwork, hostCidr, parseIp } from '#api/cidr.ts';
import type { Link, Netlink, Route } from '#native/types.ts';
import { bareIp } from './args.ts';
import { ownEndpoint, presentDevice, type Call } from './call.ts';
import type { CniDeps } from './deps.ts';
import { cniCode, CniError, errorText } from './errors.ts';
import { aliasOf } from './names.ts';
import { openNetns } from './open-netns.ts';
import { parseResult, type CniResult } from './result.ts';
import { familiesOf, isV6, podRoutes } from './wiring-plan.ts';

/** CHECK: compares what is there with what the ADD's result says. Throws code 105 with every difference. */
export async function cmdCheck(deps: CniDeps, call: Call): Promise<void> {
  const { prevResult } = call.conf.conf;
  if (prevResult === undefined) {
    throw new CniError(cniCode.invalidConf, 'network configuration: prevResult is missing; CHECK compares with it');
  }
  const before = parseResult(prevResult, 'network configuration: prevResult');
  const wrong = [
    ...hostDifferences(deps, call, before),
    ...(await hostRouteDifferences(deps, call, before)),
    ...(await podDifferences(deps, call, before)),
  ];
  if (ownEndpoint(deps, call) === undefined) {
    wrong.push(`there is no WorkloadEndpoint ${call.identity.namespace}/${call.identity.name} of this container`);
  }
  if (wrong.length > 0) {
    throw new CniError(cniCode.mismatch, `the container's network is not as it was made: ${wrong.join('; ')}`);
  }
  await call.delegate?.run('CHECK');
}

/** The addresses of the result that are ours, as we gave them. */
function addressesOf({ interfaces, ips }: CniResult, { attachment }: Call): readonly string[] {
  const ours = interfaces.findIndex(
    ({ name, sandbox }) => name === attachment.ifname && sandbox !== undefined && sandbox !== '',
  );
  return ips
    .filter(
      (ip) => (ip.interface === undefined || ip.interface === ours) && tryParseIpInNetwork(ip.address) !== undefined,
    )
    .map(({ address }) => hostCidr(parseIp(bareIp(address))).text);
}

function hostDifferences(deps: CniDeps, call: Call, before: CniResult): string[] {
  const { attachment, conf } = call;
  const { host } = deps;
  const hostDevice = presentDevice(deps, call);
  const link = host.link(hostDevice);
  if (link === undefined) return [`the node's device ${hostDevice} is missing`];
  const wrong: string[] = [];
  if (link.alias !== aliasOf(attachment))
    wrong.push(`the node's device ${hostDevice} is not this container's (alias ${JSON.stringify(link.alias ?? '')})`);
  const known = before.interfaces.find(({ name, sandbox }) => name === hostDevice && !sandbox);
  return [
    ...wrong,
    ...linkDifferences(`the node's device ${hostDevice}`, link, known?.mac, known?.mtu ?? (conf.conf.mtu || undefined)),
  ];
}

async function hostRouteDifferences(deps: CniDeps, call: Call, before: CniResult): Promise<string[]> {
  const { host } = deps;
  const hostDevice = presentDevice(deps, call);
  const link = host.link(hostDevice);
  if (link === undefined) return []; // Said already.
  const routes = await host.routes({ link: link.index });
  return addressesOf(before, call)
    .filter((address) => !routes.some(({ dst, linkIndex }) => dst === address && linkIndex === link.index))
    .map((address) => `the node's route ${address} dev ${hostDevice} is missing`);
}

async function podDifferences(deps: CniDeps, call: Call, before: CniResult): Promise<string[]> {
  const { netns, ifname } = call.environment;
  let pod: Netlink;
  try {
    using held = openNetns(deps.namespaces, netns, call.netnsSeen);
    pod = deps.namespaces.open(held.path, []).netlink; // Its socket keeps the namespace.
  } catch (error) {
    return [`the network namespace ${netns} can't be entered: ${errorText(error)}`];
  }
  using _ = pod;
  const link = pod.link(ifname);
  if (link === undefined) return [`interface ${ifname} is missing`];
  const known = before.interfaces.find(({ name, sandbox }) => name === ifname && sandbox);
  const wrong = linkDifferences(
    `interface ${ifname}`,
    link,
    known?.mac,
    known?.mtu ?? (call.conf.conf.mtu || undefined),
  );
  const wanted = addressesOf(before, call);
  const present = new Set((await pod.addresses({ link: link.index })).map(({ address }) => address));
  wrong.push(
    ...wanted
      .filter((address) => !present.has(address))
      .map((address) => `interface ${ifname} has no address ${address}`),
  );
  return [...wrong, ...podRouteDifferences(await pod.routes({ link: link.index }), call, wanted)];
}

function podRouteDifferences(
  routes: readonly Route[],
  { conf, environment }: Call,
  addresses: readonly string[],
): string[] {
  const spec = {
    ifname: environment.ifname,
    customRoutes: conf.conf.ipam?.routes?.map(({ dst }) => dst),
    includeDefaultRoutes: conf.conf.include_default_routes ?? false,
  };
  return podRoutes(spec, familiesOf(addresses))
    .filter(({ dst, via }) => !routes.some((route) => sameNet(route.dst, dst) && route.via === via))
    .map(
      ({ dst, via }) =>
        `the container's route ${dst}${via === undefined ? '' : ` via ${via}`} dev ${environment.ifname} is missing`,
    );
}

function linkDifferences(what: string, link: Link, mac: string | undefined, mtu: number | undefined): string[] {
  return [
    ...(link.up ? [] : [`${what} is down`]),
    ...(mac === undefined || link.mac === mac.toLowerCase()
      ? []
      : [`${what} has MAC ${link.mac ?? '(none)'}, not ${mac}`]),
    ...(mtu === undefined || link.mtu === mtu ? [] : [`${what} has MTU ${link.mtu}, not ${mtu}`]),
  ];
}

/** Destinations may be spelled differently in a conf. */
function sameNet(a: string, b: string): boolean {
  return (
    a === b || (isV6(a) === isV6(b) && tryParseIpInNetwork(a)?.network.text === tryParseIpInNetwork(b)?.network.text)
  );
}
