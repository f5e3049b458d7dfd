import type { ServiceIdentifier } from 'inversify';
import type { Conntrack } from '#native/conntrack.ts';
import type { Ipset } from '#native/ipset.ts';
import type { Netlink } from '#native/types.ts';
import type { VariantChoice } from '../netfilter/variant-choice.ts';
import type { HostNetwork } from './host-network.ts';
import type { SysctlPort } from './host-sysctls.ts';
import type { Monitor } from './monitor-follower.ts';
import type { SysctlMemory } from './node-sysctls.ts';

/**
 * Identifiers of what the dataplanes are given. Everything named Host is of the node's own network namespace, in which the agent runs.
 */

/** A route socket; the agent binds it, under the identifier named as the interface. */
export const HostNetlink: ServiceIdentifier<Netlink> = Symbol.for('Netlink');
/** The address sets. */
export const HostIpset: ServiceIdentifier<Ipset> = Symbol.for('HostIpset');
/** The connection tracking entries. */
export const HostConntrack: ServiceIdentifier<Conntrack> = Symbol.for('HostConntrack');
/** Opens a monitor for everything that the host network follows. */
export const HostMonitor: ServiceIdentifier<() => Monitor> = Symbol.for('HostMonitor');
export const HostSysctls: ServiceIdentifier<SysctlPort> = Symbol.for('HostSysctls');
/** What sysctls of the node were before Tortie; the agent binds it. */
export const HostSysctlMemory: ServiceIdentifier<SysctlMemory> = Symbol.for('HostSysctlMemory');
export const VariantChoiceId: ServiceIdentifier<VariantChoice> = Symbol.for('VariantChoice');
export const HostNetworkId: ServiceIdentifier<HostNetwork> = Symbol.for('HostNetwork');
