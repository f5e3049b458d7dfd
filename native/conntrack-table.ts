import { loadAddon } from './addon.ts';
import { writeEntry, writeKey } from './conntrack-rows.ts';
import type {
  ConntrackCreated,
  ConntrackDeleted,
  ConntrackEntry,
  ConntrackKey,
  NewConntrackEntry,
} from './conntrack-types.ts';
import { Turns } from './turns.ts';
import type { NetnsRef } from './types.ts';

/**
 * Writes single entries into one namespace's table, over one netlink socket, on worker threads; calls are carried out one after the other.
 * Each entry has its own outcome, in the order given; one that fails doesn't stop the others. An entry that can't be encoded is a failure of
 * its own (`EINVAL` of `encode`, naming the field) and isn't sent. Entries are read some hundred at a time: leave arrays unchanged until the
 * promise is fulfilled. A call rejects only when the socket itself fails (`EBADF` once it is closed).
 *
 * Codes of refused entries: `EEXIST` (an entry has its original or its reply tuple), `ENOMEM` (the table is full: nf_conntrack_max),
 * `ENOSPC` (too many entries in one place of the hash), `EOPNOTSUPP` (no NAT in this kernel), `EBUSY` (a flowtable has it), `EPERM`.
 */
export interface ConntrackTable extends Disposable {
  /**
   * Makes entries. The kernel translates nothing until something in the namespace uses both connection tracking and NAT (`proveNat`): an
   * entry made before that takes effect from then on. Translation is exactly as said, ports included, or the entry is refused.
   */
  create(entries: readonly NewConntrackEntry[]): Promise<readonly ConntrackCreated[]>;
  /**
   * The same, but whatever has the original tuple, or the reply tuple as it is after translation, is deleted first (the kernel may have taken
   * up the flow from a packet, untranslated, and translation of an entry that exists can't be changed). Deletion and creation are one behind
   * the other in one message; should a packet of the flow come between them, both are done again, three times in all.
   */
  replace(entries: readonly NewConntrackEntry[]): Promise<readonly ConntrackCreated[]>;
  /**
   * Deletes entries. The kernel looks a tuple up in both directions: without an `id` the entry deleted may be one whose reply tuple this is.
   * With an `id` only that very entry is deleted, and another one in its place counts as not there.
   */
  delete(keys: readonly ConntrackKey[]): Promise<readonly ConntrackDeleted[]>;
}

interface ConntrackWriter {
  create(entries: readonly unknown[], replace: boolean): Promise<readonly ConntrackCreated[]>;
  delete(keys: readonly unknown[]): Promise<readonly ConntrackDeleted[]>;
  close(): void;
}

interface WriterAddon {
  readonly ConntrackWriter: new (ns?: NetnsRef) => ConntrackWriter;
}

/** Opens the table of the namespace (absent: where the process is). The socket stays there. */
export function openConntrackTable(ns?: NetnsRef): ConntrackTable {
  return new KernelConntrackTable(new (loadAddon<WriterAddon>().ConntrackWriter)(ns));
}

/**
 * An entry to be made that is this one again: its translation as such, its reply as the plain inverse. Undefined when it can't be: it has a
 * helper or adjusts sequence numbers, is related to another entry, is a flowtable's, has no time left, or its TCP or SCTP state isn't known.
 */
export function sameEntryAgain(entry: ConntrackEntry): NewConntrackEntry | undefined {
  const { family, original, zone, zoneDirection, mark, status, timeoutSeconds, nat, tcp, sctp, helper } = entry;
  const bound = ['expected', 'seq-adjust', 'helper', 'offload', 'hw-offload', 'dying', 'template'] as const;
  if (helper !== undefined || bound.some((bit) => status.includes(bit))) return undefined;
  if (timeoutSeconds === undefined || timeoutSeconds === 0) return undefined;
  if ((original.protocol === 6 && !tcp) || (original.protocol === 132 && !sctp)) return undefined;
  return {
    family,
    original,
    zone,
    zoneDirection,
    mark,
    timeoutSeconds,
    status: (['seen-reply', 'assured', 'confirmed'] as const).filter((bit) => status.includes(bit)),
    ...(nat && { nat }),
    ...(tcp && { tcp }),
    ...(sctp && { sctp }),
  };
}

/** Entries that are read, sent and answered at a time: some ms of the main thread. */
const slice = 512;

class KernelConntrackTable implements ConntrackTable {
  readonly #writer: ConntrackWriter;
  readonly #turns = new Turns();

  constructor(writer: ConntrackWriter) {
    this.#writer = writer;
  }

  create(entries: readonly NewConntrackEntry[]): Promise<readonly ConntrackCreated[]> {
    return this.#inSlices(entries, (some) => this.#writer.create(some.map(writeEntry), false));
  }

  replace(entries: readonly NewConntrackEntry[]): Promise<readonly ConntrackCreated[]> {
    return this.#inSlices(entries, (some) => this.#writer.create(some.map(writeEntry), true));
  }

  delete(keys: readonly ConntrackKey[]): Promise<readonly ConntrackDeleted[]> {
    return this.#inSlices(keys, (some) => this.#writer.delete(some.map(writeKey)));
  }

  /** A slice that is under way ends normally; what waits behind it fails with EBADF. */
  [Symbol.dispose](): void {
    this.#writer.close();
  }

  #inSlices<Item, Outcome>(
    items: readonly Item[],
    send: (some: readonly Item[]) => Promise<readonly Outcome[]>,
  ): Promise<readonly Outcome[]> {
    return this.#turns.run(async () => {
      const outcomes: Outcome[] = [];
      for (let at = 0; at < items.length; at += slice) {
        for (const outcome of await send(items.slice(at, at + slice))) outcomes.push(outcome);
      }
      return outcomes;
    });
  }
}
