import type { CheckSettings, Device, NodeFacts, SysctlFacts } from './facts.ts';
import type { Finding } from './result.ts';

/** Above this share of its limit the table of connections is taken for too full: a burst fills the rest. */
const FULL = 0.8;

export const sysctlPaths = {
  forwarding4: 'net/ipv4/ip_forward',
  forwarding6: 'net/ipv6/conf/all/forwarding',
  rpFilter: (device: string) => `net/ipv4/conf/${device}/rp_filter`,
  conntrackCount: 'net/netfilter/nf_conntrack_count',
  conntrackMax: 'net/netfilter/nf_conntrack_max',
  jit: 'net/core/bpf_jit_enable',
  unprivilegedBpf: 'kernel/unprivileged_bpf_disabled',
} as const;

/** Names of sysctls are shown as sysctl(8) prints them. */
const shown = (path: string): string => path.replaceAll('/', '.');

/** What the sysctls of the node mean for Tortie. */
export function judgeSysctls({ sysctls, devices }: NodeFacts, settings: CheckSettings): readonly Finding[] {
  return [
    forwarding(sysctls, sysctlPaths.forwarding4),
    ...(settings.ipv6Support && sysctls.values.get(sysctlPaths.forwarding6) !== undefined
      ? [{ ...forwarding(sysctls, sysctlPaths.forwarding6), severity: 'degrades' as const }]
      : []),
    ...(devices.known
      ? reversePath(
          sysctls,
          devices.value.filter(({ isUplink }) => isUplink),
        )
      : [{ id: 'rp-filter' as const, outcome: 'unknown' as const, detail: devices.reason }]),
    conntrackRoom(sysctls),
    oneOf(sysctls, 'bpf-jit', sysctlPaths.jit),
    oneOf(sysctls, 'bpf-unprivileged', sysctlPaths.unprivilegedBpf),
  ];
}

function forwarding({ values, writable }: SysctlFacts, path: string): Finding {
  const subject = shown(path);
  const value = values.get(path);
  if (value === '1') return { id: 'forwarding', subject, outcome: 'yes', detail: '1' };
  if (value === undefined) return { id: 'forwarding', subject, outcome: 'no', detail: 'the kernel has no such sysctl' };
  return writable.has(path)
    ? { id: 'forwarding', subject, outcome: 'yes', detail: `${value}; the agent sets it to 1` }
    : { id: 'forwarding', subject, outcome: 'no', detail: `${value}, and it can't be written` };
}

/** Where there is one uplink the answer goes out where the packet came in: strict is no trouble as long as that stays so. */
function reversePath({ values }: SysctlFacts, uplinks: readonly Device[]): readonly Finding[] {
  const allPath = sysctlPaths.rpFilter('all');
  const all = values.get(allPath);
  return uplinks.map(({ name }): Finding => {
    const own = values.get(sysctlPaths.rpFilter(name));
    const inForce = Math.max(Number(all ?? 0), Number(own ?? 0));
    const detail = `${shown(allPath)}=${all ?? 'absent'}, ${shown(sysctlPaths.rpFilter(name))}=${own ?? 'absent'}`;
    if (inForce !== 1) return { id: 'rp-filter', subject: name, outcome: 'yes', detail };
    return {
      id: 'rp-filter',
      subject: name,
      outcome: 'no',
      detail: `strict: ${detail}`,
      ...(uplinks.length > 1 ? {} : { severity: 'note' }),
    };
  });
}

function conntrackRoom({ values }: SysctlFacts): Finding {
  const [count, max] = [sysctlPaths.conntrackCount, sysctlPaths.conntrackMax].map((path) => values.get(path));
  // Its sysctls come with the first rule that uses connection tracking.
  if (count === undefined || max === undefined)
    return { id: 'conntrack-room', outcome: 'yes', detail: 'connection tracking is not in use yet' };
  return {
    id: 'conntrack-room',
    outcome: Number(count) >= FULL * Number(max) ? 'no' : 'yes',
    detail: `${count} of ${max} in use`,
  };
}

/** Sysctls whose 0 is the trouble. */
function oneOf({ values }: SysctlFacts, id: 'bpf-jit' | 'bpf-unprivileged', path: string): Finding {
  const value = values.get(path);
  if (value === undefined)
    return {
      id,
      outcome: 'unknown',
      detail: `${shown(path)} can't be seen (no such option, or not from this network namespace)`,
    };
  return { id, outcome: value === '0' ? 'no' : 'yes', detail: `${shown(path)}=${value}` };
}
