import { FOREIGN_SIGNATURE } from '#dataplanes/netfilter/rules.ts';
import type { NodeFacts, SaveFacts } from './facts.ts';
import { hasChain } from './judge-netfilter.ts';
import type { Finding } from './result.ts';

/** The programs of other network plugins, as the kernel names processes (15 characters at most). */
const AGENTS: Readonly<Record<string, string>> = {
  'calico-node': 'Calico',
  calico: 'Calico',
  'cilium-agent': 'Cilium',
  flanneld: 'Flannel',
  'kube-router': 'kube-router',
  'antrea-agent': 'Antrea',
  ovnkube: 'OVN-Kubernetes',
  weaver: 'Weave Net',
  kindnetd: 'kindnet',
};

/** For whoever looks for running programs. */
export const pluginPrograms: readonly string[] = Object.keys(AGENTS);

/** Devices that only another plugin makes. Calico's are none: ours have the same names. */
const DEVICES: Readonly<Record<string, string>> = {
  'flannel.1': 'Flannel',
  'flannel-v6.1': 'Flannel',
  cni0: 'Flannel or the bridge plugin',
  cilium_host: 'Cilium',
  cilium_net: 'Cilium',
  cilium_vxlan: 'Cilium',
  'kube-bridge': 'kube-router',
  'antrea-gw0': 'Antrea',
  'ovn-k8s-mp0': 'OVN-Kubernetes',
  weave: 'Weave Net',
};

/** Chains, by how their names begin. */
const CHAINS: Readonly<Record<string, string>> = {
  'FLANNEL-': 'Flannel',
  CILIUM_: 'Cilium',
  'KUBE-ROUTER-': 'kube-router',
  'ANTREA-': 'Antrea',
  'WEAVE-': 'Weave Net',
};

/** Other network plugins on the node, running or gone. */
export function judgePlugins(facts: NodeFacts): readonly Finding[] {
  return [running(facts), leftovers(facts)];
}

function running({ programs, netfilter }: NodeFacts): Finding {
  const agents = programs.known ? Object.keys(AGENTS).filter((name) => programs.value.has(name)) : [];
  const felix = foreignFelix(netfilter.saves);
  const signs = [
    ...agents.map((name) => `${name} (${AGENTS[name]}) is running`),
    ...(felix === undefined ? [] : [felix]),
  ];
  if (signs.length > 0) return { id: 'other-plugin', outcome: 'no', detail: signs.join('; ') };
  return programs.known
    ? { id: 'other-plugin', outcome: 'yes', detail: 'none is running' }
    : { id: 'other-plugin', outcome: 'unknown', detail: programs.reason };
}

/**
 * Calico's Felix calls its chains as we do, and marks its rules in another way. A chain of ours that somebody has changed looks the same,
 * so one alone is no sign: it has to be more than ours.
 */
function foreignFelix(saves: readonly SaveFacts[]): string | undefined {
  let [ours, foreign] = [0, 0];
  for (const { tables } of saves) {
    for (const table of tables.known ? tables.value.values() : []) {
      for (const signature of table.ours.values()) {
        if (signature === FOREIGN_SIGNATURE) foreign += 1;
        else ours += 1;
      }
    }
  }
  return foreign > ours ? `${foreign} chains cali-* with rules that Tortie did not write (Calico's Felix?)` : undefined;
}

function leftovers({ devices, netfilter }: NodeFacts): Finding {
  const found = [
    ...(devices.known ? devices.value : []).flatMap(({ name }) =>
      Object.hasOwn(DEVICES, name) ? [`device ${name} (${DEVICES[name]})`] : [],
    ),
    ...Object.entries(CHAINS)
      .filter(([prefix]) => hasChain(netfilter.saves, (name) => name.startsWith(prefix)))
      .map(([prefix, plugin]) => `chains ${prefix}* (${plugin})`),
  ];
  if (found.length > 0) return { id: 'leftovers', outcome: 'no', detail: found.join(', ') };
  return devices.known
    ? { id: 'leftovers', outcome: 'yes', detail: 'none found' }
    : { id: 'leftovers', outcome: 'unknown', detail: devices.reason };
}
