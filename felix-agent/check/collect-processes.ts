import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Listener } from './facts.ts';

/** How many processes are looked at in one turn of the event loop. */
const AT_ONCE = 100;

/** The names (comm) of running programs among these that are in this process' network namespace. */
export async function collectPrograms(among: ReadonlySet<string>): Promise<ReadonlySet<string>> {
  const own = readlinkSync('/proc/self/ns/net');
  const found = new Set<string>();
  await eachProcess((pid) => {
    const name = readFileSync(`/proc/${pid}/comm`, 'utf8').trimEnd();
    if (among.has(name) && (netnsOf(pid) ?? own) === own) found.add(name);
    return false;
  });
  return found;
}

/** Undefined for a process that we may not look into: it is taken for one of ours, since a warning too many does less harm. */
function netnsOf(pid: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EACCES') return undefined;
    throw error;
  }
}

/** The TCP sockets that listen on one of these ports in this network namespace, with the programs that have them. */
export async function collectListeners(ports: readonly number[]): Promise<readonly Listener[]> {
  const sockets = ['/proc/self/net/tcp', '/proc/self/net/tcp6']
    .flatMap((file) => parseListening(readTable(file)))
    .filter(({ port }) => ports.includes(port));
  const listeners: Listener[] = [];
  for (const { port, address, inode } of sockets) {
    const isOurs = hasSocket('self', inode);
    listeners.push({ port, address, isOurs, program: isOurs ? undefined : await programWith(inode) });
  }
  return listeners;
}

/** Without IPv6 there is no table of it. */
function readTable(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}

/** TCP_LISTEN of net/tcp_states.h, as the table prints it. */
const LISTEN = '0A';

/** What listens by a table of proc_net(5): local address and port in hexadecimal, addresses in words of the machine's byte order. */
export function parseListening(
  table: string,
): readonly { readonly address: string; readonly port: number; readonly inode: string }[] {
  return table
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const fields = line.trim().split(/\s+/);
      const [, local = '', , state] = fields;
      const [address = '', port = ''] = local.split(':');
      const inode = fields[9];
      if (state !== LISTEN || inode === undefined) return [];
      return [{ address: addressText(address), port: Number.parseInt(port, 16), inode }];
    });
}

/** Little-endian words: all machines that we run on are. */
function addressText(hex: string): string {
  const bytes = (hex.match(/.{8}/g) ?? []).flatMap((word) =>
    (word.match(/../g) ?? []).toReversed().map((byte) => Number.parseInt(byte, 16)),
  );
  if (bytes.length === 4) return bytes.join('.');
  const isMapped = bytes.slice(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
  if (isMapped) return bytes.slice(12).join('.');
  const groups = Array.from({ length: 8 }, (_, i) =>
    ((bytes[2 * i] ?? 0) * 256 + (bytes[2 * i + 1] ?? 0)).toString(16),
  );
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}

async function programWith(inode: string): Promise<string | undefined> {
  let program: string | undefined;
  await eachProcess((pid) => {
    if (!hasSocket(pid, inode)) return false;
    program = `${readFileSync(`/proc/${pid}/comm`, 'utf8').trimEnd()} (process ${pid})`;
    return true;
  });
  return program;
}

function hasSocket(pid: string, inode: string): boolean {
  return readdirSync(`/proc/${pid}/fd`).some((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`;
    } catch {
      return false; // Closed meanwhile.
    }
  });
}

/** Calls `look` with each process, until it says true. One that ends meanwhile, or that we may not look into, is passed over. */
async function eachProcess(look: (pid: string) => boolean): Promise<void> {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  for (const [index, pid] of pids.entries()) {
    if (index % AT_ONCE === AT_ONCE - 1) await nextTurn();
    try {
      if (look(pid)) return;
    } catch {
      continue;
    }
  }
}
