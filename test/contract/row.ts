/** What a row of the behaviour table is: data, which the runner turns into packets. */
import type { DataplaneCapabilities } from '#dataplanes/contract.ts';
import type { Bed } from './bed.ts';

/** A Kubernetes or projectcalico.org object, as `kubectl apply` takes it. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly [field: string]: unknown };
  readonly [field: string]: unknown;
}

/** Addresses of a family, by who has them. */
export type AddressBook = Readonly<Record<string, string>>;

/** Objects, or what makes them of the addresses that pods, nodes and Services have got. */
export type Objects = readonly Manifest[] | ((v4: AddressBook, v6: AddressBook) => readonly Manifest[]);

export type Family = 'IPv4' | 'IPv6';

/**
 * Who reaches whom, a line each: `FROM[@ADDRESS][:PORT] > TO[|TO][@ADDRESS] [PROTOCOL [PORT]] [of N bytes] [as NAME]`.
 *
 *     client > web                   TCP to the peers' port, seen with client's own address
 *     client,blue > web tcp 80,8080  four questions
 *     client > web icmp              echo
 *     client > web icmp 13           one ICMP message of that type, one way
 *     client > web sctp 5000         one packet, one way; so do udplite and proto 99
 *     client@stranger > web udp      from an address that the row has given to the pod
 *     client > outside as node1      seen with the node's address
 *     client:4000 > web              from this port
 *     client > web@shop tcp 80       to the address of the Service `shop`, and web must answer
 *     client > web|far@shop tcp 80   the same, and one of these must
 *
 * FROM and TO are pods of the bed, `node1`, `node2`, `outside`, or pods that the row has made.
 */
export type Line = string;

/** What must be so, after what was done has taken effect. */
export interface Expectation {
  readonly reaches?: readonly Line[];
  /** The packet gets there, and nobody listens: as good as `reaches`, without a server. */
  readonly refused?: readonly Line[];
  /** No answer of any kind, and what can say so (UDP, one-way packets) has got nothing. */
  readonly nothing?: readonly Line[];
  /** Running connections by name: `runs` answers messages sent from now on, `stands` gets no answer any more. */
  readonly flows?: Readonly<Record<string, 'runs' | 'stands'>>;
  /** Something else, in words, with what looks: it returns what is wrong, or undefined. Asked until the time is up. */
  readonly also?: Readonly<Record<string, (bed: Bed, family: Family) => Promise<string | undefined>>>;
}

/** Something that is done. All but `shell`, `sabotage` and `act` is undone at the row's end by the runner. */
export type Action =
  /** Adds objects, or replaces those of the same kind and name. */
  | { readonly apply: Objects }
  /** Removes objects that the row has applied, by name. */
  | { readonly remove: readonly string[] }
  /** Other labels for a running pod; they replace all it has. */
  | { readonly relabel: string; readonly labels: Readonly<Record<string, string>> }
  /** FelixConfiguration besides what chooses the dataplane; replaces what the row has set before. */
  | { readonly configure: Readonly<Record<string, unknown>> }
  /** Opens running connections under this name: one a family. */
  | { readonly flow: string; readonly line: Line }
  /** Gives the pod further addresses, of both families: a name of the bed's strangers, or another pod's name. */
  | { readonly address: string; readonly of: string }
  | { readonly kill: string }
  | { readonly start: string; readonly variant?: 'other' }
  /** Runs in a node's namespace; `undo` at the row's end. $IPTABLES, $IP6TABLES and each pod's $NAME4, $NAME6 are set. */
  | { readonly shell: string; readonly on: string; readonly undo?: string }
  /** Everything that the combination names as sabotage, one after the other, each followed by what must become so. */
  | { readonly sabotage: string; readonly until: Expectation }
  /** Something else, in words; rejects when it can't be done. */
  | { readonly act: string; readonly run: (bed: Bed) => Promise<void> };

/** Something that this table can't do on a combination, and why. */
export interface Lack {
  readonly lacks: string;
}

/** A test elsewhere that shows a behaviour: a file, from the top of the tree, and the test's name in it. */
export interface Proof {
  readonly file: string;
  readonly test: string;
}

/** A capability by its name (a row needs it to be true), or what this machine or version has not got. */
export type Need = keyof DataplaneCapabilities | 'otherVariant' | 'otherDataplane' | Lack;

/** One phase: things are done, then something must be so. */
export interface Phase {
  readonly do?: readonly Action[];
  /** The same for both families, or of one. */
  readonly expect?: Expectation | ((family: Family) => Expectation);
}

/** One behaviour. */
export interface Row {
  /** A sentence. */
  readonly name: string;
  /** Which facts it stands for: `core 20` (Calico), `ebpf 3` (its eBPF dataplane), `cilium 9`, or `design 10`. */
  readonly source: readonly string[];
  readonly needs?: readonly Need[];
  /** Objects that are there from the start; gone at its end. */
  readonly given?: Objects;
  /** What this table's beds can't show is shown there, for all dataplanes alike; then there are no phases. */
  readonly provedBy?: Proof;
  /** Empty only for rows that lack something, or are proved elsewhere. */
  readonly phases: readonly Phase[];
}

/** Rows with a policy need a dataplane that enforces it. */
export const policyRow = (row: Omit<Row, 'needs'> & { readonly needs?: readonly Need[] }): Row => ({
  ...row,
  needs: ['enforcesPolicy', ...(row.needs ?? [])],
});

/** A behaviour that needs another bed than this table's. Its test is not run here, nor counted: it counts where it stands. */
export const provedElsewhere = (name: string, source: readonly string[], file: string, test = name): Row => ({
  name,
  source,
  provedBy: { file, test },
  phases: [],
});

/** A behaviour that this version or machine can't show yet: counted as skipped. */
export const lacking = (name: string, source: readonly string[], lacks: string): Row => ({
  name,
  source,
  needs: [{ lacks }],
  phases: [],
});
