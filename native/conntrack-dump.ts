import { setTimeout as sleep } from 'node:timers/promises';
import { loadAddon } from './addon.ts';
import { readConntrackRows, type ConntrackRows } from './conntrack-rows.ts';
import type { ConntrackDumpItem } from './conntrack-types.ts';
import type { Family, NetnsRef } from './types.ts';

/** Where a dump is: `more` to read, at its `end`, or `interrupted` by changes (and at its end). */
type DumpState = 'more' | 'end' | 'interrupted';

/** One dump after the other over one socket; the addon's. */
export interface ConntrackDumpSocket {
  /** Asks for a dump; the one before must be at its end. */
  start(family: Family): void;
  /** On a worker: the next entries, a thousand or somewhat more, fewer at the end. */
  read(): Promise<{ readonly rows: ConntrackRows; readonly state: DumpState }>;
  close(): void;
}

interface DumpAddon {
  readonly ConntrackDumpSocket: new (ns?: NetnsRef) => ConntrackDumpSocket;
}

/** How often a dump is begun anew before it fails, as for other dumps. */
const tries = 40;

/**
 * All entries of one family in the namespace (absent: where the process is), in arrays of some 1,000, read on a worker as they are asked for:
 * no more than one array is held at a time. The socket is opened when the first is asked for; leaving the loop closes it.
 *
 * A dump is no snapshot: entries that come, go or change meanwhile may be in it or not, and one may come twice. Whoever needs all listens to
 * events (`openConntrackEvents`) before. When the kernel says that changes interrupted it, a `restarted` item comes and everything again,
 * up to 40 times with pauses of 1, 2, ... ms; then `EINTR`. Throws NetlinkFailures: `EPERM` without CAP_NET_ADMIN, as `openNetlink` for
 * the namespace.
 */
export async function* dumpConntrack(
  family: Family,
  ns?: NetnsRef,
): AsyncGenerator<ConntrackDumpItem, void, undefined> {
  yield* readDump(new (loadAddon<DumpAddon>().ConntrackDumpSocket)(ns), family);
}

/** Reads a family's entries over the socket, and closes it. */
export async function* readDump(
  socket: ConntrackDumpSocket,
  family: Family,
): AsyncGenerator<ConntrackDumpItem, void, undefined> {
  try {
    for (let attempt = 1; ; attempt += 1) {
      socket.start(family);
      let state: DumpState = 'more';
      while (state === 'more') {
        const chunk = await socket.read();
        state = chunk.state;
        // What an interrupted dump ends with would be forgotten at once.
        if (chunk.rows.length > 0 && state !== 'interrupted')
          yield { type: 'entries', entries: readConntrackRows(chunk.rows).map(({ entry }) => entry) };
      }
      if (state === 'end') return;
      if (attempt === tries) throw interrupted();
      yield { type: 'restarted' };
      // Whoever is changing things is given time.
      await sleep(attempt);
    }
  } finally {
    socket.close();
  }
}

function interrupted(): Error {
  const message = `conntrack.dump: EINTR: changes interrupted the dump ${tries} times: dump again when fewer flows come and go (recvmsg)`;
  return Object.assign(new Error(message), { code: 'EINTR', errno: 4, syscall: 'recvmsg', object: 'conntrack.dump' });
}
