import type { FlowTimeoutSettings } from '../../messages.ts';
import { FlowFlag } from '../bpf-types.gen.ts';

/** How long flows live without a packet, in ns. */
export type FlowTimeouts = { readonly [K in keyof FlowTimeoutSettings]: number };

/** What `auto` is read from (seconds, below net/netfilter), and what holds where there is no such sysctl: Calico's defaults, in ms. */
const sources: Record<keyof FlowTimeoutSettings, { readonly sysctl?: string; readonly fallback: number }> = {
  creation: { fallback: 10_000 },
  tcpSynSent: { sysctl: 'nf_conntrack_tcp_timeout_syn_sent', fallback: 20_000 },
  tcpEstablished: { sysctl: 'nf_conntrack_tcp_timeout_established', fallback: 3_600_000 },
  tcpFinsSeen: { sysctl: 'nf_conntrack_tcp_timeout_time_wait', fallback: 30_000 },
  tcpResetSeen: { fallback: 40_000 },
  udp: { fallback: 60_000 },
  icmp: { sysctl: 'nf_conntrack_icmp_timeout', fallback: 5000 },
  generic: { sysctl: 'nf_conntrack_generic_timeout', fallback: 600_000 },
};
const timers = Object.keys(sources) as (keyof FlowTimeoutSettings)[];

const nsPerMs = 1_000_000;

/**
 * The settings as numbers. `auto` is what the kernel's connection tracking has now; where it isn't loaded, or has no such time, the default, as
 * Calico does. `readSysctl` gets a path below /proc/sys and returns undefined when there is none.
 */
export function resolveTimeouts(
  settings: FlowTimeoutSettings,
  readSysctl: (path: string) => string | undefined,
): FlowTimeouts {
  const resolve = (timer: keyof FlowTimeoutSettings): number => {
    const wish = settings[timer];
    if (wish !== 'auto') return wish * nsPerMs;
    const { sysctl, fallback } = sources[timer];
    const text = sysctl === undefined ? undefined : readSysctl(`net/netfilter/${sysctl}`);
    return (text !== undefined && /^\d+$/.test(text) ? Number(text) * 1000 : fallback) * nsPerMs;
  };
  return Object.fromEntries(timers.map((timer) => [timer, resolve(timer)])) as FlowTimeouts;
}

/** What bpf/sweep.h says for the sweep: the time for a record's protocol and state. */
export function flowTimeoutOf(timeouts: FlowTimeouts, protocol: number, flags: number): number {
  const fins = FlowFlag.finOpener | FlowFlag.finOther;
  switch (protocol) {
    case 6:
      if ((flags & (FlowFlag.resetOpener | FlowFlag.resetOther)) !== 0) return timeouts.tcpResetSeen;
      if ((flags & fins) === fins) return timeouts.tcpFinsSeen;
      return (flags & FlowFlag.established) === 0 ? timeouts.tcpSynSent : timeouts.tcpEstablished;
    case 17:
      return (flags & FlowFlag.viaStack) === 0 ? timeouts.udp : 3 * timeouts.udp;
    case 1:
    case 58:
      return timeouts.icmp;
    default:
      return timeouts.generic;
  }
}
