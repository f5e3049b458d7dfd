import { existsSync } from 'node:fs';
import type { CommandRunner } from '#native/command-runner.ts';
import type { Family } from '#native/types.ts';
import { collectFeatures } from './collect-features.ts';
import { collectFiles, type CniDirs } from './collect-files.ts';
import { askProxyMode, collectDevices, collectNetfilter, collectSysctls } from './collect-node.ts';
import { collectListeners, collectPrograms } from './collect-processes.ts';
import { evaluate } from './evaluate.ts';
import type { CheckSettings, NodeFacts } from './facts.ts';
import type { HostView } from './host-view.ts';
import { variantOf } from './judge-netfilter.ts';
import { pluginPrograms } from './judge-plugins.ts';
import { tryToKnow, type CheckResult } from './result.ts';

/** With what and where a node is looked at. */
export interface NodeCheckDeps {
  readonly commands: CommandRunner;
  readonly view: HostView;
  readonly cniDirs: CniDirs;
}

/** Programs whose presence means something, as the kernel names them. */
const programs = new Set([...pluginPrograms, 'firewalld', 'NetworkManager', 'systemd-network']);

/** Looks at the node and says what every check of the table found. It changes nothing, and what it couldn't see it says. */
export async function checkNode(deps: NodeCheckDeps, settings: CheckSettings): Promise<readonly CheckResult[]> {
  return evaluate(await collectFacts(deps, settings), settings);
}

async function collectFacts({ commands, view, cniDirs }: NodeCheckDeps, settings: CheckSettings): Promise<NodeFacts> {
  // Nobody has rules of a family that the kernel hasn't got; that it hasn't is a finding of its own.
  const families: readonly Family[] = settings.ipv6Support && existsSync('/proc/sys/net/ipv6') ? [4, 6] : [4];
  const netfilter = collectNetfilter(commands, families);
  const variant = netfilter.then(({ saves }) => variantOf(saves, settings));
  const [devices, features, rules, names, listeners, proxyMode] = await Promise.all([
    tryToKnow(() => collectDevices(settings.interfacePrefixes)),
    collectFeatures({ commands, families, variant, bpffs: settings.bpffs }),
    netfilter,
    view.processes.known ? tryToKnow(() => collectPrograms(programs)) : view.processes,
    tryToKnow(() => collectListeners(settings.ports.map(({ port }) => port))),
    askProxyMode(),
  ]);
  const uplinks = (devices.known ? devices.value : []).flatMap(({ name, isUplink }) => (isUplink ? [name] : []));
  return {
    features,
    sysctls: collectSysctls(uplinks),
    netfilter: rules,
    devices,
    programs: names,
    files: collectFiles(view, cniDirs),
    listeners,
    proxyMode,
  };
}
