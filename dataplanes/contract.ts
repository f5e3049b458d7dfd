import type { ServiceIdentifier } from 'inversify';
import type { NetlinkOp } from '#native/types.ts';
import type { DataplaneFlows } from './flows.ts';
import type { DataplaneUpdate, EndpointId } from './messages.ts';
import type { FlowEventSource, InForceView, PacketQuestion, PacketView, ServicesView } from './observe.ts';
import type { RuleId } from './policy.ts';

/** Where two dataplanes differ in what a user can see. Defaults are what iptables does; shared code never tests `kind`. */
export interface DataplaneCapabilities {
  /** Drops are counted per pod device and direction with a reason (default false). */
  readonly countsDropsPerDevice: boolean;
  /**
   * Policies and host endpoints are enforced (default true). Where false, an endpoint that a policy selects gets nothing through and is
   * reported as failed, as is every host endpoint: never is policy silently left out.
   */
  readonly enforcesPolicy: boolean;
  /**
   * A device with a pod device's name that no ADD made, and that nobody announced, gets nothing through from its first packet on (default
   * true). Where false, it is open until the next comparison with the kernel (routeRefreshInterval); devices that an ADD makes never are.
   */
  readonly closesUnknownDevices: boolean;
  /**
   * What pods send to Services' ClusterIPs is translated here, and policy judged after that (default false: whoever else translates it, as
   * kube-proxy, does so, and it goes untranslated where nobody does).
   */
  readonly translatesServices: boolean;
  /** The same for what the node's own processes send to ClusterIPs (default false, likewise). */
  readonly translatesForNode: boolean;
}

/** One object that could not be programmed; it stays dirty and is tried again. */
export interface ApplyFailure {
  /** What it is, for people: `endpoint k8s/default/web/eth0`, `table filter`, `route 10.65.1.0/26`. */
  readonly object: string;
  /** Set when the failure keeps this endpoint's traffic or policy from working. */
  readonly endpoint?: EndpointId;
  /** The operation and the kernel's own words. */
  readonly reason: string;
}

/** What one `apply` did. */
export interface ApplyReport {
  /** Endpoints that were dirty and are now fully in the kernel. */
  readonly programmed: readonly EndpointId[];
  /** Endpoints that were removed and of which nothing is left. */
  readonly removed: readonly EndpointId[];
  readonly failed: readonly ApplyFailure[];
  /** Repaired although nobody asked: what someone else had changed, in words. */
  readonly repaired: readonly string[];
}

/** How many packets and bytes, since the program was attached. */
export interface Counter {
  readonly packets: number;
  readonly bytes: number;
}

/** One pod device's packets in one direction, by what became of them (`passed` or a drop reason's name). */
export interface DeviceCounters {
  readonly ifaceName: string;
  readonly direction: 'from-pod' | 'to-pod';
  readonly verdicts: Readonly<Record<string, Counter>>;
}

/** A device of the node that has the dataplane's programs, and how. */
export interface HostDeviceState {
  readonly device: string;
  /** The host endpoint that stands for it; null: none. */
  readonly hostEndpoint: string | null;
  /** It is an uplink: pods' packets come and leave by it past the node's stack. */
  readonly isUplink: boolean;
  /** How the programs are attached. */
  readonly attached: 'tcx' | 'clsact';
  /** Why pods' packets go by the node's stack, though it is an uplink; absent: they don't. */
  readonly viaStack?: string;
  /** Where untracked ingress policy refuses: in the driver, at the stack's beginning, or (`off`) with all the rest; absent: there is none. */
  readonly xdp?: 'native' | 'generic' | 'off';
  /** Why it isn't in the driver; absent: it is, or an earlier agent has found out why not. */
  readonly xdpReason?: string;
}

/** Why an `apply` is asked for. */
export interface ApplyRequest {
  /**
   * False: there is news, and what failed before has its time later. A programmer that can tell the two apart leaves what failed, if the news
   * can't have cured it, and names it in `failed` again; one that can't tries everything.
   */
  readonly retry: boolean;
}

/** Something that is told the desired state and programs it: a dataplane, or what both share. */
export interface Programmer extends AsyncDisposable {
  /**
   * It programs Kubernetes Services (default false): what is said of them asks for an `apply` of it. There is such news with every endpoint of
   * the cluster that comes, goes or changes its readiness.
   */
  readonly programsServices?: boolean;
  /** Cheap and synchronous: records, does no I/O. */
  onUpdate(update: DataplaneUpdate): void;
  /** Programs what is dirty; never throws for one object's failure. Before `inSync` it only adds, never removes. */
  apply(request: ApplyRequest): Promise<ApplyReport>;
  /** Compare with the kernel at the next `apply` and repair; cheap, may be called at any time. */
  requestResync(): void;
  /** Calls `listener` when someone else changed what we own, so that the driver applies soon. */
  onDisturbed(listener: () => void): void;
  /** Removes every trace of this programmer from the node. */
  cleanup(): Promise<void>;
}

/**
 * One way of moving and judging packets. The driver programs it through `onUpdate` and `apply`; until `activate` no packet passes
 * through it. (Flow export and import join this contract together with the live switch of established flows.)
 */
export interface Dataplane extends Programmer {
  readonly kind: string;
  readonly capabilities: DataplaneCapabilities;
  /** Can this kernel run it? An empty list, or each missing thing with what it is needed for. */
  probe(): Promise<readonly string[]>;
  /** Requests that a pod's host device needs before it is up, for the ADD's netlink batch. Synchronous, from memory. */
  podDeviceOps(ifaceName: string): readonly NetlinkOp[];
  /**
   * In place of `podDeviceOps` where a plugin after ours will put the qdisc `ingress` on the device, which is there and down; rejects when that can't
   * be. Absent: there is nothing that the two would dispute.
   */
  linkPodDevice?(ifaceName: string): Promise<void>;
  /** Enters the packets' path. Everything announced has been applied before. */
  activate(): Promise<void>;
  /** Leaves the packets' path; the other dataplane is active by now. */
  release(): Promise<void>;
  /** Per pod device; empty where the capability is absent. */
  deviceCounters(): Promise<readonly DeviceCounters[]>;
  /** What each rule of policies and profiles has matched (first packets of flows), over all endpoints that use it. */
  ruleCounters(): Promise<ReadonlyMap<RuleId, Counter>>;
  /** Elements of policy's BPF maps written since the start; absent where there are none. */
  readonly mapWrites?: number;
  /** What is in force on uplinks and devices with a host endpoint; absent: it keeps no programs there. */
  readonly hostDevices?: readonly HostDeviceState[];
  /** What works, but not as well as it could, in sentences; absent: nothing to say. */
  readonly notes?: readonly string[];
  /** The flows that it remembers, or lets the kernel remember; absent: it can't tell them. */
  readonly flows?: DataplaneFlows;
  /** Tells of new flows and of drops while somebody listens; absent: it can't. */
  readonly flowEvents?: FlowEventSource;
  /** What the kernel's tables say of a packet; undefined: there are none now. Absent: calc's rules are all that can be asked. */
  inspect?(question: PacketQuestion): Promise<PacketView | undefined>;
  /** Services that it translates itself; absent: they are kube-proxy's. */
  readonly services?: ServicesView;
  /** What is in force, and how full its tables are; absent: it has no such tables. undefined: they aren't there now. */
  readonly inForce?: InForceView | undefined;
}

/** Makes a dataplane by its kind; every installed dataplane registers one factory. */
export interface DataplaneFactory {
  readonly kind: string;
  create(): Dataplane;
}
export const DataplaneFactory: ServiceIdentifier<DataplaneFactory> = Symbol.for('DataplaneFactory');
