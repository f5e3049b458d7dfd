import { loadAddon } from './addon.ts';
import { readConntrackRows, type ConntrackRows } from './conntrack-rows.ts';
import type { ConntrackEvent } from './conntrack-types.ts';
import { SourceEventStream, type EventSource, type EventStream } from './event-stream.ts';
import type { NetnsRef } from './types.ts';

/** What to listen to, and how much may wait. */
export interface ConntrackEventOptions {
  /** Default: all three. */
  readonly types?: readonly ('new' | 'update' | 'destroy')[];
  /** What the kernel keeps for us, in bytes, about 1 KiB an event; default 32 MiB. The kernel allows no less than some KiB. */
  readonly receiveBuffer?: number;
}

interface EventSocket {
  wait(callback: () => void): void;
  read(): { readonly rows: ConntrackRows; readonly lost: boolean };
  close(): void;
}

interface EventAddon {
  readonly ConntrackEventSocket: new (options: ConntrackEventOptions, ns?: NetnsRef) => EventSocket;
}

/**
 * Events of the namespace's entries (absent: where the process is), of both families, from now on. What doesn't fit into the buffer is lost,
 * and a `lost` item says so. Throws NetlinkFailures as `openNetlink` does.
 *
 * The sysctl net.netfilter.nf_conntrack_events decides which entries have events: with 1 all that are made from then on; with 2 (the default
 * since Linux 5.19) only those that are made while someone in the namespace listens, so that the end of an older flow isn't told; with 0 none.
 */
export function openConntrackEvents(ns?: NetnsRef, options: ConntrackEventOptions = {}): EventStream<ConntrackEvent> {
  return new SourceEventStream(new EntryEvents(new (loadAddon<EventAddon>().ConntrackEventSocket)(options, ns)));
}

/** Rows become events. */
class EntryEvents implements EventSource<ConntrackEvent> {
  readonly #socket: EventSocket;

  constructor(socket: EventSocket) {
    this.#socket = socket;
  }

  wait(callback: () => void): void {
    this.#socket.wait(callback);
  }

  read(): readonly ConntrackEvent[] {
    const { rows, lost } = this.#socket.read();
    const events: ConntrackEvent[] = readConntrackRows(rows);
    if (lost) events.push({ type: 'lost' });
    return events;
  }

  close(): void {
    this.#socket.close();
  }
}
