import type { ServiceIdentifier } from 'inversify';

/** Who asked for an address; stored with it (Calico's attribute names: node, namespace, pod, timestamp). */
export interface AllocationOwner {
  /** Handle: `<network>.<containerID>`. Everything one sandbox holds is released by it. */
  readonly handle: string;
  /** Calico's `secondary` attributes. */
  readonly attributes: Readonly<Record<string, string>>;
}

export interface AutoAssignRequest extends AllocationOwner {
  readonly want4: boolean;
  readonly want6: boolean;
  /** Pools by name or CIDR, in order of preference; absent: every enabled pool that selects this node and namespace. */
  readonly pools4?: readonly string[];
  readonly pools6?: readonly string[];
  /** The pod's namespace, for pools with a namespaceSelector; absent for a container that is no pod. */
  readonly namespace?: { readonly name: string; readonly labels: Readonly<Record<string, string>> };
}

export interface AssignIpsRequest extends AllocationOwner {
  /** Exactly these addresses, without prefix lengths; each must lie in a pool. */
  readonly addresses: readonly string[];
}

/** Addresses with /32 or /128, IPv4 first. */
export interface Assignment {
  readonly addresses: readonly string[];
}

/** Why IPAM refused: `no-free-address`, `no-pool`, `taken`, `not-in-pool`, `pool-disabled`, `bad-request`, or the datastore's failure. */
export type IpamErrorCode =
  | 'no-free-address'
  | 'no-pool'
  | 'taken'
  | 'not-in-pool'
  | 'pool-disabled'
  | 'bad-request'
  | 'unavailable';

/** Every failure of IPAM; the message names pool, handle and reason. */
export class IpamError extends Error {
  override readonly name = 'IpamError';
  readonly code: IpamErrorCode;

  constructor(code: IpamErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Address management for one node, as the CNI plugin sees it. */
export interface Ipam {
  /** One address per wanted family, or none at all: if one family fails the other is released. Repeating a handle's request returns a new set; release first. */
  autoAssign(request: AutoAssignRequest): Promise<Assignment>;
  /** Exactly these addresses, or none. */
  assignIps(request: AssignIpsRequest): Promise<Assignment>;
  /** Releases everything the handle holds; an unknown handle is success. Returns the addresses released. */
  releaseHandle(handle: string): Promise<readonly string[]>;
  /** What the handle holds now. */
  addressesOf(handle: string): Promise<readonly string[]>;
  /** All handles on this node with their addresses and attributes (without the reserve's). */
  allocations(): Promise<
    ReadonlyMap<
      string,
      { readonly addresses: readonly string[]; readonly attributes: Readonly<Record<string, string>> }
    >
  >;
  /** Undefined when addresses can be given; else why not, for STATUS and readiness. */
  unavailableReason(): string | undefined;
}
export const Ipam: ServiceIdentifier<Ipam> = Symbol.for('Ipam');
