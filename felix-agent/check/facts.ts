import type { NftRuleset } from '#native/nftables.ts';
import type { SavedTable } from '#dataplanes/netfilter/saved.ts';
import type { Variant } from '#dataplanes/netfilter/xtables.ts';
import type { Family } from '#native/types.ts';
import type { Finding, Known } from './result.ts';

/** What this node shall be, as far as it is known: what is wrong depends on it. */
export interface CheckSettings {
  /** The wanted dataplane's kind. */
  readonly wanted: 'iptables' | 'ebpf';
  readonly ipv6Support: boolean;
  /** What pods' devices are called at their beginning. */
  readonly interfacePrefixes: readonly string[];
  readonly iptablesBackend: 'auto' | Variant;
  /** The pins' directory. */
  readonly bpffs: string;
  /** What the agent listens on. */
  readonly ports: readonly AgentPort[];
}

export interface AgentPort {
  readonly port: number;
  /** Empty: every address; else a name or an address. */
  readonly host: string;
  /** The setting's name, for messages. */
  readonly setting: string;
}

/** A file with what is in it. */
export interface ConfFile {
  /** As the host names it. */
  readonly path: string;
  readonly text: string;
}

/** Everything that is read from a node, and judged by `evaluate`. */
export interface NodeFacts {
  /** Features were tried: there is nothing to judge. */
  readonly features: readonly Finding[];
  readonly sysctls: SysctlFacts;
  readonly netfilter: NetfilterFacts;
  readonly devices: Known<readonly Device[]>;
  /** Names of running programs of this network namespace (comm: at most 15 characters). */
  readonly programs: Known<ReadonlySet<string>>;
  readonly files: FileFacts;
  readonly listeners: Known<readonly Listener[]>;
  /** What kube-proxy answers to `/proxyMode`; undefined when nobody does. */
  readonly proxyMode: Known<string | undefined>;
}

export interface Device {
  readonly name: string;
  /** `veth`, `vxlan`, ...; absent for hardware. */
  readonly kind?: string;
  readonly mtu: number;
  readonly up: boolean;
  /** A default route, or where there is none an address of the node, leads out of it; pods' devices are none. */
  readonly isUplink: boolean;
}

/** Values as the kernel prints them; undefined: the kernel has no such sysctl. */
export interface SysctlFacts {
  readonly values: ReadonlyMap<string, string | undefined>;
  /** Those of `values` that can be written. */
  readonly writable: ReadonlySet<string>;
}

export interface NetfilterFacts {
  readonly nft: Known<NftRuleset>;
  /** What the iptables tools print; a tool that isn't installed is left out. */
  readonly saves: readonly SaveFacts[];
}

export interface SaveFacts {
  readonly variant: Variant;
  readonly family: Family;
  readonly tables: Known<ReadonlyMap<string, SavedTable>>;
}

export interface FileFacts {
  /** Names in /etc/cni/net.d that the runtime takes for configurations, sorted as it sorts them. */
  readonly cniConfs: Known<readonly string[]>;
  /** The two directories of CNI, each with why it can't be written; undefined: it can, or can be made. */
  readonly cniDirectories: readonly { readonly path: string; readonly refused: Known<string | undefined> }[];
  readonly networkManager: Known<{ readonly files: readonly ConfFile[]; readonly udevRules: readonly ConfFile[] }>;
  readonly networkd: Known<{
    readonly networks: readonly ConfFile[];
    readonly main: readonly ConfFile[];
    readonly dropIns: readonly ConfFile[];
  }>;
  /** The directory of the running kernel's modules, when it isn't there. */
  readonly missingModules: Known<string | undefined>;
  /** Why the lock of iptables is not the host's. */
  readonly foreignLock: string | undefined;
}

/** A TCP socket that listens. */
export interface Listener {
  readonly port: number;
  readonly address: string;
  /** This process has it. */
  readonly isOurs: boolean;
  /** The program that has it, if it could be found. */
  readonly program: string | undefined;
}
