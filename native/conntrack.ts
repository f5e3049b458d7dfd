import { loadAddon } from './addon.ts';
import { Turns } from './turns.ts';
import type { NetnsRef } from './types.ts';

/**
 * The connection tracking entries of one namespace, over netlink, on worker threads; calls are carried out one after the other.
 * Failures are NetlinkFailures; `EINVAL` of `encode` names what is no address.
 */
export interface Conntrack extends Disposable {
  /**
   * Deletes every entry, of any zone, that one of these addresses began or answers: connections from it, and connections to it, also
   * those that reached it through translation. Returns how many. Rejects with `EBUSY` when some belong to a flowtable (the others are gone).
   */
  deleteOf(addresses: readonly string[]): Promise<number>;
}

interface ConntrackSocket {
  deleteOf(addresses: readonly string[]): Promise<number>;
  close(): void;
}

interface ConntrackAddon {
  readonly ConntrackSocket: new (ns?: NetnsRef) => ConntrackSocket;
}

/** Opens the entries of the namespace (absent: where the process is). Throws `EPERM` without CAP_NET_ADMIN. */
export function openConntrack(ns?: NetnsRef): Conntrack {
  return new KernelConntrack(new (loadAddon<ConntrackAddon>().ConntrackSocket)(ns));
}

class KernelConntrack implements Conntrack {
  readonly #socket: ConntrackSocket;
  readonly #turns = new Turns();

  constructor(socket: ConntrackSocket) {
    this.#socket = socket;
  }

  deleteOf(addresses: readonly string[]): Promise<number> {
    return this.#turns.run(() => this.#socket.deleteOf(addresses));
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}
