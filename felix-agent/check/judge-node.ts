import { confFileName } from '../cni-conf/conflist.ts';
import type { AgentPort, CheckSettings, Device, Listener, NodeFacts } from './facts.ts';
import { hasChain } from './judge-netfilter.ts';
import { isUnmanaged } from './network-manager.ts';
import { managesForeignRoutes, networkFileFor } from './networkd.ts';
import type { Finding, Known } from './result.ts';

/** What other programs of the node and its directories mean for Tortie. */
export function judgeNode(facts: NodeFacts, settings: CheckSettings): readonly Finding[] {
  return [
    networkManager(facts, settings),
    networkd(facts, settings),
    networkdRoutes(facts),
    ...cniConfs(facts),
    ...cniDirectories(facts),
    ...kubeProxy(facts),
    ...settings.ports.map((port) => portIsFree(port, facts)),
    mtu(facts, settings),
    modules(facts),
    xtablesLock(facts),
  ];
}

/** A pod's device, for patterns. */
const sampleDevices = ({ interfacePrefixes }: CheckSettings): readonly string[] =>
  interfacePrefixes.map((prefix) => `${prefix}0123456789a`);

/** A finding for a program by its configuration: fine when it doesn't run; `judge` sees what was read. */
function ofProgram<Files>(
  id: Finding['id'],
  program: string,
  { programs }: NodeFacts,
  files: Known<Files>,
  judge: (files: Files) => Omit<Finding, 'id'>,
): Finding {
  if (!programs.known) return { id, outcome: 'unknown', detail: programs.reason };
  // The kernel keeps 15 characters of a name.
  if (!programs.value.has(program.slice(0, 15))) return { id, outcome: 'yes', detail: `${program} isn't running` };
  if (!files.known)
    return { id, outcome: 'unknown', detail: `${program} is running; its files can't be read: ${files.reason}` };
  return { id, ...judge(files.value) };
}

function networkManager(facts: NodeFacts, settings: CheckSettings): Finding {
  return ofProgram('network-manager', 'NetworkManager', facts, facts.files.networkManager, ({ files, udevRules }) => {
    const managed = sampleDevices(settings).filter((device) => !isUnmanaged(files, udevRules, device));
    return managed.length === 0
      ? { outcome: 'yes', detail: "NetworkManager leaves pods' devices alone" }
      : { outcome: 'no', detail: `NetworkManager would manage a device named ${managed.join(', ')}` };
  });
}

function networkd(facts: NodeFacts, settings: CheckSettings): Finding {
  return ofProgram('networkd', 'systemd-networkd', facts, facts.files.networkd, ({ networks }) => {
    const claims = sampleDevices(settings).flatMap((device) => {
      const path = networkFileFor(networks, device);
      return path === undefined ? [] : [`${path} matches a device named ${device}`];
    });
    return claims.length === 0
      ? { outcome: 'yes', detail: "no .network file configures pods' devices" }
      : { outcome: 'no', detail: claims.join(', ') };
  });
}

function networkdRoutes(facts: NodeFacts): Finding {
  return ofProgram('networkd-routes', 'systemd-networkd', facts, facts.files.networkd, ({ main, dropIns }) =>
    managesForeignRoutes(main, dropIns)
      ? { outcome: 'no', detail: 'ManageForeignRoutes is yes (its default)' }
      : { outcome: 'yes', detail: 'ManageForeignRoutes is no' },
  );
}

/** The runtime sorts by bytes and takes the first. */
function cniConfs({ files: { cniConfs: confs } }: NodeFacts): readonly Finding[] {
  if (!confs.known) return [{ id: 'cni-conf', outcome: 'unknown', detail: confs.reason }];
  const before = confs.value.filter((name) => name < confFileName);
  if (before.length > 0)
    return before.map((subject) => ({
      id: 'cni-conf',
      subject,
      outcome: 'no',
      detail: `it comes before ${confFileName}`,
    }));
  const detail = confs.value.length === 0 ? 'none there yet' : confs.value.join(', ');
  return [{ id: 'cni-conf', outcome: 'yes', detail }];
}

function cniDirectories({ files }: NodeFacts): readonly Finding[] {
  return files.cniDirectories.map(({ path: subject, refused }): Finding => {
    const id = 'cni-directories';
    if (!refused.known) return { id, subject, outcome: 'unknown', detail: refused.reason };
    return refused.value === undefined
      ? { id, subject, outcome: 'yes', detail: 'can be written' }
      : { id, subject, outcome: 'no', detail: refused.value };
  });
}

/** By its own word where it answers, else by what it leaves in the kernel. */
function kubeProxy({ proxyMode, netfilter, devices, programs }: NodeFacts): readonly Finding[] {
  const id = 'kube-proxy';
  const said = proxyMode.known ? proxyMode.value : undefined;
  const traces = new Set([
    ...(hasChain(netfilter.saves, (name) => name === 'KUBE-SERVICES') ? ['iptables'] : []),
    ...(netfilter.nft.known && netfilter.nft.value.tables.some(({ name }) => name === 'kube-proxy')
      ? ['nftables']
      : []),
    ...(devices.known && devices.value.some(({ name }) => name === 'kube-ipvs0') ? ['ipvs'] : []),
  ]);
  const mode = said ?? [...traces][0];
  if (mode === undefined) {
    const cilium = programs.known && programs.value.has('cilium-agent');
    if (!proxyMode.known && traces.size === 0 && !netfilter.nft.known)
      return [{ id, outcome: 'unknown', detail: proxyMode.reason }];
    return [
      {
        id,
        outcome: 'no',
        detail: `no trace of it${cilium ? '; Cilium is running and may do its work' : ''} (it may come with the cluster)`,
      },
    ];
  }
  const others = [...traces].filter((trace) => trace !== mode && !(mode === 'ipvs' && trace === 'iptables'));
  return [
    mode === 'ipvs'
      ? {
          id,
          subject: mode,
          outcome: 'no',
          detail: 'mode ipvs: packets to Services come to the INPUT chain',
          disables:
            'Services for pods, with defaultEndpointToHostAction Drop: their packets are judged as connections to the node',
          todo: 'use mode nftables or iptables, or set defaultEndpointToHostAction: Accept in FelixConfiguration',
        }
      : {
          id,
          subject: mode,
          outcome: 'yes',
          detail: said === undefined ? `mode ${mode}, by its rules` : `mode ${mode}, it says`,
        },
    ...others.map((subject): Finding => ({
      id,
      subject,
      outcome: 'no',
      severity: 'note',
      detail: `rules of mode ${subject} are there, and it runs in mode ${mode}`,
      disables: 'connections to Services that these old rules still catch',
    })),
  ];
}

function portIsFree({ port, host, setting }: AgentPort, { listeners }: NodeFacts): Finding {
  const subject = `${setting} ${port}`;
  if (!listeners.known) return { id: 'ports', subject, outcome: 'unknown', detail: listeners.reason };
  const inTheWay = listeners.value.filter(
    (listener) =>
      listener.port === port && !listener.isOurs && (host === '' || isWildcard(listener) || meets(listener, host)),
  );
  if (inTheWay.length === 0) return { id: 'ports', subject, outcome: 'yes', detail: 'nobody else listens there' };
  return {
    id: 'ports',
    subject,
    outcome: 'no',
    detail: inTheWay
      .map(({ address, program }) => `${program ?? 'an unknown program'} listens on ${address}`)
      .join(', '),
  };
}

const isWildcard = ({ address }: Listener): boolean => address === '0.0.0.0' || address === '::';

const meets = ({ address }: Listener, host: string): boolean =>
  host === 'localhost' ? address.startsWith('127.') || address === '::1' : address === host;

function mtu({ devices }: NodeFacts, { interfacePrefixes }: CheckSettings): Finding {
  if (!devices.known) return { id: 'mtu', outcome: 'unknown', detail: devices.reason };
  const isPods = ({ name }: Device): boolean => interfacePrefixes.some((prefix) => name.startsWith(prefix));
  const uplinks = devices.value.filter(({ isUplink }) => isUplink);
  const smallest = uplinks.toSorted((a, b) => a.mtu - b.mtu)[0];
  const detail = uplinks.map(({ name, mtu: own }) => `${name} ${own}`).join(', ');
  if (smallest === undefined)
    return { id: 'mtu', outcome: 'unknown', detail: 'no uplink found: no default route and no address' };
  const larger = devices.value.filter((device) => isPods(device) && device.mtu > smallest.mtu);
  if (larger.length === 0) return { id: 'mtu', outcome: 'yes', detail };
  const names = larger.slice(0, 3).map(({ name, mtu: own }) => `${name} ${own}`);
  const rest = larger.length > 3 ? ` and ${larger.length - 3} more` : '';
  return { id: 'mtu', outcome: 'no', detail: `${names.join(', ')}${rest}; uplinks: ${detail}` };
}

/** A kernel that has everything built in needs none. */
function modules({ files: { missingModules }, features }: NodeFacts): Finding {
  if (!missingModules.known) return { id: 'modules', outcome: 'unknown', detail: missingModules.reason };
  if (missingModules.value === undefined) return { id: 'modules', outcome: 'yes', detail: 'they are there' };
  const lacking = features.filter(({ outcome }) => outcome === 'no').length;
  return lacking === 0
    ? { id: 'modules', outcome: 'yes', detail: `${missingModules.value} isn't there, and nothing lacks` }
    : { id: 'modules', outcome: 'no', detail: `${missingModules.value} isn't there, and ${lacking} features say no` };
}

function xtablesLock({ files: { foreignLock } }: NodeFacts): Finding {
  return foreignLock === undefined
    ? { id: 'xtables-lock', outcome: 'yes', detail: '/run/xtables.lock' }
    : { id: 'xtables-lock', outcome: 'no', detail: foreignLock };
}
