import { loadAddon } from './addon.ts';
import { SourceEventStream, type EventSource, type EventStream } from './event-stream.ts';
import type { MonitorGroup, NetlinkEvent, NetnsRef } from './types.ts';

/**
 * Events of one namespace. The kernel keeps some thousands while nobody asks for them; after that it drops some, which is an `overrun` event,
 * after which nothing is missed again: whoever compares everything then is up to date.
 */
export type Monitor = EventStream<NetlinkEvent>;

interface MonitorAddon {
  readonly MonitorSocket: new (groups: readonly MonitorGroup[], ns?: NetnsRef) => EventSource<NetlinkEvent>;
}

/** Listens to the groups in the namespace (absent: where the process is) from now on. Throws as `openNetlink` does. */
export function openMonitor(groups: readonly MonitorGroup[], ns?: NetnsRef): Monitor {
  return new SourceEventStream(new (loadAddon<MonitorAddon>().MonitorSocket)(groups, ns));
}
