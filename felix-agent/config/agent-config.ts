import { isActedOn } from '#api/compatibility/settings.ts';
import { felixFieldNames, felixVariable, type FelixSettings } from '#api/felix/felix-fields.ts';
import { resolveFelix, type ResolvedFelix } from '#api/felix/felix-settings.ts';
import type { KindMap } from '#api/kinds.ts';
import type { DataplaneConfig, FlowTimeoutSettings } from '#dataplanes/messages.ts';
import type { AgentStatus } from '../status.ts';

type FelixConfiguration = KindMap['FelixConfiguration'];

/** The settings in force on this node, with what a user must know about them. */
export interface AgentConfig {
  readonly settings: FelixSettings;
  readonly dataplane: DataplaneConfig;
  /** The wanted dataplane's kind. */
  readonly wanted: 'iptables' | 'ebpf';
  readonly report: AgentStatus['configuration'];
  /** Variables with values that must not be replaced by a default: the agent may not start with them. */
  readonly fatal: readonly string[];
}

/** Merges FELIX_* variables, FelixConfiguration `node.<name>` and `default`. */
export function resolveAgentConfig(
  env: Readonly<Record<string, string>>,
  node: FelixConfiguration | undefined,
  global: FelixConfiguration | undefined,
): AgentConfig {
  const resolved = resolveFelix({ env, node: node?.spec, global: global?.spec });
  return {
    settings: resolved.settings,
    dataplane: {
      ...dataplaneConfig(resolved.settings),
      // Its built-in value would be a guess: routes tell better.
      ...(resolved.sources.bpfDataIfacePattern === 'built-in'
        ? {}
        : { uplinkPattern: resolved.settings.bpfDataIfacePattern }),
    },
    wanted: resolved.settings.bpfEnabled ? 'ebpf' : 'iptables',
    report: reportOf(resolved),
    fatal: resolved.problems.filter(({ fatal }) => fatal).map(({ message }) => message),
  };
}

function reportOf({ settings, sources, problems }: ResolvedFelix): AgentStatus['configuration'] {
  return {
    overriddenByEnvironment: felixFieldNames
      .filter((field) => sources[field] === 'environment')
      .map((field) => ({ field, variable: felixVariable(field), value: valueText(settings[field]) })),
    notActedOn: felixFieldNames.filter((field) => sources[field] !== 'built-in' && !isActedOn(field)),
    problems: problems.map(({ message }) => message),
  };
}

/** As a user would write it. */
function valueText(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** A dataplane's part of the settings. Intervals of 0 mean never. */
function dataplaneConfig(settings: FelixSettings): DataplaneConfig {
  const { natPortRange, natOutgoingAddress } = settings;
  return {
    interfacePrefixes: settings.interfacePrefix,
    ipv6Support: settings.ipv6Support,
    deviceRouteProtocol: settings.deviceRouteProtocol,
    routeMetricV4: settings.ipv4NormalRoutePriority,
    routeMetricV6: settings.ipv6NormalRoutePriority,
    removeExternalRoutes: settings.removeExternalRoutes,
    routeRefreshIntervalMs: settings.routeRefreshInterval,
    iptablesRefreshIntervalMs: settings.iptablesRefreshInterval,
    iptablesPostWriteCheckIntervalMs: settings.iptablesPostWriteCheckInterval,
    ipsetsRefreshIntervalMs: settings.ipsetsRefreshInterval,
    iptablesBackend: iptablesBackends[settings.iptablesBackend],
    iptablesLockTimeoutS: settings.iptablesLockTimeout / 1000,
    chainInsertMode: settings.chainInsertMode === 'Append' ? 'append' : 'insert',
    workloadSourceSpoofing: settings.workloadSourceSpoofing === 'Any' ? 'any' : 'disabled',
    ...(natPortRange === undefined ? {} : { natPortRange }),
    ...(natOutgoingAddress === undefined ? {} : { natOutgoingAddress }),
    natOutgoingExclusions: settings.natOutgoingExclusions,
    maxIpsetSize: settings.maxIpsetSize,
    endpointToHostAction: endpointToHostActions[settings.defaultEndpointToHostAction],
    serviceLoopPrevention: loopPreventions[settings.serviceLoopPrevention],
    filterAllowAction: allowActions[settings.iptablesFilterAllowAction],
    mangleAllowAction: allowActions[settings.iptablesMangleAllowAction],
    filterDenyAction: settings.iptablesFilterDenyAction === 'Reject' ? 'reject' : 'drop',
    markMask: settings.iptablesMarkMask,
    logPrefix: settings.logPrefix,
    ...(settings.logActionRateLimit === undefined
      ? {}
      : { logRate: { rate: settings.logActionRateLimit, burst: settings.logActionRateLimitBurst } }),
    allowInvalid: settings.disableConntrackInvalidCheck,
    allowVxlanFromWorkloads: settings.allowVXLANPacketsFromWorkloads,
    allowIpipFromWorkloads: settings.allowIPIPPacketsFromWorkloads,
    vxlanPort: settings.vxlanPort,
    failsafeInbound: settings.failsafeInboundHostPorts,
    failsafeOutbound: settings.failsafeOutboundHostPorts,
    flowTimeouts: flowTimeouts(settings.bpfConntrackTimeouts),
    mapSizes: {
      flows: settings.bpfMapSizeConntrack,
      flowsPerCpu: settings.bpfMapSizePerCpuConntrack,
      doubleFlows: settings.bpfMapSizeConntrackScaling === 'DoubleIfFull',
      frontends: settings.bpfMapSizeNATFrontend,
      backends: settings.bpfMapSizeNATBackend,
      addresses: settings.bpfMapSizeRoute,
      networks: settings.bpfMapSizeIPSets,
      devices: settings.bpfMapSizeIfState,
    },
    xdp: {
      enabled: settings.xdpEnabled,
      generic: settings.genericXDPEnabled,
      refreshIntervalMs: settings.xdpRefreshInterval,
    },
  };
}

const endpointToHostActions = { Drop: 'drop', Return: 'return', Accept: 'accept' } as const;
const loopPreventions = { Drop: 'drop', Reject: 'reject', Disabled: 'disabled' } as const;
const allowActions = { Accept: 'accept', Return: 'return' } as const;
const iptablesBackends = { Auto: 'auto', Legacy: 'legacy', NFT: 'nft' } as const;

/** How long flows are remembered by the dataplane that does so itself. */
function flowTimeouts(timeouts: FelixSettings['bpfConntrackTimeouts']): FlowTimeoutSettings {
  const read = (timer: keyof typeof timeouts) => (timeouts[timer] === 'Auto' ? 'auto' : timeouts[timer]);
  return {
    creation: read('creationGracePeriod'),
    tcpSynSent: read('tcpSynSent'),
    tcpEstablished: read('tcpEstablished'),
    tcpFinsSeen: read('tcpFinsSeen'),
    tcpResetSeen: read('tcpResetSeen'),
    udp: read('udpTimeout'),
    icmp: read('icmpTimeout'),
    generic: read('genericTimeout'),
  };
}
