import type { HostDeviceState } from '#dataplanes/contract.ts';
import type { InForceView } from '#dataplanes/observe.ts';
import type { ControllersStatus } from './controllers/address-controllers.ts';

import type { CheckResult } from './check/result.ts';

/** What `tortie status -o json` prints; a stable shape. */
export interface AgentStatus {
  readonly node: string;
  readonly version: string;
  readonly ready: boolean;
  /** Why not ready; empty when ready. */
  readonly reasons: readonly string[];
  readonly dataplane: {
    /** The one in the packets' path; null before the first. */
    readonly active: string | null;
    readonly wanted: string;
    /** Why the wanted one isn't the active one. */
    readonly reasons: readonly string[];
    /** Objects that could not be programmed at the last try. */
    readonly failures: readonly { readonly object: string; readonly reason: string }[];
    /** Uplinks of the eBPF dataplane and the devices on which it enforces host endpoints, and how; empty where there are none. */
    readonly hostDevices: readonly HostDeviceState[];
    /** What works, but not as well as it could: a node without an uplink. */
    readonly notes: readonly string[];
    /** What a dataplane that compiles policy into tables has in force; null for one that has no such tables, and while there are none. */
    readonly inForce: InForceView | null;
  };
  readonly datastore: {
    /** As in --datastore. */
    readonly location: string;
    /** As in --kubeconfig, where one is given. */
    readonly kubeconfig?: string;
    /** Optional kinds that the API server doesn't serve: what they are for is off. */
    readonly absentKinds: readonly string[];
    readonly problems: readonly {
      readonly source: string;
      readonly objects: readonly string[];
      readonly message: string;
      /** What holds meanwhile: `last-valid`, `denies` or `ignored`. */
      readonly effect: string;
    }[];
    /** What can't be read or written at present. A running agent goes on with what it knows, and stays ready. */
    readonly failures: readonly string[];
  };
  readonly cluster: {
    /** Why the objects that a cluster needs and nobody has made (settings, tiers, pools) have not been made. */
    readonly problems: readonly string[];
  };
  /** Garbage collection of addresses; null where there is none: without a cluster. */
  readonly addresses: ControllersStatus | null;
  /** Objects with fields that this version does not, or only partly, act on; `docs/compatibility.md` says which and why. */
  readonly notActedOn: readonly { readonly object: string; readonly fields: readonly string[] }[];
  readonly policy: {
    /** What of valid policies can't be enforced as it is written, and what is done instead. */
    readonly problems: readonly { readonly object: string; readonly message: string }[];
  };
  readonly configuration: {
    /** Fields set by FELIX_* variables: changing FelixConfiguration doesn't change them. */
    readonly overriddenByEnvironment: readonly {
      readonly field: string;
      readonly variable: string;
      readonly value: string;
    }[];
    /** Fields that are set but that this version does not act on. */
    readonly notActedOn: readonly string[];
    /** Values that can't be used; the default stands. */
    readonly problems: readonly string[];
  };
  readonly services: {
    /** What should be served or written for others on this node (health, metrics, endpoint status files) and can't be. */
    readonly failures: readonly string[];
  };
  /** What of the node keeps pods from their network, or a part of Tortie from working (`tortie check` says more); null before the first look. */
  readonly preflight: readonly CheckResult[] | null;
  readonly endpoints: number;
}
