import type { KindMap } from '#api/kinds.ts';
import type { Ipam } from '#ipam/ipam.ts';
import type { CommandRunner } from '#native/command-runner.ts';
import type { Netlink, NetlinkOp } from '#native/types.ts';
import type { KeyedLocks } from './keyed-mutex.ts';
import type { Namespaces } from './namespaces.ts';

/** One call of the CNI executable: its CNI_* environment (and PATH) and its standard input. */
export interface CniRequest {
  readonly env: Readonly<Record<string, string>>;
  readonly stdin: string;
}

/** What the executable prints on stdout, and its exit status: 0, or 1 with a CNI error object. */
export interface CniAnswer {
  readonly exitCode: 0 | 1;
  readonly stdout: string;
}

type WorkloadEndpoint = KindMap['WorkloadEndpoint'];

/** An endpoint on this node with what the runtime knows it by. */
export interface LocalEndpoint {
  readonly endpoint: WorkloadEndpoint;
  /** The conf's `name`: with the container id and ifname it names the attachment (spec 1.1, GC). */
  readonly network: string;
  /** The interface's name inside the container. */
  readonly ifname: string;
  readonly netns: string;
  /** Of the Pod object that it was made for, where there is one: a successor of the same name is another. */
  readonly podUid?: string;
}

/** The endpoints of this node. In the agent it tells calc; stand-alone it only records. */
export interface EndpointRegistry {
  /** By the WorkloadEndpoint's name and namespace. */
  get(namespace: string, name: string): LocalEndpoint | undefined;
  list(): readonly LocalEndpoint[];
  /** Records (or replaces) it, and returns when its policy is in the kernel; rejects with the reason when that fails or takes too long. */
  add(endpoint: LocalEndpoint): Promise<void>;
  /** Forgets it, if its container is `containerId`: a newer sandbox of the same pod stays. Returns when the dataplane has let go. */
  remove(namespace: string, name: string, containerId: string): Promise<void>;
}

/** A pod as the datastore has it, with its namespace. */
export interface PodFacts {
  readonly pod: KindMap['Pod'];
  readonly namespace: KindMap['Namespace'] | undefined;
}

/** Everything the verbs need; the agent and the stand-alone program each make one. */
export interface CniDeps {
  readonly nodeName: string;
  /** Host device names start with it (`cali`). */
  readonly interfacePrefix: string;
  readonly ipam: Ipam;
  readonly endpoints: EndpointRegistry;
  /** A route socket in the node's namespace. */
  readonly host: Netlink;
  readonly namespaces: Namespaces;
  /** ADD, DEL and GC of one workload take turns by these. */
  readonly locks: KeyedLocks;
  readonly commands: CommandRunner;
  /** The pod, waiting for it if it may still come; undefined when the time is up. A pod of another uid (a predecessor) needn't be waited out. */
  pod(namespace: string, name: string, uid?: string): Promise<PodFacts | undefined>;
  /** This node, for delegated IPAM that uses its podCIDRs. */
  node(): Promise<KindMap['Node'] | undefined>;
  /** Undefined when pods can be wired; else why not (not in sync, no datastore, datastoreReady false). */
  notReadyReason(): Promise<string | undefined>;
  /** What must be on the pod's host device before it is up. */
  podDeviceOps(ifaceName: string): readonly NetlinkOp[];
  /** In place of `podDeviceOps`, on the device itself, where a plugin after ours will put the qdisc `ingress`. Rejects when that can't be. */
  linkPodDevice(ifaceName: string): Promise<void>;
  /**
   * How the host routes to pods are marked: rtnetlink's protocol number and the metrics. The same that the dataplane gives them, or it
   * would replace each of them.
   */
  podRoutes(): { readonly protocol: number; readonly metric4: number; readonly metric6: number };
  /** The MTU for pods when the conf gives none; undefined leaves the kernel's default. */
  defaultMtu(): number | undefined;
  /** True without an agent: no policy; STATUS says so. */
  readonly standalone: boolean;
  log(level: 'debug' | 'info' | 'warn' | 'error', message: string, fields?: Readonly<Record<string, unknown>>): void;
}
