import { setImmediate as nextTurn } from 'node:timers/promises';
import { dumpConntrack } from '#native/conntrack-dump.ts';
import { openConntrackEvents } from '#native/conntrack-events.ts';
import { openConntrackTable, type ConntrackTable } from '#native/conntrack-table.ts';
import type { ConntrackDumpItem, ConntrackEvent, NewConntrackEntry } from '#native/conntrack-types.ts';
import type { EventStream } from '#native/event-stream.ts';
import type { Family, NetnsRef } from '#native/types.ts';
import {
  type DataplaneFlows,
  type Flow,
  type FlowDeletion,
  type FlowExportItem,
  type FlowFilter,
  type FlowImportReport,
  FlowImportTally,
  flowMatcher,
  flowName,
  type FlowScope,
  isInScope,
} from '../flows.ts';
import { entryOfFlow, type EntryTimeouts, entryTimeouts, flowOfEntry } from './conntrack-entries.ts';

/** The kernel's connection tracking of one namespace. */
export interface ConntrackPort {
  dump(family: Family): AsyncIterable<ConntrackDumpItem>;
  openEvents(): EventStream<ConntrackEvent>;
  openTable(): ConntrackTable;
  /** Below /proc/sys; undefined when there is none. */
  readSysctl(path: string): string | undefined;
}

/** That of the namespace (absent: where the process is). */
export function conntrackPort(readSysctl: ConntrackPort['readSysctl'], ns?: NetnsRef): ConntrackPort {
  return {
    dump: (family) => dumpConntrack(family, ns),
    openEvents: () => openConntrackEvents(ns),
    openTable: () => openConntrackTable(ns),
    readSysctl,
  };
}

const families = [4, 6] as const;

/** The flows of the kernel's connection tracking: those of the iptables dataplane, and of whatever else the node tracks. */
export class NetfilterFlows implements DataplaneFlows {
  readonly #port: ConntrackPort;

  constructor(port: ConntrackPort) {
    this.#port = port;
  }

  async *list(filter: FlowFilter): AsyncGenerator<readonly Flow[], void, undefined> {
    const matches = flowMatcher(filter);
    for (const family of families) {
      for await (const item of this.#port.dump(family)) {
        if (item.type !== 'entries') continue;
        const flows = item.entries.map(flowOfEntry).filter(matches);
        if (flows.length > 0) yield flows;
      }
    }
  }

  /** By tuple and id, so that an entry made anew meanwhile stays. */
  async delete(filter: FlowFilter): Promise<FlowDeletion> {
    const matches = flowMatcher(filter);
    const failed: string[] = [];
    let deleted = 0;
    using table = this.#port.openTable();
    for (const family of families) {
      for await (const item of this.#port.dump(family)) {
        if (item.type !== 'entries') continue;
        const keys = item.entries.filter((entry) => matches(flowOfEntry(entry)));
        for (const [index, outcome] of (await table.delete(keys)).entries()) {
          const entry = keys[index];
          if (outcome.ok) deleted += outcome.existed ? 1 : 0;
          else if (entry !== undefined) failed.push(`${flowName(flowOfEntry(entry))}: ${outcome.error.message}`);
        }
      }
    }
    return { deleted, failed };
  }

  /**
   * Listens first, then dumps: what is made meanwhile is told behind `whole`, until the signal. After lost events everything is dumped again. An
   * entry that is older than this may end untold (net.netfilter.nf_conntrack_events 2).
   */
  async *exportFlows(scope: FlowScope, signal: AbortSignal): AsyncGenerator<FlowExportItem, void, undefined> {
    const events = this.#port.openEvents();
    let isOpen = true;
    const stop = (): void => {
      if (isOpen) events[Symbol.dispose]();
      isOpen = false;
    };
    signal.addEventListener('abort', stop, { once: true });
    try {
      if (signal.aborted) return;
      yield* this.#dumpAll(scope);
      for await (const some of inBatches(events)) {
        if (signal.aborted) return;
        yield* runsOf(some, scope);
        if (!some.some(({ type }) => type === 'lost')) continue;
        yield { type: 'again' };
        yield* this.#dumpAll(scope);
      }
    } finally {
      signal.removeEventListener('abort', stop);
      stop();
    }
  }

  async importFlows(
    items: AsyncIterable<FlowExportItem>,
    scope: FlowScope,
    onWhole?: (report: FlowImportReport) => void,
  ): Promise<FlowImportReport> {
    using table = this.#port.openTable();
    const importer = new EntryImporter(
      table,
      entryTimeouts((path) => this.#port.readSysctl(path)),
      scope,
    );
    let isWhole = false;
    for await (const item of items) {
      if (item.type === 'flows') await importer.write(item.flows);
      else if (item.type === 'whole' && !isWhole) {
        isWhole = true;
        onWhole?.(importer.report);
      }
    }
    return importer.report;
  }

  async *#dumpAll(scope: FlowScope): AsyncGenerator<FlowExportItem, void, undefined> {
    for (const family of families) {
      for await (const item of this.#port.dump(family)) {
        if (item.type === 'restarted') {
          yield { type: 'again' };
          continue;
        }
        const flows = item.entries.map(flowOfEntry);
        const wanted = flows.filter((flow) => isInScope(flow, scope));
        if (wanted.length > 0) yield { type: 'flows', flows: wanted };
      }
    }
    yield { type: 'whole' };
  }
}

/** What is there at once comes at once, up to this many. */
const batch = 1000;

/** Events as they come, but those together that nobody has to wait for. */
async function* inBatches(
  events: EventStream<ConntrackEvent>,
): AsyncGenerator<readonly ConntrackEvent[], void, undefined> {
  let next = events.next();
  try {
    for (;;) {
      const first = await next;
      if (first.done === true) return;
      const some = [first.value];
      next = events.next();
      while (some.length < batch) {
        const more = await Promise.race([next, nextTurn()]);
        if (more === undefined || more.done === true) break;
        some.push(more.value);
        next = events.next();
      }
      yield some;
    }
  } finally {
    // Nobody asks for it any more, and the stream is closed.
    next.catch(() => {});
  }
}

/** Events in their order: those that follow each other and say the same become one item. */
function* runsOf(events: readonly ConntrackEvent[], scope: FlowScope): Generator<FlowExportItem, void, undefined> {
  let run: { readonly type: 'flows' | 'gone'; readonly flows: Flow[] } | undefined;
  for (const event of events) {
    if (event.type === 'lost') continue;
    const flow = flowOfEntry(event.entry);
    if (!isInScope(flow, scope)) continue;
    const type = event.type === 'destroy' ? 'gone' : 'flows';
    if (run?.type === type) run.flows.push(flow);
    else {
      if (run !== undefined) yield run;
      run = { type, flows: [flow] };
    }
  }
  if (run !== undefined) yield run;
}

/**
 * Makes entries of flows. One that crosses netfilter untranslated has an entry of its own already, which is better than ours and stays. Others are
 * made anew: what netfilter has with their tuples is left from before, or was taken up without translation, which can't be added to it.
 */
class EntryImporter {
  readonly #table: ConntrackTable;
  readonly #timeouts: EntryTimeouts;
  readonly #scope: FlowScope;
  readonly #tally = new FlowImportTally();

  constructor(table: ConntrackTable, timeouts: EntryTimeouts, scope: FlowScope) {
    this.#table = table;
    this.#timeouts = timeouts;
    this.#scope = scope;
  }

  get report(): FlowImportReport {
    return this.#tally.report;
  }

  async write(flows: readonly Flow[]): Promise<void> {
    const made: [Flow, NewConntrackEntry][] = [];
    const seen: [Flow, NewConntrackEntry][] = [];
    for (const flow of flows) {
      const entry = isInScope(flow, this.#scope) ? entryOfFlow(flow, this.#timeouts) : 'no end is a pod of this node';
      if (typeof entry === 'string') this.#tally.addSkipped(entry);
      else if (flow.crossesNetfilter && entry.nat === undefined) seen.push([flow, entry]);
      else made.push([flow, entry]);
    }
    await this.#run(made, (entries) => this.#table.replace(entries));
    await this.#run(seen, (entries) => this.#table.create(entries));
  }

  async #run(
    pairs: readonly (readonly [Flow, NewConntrackEntry])[],
    send: (entries: readonly NewConntrackEntry[]) => ReturnType<ConntrackTable['create']>,
  ): Promise<void> {
    if (pairs.length === 0) return;
    const outcomes = await send(pairs.map(([, entry]) => entry));
    for (const [index, outcome] of outcomes.entries()) {
      const flow = pairs[index]?.[0];
      if (flow === undefined) continue;
      if (outcome.ok) this.#tally.addImported();
      else if (outcome.error.code === 'EEXIST' && flow.crossesNetfilter) this.#tally.addPresent();
      else this.#tally.addFailed(flow, outcome.error.message);
    }
  }
}
